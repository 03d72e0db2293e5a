"""Folders of generated pairs and of masks: they resume, load elsewhere, carry their provenance, and refuse mix-ups."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.planning.requests import PairRequest, requests_from_prompts, requests_like
from skindualgen.provenance import sha256_file
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.production import (
    JOURNAL_FILE,
    SHEET_FILE,
    generate_pairs,
    without_lesion,
)
from skindualgen.sample.segmentation import field_to_mask, segment_folder, working_size

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


def test_pairs_without_a_lesion_are_found() -> None:
    some, none = (
        PairRecord(file_name=f"images/{name}.png", isic_id=name, scores={"mask_area_fraction": area})
        for name, area in (("some", 0.0001), ("none", 0.0))
    )
    assert without_lesion([some, none]) == [none]


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


def test_an_interrupted_run_is_usable_and_ends_the_same(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        generate_pairs(pipe, requests, out, **QUICK, report=interrupt)
    assert len(read_metadata(out)) == 4 and (out / SHEET_FILE).is_file()
    # A kill in the middle of a line, and a picture that is gone: both pairs are drawn again.
    journal = (out / JOURNAL_FILE).read_bytes()
    (out / JOURNAL_FILE).write_bytes(journal[:-30])
    (out / "masks" / "SDG_0000000.png").unlink()
    (out / "masks" / ".SDG_0000004.png.x.tmp").write_text("left by a killed process")
    generate_pairs(pipe, requests, out, **QUICK)
    assert contents(out) == contents(generated)
    assert not list(out.rglob("*.tmp"))


def test_batches_do_not_matter(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path
) -> None:
    generate_pairs(pipe, requests, tmp_path / "out", **(QUICK | {"batch_size": 5}))
    for record in read_metadata(generated):
        pictures = [np.asarray(Image.open(root / record.file_name), int) for root in (generated, tmp_path / "out")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.skipif(os.name != "posix", reason="kills another process")
def test_a_killed_process_resumes(tiny_v_adapter: Path, tmp_path: Path) -> None:
    """The command itself, killed after its first batch; the second call ends with what one call would have written."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "skindualgen", "generate", "--adapter", str(tiny_v_adapter), "--prompt", "a nevus"]
    command += ["-n", "12", "--steps", "3", "--batch-size", "1", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb"}
    with subprocess.Popen([*command, str(out)], stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 200
        while not (out / JOURNAL_FILE).is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "metadata.jsonl").exists()
    first = {path: path.stat().st_mtime_ns for path in sorted((out / "images").glob("SDG*"))[:1]}
    done = subprocess.run([*command, str(out)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "12 pairs in" in done.stdout
    assert len(read_metadata(out)) == 12
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in first.items())  # kept, not drawn again
    pipe = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    pipe.set_progress_bar_config(disable=True)
    generate_pairs(
        pipe, requests_from_prompts([("a nevus", {})], 12, 0), tmp_path / "whole", num_inference_steps=3, batch_size=1
    )
    assert contents(out) == contents(tmp_path / "whole")
    assert not [path for path in out.rglob("*.tmp") if path.parent == out]


@pytest.mark.parametrize(
    "change", [{"num_inference_steps": 3}, {"guidance_scale": 1.0}, {"size": 128}, {"batch_size": 3}]
)
def test_other_settings_are_refused(
    generated: Path, pipe: SkinDualGenPipeline, requests: list[PairRequest], change: dict[str, Any]
) -> None:
    before = contents(generated)
    with pytest.raises(InputError, match="results of other settings"):
        generate_pairs(pipe, requests, generated, **(QUICK | change))
    with pytest.raises(InputError, match="requests"):
        generate_pairs(pipe, requests[:-1], generated, **QUICK)
    assert contents(generated) == before


def test_a_folder_of_something_else_is_refused(
    pipe: SkinDualGenPipeline, requests: list[PairRequest], tmp_path: Path, phantom_data: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    for call in (
        lambda: generate_pairs(pipe, requests, tmp_path, **QUICK),
        lambda: segment_folder(pipe, phantom_data / "images", tmp_path),
    ):
        with pytest.raises(InputError, match="not empty"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


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


# --- segment ---


def photographs(root: Path) -> Path:
    """Photographs of many sizes, one turned by EXIF, one grey, one that is no photograph."""
    root.mkdir()
    rng = np.random.default_rng(0)
    sizes = {"square": (80, 80), "wide": (150, 70), "tall": (33, 90), "strip": (200, 20), "small": (9, 7)}
    for name, (width, height) in sizes.items():
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(root / f"{name}.png")
    turned = Image.fromarray(rng.integers(0, 255, (60, 100, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # upright after a quarter turn: 60 wide, 100 high
    turned.save(root / "turned.jpg", exif=exif)
    Image.new("L", (50, 40), 90).save(root / "grey.png")
    (root / "broken.jpg").write_bytes((root / "turned.jpg").read_bytes()[:300])
    (root / "notes.txt").write_text("no photograph")
    return root


@pytest.fixture(scope="module")
def segmented(pipe: SkinDualGenPipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    root = tmp_path_factory.mktemp("segment")
    source = photographs(root / "in")
    summary = segment_folder(pipe, source, root / "out", batch_size=3, ensemble_size=2)
    return source, root / "out", summary


def test_every_photograph_gets_a_mask_of_its_own_size(segmented: tuple[Path, Path, Any]) -> None:
    _, out, summary = segmented
    sizes = {}
    for path in (out / "masks").iterdir():
        with Image.open(path) as mask:
            assert mask.mode == "L" and set(np.unique(mask)) <= {0, 255}
            sizes[path.stem] = mask.size
    assert sizes == {
        "square": (80, 80), "wide": (150, 70), "tall": (33, 90), "strip": (200, 20), "small": (9, 7),
        "turned": (60, 100), "grey": (50, 40),
    }  # fmt: skip
    assert (summary.written, summary.kept) == (7, 0)
    assert set(summary.refused) == {"broken.jpg"}


def test_masks_that_are_there_stay(
    pipe: SkinDualGenPipeline, segmented: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    """And those drawn again, in other batches, are the same."""
    source, first, _ = segmented
    out = shutil.copytree(first, tmp_path / "out")
    (out / "masks" / "wide.png").unlink()
    (out / "masks" / "turned.png").unlink()
    kept = sha256_file(out / "masks" / "grey.png")
    summary = segment_folder(pipe, source, out, batch_size=8, ensemble_size=2)
    assert (summary.written, summary.kept) == (2, 5)
    assert sha256_file(out / "masks" / "grey.png") == kept
    for name in ("wide", "turned"):
        masks = [np.asarray(Image.open(folder / "masks" / f"{name}.png")) for folder in (first, out)]
        assert np.mean(masks[0] != masks[1]) < 0.005


@pytest.mark.parametrize("change", [{"seed": 1}, {"ensemble_size": 4}, {"clean": False}, {"num_inference_steps": 1}])
def test_masks_of_other_settings_are_refused(
    pipe: SkinDualGenPipeline, segmented: tuple[Path, Path, Any], change: dict[str, Any]
) -> None:
    source, out, _ = segmented
    with pytest.raises(InputError, match="results of other settings"):
        segment_folder(pipe, source, out, **({"ensemble_size": 2} | change))


def test_folders_without_photographs_are_refused(pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder of photographs"):
        segment_folder(pipe, tmp_path / "none", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="without photographs"):
        segment_folder(pipe, tmp_path / "in", tmp_path / "out")
    for suffix in ("jpg", "png"):
        Image.new("RGB", (16, 16)).save(tmp_path / "in" / f"same.{suffix}")
    with pytest.raises(InputError, match=r"same\.jpg and same\.png"):
        segment_folder(pipe, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8000), st.integers(1, 8000), st.sampled_from([64, 128, 512]))
def test_the_working_size(width: int, height: int, native: int) -> None:
    """Multiples of 8 of about the model's area; the aspect is kept to the nearest 8 px up to 4 : 1."""
    w, h = working_size((width, height), native)
    assert w % 8 == 0 and h % 8 == 0
    assert native / 2 - 4 <= min(w, h) and max(w, h) <= 2 * native + 4
    ratio = min(4.0, max(0.25, width / height))
    assert abs(w - native * ratio**0.5) <= 4 and abs(h - native / ratio**0.5) <= 4


def test_a_field_is_brought_to_size_before_it_is_cut() -> None:
    """Smooth outlines: the zero crossing between two cells moves to the middle, and may lie between old pixels."""
    field = torch.tensor([[[-1.0, 3.0]]]).expand(1, 2, 2)
    mask = np.asarray(field_to_mask(field, (8, 4), clean=False))
    # Columns' centres lie at 1/8 ... 15/8 px of two px with values at 1/2 and 3/2: zero at 3/4 px, after column 2.
    assert mask[0].tolist() == [0, 0, 0, 255, 255, 255, 255, 255]
    speckled = torch.full((1, 16, 16), -1.0)
    speckled[0, 2:9, 2:9] = 1
    speckled[0, 13, 13] = 1
    cleaned, raw = (np.asarray(field_to_mask(speckled, (16, 16), clean=clean)) for clean in (True, False))
    assert (raw > 0).sum() == 50 and (cleaned > 0).sum() == 49
