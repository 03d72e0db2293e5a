"""Folders of generated pairs: they resume, load elsewhere, carry their provenance, and refuse mix-ups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.files import sha256_file
from skindualgen.planning.requests import PairRequest, requests_from_prompts, requests_like
from skindualgen.production.finish import SHEET_FILE, has_lesion
from skindualgen.production.generate import generate_pairs
from skindualgen.production.journal import CHUNKS_DIR, SETTINGS_FILE, WORK_DIR
from skindualgen.production.run import ProductionStopped
from skindualgen.sample.pipeline import SkinDualGenPipeline

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

PROMPTS = [("a dermoscopic image of a nevus", {}), ("a melanoma\u2028on the back", {"age_approx": 55})]
QUICK = {"num_inference_steps": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def pipe(tiny_v_adapter: Path) -> SkinDualGenPipeline:
    pipe = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def requests() -> list[PairRequest]:
    return requests_from_prompts(PROMPTS, 5, 0)


@pytest.fixture(scope="module")
def generated(pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pairs in batches of two; read-only."""
    out = tmp_path_factory.mktemp("generated") / "out"
    generate_pairs(pipe, requests, out, **QUICK)
    return out


def contents(out: Path) -> dict[str, str]:
    """Hash of every picture and of the metadata; the record of the run holds a date."""
    paths = [*out.glob("*/*.png"), out / "metadata.jsonl", out / SHEET_FILE]
    return {str(path.relative_to(out)): sha256_file(path) for path in paths}


def test_the_folder_is_a_data_set(generated: Path, requests: list[PairRequest], pipe: SkinDualGenPipeline) -> None:
    records = read_metadata(generated)
    assert [r.isic_id for r in records] == [f"SDG_{i:07d}" for i in range(5)]
    for record, request in zip(records, requests, strict=True):
        assert (record.prompt, record.seed, record.origin) == (request.prompt, request.seed, "synthetic")
        assert (record.num_inference_steps, record.guidance_scale) == (2, 2.0)
        assert record.base_sha256 == pipe.config.provenance["base_sha256"]
        assert record.sha256 == sha256_file(generated / record.file_name)
        assert record.mask_sha256 == sha256_file(generated / str(record.mask_file_name))
        with (
            Image.open(generated / record.file_name) as image,
            Image.open(generated / str(record.mask_file_name)) as mask,
        ):
            assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (64, 64), (64, 64))
            assert set(np.unique(mask)) <= {0, 255}
            inside = json.loads(image.text["skindualgen"])
            assert inside["prompt"] == record.prompt and inside["seed"] == record.seed
            assert inside["adapter_sha256"] == record.adapter_sha256
            assert json.loads(mask.text["skindualgen"]) == {"isic_id": record.isic_id}
    assert [r.diagnosis for r in records[:2]] == ["nevus", None]
    assert records[1].age_approx == 55
    info = read_dataset_info(generated)
    assert info["counts"]["records"] == 5 and info["made_by"]["settings"]["pairs"] == 5
    with Image.open(generated / SHEET_FILE) as sheet:
        assert sheet.size == (5 * 68 - 4, 128 + 14)


def test_each_record_tells_how_much_is_lesion(generated: Path) -> None:
    for record in read_metadata(generated):
        with Image.open(generated / str(record.mask_file_name)) as mask:
            assert record.scores == {"mask_area_fraction": round(float((np.asarray(mask) > 0).mean()), 4)}


@pytest.mark.parametrize(
    ("scores", "there"), [({"mask_area_fraction": 0.0001}, True), ({"mask_area_fraction": 0.0}, False), (None, False)]
)
def test_pairs_without_a_lesion_are_found(scores: dict[str, float] | None, there: bool) -> None:
    assert has_lesion(scores) is there


def test_it_loads_with_datasets(generated: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset("imagefolder", data_dir=str(generated), split="train", cache_dir=str(tmp_path))
    assert {"image", "mask", "prompt", "seed"} <= set(rows.column_names)
    records = read_metadata(generated)
    assert len(rows) == len(records)
    for row in rows:
        record = next(r for r in records if r.isic_id == row["isic_id"])
        with (
            Image.open(generated / record.file_name) as image,
            Image.open(generated / str(record.mask_file_name)) as mask,
        ):
            assert np.array_equal(row["image"], image) and np.array_equal(row["mask"], mask)


def test_a_second_call_draws_nothing(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(generated)
    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("drew again"))
    records = generate_pairs(pipe, requests, generated, **QUICK)
    assert contents(generated) == before
    assert [r.isic_id for r in records] == [f"SDG_{i:07d}" for i in range(5)]


def test_an_interrupted_run_is_usable_and_ends_the_same(pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    """Sixteen pairs in batches of one: four chunks, of which the last is interrupted and the third may be open."""
    requests = requests_from_prompts(PROMPTS, 16, 0)
    once = {"num_inference_steps": 1, "batch_size": 1}

    def interrupt(done: int, total: int) -> None:
        if done == 14:
            raise KeyboardInterrupt

    out, whole = tmp_path / "out", tmp_path / "whole"
    with pytest.raises(ProductionStopped, match=r"(8|12) of 16 pairs") as stopped:
        generate_pairs(pipe, requests, out, **once, report=interrupt)
    assert len(read_metadata(out)) == stopped.value.pairs and (out / SHEET_FILE).is_file()
    (out / "masks" / "SDG_0000005.png").unlink()
    (out / "masks" / ".SDG_0000013.png.x.tmp").write_text("left by a killed process")
    (out / "masks" / "SDG_0000013.png").write_text("of a chunk that was not finished")
    kept = (out / "images" / "SDG_0000000.png").stat().st_mtime_ns
    generate_pairs(pipe, requests, out, **once)
    generate_pairs(pipe, requests, whole, **once)
    assert contents(out) == contents(whole)
    assert (out / "images" / "SDG_0000000.png").stat().st_mtime_ns == kept
    assert not list(out.rglob("*.tmp"))


def test_batches_do_not_matter(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path
) -> None:
    generate_pairs(pipe, requests, tmp_path / "out", **(QUICK | {"batch_size": 5}))
    for record in read_metadata(generated):
        pictures = [np.asarray(Image.open(root / record.file_name), int) for root in (generated, tmp_path / "out")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals another process")
def test_a_stopped_command_resumes(tiny_v_adapter: Path, tmp_path: Path) -> None:
    """The command itself, stopped after its first chunk; the second call ends with what one call would have written."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "skindualgen", "generate", "--adapter", str(tiny_v_adapter), "--prompt", "a nevus"]
    command += ["-n", "12", "--steps", "8", "--batch-size", "1", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb"}
    first = out / WORK_DIR / CHUNKS_DIR / "0000000.jsonl"
    with subprocess.Popen([*command, str(out)], stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 600
        while not first.is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.terminate()
        _, said = process.communicate()
    assert process.returncode == 130
    count = len(read_metadata(out))
    assert count in {4, 8}
    assert f"Stopped with {count} of 12 pairs in" in said and "To go on: skindualgen generate --adapter" in said
    kept = first.stat().st_mtime_ns
    done = CliRunner().invoke(app, [*command[3:], str(out)])
    assert done.exit_code == 0, done.output
    assert "12 pairs in" in done.stdout
    assert first.stat().st_mtime_ns == kept  # its pairs were not drawn again
    pipe = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    pipe.set_progress_bar_config(disable=True)
    requests = requests_from_prompts([("a nevus", {})], 12, 0)
    generate_pairs(pipe, requests, tmp_path / "whole", num_inference_steps=8, batch_size=1)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "change", [{"num_inference_steps": 3}, {"guidance_scale": 1.0}, {"size": 128}, {"batch_size": 3}]
)
def test_other_settings_are_refused(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], change: dict[str, Any]
) -> None:
    before = contents(generated)
    with pytest.raises(InputError, match="results of other settings"):
        generate_pairs(pipe, requests, generated, **(QUICK | change))
    with pytest.raises(InputError, match=r"pairs: 5 there, 4 now; requests_sha256"):
        generate_pairs(pipe, requests[:-1], generated, **QUICK)
    assert contents(generated) == before


def test_another_size(pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path) -> None:
    generate_pairs(pipe, requests[:1], tmp_path / "out", num_inference_steps=1, size=96)
    with Image.open(tmp_path / "out" / "images" / "SDG_0000000.png") as image:
        assert image.size == (96, 96)


def test_a_size_that_cannot_be_drawn_leaves_no_folder(
    pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path
) -> None:
    """Guards against a folder that is claimed by wrong settings and then refuses the right ones."""
    with pytest.raises(InputError, match="100 x 100"):
        generate_pairs(pipe, requests[:1], tmp_path / "out", size=100)
    assert not (tmp_path / "out").exists()


def test_pairs_like_a_data_set(pipe: SkinDualGenPipeline, phantom_data: Path, tmp_path: Path) -> None:
    records = generate_pairs(pipe, requests_like(phantom_data, 2, 0), tmp_path / "out", num_inference_steps=1)
    real = {record.diagnosis for record in read_metadata(phantom_data, "train")}
    assert {record.diagnosis for record in records} <= real


def test_a_prompt_that_is_too_long_leaves_no_folder(pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    """The tokenizer is asked where the estimate is not sure; the tiny one counts a token a letter."""
    requests = requests_from_prompts([("a nevus " * 20, {})], 1, 0)
    with pytest.raises(InputError, match=r"a prompt of 122 CLIP tokens: 'a nevus a nevus .* at most 77"):
        generate_pairs(pipe, requests, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_torch_threads_are_part_of_the_settings(generated: Path) -> None:
    """Their number changes the last bits of what is drawn: measured with the bundled model."""
    assert json.loads((generated / SETTINGS_FILE).read_text())["threads"] == 1
