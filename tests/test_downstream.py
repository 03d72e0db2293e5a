"""The studies of what generated pairs are worth: their captions, their parts of the data, their table."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

from downstream import sweep_folder
from downstream_few import few_folder, few_names
from downstream_overview import (
    ADDED,
    Mixtures,
    fill_overview,
    longest,
    overview_page,
    overview_table,
    read_mixtures,
)
from downstream_runs import Reading, keep_results, pairs_needed, reader_gain
from downstream_sets import (
    best_of_class,
    captions,
    link_pairs,
    read_masks,
    reading_outcomes,
    reading_scores,
    write_captions,
)
from downstream_sweep import sweep_table

from skindualgen.benchmarking.arms import arms_of
from skindualgen.benchmarking.pools import build_trial
from skindualgen.benchmarking.trials import TrialRecord, write_record
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.metrics.intervals import Estimate
from skindualgen.planning.prompt_files import read_prompts

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SIZES = Counter({"nevus": 300, "melanoma": 90, "seborrheic keratosis": 50})


@pytest.fixture(scope="module")
def records() -> list[PairRecord]:
    """Real records without files: two photographs a lesion, a fifth of them val."""
    made = []
    for diagnosis, count in SIZES.items():
        for index in range(count):
            name = f"{diagnosis[:3]}{index:04d}"
            made.append(
                PairRecord(
                    file_name=f"images/{name}.png",
                    mask_file_name=f"masks/{name}.png",
                    isic_id=name,
                    diagnosis=diagnosis,
                    age_approx=20 + index % 60,
                    lesion_id=f"{diagnosis[:3]}{index // 2}",
                    split="val" if index // 2 % 5 == 0 else "train",
                )
            )
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, records: list[PairRecord]) -> Path:
    root = tmp_path_factory.mktemp("real")
    write_dataset(root, records, made_by={})
    return root


def test_captions_have_the_asked_classes_and_real_attributes(records: list[PairRecord], tmp_path: Path) -> None:
    counts = {"nevus": 40, "seborrheic keratosis": 70}
    rows = captions(records, counts, seed=0)
    assert Counter(row["diagnosis"] for row in rows) == counts
    ages = {(record.diagnosis, record.age_approx) for record in records}
    assert all((row["diagnosis"], row["age_approx"]) in ages for row in rows)
    assert rows == captions(records, counts, seed=0) != captions(records, counts, seed=1)
    read = read_prompts(write_captions(tmp_path / "captions.jsonl", rows)).rows
    asked = [(row["prompt"], row["diagnosis"]) for row in rows]
    assert [(row.prompt, row.labels["diagnosis"]) for row in read] == asked


def test_any_start_of_the_captions_has_all_classes(records: list[PairRecord]) -> None:
    rows = captions(records, {"nevus": 60, "melanoma": 30}, seed=0)
    for end in range(6, len(rows), 6):
        melanoma = sum(row["diagnosis"] == "melanoma" for row in rows[:end])
        assert abs(melanoma - end / 3) <= 1


def test_a_class_without_a_record_is_refused(records: list[PairRecord]) -> None:
    with pytest.raises(InputError, match="vascular"):
        captions(records, {"vascular lesion": 3}, seed=0)


@pytest.mark.parametrize("ratio", [0.25, 1, 5])
def test_the_drawn_pairs_are_enough_for_every_arm_of_both_tasks(ratio: float) -> None:
    needed = pairs_needed(SIZES, {"segment": f"{ratio / 2:g},{ratio:g}", "classify": f"{ratio:g}"})
    generated = [name for name, count in needed.items() for _ in range(count)]
    real = [name for name, count in SIZES.items() for _ in range(count)]
    for task, allocation in (("segment", "match"), ("classify", "balance")):
        for arm in arms_of(task, (ratio,), allocation):
            build_trial(task, arm, real_diagnoses=real, synthetic_diagnoses=generated, seed=0)


def test_few_masks_are_train_pairs_and_the_test_part_is_val(
    data: Path, records: list[PairRecord], tmp_path: Path
) -> None:
    roots = [few_folder(data, tmp_path, count, 0) for count in (25, 50)]
    parts = [{record.isic_id for record in read_metadata(root, "train")} for root in roots]
    assert [len(part) for part in parts] == [25, 50] and parts[0] < parts[1]
    assert parts[1] <= {record.isic_id for record in records if record.split == "train"}
    val = {record.isic_id for record in records if record.split == "val"}
    assert all({record.isic_id for record in read_metadata(root, "test")} == val for root in roots)
    assert (roots[0] / "images").is_dir() and few_folder(data, tmp_path, 25, 0) == roots[0]


def test_the_sweep_chooses_on_the_train_split_alone(
    data: Path, records: list[PairRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("downstream.SWEEP_REAL", 60)
    monkeypatch.setattr("downstream.SWEEP_JUDGED", 40)
    root = sweep_folder(data, tmp_path, 0)
    train, judged = read_metadata(root, "train"), read_metadata(root, "test")
    assert (len(train), len(judged)) == (60, 40)
    assert not {record.lesion_id for record in train} & {record.lesion_id for record in judged}
    allowed = {record.isic_id for record in records if record.split == "train"}
    assert {record.isic_id for record in train + judged} <= allowed


def test_the_best_of_each_class_are_chosen() -> None:
    diagnoses = ["nevus", "melanoma", "nevus", "melanoma", "nevus"]
    scores = np.array([0.1, 0.2, 0.9, 0.7, 0.8])
    assert best_of_class(diagnoses, scores, {"nevus": 2, "melanoma": 1}) == [2, 3, 4]
    assert best_of_class(diagnoses, scores, {"melanoma": 9}) == [1, 3]


def test_longer_trainings_have_results_of_their_own() -> None:
    assert few_names("few", "Title", 25, 200) == ("downstream_few_25", "Title", "few --counts 25 --steps 200")
    name, title, _ = few_names("few", "Title", 25, 400)
    assert (name, title) == ("downstream_few_400_steps_25", "Title, 400 steps")


def test_links_lead_to_the_real_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "images" / "a.png").write_bytes(b"picture")
    record = PairRecord(file_name="images/a.png", isic_id="a")
    root = link_pairs(source, [record], tmp_path / "part", made_by={})
    assert (root / "images" / "a.png").read_bytes() == b"picture"
    assert [each.isic_id for each in read_metadata(root)] == ["a"]


def test_kept_results_say_what_wrote_them(tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    out.mkdir()
    record = {"date_utc": "2026-01-02T03:04:05", "platform": "Linux x86_64", "versions": {"torch": "9.9"}}
    (made / "benchmark.json").write_text(json.dumps({"seeds": 5, "record": record}))
    (made / "benchmark.md").write_text("# Benchmark\n\nReal pairs.\n")
    keep_results(made, out, "downstream_x", "A title", "main --task x")
    text = (out / "downstream_x.md").read_text()
    assert text.startswith(
        "# A title\n\n`python studies/downstream.py main --task x`, 2026-01-02, Linux x86_64, PyTorch 9.9"
    )
    assert "seeds 0 to 4" in text and text.endswith("\n\nReal pairs.\n") and "# Benchmark" not in text
    assert (out / "downstream_x.json").read_bytes() == (made / "benchmark.json").read_bytes()
    reading = Reading({"test": {"n": 9, "dice": 0.8, "standard_error": 0.01}}, Estimate(0.02, -0.01, 0.05))
    keep_results(made, out, "downstream_y", "A title", "read", pairs="read masks", reading=reading)
    assert "one thread a training, read masks.\n\n" in (out / "downstream_y.md").read_text()
    assert "0.800 +- 0.020 on 9 of the test split" in (out / "downstream_y.md").read_text()
    assert "minus that of real + augmentation: +0.020 (-0.010 to +0.050)" in (out / "downstream_y.md").read_text()
    assert json.loads((out / "downstream_y.json").read_text())["reading"] == asdict(reading)


def test_an_adapter_reads_the_masks_of_photographs_that_have_others(
    tmp_path: Path, phantom_data: Path, tiny_adapter: Path
) -> None:
    records = read_metadata(phantom_data)
    before = (phantom_data / str(records[0].mask_file_name)).read_bytes()
    paired = read_masks(phantom_data, records, tmp_path / "read", adapter=tiny_adapter, seed=0)
    assert [record.isic_id for record in paired] == [record.isic_id for record in records]
    assert (tmp_path / "read" / paired[0].file_name).is_symlink()
    assert not (tmp_path / "read" / str(paired[0].mask_file_name)).is_symlink()
    read = reading_outcomes(phantom_data, records, tmp_path / "read", paired, 64)
    scores = reading_scores(read)
    assert {split: of["n"] for split, of in scores.items()} == {"train": 12, "val": 4}
    own = reading_outcomes(phantom_data, records, phantom_data, records, 64)
    assert reading_scores(own)["val"]["dice"] == 1.0 > scores["val"]["dice"]
    (of_one_split,) = reading_outcomes(phantom_data, records[-4:], tmp_path / "read", paired[-4:], 64).values()
    assert of_one_split.dice.tolist() == read["val"].dice.tolist()
    # Networks that did as the adapter: the difference of a perfect reader is what that one lacks, by seed.
    for seed, outcome in enumerate([read["val"], own["val"]]):
        trial = TrialRecord(outcome, 1.0, 0.1, "cpu")
        write_record(tmp_path / "trials", f"key-{seed}", trial, {"arm": "augment", "seed": seed})
    write_record(tmp_path / "trials", "key-2", trial, {"arm": "hybrid-1", "seed": 0})
    gain = reader_gain(tmp_path, own["val"], [record.isic_id for record in records if record.split == "val"])
    assert gain.value == pytest.approx((1 - scores["val"]["dice"]) / 2)
    assert (phantom_data / str(records[0].mask_file_name)).read_bytes() == before


def test_the_table_says_what_each_setting_gave() -> None:
    def result(metric: str, value: float) -> dict[str, Any]:
        score = {"value": value, "low": value - 0.01, "high": value + 0.01}
        arms = [
            {"name": "synthetic", "scores": {metric: score}, "differences": {}},
            {"name": "hybrid-2", "scores": {metric: score}, "differences": {"augment": {metric: score}}},
        ]
        return {"tasks": [{"regimes": [{"arms": arms}]}]}

    settings = [
        {
            "steps": 10,
            "guidance": 1.5,
            "segment": result("dice", 0.02),
            "classify": result("balanced_accuracy", 0.3),
            "fidelity": {"fidelity": {"measures": [{"key": "kid", "value": 0.078}]}},
        }
    ]
    record = {"date_utc": "2026-01-02T03:04:05", "platform": "Linux", "steps": 200, "pairs": 200, "seeds": 5}
    rows, text = sweep_table(settings, record)
    assert rows[0]["kid"] == 0.078 and rows[0]["recall"] is None
    assert "| 10 | 1.5 | +0.020 (+0.010 to +0.030) | 0.020 (0.010 to 0.030) | +0.300" in text


def test_the_pages_and_the_readme_say_what_was_found(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    results = root / "docs" / "results"
    studies = read_mixtures(results)
    named = {path.stem for path in results.glob("downstream_*.json")} - {"downstream_sweep"}
    assert {study.name for study in studies} == named
    assert (results / "downstream.md").read_text(encoding="utf-8") == overview_page(studies)
    page = (results / "overview.md").read_text(encoding="utf-8")
    (tmp_path / "overview.md").write_text(page, encoding="utf-8")
    fill_overview(tmp_path / "overview.md", studies)
    assert (tmp_path / "overview.md").read_text(encoding="utf-8") == page
    assert "added to real ones, never beat repetition and augmentation" in (root / "README.md").read_text("utf-8")
    assert not [study.name for study in studies if study.helped and study.study != "read"]


def test_the_overview_tells_gains_from_ties() -> None:
    def found(study: str, steps: int, value: float, **more: Any) -> Mixtures:
        gain = {"value": value, "low": value - 0.01, "high": value + 0.01}
        return Mixtures(study, f"{study}_{steps}", "segment", 1000, steps, {1.0: gain}, more.get("helped", ()))

    short, tie, loss = found("few", 200, 0.5), found("few", 400, 0.004), found("read", 200, -0.02, helped=["HD95"])
    assert longest([short, tie, loss]) == [tie, loss]
    lines = overview_table([tie, loss], (1.0, 5.0)).splitlines()[2:]
    assert lines[0] == f"| 1,000 | [{ADDED['few']}](few_400.md) | 400 | +0.004 (-0.006 to +0.014) |  |"
    assert lines[1].endswith("| **-0.020 (-0.030 to -0.010)** |  |")
    assert len(overview_table([tie], (5.0,)).splitlines()) == 2
    assert "* read_200: HD95" in overview_page([tie, loss]) and "* none" in overview_page([tie])
