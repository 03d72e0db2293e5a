"""`skindualgen check`: a sound data set is "go", and each planted problem is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from skindualgen import check, prepare
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.hardware import GIB
from skindualgen.model.local import native_px
from skindualgen.readiness.masks import doubt_of
from skindualgen.readiness.results import Readiness
from skindualgen.training.estimate import expected_hours
from skindualgen.training.loop import train
from skindualgen.training.progress import METRICS_FILE, read_rows
from tiny import tiny_config

SIZE_PX = 128
"""What the bundled base was trained on."""
COUNT = 96

Change = Callable[[list[PairRecord]], list[PairRecord]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check") / "source"
    write_phantom_folder(root, COUNT, size=SIZE_PX)
    return root


@pytest.fixture(scope="module")
def sound(source: Path) -> Path:
    """A data set as `prepare` makes it, with enough of each diagnosis in every split; read-only."""
    prepare(source, source.parent / "data", size=SIZE_PX, split="34/33/33", workers=1)
    return source.parent / "data"


@pytest.fixture(autouse=True)
def few_tones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring skin takes longer than all else."""
    monkeypatch.setattr("skindualgen.readiness.pictures.TONES_MEASURED", 2)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def change(folder: Path, of: Change) -> list[PairRecord]:
    """Write the folder's records anew as ``of`` returns them."""
    records = of(list(Dataset.open(folder)))
    Dataset(folder, records).write({"test": True})
    return records


def alter(record: PairRecord, **fields: object) -> PairRecord:
    return record.model_copy(update=fields)


def kinds(found: Readiness) -> dict[str, str]:
    return {problem.kind: problem.level for problem in found.problems}


def stored(folder: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def replace_mask(folder: Path, record: PairRecord, lesion: np.ndarray) -> None:
    Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0))).save(folder / str(record.mask_file_name))


def test_a_sound_set_is_go_and_nothing_is_written(sound: Path) -> None:
    before = stored(sound)
    for found in (check(sound), check(sound, "benchmark")):
        assert found.verdict == "go" and not found.problems, found.problems
        assert found.counts["records"] == COUNT and len(found.masks) == COUNT
        assert any(note.startswith("skin tones of") for note in found.notes)
    assert stored(sound) == before


def first_of(records: list[PairRecord], split: str) -> int:
    return next(i for i, record in enumerate(records) if record.split == split)


def crossing(records: list[PairRecord]) -> list[PairRecord]:
    for split in ("train", "val"):
        place = first_of(records, split)
        records[place] = alter(records[place], patient_id="the same")
    return records


def one_long_prompt(records: list[PairRecord]) -> list[PairRecord]:
    """The second looks too long to the estimate alone."""
    longest = "dermoscopic " * 20
    return [alter(records[0], prompt="a " * 80), alter(records[1], prompt=longest), *records[2:]]


RECORD_PROBLEMS: dict[str, tuple[str, str, Change]] = {
    "one patient in two splits": ("crossing", "stop", crossing),
    "no train": ("no_train_split", "stop", lambda records: [alter(r, split="val", patient_id=None) for r in records]),
    "no val": ("no_val_split", "fix", lambda records: [r for r in records if r.split != "val"]),
    "few": (
        "few_of_class",
        "fix",
        lambda records: [
            alter(r, diagnosis="keloid") if i == first_of(records, "train") else r for i, r in enumerate(records)
        ],
    ),
    "one without a mask": ("no_mask", "fix", lambda records: [alter(records[0], mask_file_name=None), *records[1:]]),
    "none has a mask": ("no_mask", "stop", lambda records: [alter(r, mask_file_name=None) for r in records]),
    "a long prompt": ("long_prompt", "fix", one_long_prompt),
}


@pytest.mark.parametrize("name", RECORD_PROBLEMS)
def test_what_records_show(name: str, copy: Path) -> None:
    kind, level, of = RECORD_PROBLEMS[name]
    records = change(copy, of)
    found = check(copy)
    assert kinds(found) == {kind: level}, found.problems
    assert found.verdict == level
    (problem,) = found.problems
    assert "skindualgen" in problem.remedy
    if kind == "long_prompt":
        assert problem.ids == (records[0].isic_id,)  # the tokenizer's count decides, not the estimate


def test_doubtful_masks_are_named_each_with_its_reason(copy: Path) -> None:
    records = list(Dataset.open(copy))
    lesion = np.asarray(Image.open(copy / str(records[0].mask_file_name))) > 0
    speck, all_but_a_corner = np.zeros_like(lesion), np.ones_like(lesion)
    speck[60:66, 60:66], all_but_a_corner[:9, :9] = True, False
    planted = {"inverted": ~lesion, "empty": speck & False, "full": all_but_a_corner, "tiny": speck}
    for record, mask in zip(records, planted.values(), strict=False):
        replace_mask(copy, record, mask)
    found = check(copy)
    assert {problem.kind: problem.ids for problem in found.problems} == {
        f"mask_{name}": (record.isic_id,) for name, record in zip(planted, records, strict=False)
    }
    assert found.verdict == "fix"
    for record in records:
        replace_mask(copy, record, ~lesion)
    assert kinds(check(copy)) == {"mask_inverted": "stop"}  # no slip, but how the source marks lesions


def test_doubts_at_their_limits() -> None:
    """Large lesions that leave the frame in places are right; a lesion with a hole in a corner is no inverted mask."""
    large = np.ones((20, 20), bool)
    large[:, -2:] = large[:2] = False  # touches two sides: 81 % of the picture
    assert doubt_of(large) is None
    ring = np.ones((20, 20), bool)
    ring[5:15, 5:15] = False
    assert doubt_of(ring) == "inverted" and doubt_of(~ring) is None
    assert [doubt_of(np.arange(1000).reshape(25, 40) < n) for n in (0, 4, 5)] == ["empty", "tiny", None]
    assert [doubt_of(np.arange(1000).reshape(25, 40) < n) for n in (1000, 950)] == ["full", "full"]


def test_expert_masks_raise_no_doubt(real_data: Path) -> None:
    masks = [np.asarray(Image.open(path)) > 127 for path in sorted((real_data / "masks").glob("*.png"))[::10]]
    assert not [mask for mask in masks if doubt_of(mask)]
    assert sum(doubt_of(~mask) == "inverted" for mask in masks) > 0.9 * len(masks)


def test_files_that_cannot_be_read_are_counted_and_the_rest_is_checked(copy: Path) -> None:
    records = list(Dataset.open(copy))
    (copy / records[0].file_name).unlink()
    (copy / str(records[1].mask_file_name)).write_bytes(b"no picture")
    replace_mask(copy, records[2], np.zeros((SIZE_PX, SIZE_PX), bool))
    found = check(copy)
    assert kinds(found) == {"unreadable": "stop", "mask_empty": "fix"}
    assert set(found.problems[0].ids) == {records[0].isic_id, records[1].isic_id}


def plant_near_duplicate(folder: Path, first: str, second: str, light: float) -> None:
    def brightened(records: list[PairRecord]) -> list[PairRecord]:
        here, there = first_of(records, first), first_of(records, second)
        picture = Image.open(folder / records[here].file_name)
        ImageEnhance.Brightness(picture).enhance(light).save(folder / records[there].file_name)
        records[there] = alter(records[there], perceptual_hash=None, sha256=None)
        return records

    change(folder, brightened)


def test_near_duplicates_across_splits(copy: Path) -> None:
    plant_near_duplicate(copy, "train", "val", 1.05)
    assert kinds(check(copy)) == {"near_duplicate": "fix"}
    plant_near_duplicate(copy, "train", "test", 0.95)
    assert kinds(check(copy, "benchmark")) == {"leak": "stop"}  # as the benchmark itself would refuse it


def test_photographs_are_compared_with_the_size_of_the_base(sound: Path) -> None:
    (problem,) = check(sound, base="sd1.5").problems
    assert problem.kind == "small" and len(problem.ids) == COUNT
    assert "--size 512" in problem.remedy and "--resolution 128" in problem.remedy
    assert check(sound, base="owner/unheard-of").verdict == "go"  # nothing is asked of the hub


def test_native_size_of_a_folder(tmp_path: Path) -> None:
    for part, settings in (("unet", {"sample_size": 96}), ("vae", {"block_out_channels": [8, 8, 8, 8]})):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(settings))
    assert native_px(str(tmp_path)) == 768
    assert native_px("micro") == SIZE_PX


BENCHMARK_PROBLEMS: dict[str, tuple[dict[str, str], Change]] = {
    "nothing held out": ({"no_test_split": "stop"}, lambda records: [r for r in records if r.split == "train"]),
    "val alone": ({"no_test_split": "fix"}, lambda records: [r for r in records if r.split != "test"]),
    "one diagnosis": ({"cannot_classify": "fix"}, lambda records: [alter(r, diagnosis="nevus") for r in records]),
    "masks of training alone": (
        {"no_mask": "fix", "cannot_segment": "fix"},
        lambda records: [alter(r, mask_file_name=None) if r.split == "test" else r for r in records],
    ),
    "neither": (
        {"no_mask": "fix", "cannot_segment": "stop", "cannot_classify": "stop"},
        lambda records: [alter(r, mask_file_name=None, diagnosis=None) for r in records],
    ),
}


@pytest.mark.parametrize("name", BENCHMARK_PROBLEMS)
def test_what_the_benchmark_would_refuse(name: str, copy: Path) -> None:
    expected, of = BENCHMARK_PROBLEMS[name]
    change(copy, of)
    assert kinds(check(copy, "benchmark")) == expected


def test_the_benchmark_needs_square_photographs(copy: Path) -> None:
    record = Dataset.open(copy)[0]
    for name in (record.file_name, str(record.mask_file_name)):
        Image.open(copy / name).crop((0, 8, SIZE_PX, SIZE_PX)).save(copy / name)
    assert kinds(check(copy, "benchmark")) == {"not_square": "stop"}


def test_rejected_pairs_do_not_count(copy: Path) -> None:
    replace_mask(copy, Dataset.open(copy)[0], np.zeros((SIZE_PX, SIZE_PX), bool))
    change(copy, lambda records: [alter(records[0], review={"decision": "rejected"}), *records[1:]])
    found = check(copy)
    assert found.verdict == "go" and "Left out, as rejected in review: 1 pair" in found.notes[-1]


def test_hours_are_those_of_a_real_training(
    copy: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a factor that a busy machine has; and a machine that cannot train says so, which changes no verdict."""
    config = tiny_config(copy, tmp_path / "run", tiny_base, max_train_steps=12, train_batch_size=8, views=1)
    rate = read_rows(train(config) / METRICS_FILE)[-1]["pairs_per_second"]
    assert 0.2 < 3600 * expected_hours(config) / (12 * 8 / rate) < 6
    before, base = stored(copy), str(tiny_base)
    found = check(copy, base=base, hours=True)
    assert found.hours is not None and found.notes[-1].startswith("expected on this machine: ")
    assert stored(copy) == before
    monkeypatch.setattr("skindualgen.training.estimate.free_memory", lambda device: GIB // 100)
    poor = check(copy, base=base, hours=True)
    assert poor.hours is None and "got 0.0 GiB of free memory" in poor.notes[-1] and poor.verdict == found.verdict
    assert check(copy, "benchmark", hours=True).hours is None


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_the_command(copy: Path, source: Path, tmp_path: Path) -> None:
    code, said = command("check", copy, "--json", tmp_path / "found.json", "--sheet", tmp_path / "sheet.png")
    assert code == 0 and said.splitlines()[-1] == "verdict: go"
    assert "note: expected on this machine: " in said and "for the 1,000 steps of 8 pairs" in said
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["verdict"] == "go" and written["hours"] > 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 8 * 192  # eight pairs a row

    record = Dataset.open(copy)[0]
    replace_mask(copy, record, np.zeros((SIZE_PX, SIZE_PX), bool))
    code, said = command("check", copy, "--json", tmp_path / "found.json", "--no-hours")
    assert "expected on this machine" not in said
    assert code == 3 and said.splitlines()[-1] == "verdict: fix" and record.isic_id in said
    assert json.loads((tmp_path / "found.json").read_text())["problems"][0]["ids"] == [record.isic_id]

    change(copy, crossing)
    code, said = command("check", copy)
    assert code == 2 and said.splitlines()[-1] == "verdict: stop" and "1 group of the same patient" in said


def test_prepare_says_what_its_records_show(sound: Path, source: Path) -> None:
    code, said = command("prepare", source, sound, "--size", SIZE_PX, "--split", "34/33/33", "--workers", 1)
    assert code == 0
    assert said.splitlines()[-1].startswith("records: go; to look at pictures and masks as well: skindualgen check")


def test_wrong_input_is_one_line(sound: Path, tmp_path: Path) -> None:
    for arguments in (
        [tmp_path],
        [tmp_path / "none"],
        [sound, "--base", "nonsense"],
        [sound, "--no-hours", "--json", tmp_path],
    ):
        code, said = command("check", *arguments)
        assert code == 2 and said.count("Error: ") == 1 and "Traceback" not in said, said
    change(
        Path(shutil.copytree(sound, tmp_path / "bare")),
        lambda records: [alter(r, mask_file_name=None) for r in records],
    )
    code, said = command("check", tmp_path / "bare", "--sheet", tmp_path / "sheet.png")
    assert code == 2 and "without a mask that can be read" in said and not (tmp_path / "sheet.png").exists()
    with pytest.raises(InputError, match=r"without metadata\.jsonl"):
        check(tmp_path)
