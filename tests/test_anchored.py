"""``generate`` from real pairs: variations of them, photographs for their masks, a part of their photographs anew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from producer import contents
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.reading import read_pair
from skindualgen.files import sha256_file
from skindualgen.planning.anchors import Anchoring
from skindualgen.planning.requests import PairRequest
from skindualgen.production.anchored import pasted
from skindualgen.production.jitter import jittered
from skindualgen.production.source import RequestList
from tiny import write_two_class_data

pytestmark = pytest.mark.usefixtures("own_threads")


def generate(adapter: Path, out: Path, *more: str | Path, steps: int = 4) -> Result:
    line = ["generate", "--adapter", adapter, "--steps", steps, "--batch-size", "3", "--out", out, *more]
    return CliRunner().invoke(app, [str(word) for word in line])


def levels(root: Path, record: Any) -> tuple[np.ndarray, np.ndarray]:
    image, mask = read_pair(root, record)
    return np.asarray(image, np.int16), np.asarray(mask)


def pairs_of(root: Path, out: Path) -> list[tuple[Any, Any]]:
    """Each generated record with the real one that it is made from."""
    real = {record.isic_id: record for record in read_metadata(root)}
    return [(record, real[record.anchor_isic_id]) for record in read_metadata(out)]


def test_variations_stay_near_their_pairs_and_say_where_they_come_from(
    tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path
) -> None:
    """Two variations by a small strength are more alike; each record names its real pair, by hash and by lesion."""
    apart = {}
    for strength in (0.25, 1.0):
        out = tmp_path / f"by {strength}"
        done = generate(tiny_v_adapter, out, "--redraw", phantom_data, "--strength", str(strength), "--per-pair", "2")
        assert done.exit_code == 0, done.output
        assert "4 pairs" in done.output and "are of val or test and are not started from" in done.output
        pairs = pairs_of(phantom_data, out)
        assert [real.isic_id for _, real in pairs[::2]] == [
            record.isic_id for record in read_metadata(phantom_data) if record.split == "train"
        ]
        for made, real in pairs:
            assert (made.anchor_way, made.strength, made.origin) == ("redraw", strength, "synthetic")
            assert made.anchor_sha256 == sha256_file(phantom_data / real.file_name)
            assert made.anchor_mask_sha256 == sha256_file(phantom_data / real.mask_file_name)
            assert made.lesion_id == (real.lesion_id or real.isic_id)
            assert made.diagnosis == real.diagnosis
            assert str(real.diagnosis).replace("_", " ") in str(made.prompt)
        pictures = [levels(out, made)[0] for made, _ in pairs]
        apart[strength] = np.mean([np.abs(a - b).mean() for a, b in zip(pictures[::2], pictures[1::2], strict=True)])
    assert 0 < apart[0.25] < 0.8 * apart[1.0]


def test_a_kept_mask_is_the_real_one(tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--redraw", phantom_data, "--keep-mask", "-n", "5", "--strength", "0.5")
    assert done.exit_code == 0, done.output
    pairs = pairs_of(phantom_data, out)
    assert len(pairs) == 5 and len({real.isic_id for _, real in pairs}) == 5
    for made, real in pairs:
        assert made.keep_mask is True
        assert (levels(out, made)[1] == levels(phantom_data, real)[1]).all()
        assert (levels(out, made)[0] != levels(phantom_data, real)[0]).any()


def test_variations_of_one_pair_differ_and_a_run_goes_on(
    tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = ["--redraw", phantom_data, "--per-pair", "2", "--seed", "3"]
    assert generate(tiny_v_adapter, whole, *options).exit_code == 0
    pairs = pairs_of(phantom_data, whole)
    assert len(pairs) == 24
    for (one, real), (other, same) in zip(pairs[::2], pairs[1::2], strict=True):
        assert real.isic_id == same.isic_id
        assert one.seed != other.seed and one.sha256 != other.sha256
    shutil.copytree(whole, resumed)
    for path in (resumed / "images").glob("*_000001?.png"):
        path.unlink()
    assert generate(tiny_v_adapter, resumed, *options).exit_code == 0
    assert contents(resumed) == contents(whole)
    other = generate(tiny_v_adapter, resumed, *options, "--strength", "0.6")
    assert other.exit_code == 2 and "strength" in other.output


def test_another_diagnosis_shares_the_label(tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--redraw", phantom_data, "--strength", "0.7", "--relabel", "melanoma"]
    assert generate(tiny_v_adapter, out, *options).exit_code == 0
    pairs = pairs_of(phantom_data, out)
    assert pairs and all(real.diagnosis != "melanoma" for _, real in pairs)
    for made, real in pairs:
        assert made.diagnosis == "melanoma" and "melanoma" in made.prompt
        assert made.label_shares == {"melanoma": 0.7, real.diagnosis.replace("_", " "): 0.3}
        assert made.benign_malignant is None


def test_photographs_for_given_masks(tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path) -> None:
    """Masks as they are from a data set; deformed ones from a plain folder, with prompts of one's own."""
    out = tmp_path / "out"
    assert generate(tiny_v_adapter, out, "--masks", phantom_data, "-n", "4").exit_code == 0
    for made, real in pairs_of(phantom_data, out):
        assert made.anchor_way == "masks" and made.diagnosis == real.diagnosis
        assert (levels(out, made)[1] == levels(phantom_data, real)[1]).all()
    deformed = tmp_path / "deformed"
    options = ["--masks", phantom_data / "masks", "--prompt", "a melanoma", "--jitter", "affine,elastic"]
    plain = tmp_path / "plain"
    shutil.copytree(phantom_data / "masks", plain)
    (plain / "notes.txt").write_text("by hand")
    options[1] = plain
    done = generate(tiny_v_adapter, deformed, *options, "-n", "3")
    assert done.exit_code == 0, done.output
    assert "notes.txt" in done.output
    for made in read_metadata(deformed):
        given = np.asarray(Image.open(phantom_data / "masks" / f"{made.anchor_isic_id}.png"))
        assert made.diagnosis == "melanoma" and made.jitter == ["affine", "elastic"]
        assert not hasattr(made, "anchor_sha256") and made.anchor_mask_sha256  # no photograph was there
        mask = levels(deformed, made)[1]
        assert (mask != given).any()
        assert 0.4 < (mask > 0).sum() / (given > 0).sum() < 1.5


@pytest.mark.parametrize("region", ["lesion", "skin"])
def test_what_is_not_drawn_anew_keeps_its_own_pixels(
    tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path, region: str
) -> None:
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--inpaint", region, "--onto", phantom_data, "-n", "4")
    assert done.exit_code == 0, done.output
    for made, real in pairs_of(phantom_data, out):
        (image, mask), (own, lesion) = levels(out, made), levels(phantom_data, real)
        changed = (image != own).any(-1)
        assert changed.any()
        if region == "skin":
            assert not changed[lesion > 0].any()
            assert (mask == lesion).all()
        else:
            from scipy.ndimage import distance_transform_edt

            far = distance_transform_edt(lesion == 0) > 0.06 * len(lesion)
            assert not changed[far].any() and not (mask[far] > 0).any()
        assert made.redrawn_region == region


def test_a_pasted_region_passes_smoothly_into_the_photograph() -> None:
    own, new = (Image.new("RGB", (100, 100), (level,) * 3) for level in (0, 200))
    region = np.zeros((100, 100), bool)
    region[20:80, 20:80] = True
    row = np.asarray(pasted(own, new, region))[50, :, 0]
    assert (row[:20] == 0).all() and (row[80:] == 0).all() and (row[25:75] == 200).all()
    assert 0 < row[20] < row[21]  # the seam lies inside


def test_a_mask_that_would_leave_the_frame_is_deformed_less() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:6, :6] = 255
    given = Image.fromarray(mask)
    for seed in range(20):
        assert (np.asarray(jittered(given, ("affine", "elastic"), seed)) > 0).sum() >= 18
    assert jittered(given, (), 0) is given
    one, again = (np.asarray(jittered(given, ("elastic",), 5)) for _ in range(2))
    assert (one == again).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--redraw", "DATA", "--masks", "DATA"], "several of --redraw, --masks, --inpaint and --read"),
        (["--redraw", "DATA", "--prompt", "a nevus"], "not exactly one of"),
        (["--redraw", "DATA", "--strength", "0"], "a strength of 0"),
        (["--prompt", "a nevus", "--strength", "0.5"], "without --redraw"),
        (["--prompt", "a nevus", "--per-pair", "2"], "--per-pair without real pairs"),
        (["--redraw", "DATA", "--per-pair", "2", "-n", "3"], "--per-pair without real pairs, or with --count"),
        (["--prompt", "a nevus", "--jitter", "affine"], "--jitter without --masks"),
        (["--masks", "DATA", "--jitter", "affine,warp"], "one or both of affine,elastic"),
        (["--inpaint", "lesion"], "one of --inpaint and --onto"),
        (["--masks", "EMPTY"], "without masks"),
        (["--redraw", "DATA", "--only", "ISIC_none"], "ISIC_none, which cannot be started from"),
        (["--prompt", "a nevus", "--only", "ISIC_none"], "--only without real pairs"),
        (["--redraw", "VAL"], "no"),
        (["--redraw", "CLASSES"], "masks of the lesion alone"),
    ],
)
def test_what_cannot_be_is_refused(
    tiny_v_adapter: Path, phantom_data: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    places = {"DATA": phantom_data, "EMPTY": tmp_path / "empty", "VAL": tmp_path / "val", "CLASSES": tmp_path / "two"}
    places["EMPTY"].mkdir()
    if "VAL" in options:
        shutil.copytree(phantom_data, places["VAL"])
        records = [record.model_copy(update={"split": "val"}) for record in read_metadata(phantom_data)]
        write_dataset(places["VAL"], records, made_by={})
    if "CLASSES" in options:
        write_two_class_data(places["CLASSES"], train=2, val=0)
    done = generate(tiny_v_adapter, tmp_path / "out", *(places.get(word, word) for word in options))
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out" / "images").exists() or not any((tmp_path / "out" / "images").iterdir())


def test_requests_without_real_pairs_hash_as_before() -> None:
    """Guards folders of version 0.1, which a run of the same command must recognise."""
    request = PairRequest(0, "a nevus", 1, {"diagnosis": "nevus"})
    assert RequestList([request]).sha256 == "acb0feeccb1ce06b98554352a209002a85bdf3e40ae8e4b5838482395231c5b0"
    assert "anchor" not in request.described()


def test_generated_pairs_are_no_beginning(tmp_path: Path, phantom_data: Path) -> None:
    shutil.copytree(phantom_data, tmp_path / "made")
    records = [r.model_copy(update={"origin": "synthetic"}) for r in read_metadata(phantom_data)]
    write_dataset(tmp_path / "made", records, made_by={})
    with pytest.raises(InputError, match="which are generated"):
        Anchoring("redraw", tmp_path / "made").requests(0)


def test_only_named_pairs_are_started_from(phantom_data: Path) -> None:
    chosen = [record.isic_id for record in read_metadata(phantom_data, "train")][2:4]
    anchoring = Anchoring("redraw", phantom_data, only=(chosen[1], chosen[0]))
    assert [request.anchor.isic_id for request in anchoring.requests(0, per_pair=2) if request.anchor] == [
        chosen[0],
        chosen[0],
        chosen[1],
        chosen[1],
    ]
    held_out = read_metadata(phantom_data, "val")[0].isic_id
    with pytest.raises(InputError, match=held_out):
        replace(anchoring, only=(held_out,)).requests(0)


def test_a_folder_without_pairs_to_start_from(tmp_path: Path, phantom_data: Path) -> None:
    shutil.copytree(phantom_data, tmp_path / "one")
    records = [r.model_copy(update={"diagnosis": "melanoma"}) for r in read_metadata(phantom_data)]
    write_dataset(tmp_path / "one", records, made_by={})
    with pytest.raises(InputError, match="another diagnosis than"):
        Anchoring("redraw", tmp_path / "one", relabel="melanoma").requests(0)
