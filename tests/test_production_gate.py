"""Pairs that a gate refuses are drawn anew, within their chunk and up to a limit; every refused draw is kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from producer import BATCH, DARK, SMALL, DiscSampler, PictureGate, contents, requests_of, run
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.production.chunk import ChunkResult, ChunkSettings
from skindualgen.production.drawing import attempt_seed, draw_chunks, make_chunk
from skindualgen.production.finish import REJECTS_FILE, Outcome
from skindualgen.production.source import ChunkReader

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SETTINGS = ChunkSettings(steps=2, guidance=2.0, batch_size=BATCH, attempts=3)


def rejected(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / REJECTS_FILE).read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """83 pairs of at most three draws each, with small pictures of the refused ones; read-only."""
    out = tmp_path_factory.mktemp("gated") / "out"
    return out, run(out, settings={"thumbnails": True})


def one_by_one() -> tuple[dict[int, int | None], int]:
    """The same, worked out without the factory: place -> attempt that is accepted, or None; and the refused draws."""
    met: dict[int, int | None] = {}
    refused = 0
    for request in requests_of(83).requests():
        met[request.index] = None
        for attempt in range(3):
            seed = attempt_seed(request.seed, attempt)
            (image,), (mask,) = DiscSampler().sample([type(request)(request.index, request.prompt, seed)])()
            if (np.asarray(mask) > 0).mean().round(4) >= 0.1 and np.asarray(image).mean().round(3) >= 50:
                met[request.index] = attempt
                break
            refused += 1
    return met, refused


def test_each_pair_is_the_first_that_is_accepted(gated: tuple[Path, Outcome]) -> None:
    out, outcome = gated
    met, refused = one_by_one()
    records = read_metadata(out)
    assert {int(record.isic_id[4:]): record.attempt for record in records} == {
        place: attempt for place, attempt in met.items() if attempt is not None
    }
    seeds = {request.index: request.seed for request in requests_of(83).requests()}
    for record in records:
        assert record.seed == attempt_seed(seeds[int(record.isic_id[4:])], record.attempt or 0)
        assert record.scores is not None and record.scores[DARK] >= 50 and record.scores["mask_area_fraction"] >= 0.1
    unmet = sum(attempt is None for attempt in met.values())
    assert unmet > 0 and len({record.attempt for record in records}) == 3  # all cases occur
    assert (outcome.pairs, outcome.refused, outcome.unmet) == (83 - unmet, refused, unmet)


def test_every_refused_draw_is_kept_with_its_reasons(gated: tuple[Path, Outcome]) -> None:
    out, outcome = gated
    lines = rejected(out)
    assert len(lines) == outcome.refused
    assert Counter(reason.split()[0] for line in lines for reason in line["reasons"]) == outcome.reasons
    assert any(len(line["reasons"]) == 2 for line in lines) and set(outcome.reasons) == {SMALL, DARK}
    order = [(line["isic_id"], line["attempt"]) for line in lines]
    assert order == sorted(order) and len(set(order)) == len(order)
    for line in lines:
        area = line["scores"]["mask_area_fraction"]
        assert (f"{SMALL} {area} < 0.1" in line["reasons"]) == (area < 0.1)
        with Image.open(out / line["thumbnail"]) as picture:
            assert picture.mode == "RGB" and max(picture.size) <= 96
    told = read_dataset_info(out)["made_by"]["gate"]
    assert told == {"refused": outcome.refused, "reasons": dict(outcome.reasons), "unmet": outcome.unmet}


def test_small_pictures_are_kept_only_on_demand(tmp_path: Path) -> None:
    run(tmp_path / "out", pairs=16)
    assert rejected(tmp_path / "out")[0]["thumbnail"] is None
    assert not (tmp_path / "out" / "rejected").exists()


def test_it_still_loads_with_datasets(gated: tuple[Path, Outcome], tmp_path: Path) -> None:
    """Neither refused pictures nor the factory's own files get in."""
    from datasets import load_dataset

    out, outcome = gated
    rows = load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path))
    assert len(rows) == outcome.pairs
    assert set(rows["isic_id"]) == {record.isic_id for record in read_metadata(out)}


def test_without_a_gate_nothing_is_said_of_one(tmp_path: Path) -> None:
    outcome = run(tmp_path / "out", gate=False, pairs=5)
    assert outcome == Outcome(
        5, without_lesion=outcome.without_lesion, first_without_lesion=outcome.first_without_lesion
    )
    assert not (tmp_path / "out" / REJECTS_FILE).exists()
    assert {record.attempt for record in read_metadata(tmp_path / "out")} == {None}
    assert "gate" not in read_dataset_info(tmp_path / "out")["made_by"]


def test_a_second_call_draws_nothing(gated: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what could not be met: it would be refused again."""
    out, outcome = gated
    before = contents(out)
    monkeypatch.setattr(DiscSampler, "sample", lambda *_: pytest.fail("drew again"))
    assert run(out, settings={"thumbnails": True}) == outcome
    assert contents(out) == before


def test_attempts_have_seeds_of_their_own() -> None:
    seeds = {attempt_seed(seed, attempt) for seed in range(50) for attempt in range(8)}
    assert len(seeds) == 400 and attempt_seed(7, 0) == 7
    assert all(0 <= attempt_seed(seed, 3) < 2**62 for seed in range(50))


class RecordingSampler(DiscSampler):
    """Notes the places and the number of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []

    def sample(self, requests: Any) -> Any:
        self.batches.append([request.index for request in requests])
        return super().sample(requests)


def test_batches_are_cut_by_place_and_refused_ones_fill_batches() -> None:
    sampler = RecordingSampler()
    reader = ChunkReader(requests_of(83), SETTINGS.chunk_pairs)
    result = make_chunk(sampler, PictureGate(), 1, reader.read(1), SETTINGS)
    first, again = sampler.batches[:4], sampler.batches[4:]
    assert first == [[16, 17, 18, 19], [20, 21, 22, 23], [24, 25, 26, 27], [28, 29, 30, 31]]
    refused = [int(reject.record.isic_id[4:]) for reject in result.rejects if reject.record.attempt == 0]
    assert [place for batch in again for place in batch][: len(refused)] == refused
    assert len(again[0]) == min(BATCH, len(refused)) and len(refused) > BATCH
    assert len(result.pairs) + len(result.unmet) == 16


def test_a_chunk_does_not_depend_on_those_beside_it() -> None:
    """Nor on the order in which they come: what makes any number of workers, and any interruption, end the same."""

    def drawn(chunks: list[int]) -> dict[int, ChunkResult]:
        reader = ChunkReader(requests_of(83), SETTINGS.chunk_pairs)
        tasks = ((chunk, reader.read(chunk)) for chunk in chunks)
        return {result.index: result for result in draw_chunks(DiscSampler(), PictureGate(), tasks, SETTINGS)}

    together = drawn([0, 1, 2, 3, 4, 5])
    assert drawn([5, 2, 0]) == {chunk: together[chunk] for chunk in (5, 2, 0)}
    assert sum(len(result.pairs) + len(result.unmet) for result in together.values()) == 83


def test_a_reader_of_chunks_goes_on_and_back() -> None:
    reader = ChunkReader(requests_of(83), 16)
    assert reader.chunks == 6 and [reader.size(chunk) for chunk in (0, 5)] == [16, 3]
    for chunk in (0, 1, 4, 2, 2, 5):
        assert [request.index for request in reader.read(chunk)] == list(range(83))[16 * chunk : 16 * chunk + 16]
