"""The whole benchmark: equal effort in all arms, resuming, jobs, subsets, leaks, what is left out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from benchmark_data import SIZE_PX, TINY, known, plain_data, recipe_of, write_folder
from skindualgen.benchmarking.learning import batch_source
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import origin_caveats, plan, task_data
from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.benchmarking.run import PRECISION_FILE, RESULT_FILE, TRIALS_DIR, _bfloat16, run_benchmark
from skindualgen.benchmarking.trials import trial_key
from skindualgen.contracts import METADATA_FILE, InputError, PairRecord
from skindualgen.data import manifest
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import sha256_bytes
from skindualgen.hardware import training_precision
from skindualgen.judges.pictures import PictureSet, read_pictures

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("data")
    real = write_folder(root / "real", range(18), split={"train": 10, "test": 8})
    return real, write_folder(root / "generated", range(100, 120), split={"train": 20}, origin="synthetic")


def options(folders: tuple[Path, Path], **changes: Any) -> BenchmarkOptions:
    real, generated = folders
    quick: dict[str, Any] = {"tasks": ("segment",), "real": real, "generated": generated, "size_px": SIZE_PX}
    quick |= {"network": TINY, "seeds": 2, "steps": 2, "batch_size": 4, "precision": "fp32", "threads": 1}
    quick |= {"ratios": (1.0, 2.0), "arms": ("augment", "replay", "hybrid-1"), "devices": ("cpu",)}
    return BenchmarkOptions(**(quick | changes))


def trial_files(out: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((out / TRIALS_DIR).glob("*.npz"))
    }


def test_benchmark_end_to_end_and_again_from_its_records(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = run_benchmark(options(folders), tmp_path)
    files = trial_files(tmp_path)
    lines: list[str] = []
    second = run_benchmark(options(folders), tmp_path, say=lines.append)
    assert "0 trainings to run, 4 from an earlier run." in lines  # replay shares the training of augment
    assert trial_files(tmp_path) == files
    assert second.tasks == first.tasks
    stored = BenchmarkResult.model_validate_json((tmp_path / RESULT_FILE).read_text())
    assert stored == second
    regime = first.tasks[0].regimes[0]
    assert (regime.real_pairs, regime.whole, regime.diagnoses) == (10, True, {"melanoma": 5, "nevus": 5})
    replay, hybrid = regime.arms[1], regime.arms[2]
    assert (replay.name, replay.real_items, replay.synthetic_items) == ("replay", 10, 0)
    assert (hybrid.real_items, hybrid.synthetic_items, hybrid.synthetic_share) == (10, 10, pytest.approx(0.5))
    zero = replay.differences["augment"]["dice"]
    assert (zero.value, zero.low, zero.high) == (0, 0, 0)


def test_scores_are_those_of_the_records(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The table's numbers are recomputed from the files of the trials, found by their notes."""
    result = run_benchmark(options(folders, arms=("augment", "hybrid-1")), tmp_path)
    by_arm: dict[str, list[float]] = {"augment": [], "hybrid-1": []}
    notes = [json.loads(path.read_text()) for path in (tmp_path / TRIALS_DIR).glob("*.json")]
    for note in sorted(notes, key=lambda note: note["seed"]):
        with np.load(tmp_path / TRIALS_DIR / f"{note['key']}.npz") as arrays:
            by_arm[note["arm"]].append(float(arrays["dice"].mean()))
    regime = result.tasks[0].regimes[0]
    for arm in regime.arms:
        assert arm.by_seed["dice"] == pytest.approx(by_arm[arm.name])
        assert arm.scores["dice"].value == pytest.approx(np.mean(by_arm[arm.name]))
    expected = np.mean(by_arm["hybrid-1"]) - np.mean(by_arm["augment"])
    assert regime.arms[1].differences["best"]["dice"].value == pytest.approx(expected)


def test_interrupted_run_goes_on_and_damaged_trial_is_redone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole = run_benchmark(options(folders), tmp_path / "whole")

    def stop(done: Any) -> None:
        if done.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(options(folders), tmp_path / "cut", progress=stop)
    begun = trial_files(tmp_path / "cut")
    assert len(begun) == 2
    damaged = tmp_path / "cut" / TRIALS_DIR / next(iter(begun))
    damaged.write_bytes(b"no archive")
    lines: list[str] = []
    resumed = run_benchmark(options(folders), tmp_path / "cut", say=lines.append)
    assert "3 trainings to run, 1 from an earlier run." in lines
    after = trial_files(tmp_path / "cut")
    untouched = sorted(begun)[1]
    assert after[untouched] == begun[untouched]
    assert after[damaged.name][1] == begun[damaged.name][1]
    assert [arm.scores for arm in resumed.tasks[0].regimes[0].arms] == [
        arm.scores for arm in whole.tasks[0].regimes[0].arms
    ]


@pytest.mark.slow
def test_two_processes_give_the_same_records_as_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    settings = options(folders, tasks=("classify",), arms=("augment", "hybrid-1"), seeds=1)
    run_benchmark(settings, tmp_path / "one")
    seen: list[int] = []
    run_benchmark(
        settings.model_copy(update={"jobs": 2}), tmp_path / "two", progress=lambda done: seen.append(done.done)
    )
    one, two = trial_files(tmp_path / "one"), trial_files(tmp_path / "two")
    assert seen == [1, 2]
    assert {name: content for name, (_, content) in one.items()} == {
        name: content for name, (_, content) in two.items()
    }


@pytest.mark.slow
def test_trainings_end_when_the_process_that_started_them_is_killed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """It is killed after the first of many trainings, while two others run."""
    real, generated = folders
    code = (
        "from pathlib import Path; from test_benchmark_engine import options, run_benchmark; "
        f"run_benchmark(options((Path({str(real)!r}), Path({str(generated)!r})), seeds=100, jobs=2), "
        f"Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    try:
        while not trial_files(tmp_path):
            assert process.poll() is None
            time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(workers, timeout=120)
    for worker in alive:
        worker.kill()
    assert len(workers) >= 2 and not alive


def test_metadata_of_each_folder_is_read_once(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    lines = manifest._lines

    def counted(path: Path) -> Iterable[tuple[int, str]]:
        opened.append(path)
        return lines(path)

    monkeypatch.setattr(manifest, "_lines", counted)
    run_benchmark(options(folders, arms=("augment",), seeds=1, steps=1), tmp_path)
    assert opened == [root / METADATA_FILE for root in folders]


def test_every_arm_takes_the_same_steps(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the optimiser, and the rates of all its steps compared: more pictures must not mean more training."""
    rates: list[list[float]] = []
    plain_init, plain_step = torch.optim.AdamW.__init__, torch.optim.AdamW.step

    def init(self: torch.optim.AdamW, *given: Any, **named: Any) -> None:
        plain_init(self, *given, **named)
        rates.append([])

    def step(self: torch.optim.AdamW, *given: Any) -> Any:
        rates[-1].append(self.param_groups[0]["lr"])
        return plain_step(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", init)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    settings = options(folders, tasks=("classify",), arms=None, seeds=1, steps=3)
    result = run_benchmark(settings, tmp_path)
    assert [arm.name for arm in result.tasks[0].regimes[0].arms] == [
        "real",
        "augment",
        "reweight",
        "oversample",
        "replay",
        "synthetic",
        "pretrain",
        "hybrid-1",
        "hybrid-2",
    ]
    assert len(rates) >= 7
    assert all(rate == rates[0] and len(rate) == 3 for rate in rates)


def test_only_arms_with_augmentation_are_augmented(folders: tuple[Path, Path]) -> None:
    settings = options(folders, arms=("real", "augment"), seeds=1)
    data, _ = task_data("segment", recipe_of(), **parts_of(folders))
    _, (real, augment) = plan(settings, data)[0]
    unchanged, _ = batch_source(data, real)(np.random.default_rng(0), 0)
    changed, _ = batch_source(data, augment)(np.random.default_rng(0), 0)
    sources = TINY.normalise(torch.from_numpy(data.train.images).permute(0, 3, 1, 2).float() / 255)
    assert all((sources == picture).all((1, 2, 3)).any() for picture in unchanged)
    assert not any((sources == picture).all((1, 2, 3)).any() for picture in changed)


def parts_of(folders: tuple[Path, Path]) -> dict[str, PictureSet]:
    real, generated = folders
    return {
        "train": read_pictures(Dataset.open(real, "train"), SIZE_PX),
        "test": read_pictures(Dataset.open(real, "test"), SIZE_PX),
        "generated": read_pictures(Dataset.open(generated), SIZE_PX),
    }


def test_subsets_are_nested_and_the_test_part_stays(folders: tuple[Path, Path]) -> None:
    data, _ = task_data("classify", recipe_of(), **parts_of(folders))
    settings = options(folders, tasks=("classify",), arms=("augment",), real_counts=(4, 8))
    (small, of_small), (large, of_large) = plan(settings, data)
    assert (small.real_pairs, large.real_pairs, small.whole) == (4, 8, False)
    assert [trial.seed for trial in of_small] == [0, 1]
    for part, whole in zip(of_small, of_large, strict=True):
        assert set(part.real) < set(whole.real)
    assert set(of_small[0].real) != set(of_small[1].real)
    _, of_share = plan(settings.model_copy(update={"real_counts": (), "real_fractions": (0.4,)}), data)[0]
    assert list(of_share[0].real) == list(of_small[0].real)


def test_as_many_of_each_class(folders: tuple[Path, Path]) -> None:
    parts = parts_of(folders)
    kept = np.array([name == "nevus" or place < 6 for place, name in enumerate(parts["train"].diagnoses)])
    parts["train"] = parts["train"].take(kept)
    assert Counter(parts["train"].diagnoses) == {"nevus": 5, "melanoma": 3}
    data, _ = task_data("classify", recipe_of(), **parts)
    settings = options(folders, tasks=("classify",), arms=("augment",), real_per_class=(2, 3))
    (small, of_small), (large, of_large) = plan(settings, data)
    assert (small.diagnoses, large.diagnoses) == ({"melanoma": 2, "nevus": 2}, {"melanoma": 3, "nevus": 3})
    assert all(set(few.real) < set(more.real) for few, more in zip(of_small, of_large, strict=True))
    with pytest.raises(InputError, match="the rarest of which has 3"):
        plan(settings.model_copy(update={"real_per_class": (4,)}), data)


def test_each_part_is_trained_on_several_times(folders: tuple[Path, Path]) -> None:
    """The first training of each part is that of a benchmark without repeats, key and all."""
    data, _ = task_data("segment", recipe_of(), **parts_of(folders))
    settings = options(folders, arms=("augment", "hybrid-0.5"), ratios=(0.5,), real_counts=(6,))
    (_, once), (_, twice) = (plan(settings.model_copy(update={"repeats": n}), data)[0] for n in (1, 2))
    assert [trial.seed for trial in once] == [0, 1] * 2
    assert [trial.seed for trial in twice] == [0, 1000, 1, 1001] * 2
    assert [trial_key(data, trial) for trial in twice[::2]] == [trial_key(data, trial) for trial in once]
    assert len({trial_key(data, trial) for trial in twice}) == 8
    assert all(set(first.real) == set(again.real) for first, again in zip(twice[::2], twice[1::2], strict=True))
    assert set(twice[0].real) != set(twice[2].real)


def test_a_draw_serves_its_own_part(folders: tuple[Path, Path]) -> None:
    """Pairs of an adapter that was trained on one part of the real pairs are nothing for another part."""
    parts = parts_of(folders)
    generated = parts["generated"]
    draws = [(0, 1, None)[i % 3] for i in range(len(generated))]
    records = [record.model_copy(update={"draw": draw}) for record, draw in zip(generated.data, draws, strict=True)]
    parts["generated"] = PictureSet(Dataset(generated.data.root, records), generated.images, generated.masks)
    data, _ = task_data("segment", recipe_of(), **parts)
    settings = options(folders, arms=("hybrid-0.5",), ratios=(0.5,), real_counts=(6,), seeds=2, repeats=2)
    for trial in plan(settings, data)[0][1]:
        assert {draws[position] for position in trial.synthetic} <= {trial.seed % 1000, None}
    with pytest.raises(InputError, match="generated"):
        plan(settings.model_copy(update={"seeds": 3, "ratios": (2,), "arms": ("hybrid-2",)}), data)


def test_pairs_made_from_a_real_one_go_where_it_goes(folders: tuple[Path, Path]) -> None:
    """A variation of a real pair that a small part lacks would bring it in by the back door."""
    parts = parts_of(folders)
    generated, train = parts["generated"], parts["train"]
    anchors = [train.ids[i % len(train)] if i % 4 else None for i in range(len(generated))]
    records = [
        record.model_copy(update={} if anchor is None else {"anchor_isic_id": anchor})
        for record, anchor in zip(generated.data, anchors, strict=True)
    ]
    parts["generated"] = PictureSet(Dataset(generated.data.root, records), generated.images, generated.masks)
    data, _ = task_data("segment", recipe_of(), **parts)
    settings = options(folders, arms=("hybrid-0.5",), ratios=(0.5,), real_counts=(6, len(train)), seeds=3)
    (_, of_small), (_, of_large) = plan(settings, data)
    for trial in of_small:
        own = {train.ids[position] for position in trial.real} | {None}
        assert len(trial.synthetic) == 3
        assert {anchors[position] for position in trial.synthetic} <= own
    used = {anchors[position] for trial in of_large for position in trial.synthetic}
    assert used - {None}


def test_arms_that_cannot_be_built_are_left_out_unless_they_were_named(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = options(folders, arms=None, ratios=(1.0, 5.0), seeds=1, steps=1)
    lines: list[str] = []
    regime = run_benchmark(settings, tmp_path, say=lines.append).tasks[0].regimes[0]
    assert [left.name for left in regime.left_out] == ["hybrid-5"]
    assert "10 of melanoma" in regime.left_out[0].reason
    assert "hybrid-1" in [arm.name for arm in regime.arms]
    assert any(line.startswith("Left out: segment, 10 real pairs, arm hybrid-5") for line in lines)
    with pytest.raises(InputError, match="arm hybrid-5"):
        run_benchmark(settings.model_copy(update={"arms": ("hybrid-5",)}), tmp_path)
    with pytest.raises(InputError, match="arms hybrid-9"):
        run_benchmark(settings.model_copy(update={"arms": ("hybrid-9",)}), tmp_path)


def test_without_generated_pairs_the_other_arms_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    settings = options(folders, generated=None, arms=None, seeds=1, steps=1)
    result = run_benchmark(settings, tmp_path)
    regime = result.tasks[0].regimes[0]
    assert [arm.name for arm in regime.arms] == ["real", "augment", "replay"]
    assert [left.name for left in regime.left_out] == ["synthetic", "pretrain", "hybrid-1", "hybrid-2"]
    assert all(verdict.helped is None for verdict in regime.verdicts)
    assert result.generated is None


def test_leak_is_refused_and_acceptance_is_recorded(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A test photograph among the generated pairs."""
    real, _ = folders
    leaking = write_folder(tmp_path / "leaking", range(10, 20), split={"train": 10}, origin="synthetic")
    settings = options((real, leaking), seeds=1, steps=1)
    with pytest.raises(InputError, match="real_0010"):
        run_benchmark(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = run_benchmark(settings.model_copy(update={"i_know": True}), tmp_path / "out")
    assert any("real_0010" in leak for leak in result.leaks)


def test_precision_is_the_hardwares_unless_an_earlier_version_measured_it(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """The name of the measurement is a hash of task, network, size, batch and kind of device."""
    settings = options(folders, arms=("augment",), seeds=1, steps=1, precision="auto")
    (task,) = run_benchmark(settings, tmp_path).tasks
    assert task.precision == training_precision("cpu") and not (tmp_path / PRECISION_FILE).exists()
    what = {"task": "segment", "network": TINY.name, "size": SIZE_PX, "batch": 4, "device": "cpu"}
    for measured in (True, False):
        known = {sha256_bytes(json.dumps(what).encode())[:16]: measured}
        (tmp_path / PRECISION_FILE).write_text(json.dumps(known))
        assert _bfloat16(settings, "segment", tmp_path) is measured


def test_items_that_a_task_cannot_use_are_left_out_and_named(folders: tuple[Path, Path]) -> None:
    parts = parts_of(folders)
    test = parts["test"]
    parts["test"] = known(test, has_mask=np.array([False, *[True] * 7]), diagnoses=["wart", None, *test.diagnoses[2:]])
    data, left_out = task_data("segment", recipe_of(), **parts)
    assert len(data.test) == 7 and left_out == ["1 of 8 test items are without a mask, and left out."]
    data, left_out = task_data("classify", recipe_of(), **parts)
    assert len(data.test) == 6 and data.classes == ["melanoma", "nevus"]
    assert left_out == ["2 of 8 test items are without one of the diagnoses melanoma, nevus, and left out."]
    with pytest.raises(InputError, match="no train item"):
        task_data("segment", recipe_of(), **(parts | {"train": known(parts["train"], has_mask=np.zeros(10, bool))}))
    with pytest.raises(InputError, match="two or more"):
        task_data("classify", recipe_of(), **(parts | {"train": known(parts["train"], diagnoses=["nevus"] * 10)}))


def test_spellings_of_a_diagnosis_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    names = ("seborrheic_keratosis", "Seborrheic keratosis", "sk", "unknown", None)
    for index in range(len(names)):
        Image.new("RGB", (SIZE_PX, SIZE_PX)).save(tmp_path / f"images/{index}.png")
    ties: list[dict[str, Any]] = [
        {"lesion_id": "a"},
        {"lesion_id": "a", "split_group": "b"},
        {"split_group": "b"},
        {},
        {},
    ]
    records = [
        PairRecord(file_name=f"images/{i}.png", isic_id=f"{i}", diagnosis=name, **ties[i])
        for i, name in enumerate(names)
    ]
    loaded = read_pictures(Dataset(tmp_path, records), SIZE_PX)
    assert loaded.diagnoses == ["seborrheic keratosis"] * 3 + [None, None]
    assert loaded.groups == ["0", "0", "0", "3", "4"]
    assert loaded.take(np.array([0, 2])).groups == ["0", "0"]  # tied by the second, which is left out
    assert not loaded.has_mask.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_px": 48}, "multiple of 32"),
        ({"seeds": 0}, "0 seeds of 1 trainings"),
        ({"repeats": 0}, "1 training or more"),
        ({"real_fractions": (1.5,)}, "fractions"),
        ({"real_counts": (2,), "real_fractions": (0.5,)}, "one of them"),
        ({"devices": ("cuda:99",)}, "cuda:99"),
        ({"test_split": "train"}, "test or val"),
        ({"test_split": "val"}, "no record of the split"),
    ],
)
def test_wrong_options_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_benchmark(options(folders, **changes), tmp_path / "out")


def passed_off(real: Path, root: Path, *, turned_round: bool) -> Path:
    """Write the real training pairs as if they were generated, in the same order or from the last to the first."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    records = []
    for index, record in enumerate(read_metadata(real, "train")):
        name = f"{99 - index if turned_round else index}.png"
        (root / "images" / name).symlink_to(real / record.file_name)
        (root / "masks" / name).symlink_to(real / str(record.mask_file_name))
        files = {"file_name": f"images/{name}", "mask_file_name": f"masks/{name}", "isic_id": f"copy_{index}"}
        records.append(record.model_copy(update={**files, "origin": "synthetic"}))
    write_dataset(root, records, made_by={})
    return root


@pytest.mark.parametrize("turned_round", [False, True])
def test_real_pairs_passed_off_as_generated_give_the_result_of_replay(
    folders: tuple[Path, Path], tmp_path: Path, turned_round: bool
) -> None:
    """In the same order they make the same batches, and so the same networks; in another order the interval holds 0."""
    copy = passed_off(folders[0], tmp_path / "copy", turned_round=turned_round)
    changes = {"seeds": 3, "steps": 16, "batch_size": 8, "learning_rate": 3e-3, "arms": ("replay", "hybrid-1")}
    result = run_benchmark(options((folders[0], copy), ratios=(1.0,), **changes), tmp_path / "out")
    replay, hybrid = result.tasks[0].regimes[0].arms
    assert replay.scores["dice"].value is not None and replay.scores["dice"].value > 0.2
    difference = hybrid.differences["replay"]["dice"]
    assert difference.low is not None and difference.high is not None
    assert difference.low <= 0 <= difference.high
    assert (hybrid.by_seed == replay.by_seed) is not turned_round


def test_task_without_any_of_the_named_arms_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for the task segment"):
        run_benchmark(options(folders, tasks=("segment", "classify"), arms=("reweight",)), tmp_path / "out")


def test_it_is_told_where_generated_hints_at_the_diagnosis(folders: tuple[Path, Path]) -> None:
    """Two of a rare class among eight of another: filled up, most of the rare one is generated."""
    data = plain_data(generated=40)
    data.train.diagnoses[:] = ["class 0"] * 8 + ["class 1"] * 2
    asked = options(folders, tasks=("classify",), arms=("augment", "hybrid-1", "hybrid-2"))
    (line,) = origin_caveats(data, plan(asked, data))
    assert "In hybrid-1 20% of what is drawn of class 0 is generated, and 80% of class 1" in line
    for allocation in ("even", "match"):
        others = options(folders, tasks=("classify",), class_allocation=allocation)
        assert origin_caveats(data, plan(others, data)) == []
    assert origin_caveats(replace(data, task="segment"), plan(asked, data)) == []
