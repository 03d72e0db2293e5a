"""Generated pairs in place of real ones, and the controls of a sceptic: own masks, augmentation, mixing, norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark_data import SIZE_PX, TINY, known, pictures, plain_data, recipe_of, trial_of, write_folder
from skindualgen.benchmarking import learning
from skindualgen.benchmarking.arms import Arm, Task, arms_of, arms_on_request
from skindualgen.benchmarking.augmentation import FurtherAugmentation, candidates
from skindualgen.benchmarking.learning import _NormalisedApart, batch_source, check_arm, loss_of, run_trial
from skindualgen.benchmarking.levelling import level_off
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import plan
from skindualgen.benchmarking.pools import Trial, build_trial, weighed
from skindualgen.benchmarking.run import run_benchmark
from skindualgen.benchmarking.trials import Recipe, TaskData, TrialRecord, trial_key
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.training import Augmentation, Budget
from skindualgen.metrics.scores import SEGMENTATION_METRICS, value
from skindualgen.report.benchmark_text import benchmark_markdown

REAL = ["nevus"] * 6 + ["melanoma"] * 2


def replacing(
    chance: float, made: Sequence[str | None], made_from: Sequence[int | None] | None = None, real: Any = REAL
) -> Trial:
    (arm,) = (arm for arm in arms_of("classify", replacements=[chance]) if arm.replacement)
    return build_trial("classify", arm, real_diagnoses=real, synthetic_diagnoses=made, seed=0, made_from=made_from)


# --- generated pairs in place of real ones ---


def test_a_real_pair_is_replaced_by_one_of_its_diagnosis() -> None:
    """A quarter of 6 nevi goes to two generated nevi, a quarter of 2 melanomas to one; the stranger is not drawn."""
    trial = replacing(0.25, ["nevus", "melanoma", "nevus", "dermatofibroma"])
    assert trial.real.tolist() == list(range(8)) and trial.synthetic.tolist() == [0, 1, 2]
    np.testing.assert_allclose(trial.weights, [0.75 / 8] * 8 + [0.25 * 3 / 8, 0.25 / 4, 0.25 * 3 / 8])


def test_a_real_pair_is_replaced_by_what_was_made_from_it() -> None:
    """Two variations of nevus 0 share its turn; the others' turns go to all four nevi; relabelled, it is a melanoma."""
    trial = replacing(0.8, ["nevus", "nevus", "nevus", "nevus", "melanoma"], [0, 0, 1, None, 0])
    others = 4 / 8 / 4
    expected = [others + 1 / 16, others + 1 / 16, others + 1 / 8, others, 2 / 8]
    np.testing.assert_allclose(trial.weights[8:], 0.8 * np.array(expected))
    np.testing.assert_allclose(trial.weights[:8], 0.2 / 8)


def test_replacing_everything_draws_no_real_pair_and_needs_every_diagnosis() -> None:
    trial = replacing(1, ["nevus", "melanoma"])
    assert trial.real.size == 0
    np.testing.assert_allclose(trial.weights, [6 / 8, 2 / 8])
    np.testing.assert_allclose(replacing(0.5, ["nevus"], real=[None] * 2).weights, [0.25, 0.25, 0.5])
    with pytest.raises(InputError, match="no generated pairs of melanoma"):
        replacing(0.5, ["nevus"])
    for wrong in ([0.0], [1.5], [0.5, 0.5]):
        with pytest.raises(InputError, match=r"different numbers in \(0, 1\]"):
            arms_of("segment", replacements=wrong)


def test_weights_of_pairs_leave_the_chance_of_being_replaced() -> None:
    trial = replacing(0.25, ["nevus", "nevus", "melanoma"])
    found = weighed(trial, np.array([1.0] * 7 + [3.0] + [0.1, 0.3, 0.1]))
    assert found.weights[8:].sum() == pytest.approx(0.25)
    assert found.weights[9] / found.weights[8] == pytest.approx(3)
    assert found.weights[7] / found.weights[0] == pytest.approx(3)


def options(arms: Sequence[str], task: Task = "classify", **changes: Any) -> BenchmarkOptions:
    quick: dict[str, Any] = {"tasks": (task,), "real": Path("real"), "size_px": SIZE_PX, "network": TINY}
    quick |= {"seeds": 3, "ratios": (0.5,), "replacements": (0.5,), "arms": tuple(arms), "precision": "fp32"}
    return BenchmarkOptions(**(quick | changes))


def changed_records(part: PictureSet, **columns: Sequence[Any]) -> PictureSet:
    records = [
        record.model_copy(update={name: values[i] for name, values in columns.items()})
        for i, record in enumerate(part.data)
    ]
    kept = {name: vars(part)[name] for name in ("ids", "digests", "groups") if name in vars(part)}
    return known(replace(part, data=Dataset(part.data.root, records)), **kept)


@pytest.mark.parametrize(
    "names", [("replace-0.5",), ("replace-0.5-norms",), ("hybrid-0.5-norms",), ("self-train",), ("synthetic",)]
)
def test_what_was_made_from_a_real_pair_goes_only_where_that_pair_goes(names: Sequence[str]) -> None:
    """Whatever the arm: variations of pairs that a subset lacks would bring them in by the back door."""
    data = plain_data(generated=40)
    anchors = [f"i{i // 2 % 5}" for i in range(40)]  # half of the real pairs have variations, of both classes
    data = replace(data, generated=changed_records(data.generated, anchor_isic_id=anchors))
    task: Task = "segment" if names[0] == "self-train" else "classify"
    data = replace(data, task=task, classes=data.classes if task == "classify" else [])
    [(_, trials)] = plan(options(names, task, real_counts=(6,)), data)
    [(_, plain)] = plan(options(("augment",), task, real_counts=(6,)), data)
    assert len(trials) == 3
    for trial, real in zip(trials, plain, strict=True):
        own = {data.train.ids[position] for position in real.real}
        assert len(own) == 6
        used = {anchors[position] for position in trial.synthetic}
        assert used and used <= own


def test_weights_and_ignored_pixels_can_be_switched_off(tmp_path: Path) -> None:
    """Other draws and other targets; each has a key of its own, and weights of one change nothing."""
    data = plain_data(generated=20)
    weights = [1.0, 4.0] * 10
    data = replace(data, generated=changed_records(data.generated, weight=weights))

    def trial(**changes: Any) -> Trial:
        [(_, trials)] = plan(options(("replace-0.5",), seeds=1, **changes), data)
        return trials[0]

    on, off = trial(), trial(pair_weights=False)
    assert np.ptp(on.weights[10:]) > 0 and np.ptp(off.weights[10:]) == pytest.approx(0, abs=1e-9)
    assert trial_key(data, on) != trial_key(data, off)
    masked = changed_records(data.train, ignore_file_name=["masks_ignore/0.png"] * 10)
    ignoring = replace(data, train=known(replace(masked, ignored=np.ones_like(masked.masks)), digests=masked.digests))
    learning_all = replace(data, train=masked)
    segment = {"task": "segment", "classes": []}
    keys = {trial_key(replace(each, **segment), on) for each in (ignoring, learning_all)}
    assert len(keys) == 2
    shapes = [
        batch_source(replace(each, **segment), trial_of([0, 1], []))(np.random.default_rng(0), 0)[1].shape[1]
        for each in (ignoring, learning_all)
    ]
    assert shapes == [2, 1]


# --- own masks ---


def bright_halves(count: int, seed: int, *, truth: bool = True) -> PictureSet:
    """Noise whose upper or lower half is dark; the lesion is the dark half, or, untrue, nothing."""
    random = np.random.default_rng(seed)
    images = random.integers(120, 256, (count, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
    masks = np.zeros((count, SIZE_PX, SIZE_PX), bool)
    for index in range(count):
        half = slice(0, SIZE_PX // 2) if index % 2 else slice(SIZE_PX // 2, SIZE_PX)
        images[index, half] //= 4
        masks[index, half] = truth
    return PictureSet.of_arrays(images, ["nevus"] * count, masks)


def test_own_masks_take_the_place_of_those_of_generated_pairs() -> None:
    """Generated pairs without any lesion mislead the hybrid; with masks that the network itself reads they do not."""
    recipe = Recipe(TINY, Budget(steps=20, batch_size=8, learning_rate=5e-3), SIZE_PX, bfloat16=False)
    wrong = bright_halves(24, 1, truth=False)
    data = TaskData("segment", bright_halves(8, 0), wrong, bright_halves(12, 2), [], recipe)
    hybrid = trial_of(list(range(8)), list(range(24)), uses_synthetic=True)
    hybrid = replace(hybrid, task="segment")
    own = replace(hybrid, arm=hybrid.arm.model_copy(update={"own_masks": True}))
    dice = [value(SEGMENTATION_METRICS["dice"], run_trial(data, trial).outcome) for trial in (hybrid, own)]
    assert dice[1] > 0.8 and dice[1] > dice[0] + 0.1
    assert not wrong.masks.any()  # the folder's masks are as they were
    assert trial_key(known_digests(data), hybrid) != trial_key(known_digests(data), own)


def known_digests(data: TaskData) -> TaskData:
    parts = {name: getattr(data, name) for name in ("train", "generated", "test")}
    return replace(
        data, **{name: known(part, digests=[f"{name}{i}" for i in range(len(part))]) for name, part in parts.items()}
    )


# --- mixing, and augmentation of torchvision ---


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_pictures_have_the_shares_of_their_classes(mix: Any) -> None:
    """Black pictures of one class, white ones of the other: the mean level of a picture is its share of white."""
    black_white = pictures(10)
    black_white.images[:] = np.where(np.arange(10) % 2, 255, 0)[:, None, None, None]
    data = replace(plain_data(recipe=recipe_of(batch_size=32)), train=black_white)
    draw = batch_source(data, trial_of(list(range(10)), [], mix=mix))
    before = torch.random.get_rng_state()
    between = 0
    for seed in range(8):
        inputs, target = draw(np.random.default_rng(seed), 0)
        again, _ = draw(np.random.default_rng(seed), 0)
        assert torch.equal(inputs, again) and torch.equal(before, torch.random.get_rng_state())
        levels = (inputs * 0.5 + 0.5).mean((1, 2, 3))
        torch.testing.assert_close(target.sum(1), torch.ones(32))
        torch.testing.assert_close(levels, target[:, 1], atol=1e-5, rtol=0)
        between += int(((target > 0.05) & (target < 0.95)).any())
    assert between >= 2


def test_the_loss_of_mixed_pictures_is_that_of_their_classes_by_share() -> None:
    loss, logits = loss_of(plain_data(), None), torch.tensor([[0.3, -0.2]])
    single = [loss(logits, torch.tensor([label])).item() for label in (0, 1)]
    mixed = loss(logits, torch.tensor([[0.7, 0.3]])).item()
    assert mixed == pytest.approx(0.7 * single[0] + 0.3 * single[1], rel=1e-6)


def test_elastic_deformation_moves_photograph_and_mask_alike_and_as_far_as_it_says() -> None:
    side, elastic = 64, 0.02
    still = Augmentation(zoom=0, shift=0, light=0, contrast=0, saturation=0, cast=0, blur=0)
    moving = FurtherAugmentation(**vars(still), elastic=elastic)
    across = torch.linspace(0, 1, side).expand(8, 3, side, side)
    before, _ = still(across, None, np.random.default_rng(1))
    after, _ = moving(across, None, np.random.default_rng(1))
    inner = slice(side // 4, -side // 4)
    moved = ((after - before)[:, 0, inner, inner] * side).double()  # px along the gradient, whatever its direction
    assert moved.std().item() == pytest.approx(elastic * side, rel=0.35)
    masks = (across[:, :1] > 0.5).float()
    images, turned = moving(masks.expand(-1, 3, -1, -1), masks, np.random.default_rng(2))
    assert turned is not None and set(turned.unique().tolist()) <= {0.0, 1.0}
    assert ((images[:, :1] > 0.5).float() != turned).float().mean() < 0.02


def test_randaugment_is_drawn_from_the_steps_generator() -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    change = FurtherAugmentation(randaugment=9)
    first, again, other = (change(images, None, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    usual, _ = Augmentation()(images, None, np.random.default_rng(0))
    assert not torch.equal(first, usual) and first.min() >= 0 and first.max() <= 1
    assert any(isinstance(each, FurtherAugmentation) and each.randaugment for each in candidates("classify").values())
    masks_stay = [each for each in candidates("segment").values() if isinstance(each, FurtherAugmentation)]
    assert masks_stay and not any(each.randaugment for each in masks_stay)


def test_augmentation_is_chosen_on_the_validation_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is that of the choice whose network, trained apart, is best there; the test part decides nothing."""
    choices = {"none": None, "dark": Augmentation(light=0.9)}
    monkeypatch.setattr(learning, "candidates", lambda task: choices)
    recipe = Recipe(TINY, Budget(steps=6, batch_size=4, learning_rate=5e-3), SIZE_PX, bfloat16=False)
    val, test = bright_halves(6, 5), bright_halves(6, 6)
    data = TaskData("segment", bright_halves(6, 0), bright_halves(0, 0), test, [], recipe, val)
    (tuned,) = (arm for arm in arms_on_request("segment") if arm.tuned)
    trial = replace(trial_of(list(range(6)), []), task="segment", arm=tuned)
    scores = {}
    for name, augmentation in choices.items():
        one = replace(data, test=val, recipe=replace(recipe, augmentation=augmentation or Augmentation()))
        arm = tuned.model_copy(update={"tuned": False, "augment": augmentation is not None})
        scores[name] = value(SEGMENTATION_METRICS["dice"], run_trial(one, replace(trial, arm=arm)).outcome)
    best = max(scores, key=lambda name: scores[name])
    assert len(set(scores.values())) > 1
    record = run_trial(data, trial)
    assert record.chosen == best
    assert run_trial(replace(data, test=bright_halves(4, 9)), trial).chosen == best
    keys = {trial_key(known_digests(replace(data, val=each)), trial) for each in (val_of(1), val_of(2))}
    assert len(keys) == 2
    with pytest.raises(InputError, match="no validation part"):
        check_arm(replace(data, val=None), trial)


def val_of(seed: int) -> PictureSet:
    return pictures(3, seed=seed)


# --- norms apart ---


def test_generated_pictures_leave_no_trace_in_the_statistics_of_real_ones() -> None:
    torch.manual_seed(0)
    network, alone = (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)) for _ in range(2))
    alone.load_state_dict(network.state_dict())
    batch = torch.rand(8, 3, 8, 8)
    batch[5:] += 3
    apart = _NormalisedApart(network, 3).train()
    outputs = apart(batch)
    torch.testing.assert_close(outputs[:5], alone.train()(batch[:5]))
    for name, buffer in alone.named_buffers():
        if "running" in name:
            torch.testing.assert_close(dict(network.named_buffers())[name], buffer)
    assert network[1].momentum == alone[1].momentum
    torch.testing.assert_close(outputs[5:].mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.eval()(batch), network.eval()(batch))


def test_batches_that_are_normalised_apart_have_real_pictures_first() -> None:
    data = plain_data(recipe=recipe_of(batch_size=16))
    data = replace(data, generated=replace(data.generated, images=data.generated.images + 100))
    plain = trial_of(list(range(10)), list(range(10)), weights=np.repeat([0.07, 0.03], 10))
    apart = replace(plain, arm=plain.arm.model_copy(update={"separate_norms": True}))
    levels = [
        ((batch_source(data, trial)(np.random.default_rng(5), 0)[0][:, 0, 0, 0] * 0.5 + 0.5) * 255).round()
        for trial in (plain, apart)
    ]
    assert (levels[1] >= 100).tolist() == [False] * 11 + [True] * 5
    real = set(levels[0][levels[0] < 100].tolist())
    assert len(real & set(levels[1][:11].tolist())) >= len(real) - 2  # the same photographs but at the border
    with pytest.raises(InputError, match="batches of 3"):
        check_arm(replace(data, recipe=recipe_of(batch_size=3)), apart)
    with pytest.raises(InputError, match="test_vit, which has no BatchNorm"):
        check_arm(replace(data, recipe=replace(recipe_of(), network=Network("test_vit", "random"))), apart)


# --- steps ---


def test_steps_are_doubled_while_that_gains_the_control_something_on_val() -> None:
    """Dice of a control of two seeds by steps: 10 -> .5, 20 -> .6, 40 -> .604, so 20; it ends at the last doubling."""
    trials = [replace(trial_of([0, 1], [], seed=seed), task="segment") for seed in (0, 1)]
    outcomes = {trial.seed: run_trial(segment_data(), trial) for trial in trials}

    def steps_for(dice_at: dict[int, float]) -> tuple[list[int], int | None, set[int | None]]:
        asked: list[int] = []

        def train(data: TaskData, trials: Sequence[Trial]) -> list[TrialRecord]:
            assert data.test is data.val
            asked.append(data.budget_of(trials[0]).steps)
            found = [outcomes[trial.seed] for trial in trials]
            offsets = [0.02, -0.02]
            return [
                replace(record, outcome=replace(record.outcome, dice=np.full(4, dice_at[asked[-1]] + offset)))  # type: ignore[type-var]
                for record, offset in zip(found, offsets, strict=True)
            ]

        data = segment_data(steps=10)
        plans = plan(options(("augment", "replay"), "segment", seeds=2), data)
        controls = plan(options(("augment",), "segment", seeds=2), data)
        [(regime, trials)] = level_off(data, plans, controls, train)
        assert len(trials) == 4
        return asked, regime.steps, {trial.steps for trial in trials}

    assert steps_for({10: 0.5, 20: 0.6, 40: 0.604}) == ([10, 20, 40], 20, {20})
    assert steps_for({10: 0.5, 20: 0.4}) == ([10, 20], 10, {10})
    rising = {10 * 2**power: 0.1 * power for power in range(5)}
    assert steps_for(rising) == ([10, 20, 40, 80, 160], 160, {160})
    with pytest.raises(InputError, match="no validation part"):
        level_off(replace(segment_data(), val=None), [], [], lambda data, trials: [])


def segment_data(steps: int = 1) -> TaskData:
    data = plain_data(recipe=recipe_of(steps=steps))
    return replace(data, task="segment", classes=[], val=pictures(4, seed=5))


def test_a_trial_of_other_steps_is_that_of_a_budget_of_as_many() -> None:
    data, trial = plain_data(), trial_of([0, 1], [2], pretrain=0.5)
    longer = replace(data, recipe=recipe_of(steps=4))
    assert trial_key(data, replace(trial, steps=4)) == trial_key(longer, trial) != trial_key(data, trial)
    assert trial_key(data, replace(trial, steps=2)) == trial_key(data, trial)
    records = [run_trial(data, replace(trial, steps=4)), run_trial(longer, trial)]
    assert records[0].final_loss == records[1].final_loss


# --- all of it ---


def test_names_of_arms_on_request() -> None:
    names = [arm.name for arm in arms_on_request("segment", [1, 2], replacements=[0.5])]
    twins = ["hybrid-1-norms", "hybrid-2-norms", "replace-0.5-norms"]
    assert names == ["augment-tuned", "self-train", *twins]
    names = [arm.name for arm in arms_on_request("classify", [1, 2], replacements=[0.5])]
    assert names == ["augment-tuned", "mixup", "cutmix", *twins]
    assert [arm.name for arm in arms_of("segment", [1], replacements=[0.5, 0.1])][-2:] == ["replace-0.1", "replace-0.5"]
    every: list[Arm] = [*arms_of("classify"), *arms_on_request("classify")]
    assert len({arm.definition for arm in every}) == len(every)


def test_all_arms_in_one_benchmark(tmp_path: Path) -> None:
    real = write_folder(tmp_path / "real", range(24), split={"train": 10, "val": 6, "test": 8})
    made = write_folder(tmp_path / "made", range(100, 120), split={"train": 20}, origin="synthetic")
    names = ("augment", "replay", "hybrid-1", "replace-0.5", "augment-tuned", "self-train", "hybrid-1-norms", "mixup")
    asked = options(
        names,
        real=real,
        generated=made,
        tasks=("segment", "classify"),
        ratios=(1.0,),
        seeds=1,
        steps=1,
        batch_size=4,
        threads=1,
        devices=("cpu",),
        pair_weights=False,
        level_off=True,
    )
    result = run_benchmark(asked, tmp_path / "out")
    segment, classify = (task.regimes[0] for task in result.tasks)
    assert [arm.name for arm in segment.arms] == [*names[:-1]]
    assert [arm.name for arm in classify.arms] == [*names[:5], "mixup", "hybrid-1-norms"]
    hybrid = segment.arms[2]
    assert {"augment", "replay", "augment-tuned", "self-train"} < set(hybrid.differences)
    assert "all of replay, augment, augment-tuned, self-train" in segment.verdicts[0].text
    assert "self-train" not in {segment.verdicts[0].closest, *segment.best.values()}
    chosen = [line for line in result.tasks[0].caveats if "augmentation chosen on val" in line]
    assert len(chosen) == 1 and any(name in chosen[0] for name in candidates("segment"))
    assert any("whatever their records' weights" in line for line in result.caveats)
    lines: list[str] = []
    assert run_benchmark(asked, tmp_path / "out", say=lines.append).tasks == result.tasks
    assert any(line.startswith("0 trainings to run") for line in lines)
    steps = [task.regimes[0].steps for task in result.tasks]
    assert all(count in (1, 2, 4, 8, 16) for count in steps)
    page = benchmark_markdown(result)
    assert f", {steps[0]} steps" in page and "level off on val, batches of 4" in page
    left = run_benchmark(asked.model_copy(update={"tasks": ("segment",), "arms": ("augment",)}), tmp_path / "out")
    assert left.tasks[0].regimes[0].arms[0].scores == segment.arms[0].scores
    with pytest.raises(InputError, match="arm augment-tuned with no validation part"):
        run_benchmark(asked.model_copy(update={"test_split": "val"}), tmp_path / "out")


def test_what_augmentation_is_chosen_on_may_not_be_of_the_test_part(tmp_path: Path) -> None:
    """A photograph that is in val and in test would choose the augmentation that suits the test."""
    real = write_folder(tmp_path / "real", range(14), split={"train": 6, "val": 4, "test": 4})
    records = read_metadata(real)
    records[6].lesion_id = records[10].lesion_id = "one lesion"
    write_dataset(real, records, made_by={})
    asked = options(("augment-tuned",), "segment", real=real, seeds=1, steps=1, devices=("cpu",))
    with pytest.raises(InputError, match="lesion"):
        run_benchmark(asked, tmp_path / "out")
