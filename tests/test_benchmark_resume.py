"""Runs of earlier versions go on: the keys of its trials, their records, and its results are read as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark_data import SIZE_PX, TINY, plain_data
from skindualgen.benchmarking.arms import ClassAllocation, Task
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import plan
from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.benchmarking.trials import read_record, trial_key
from skindualgen.contracts import PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.files import sha256_bytes, sha256_file
from skindualgen.judges.pictures import read_pictures
from skindualgen.report.benchmark_text import benchmark_markdown

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"

KEYS = {
    "segment match 10 real 0": "983b018c82f0a135",
    "segment match 10 augment 0": "978b08f5115c7844",
    "segment match 10 replay 0": "978b08f5115c7844",
    "segment match 10 hybrid-0.5 1": "8892681d7bcf26ee",
    "segment match 6 pretrain 1": "006aaf30633f52cc",
    "segment balance 10 hybrid-2 0": "c581d485e682c27c",
    "classify balance 10 reweight 0": "c7c302d41103f2a3",
    "classify balance 10 oversample 0": "fb3fc5acbc0e2a3a",
    "classify balance 10 replay 1": "1b41e002f3f1a44d",
    "classify balance 6 synthetic 0": "26f26aadae6dba5f",
    "classify even 10 hybrid-1 0": "e2a16db5863c3e3b",
    "classify match 6 hybrid-2 1": "d93ae50be19b6ea6",
}
"""Task, class allocation, real pairs, arm and seed -> the first digits of the trial's key."""
ALL_KEYS = "3d34fab7d8d5f61d322aa32f1d0eabe8548a9df090f358b68681734484197ed9"
"""Hash of the keys of all arms of both tasks, each class allocation, two amounts of real pairs and two seeds."""


def keys_of(task: Task, allocation: ClassAllocation, counts: tuple[int, ...]) -> dict[str, str]:
    """The keys of all trials of a benchmark of plain pictures, 8 of one class and 2 of another."""
    data = plain_data(generated=60)
    data = replace(data, task=task, classes=data.classes if task == "classify" else [])
    data.train.diagnoses[:] = ["class 0"] * 8 + ["class 1"] * 2
    options = BenchmarkOptions(
        tasks=(task,),
        real=Path("real"),
        size_px=SIZE_PX,
        network=TINY,
        ratios=(0.5, 1, 2),
        seeds=2,
        real_counts=counts,
        class_allocation=allocation,
    )
    [(regime, trials)] = plan(options, data)
    assert not regime.left_out
    return {f"{task} {allocation} {t.real_pairs} {t.arm.name} {t.seed}": trial_key(data, t) for t in trials}


def test_trials_have_the_keys_that_they_had() -> None:
    keys: dict[str, str] = {}
    tasks: tuple[Task, ...] = ("segment", "classify")
    allocations: tuple[ClassAllocation, ...] = ("match", "balance", "even")
    for task in tasks:
        for allocation in allocations:
            keys |= keys_of(task, allocation, ()) | keys_of(task, allocation, (6,))
    assert {name: keys[name][:16] for name in KEYS} == KEYS
    assert len(keys) == 216
    assert sha256_bytes("\n".join(f"{name} {key}" for name, key in sorted(keys.items())).encode()) == ALL_KEYS


def test_the_old_name_of_class_allocation_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="class_allocation"):
        options = BenchmarkOptions(tasks=("segment",), real=Path("real"), fill="even")
    assert options.class_allocation == "even"


def test_pictures_have_the_hashes_that_they_had(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "a.bmp")
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 255
    Image.fromarray(mask).save(tmp_path / "m.bmp")
    records = [
        PairRecord(file_name="a.bmp", mask_file_name="m.bmp", isic_id="a", diagnosis="sk"),
        PairRecord(file_name="a.bmp", isic_id="b"),
    ]
    assert read_pictures(Dataset(tmp_path, records), 4).digests == [
        "e1b37326cbb9d83f269c9212d0e21b7097290a5d7ccca1cd35b5fb9b80fa5036",
        "839a0da0b6ffee8fb40fb615f91a645a01f6dc5d35855de748d5326e93de6603",
    ]


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    classes, truth, probabilities = np.array(["melanoma", "nevus"]), np.array([0, 1]), np.array([[0.75, 0.25]] * 2)
    with (tmp_path / "key.npz").open("wb") as file:
        np.savez_compressed(file, classes=classes, truth=truth, probabilities=probabilities)
    header = {"task": "classify", "arm": "replay", "seed": 1, "real_pairs": 10, "seconds": 2.5, "final_loss": 0.25}
    header |= {"device": "cpu", "key": "key", "outcome_sha256": sha256_file(tmp_path / "key.npz")}
    (tmp_path / "key.json").write_text(json.dumps(header))
    record = read_record(tmp_path, "key", "classify")
    assert record is not None
    assert (record.seconds, record.final_loss, record.device) == (2.5, 0.25, "cpu")
    assert record.outcome.classes == ["melanoma", "nevus"]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["downstream_segment", "downstream_classify", "downstream_few_25"])
def test_results_of_earlier_versions_are_read_and_written_with_every_key_and_number(name: str) -> None:
    """They say less of an arm than this version; that is known by its name."""
    stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    result = BenchmarkResult.model_validate(stored)
    written = result.model_dump(mode="json")
    assert written.pop("repeats") == 1
    for task in written["tasks"]:
        assert [regime.pop("steps") for regime in task["regimes"]] == [None] * len(task["regimes"])
        for arm in (arm for regime in task["regimes"] for arm in regime["arms"]):
            added = {key: arm.pop(key) for key in ("uses_real", "repeat_real", "class_allocation", "equal_classes")}
            further = {"replacement": 0, "own_masks": False, "separate_norms": False, "mix": None, "tuned": False}
            assert {key: arm.pop(key) for key in further} == further
            assert arm.pop("pretrain") == (0.5 if arm["name"] == "pretrain" else 0)
            assert added["uses_real"] is (arm["name"] != "synthetic")
            assert added["repeat_real"] is (arm["name"] == "replay")
    assert written == stored
    page = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert page.endswith(benchmark_markdown(result).partition("\n")[2])
