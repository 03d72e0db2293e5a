"""The registered study: its parts are the benchmark's, candidates are chosen and confirmed by hand-worked rules."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

import downstream_runs
import registered
import registered_sets
from registered import CHOICE_FILE, confirm, run
from registered_plan import REGIMES, Found, Regime, adjusted, arms_of_way, choose, ways_of
from registered_sets import Effort, generated_folder, part_folder, real_folder

from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import plan, task_data
from skindualgen.benchmarking.trials import Recipe
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.training_items import read_training_items
from skindualgen.files import atomic_write_json
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import read_pictures
from skindualgen.judges.training import Budget
from tiny import write_phantom_data

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("own_threads")]

CONFIG = """base = "{base}"
views = 1
lr_warmup_steps = 1
validation_steps = 100
[lora]
rank = 4
alpha = 4
[sampling]
default_steps = 2
default_segment_steps = 1
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms: 30 to train on, a fifth of them without mask, 9 of val and 9 of test."""
    root = write_phantom_data(tmp_path_factory.mktemp("registered") / "data", train=48, val=0)
    names = ["melanoma", "nevus", "seborrheic keratosis"]
    records = [
        record.model_copy(
            update={
                "diagnosis": names[place % 3],
                "split": "train" if place < 30 else "val" if place < 39 else "test",
                "mask_file_name": None if place < 30 and place % 5 == 4 else record.mask_file_name,
            }
        )
        for place, record in enumerate(read_metadata(root))
    ]
    write_dataset(root, records, made_by={})
    return root


@pytest.fixture
def effort(tmp_path: Path, tiny_base: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch) -> Effort:
    """The least of everything; commands run in this process, as each would else import torch."""

    def in_process(*words: str) -> float:
        code = app(list(words), standalone_mode=False)
        assert not code, (words, code)
        return 0.0

    for module in (registered_sets, downstream_runs):
        monkeypatch.setattr(module, "run_command", in_process)
    (tmp_path / "adapter.toml").write_text(CONFIG.format(base=tiny_base))
    return Effort(
        parts=2,
        repeats=2,
        steps=1,
        adapter_steps=1,
        adapter_batch=2,
        config=tmp_path / "adapter.toml",
        adapter=str(tiny_adapter),
        network="test_efficientnet",
        weights="random",
    )


@pytest.mark.slow
def test_a_regime_runs_on_val_and_its_chosen_arm_on_test(
    data: Path, effort: Effort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way at the least size: adapters of parts, their pairs, trainings, the choice, and the test part."""
    monkeypatch.setitem(REGIMES, "segment_6", Regime("segment", "few masks", 6))
    work, out, effort = tmp_path / "work", tmp_path / "out", replace(effort, parts=1, repeats=2)
    out.mkdir()
    made = run("segment_6", "redraw", data, work, effort, part="val", arms=arms_of_way(REGIMES["segment_6"], "redraw"))
    assert (made.test_split, made.seeds, made.repeats) == ("val", 1, 2)
    (regime,) = made.tasks[0].regimes
    assert {arm.name for arm in regime.arms} == {"augment", "replay", "hybrid-1", "replace-0.5"}
    assert [len(arm.by_seed["dice"]) for arm in regime.arms] == [2] * 4
    found = registered.results(work, "val")
    assert [(each.way, each.arm) for each in found] == [("redraw", "hybrid-1"), ("redraw", "replace-0.5")]
    with pytest.raises(InputError, match="were not judged on val"):
        registered.choose_arms(work, out)
    with pytest.raises(InputError, match="the families \\['no masks'\\]"):
        registered.choose_arms(work, out, ["no masks"])
    with pytest.raises(InputError, match="all families left out"):
        registered.choose_arms(work, out, [regime.family for regime in REGIMES.values()])
    with pytest.raises(InputError, match="which is not there"):
        confirm(data, work, out, effort)
    atomic_write_json(out / CHOICE_FILE, {"chosen": {"few masks": found[0].to_json(), "many masks": None}})
    before = {path: path.stat().st_mtime_ns for path in (work / "segment_6" / "redraw").rglob("*.*")}
    (confirmed,) = confirm(data, work, out, effort)
    assert confirmed.arm == "hybrid-1" and json.loads((out / "registered.json").read_text())["found"]
    assert "| segment_6 | redraw | hybrid-1 |" in (out / "registered.md").read_text()
    assert before == {path: path.stat().st_mtime_ns for path in (work / "segment_6" / "redraw").rglob("*.*")}
    tested = registered.read_result(work / "segment_6_redraw_test.json")
    assert tested.test_split == "test" and "augment-tuned" in {arm.name for arm in tested.tasks[0].regimes[0].arms}


@pytest.mark.slow
def test_each_draw_is_of_its_part_alone(data: Path, effort: Effort, tmp_path: Path) -> None:
    """Parts as the benchmark cuts them: an adapter that saw other pairs than its arm would bring these in."""
    regime, folder = Regime("segment", "few masks", 6), tmp_path / "work"
    real = real_folder(regime, data, folder)
    assert all(record.mask_file_name for record in read_metadata(real))
    pairs = generated_folder(regime, "read", data, real, folder, effort)
    parts = [{r.isic_id for r in read_metadata(part_folder(regime, real, folder, n, 2))} for n in range(2)]
    assert parts[0] != parts[1] and all(len(part) == 6 for part in parts)
    records = read_metadata(pairs)
    for number, part in enumerate(parts):
        own = [record for record in records if getattr(record, "draw", None) == number]
        assert len(own) == 6 and not {getattr(record, "anchor_isic_id", None) for record in own} & part
    items = read_training_items(pairs)
    assert items is not None and {item.isic_id for item in items.items} >= parts[0] | parts[1]
    pictures = {name: read_pictures(Dataset.open(real, name), 64) for name in ("train", "test")}
    generated = read_pictures(Dataset.open(pairs), 64)
    recipe = Recipe(Network(effort.network, "random"), Budget(steps=1, batch_size=2), 64, bfloat16=False)
    cut, _ = task_data("segment", recipe, generated=generated, **pictures)
    asked = BenchmarkOptions(tasks=("segment",), real=real, real_counts=(6,), seeds=2, arms=("hybrid-1",), ratios=(1,))
    for trial in plan(asked, cut)[0][1]:
        assert {cut.train.ids[position] for position in trial.real} == parts[trial.seed]
        assert {getattr(generated.data[position], "draw", None) for position in trial.synthetic} == {trial.seed}


@pytest.mark.slow
def test_two_clinics_share_no_lesion(data: Path, effort: Effort, tmp_path: Path) -> None:
    """The second clinic learns from its own pairs and the first one's adapter, never from the first one's pairs."""
    regime, folder = Regime("classify", "two clinics, diagnoses", 2, shared=True), tmp_path / "work"
    real = real_folder(regime, data, folder)
    own = {record.isic_id for record in read_metadata(real, "train")}
    pairs = generated_folder(regime, "prompted", data, real, folder, effort)
    first = {record.isic_id for record in read_metadata(folder / "first_clinic")}
    assert len(first) == 12 and not first & own and len(own) == 12
    assert {record.split for record in read_metadata(real)} == {"train", "val", "test"}
    items = read_training_items(pairs)
    assert items is not None and {item.isic_id for item in items.items} == first
    assert Counter(record.diagnosis for record in read_metadata(pairs)) == Counter(
        {"melanoma": 4, "nevus": 4, "seborrheic keratosis": 4}
    )


def found(regime: str, gain: float, low: float, p: float = 0.5, way: str = "redraw") -> Found:
    return Found(regime, way, "hybrid-1", "augment", gain, low, gain + 1, p)


def test_the_choice_by_hand() -> None:
    """The highest lower end of each family; a family without any gain has none."""
    best = found("segment_100", 0.02, -0.01)
    chosen = choose(
        [
            found("segment_25", 0.05, -0.03),
            best,
            found("segment_400", -0.01, -0.02),
            found("segment_all", math.nan, math.nan),
        ]
    )
    assert chosen["few masks"] is best and len(chosen) == 6
    assert {family for family, each in chosen.items() if each} == {"few masks"}


def test_families_that_there_was_no_time_for_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole ones are left out before the choice, and the choice is made once."""
    kept = [found("clinics_classify", 0.05, 0.01, way=way) for way in ways_of("classify")]
    strayed = found("segment_25", 0.3, 0.2)
    monkeypatch.setattr(registered, "results", lambda work, part: [*kept, strayed])
    absent = sorted({regime.family for regime in REGIMES.values()} - {"two clinics, diagnoses"})
    registered.choose_arms(tmp_path, tmp_path, absent)
    choice = json.loads((tmp_path / CHOICE_FILE).read_text())
    assert choice["left_out"] == absent and choice["chosen"] == {"two clinics, diagnoses": kept[0].to_json()}
    assert "Left out before the choice, for want of time: few diagnoses, few masks" in registered.page("t", [], absent)
    with pytest.raises(InputError, match="it is made once"):
        registered.choose_arms(tmp_path, tmp_path, absent)


def test_confirmed_by_hand() -> None:
    """Holm over three: 3 x .01, 2 x .02, 1 x .04."""
    results = adjusted([found("a", 1, 0.1, 0.02), found("b", 1, 0.1, 0.01), found("c", 1, -0.1, 0.04)])
    assert [each.p_holm for each in results] == pytest.approx([0.04, 0.03, 0.04])
    assert [each.confirmed for each in results] == [True, True, False]
    assert not replace(results[0], p_holm=0.06).confirmed and not found("a", 1, 0.1).confirmed
    assert Found.from_json(found("a", 1, 0.1).to_json()).to_json() == found("a", 1, 0.1).to_json()


def test_what_is_registered_is_what_runs() -> None:
    """The page's numbers are those of the code."""
    page = " ".join((Path(__file__).parents[1] / "docs" / "preregistration.md").read_text().split())
    said = Effort()
    for text in (
        f"{said.parts} parts",
        f"{said.repeats} trainings",
        f"{said.steps} steps",
        f"{said.adapter_steps:,} steps of {said.adapter_batch}",
    ):
        assert text in page, text
    for name in REGIMES:
        assert f"`{name}`" in page, name
    for way in ways_of("segment"):
        assert f"`{way}`" in page, way
    assert len({regime.family for regime in REGIMES.values()}) == 6
