"""Folders of masks for photographs: they resume, and photographs of any size get masks of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.segmentation import field_to_mask, segment_folder, working_size


@pytest.fixture(scope="module")
def pipe(tiny_v_adapter: Path) -> SkinDualGenPipeline:
    pipe = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    pipe.set_progress_bar_config(disable=True)
    return pipe


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
    for name in ("phone.heic", "camera.DNG", "web.avif"):
        (root / name).write_bytes(b"x")
    (root / "more").mkdir()
    (root / ".hidden").write_bytes(b"x")
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
        "square": (80, 80),
        "wide": (150, 70),
        "tall": (33, 90),
        "strip": (200, 20),
        "small": (9, 7),
        "turned": (60, 100),
        "grey": (50, 40),
    }
    assert (summary.written, summary.kept) == (7, 0)
    assert set(summary.refused) == {"broken.jpg"}
    assert set(summary.not_used) == {"notes.txt", "phone.heic", "camera.DNG", "web.avif", "more"}
    assert "not searched" in summary.not_used["more"] and ".png" in summary.not_used["phone.heic"]


def test_the_command_names_what_it_did_not_use(tiny_v_adapter: Path, tmp_path: Path) -> None:
    from skindualgen.cli import app

    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 16), (200, 150, 140)).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "page.png").write_text("<html>")
    (tmp_path / "in" / "phone.heic").write_bytes(b"x")
    given = ["--images", str(tmp_path / "in"), "--adapter", str(tiny_v_adapter), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["segment", *given])
    assert done.exit_code == 0, done.output
    assert "not used phone.heic: none of .jpg" in done.stderr
    assert "refused page.png: not_an_image" in done.stderr
    assert "1 masks written, 0 were there, 1 photographs refused, 1 other files not used" in done.stdout


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_an_orientation_is_applied_once(pipe: SkinDualGenPipeline, tmp_path: Path, suffix: str) -> None:
    """The same photograph, upright and turned by its file, gets the same mask."""
    (tmp_path / "in").mkdir()
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 100, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if suffix == "webp" else {}
    upright.save(tmp_path / "in" / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / f"turned.{suffix}", exif=exif, **options)
    segment_folder(pipe, tmp_path / "in", tmp_path / "out", ensemble_size=1, batch_size=1)
    masks = [np.asarray(Image.open(tmp_path / "out" / "masks" / f"{name}.png")) for name in ("upright", "turned")]
    assert masks[0].shape == (60, 100) and np.array_equal(*masks)


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
    (tmp_path / "in" / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"without photographs, with a\.heic;"):
        segment_folder(pipe, tmp_path / "in", tmp_path / "out")
    for suffix in ("jpg", "png"):
        Image.new("RGB", (16, 16)).save(tmp_path / "in" / f"same.{suffix}")
    with pytest.raises(InputError, match=r"same\.jpg and same\.png"):
        segment_folder(pipe, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(max_examples=200)
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


def test_a_folder_of_something_else_is_refused(pipe: SkinDualGenPipeline, tmp_path: Path, phantom_data: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        segment_folder(pipe, phantom_data / "images", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
