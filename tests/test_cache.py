"""The latent cache holds what the base would encode, and batches are drawn as the settings say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from skindualgen.codec import mask_to_code
from skindualgen.contracts import PairRecord
from skindualgen.data.pairs import draw_view, load_pair, read_pairs
from skindualgen.data.prompts import prompt_for
from skindualgen.model.bases import load_base
from skindualgen.train import latents as module
from skindualgen.train.latents import LatentCache, draw_batch, draw_probabilities, encode_pairs
from tiny import write_phantom_data

OPTIONS = {"size": 64, "views": 3, "min_zoom": 0.8, "prompt_variants": 2, "seed": 5}


@pytest.fixture(scope="module")
def cache(phantom_data: Path, tiny_base: Path) -> LatentCache:
    return encode_pairs(phantom_data, read_pairs(phantom_data, "train"), load_base(tiny_base), **OPTIONS)


@torch.no_grad()
def test_the_cache_holds_what_the_base_encodes(cache: LatentCache, phantom_data: Path, tiny_base: Path) -> None:
    base = load_base(tiny_base)
    assert cache.latents.shape == cache.codes.shape == (12, 3, 4, 8, 8)
    for index, view in ((0, 0), (7, 2)):
        chosen = draw_view(index, view, seed=5, min_zoom=0.8)
        image, mask = load_pair(phantom_data, cache.records[index], 64, chosen)
        expected = base.vae.encode(image[None]).latent_dist.mode()[0] * 0.18215
        torch.testing.assert_close(cache.latents[index, view].float(), expected, rtol=2e-3, atol=1e-3)
        assert mask is not None
        torch.testing.assert_close(cache.codes[index, view].float(), mask_to_code(mask[None])[0], rtol=2e-3, atol=1e-3)


def test_views_differ_and_prompts_vary(cache: LatentCache) -> None:
    assert not torch.equal(cache.latents[0, 0], cache.latents[0, 1])
    record = cache.records[0]
    assert cache.prompts[0] == [prompt_for(record), prompt_for(record, seed=1)]
    assert len(cache) == 12


def test_progress_counts_pairs_and_batches_do_not_matter(
    cache: LatentCache, phantom_data: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENCODE_BATCH", 5)
    counts: list[tuple[int, int]] = []
    note = lambda done, total: counts.append((done, total))  # noqa: E731
    other = encode_pairs(phantom_data, cache.records, load_base(tiny_base), report=note, **OPTIONS)
    assert counts == [(5, 12), (10, 12), (12, 12)]
    torch.testing.assert_close(other.latents, cache.latents, rtol=2e-3, atol=1e-3)
    assert torch.equal(other.codes, cache.codes)


def test_pairs_without_mask(tmp_path: Path, tiny_base: Path) -> None:
    root = write_phantom_data(tmp_path, train=2, val=1, masks=False)
    cache = encode_pairs(root, read_pairs(root, "train"), load_base(tiny_base), **OPTIONS)
    assert not cache.has_mask.any()
    assert cache.codes.abs().max() == 0


def records_of(**counts: int) -> list[PairRecord]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [
        PairRecord(file_name=f"images/{i}.png", isic_id=str(i), diagnosis=None if name == "unknown" else name)
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("balance", "expected"),
    # Shares of the classes a (4 pairs), b (1) and unknown (1): counts to the power 1 - balance, normalised.
    [(0.0, [4 / 6, 1 / 6, 1 / 6]), (0.5, [0.5, 0.25, 0.25]), (1.0, [1 / 3, 1 / 3, 1 / 3])],
)
def test_balance_by_hand(balance: float, expected: list[float]) -> None:
    probabilities = draw_probabilities(records_of(a=4, b=1, unknown=1), balance)
    shares = [probabilities[:4].sum().item(), probabilities[4].item(), probabilities[5].item()]
    assert shares == pytest.approx(expected)


def test_a_batch_is_a_function_of_the_generator(cache: LatentCache) -> None:
    probabilities = draw_probabilities(cache.records, 0.5)
    draw = lambda seed: draw_batch(cache, probabilities, 6, 0.5, torch.Generator().manual_seed(seed))  # noqa: E731
    latents, codes, has_mask, prompts, ids = draw(0)
    again = draw(0)
    assert torch.equal(latents, again[0]) and prompts == again[3] and ids == again[4]
    assert ids != draw(1)[4]
    assert latents.dtype == codes.dtype == torch.float32
    assert latents.shape == codes.shape == (6, 4, 8, 8) and has_mask.all()


def test_latent_code_prompt_and_id_belong_together(cache: LatentCache) -> None:
    latents, codes, _, prompts, ids = draw_batch(
        cache, draw_probabilities(cache.records, 0), 32, 0.0, torch.Generator().manual_seed(1)
    )
    place = {record.isic_id: index for index, record in enumerate(cache.records)}
    for i, name in enumerate(ids):
        own = cache.latents[place[name]].float()
        view = next(v for v in range(3) if torch.equal(own[v], latents[i]))
        assert torch.equal(cache.codes[place[name], view].float(), codes[i])
        assert prompts[i] in cache.prompts[place[name]]


@pytest.mark.parametrize(("dropout", "low", "high"), [(0.0, 0, 0), (1.0, 400, 400), (0.25, 70, 130)])
def test_captions_are_dropped(cache: LatentCache, dropout: float, low: int, high: int) -> None:
    *_, prompts, _ = draw_batch(
        cache, draw_probabilities(cache.records, 0), 400, dropout, torch.Generator().manual_seed(2)
    )
    assert low <= Counter(prompts)[""] <= high
