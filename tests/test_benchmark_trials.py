"""One training: paired draws, keys by content, records, networks, and planted generators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmark_data import SIZE_PX, TINY, known, pictures, plain_data, recipe_of, trial_of
from skindualgen.benchmarking import trials as trials_module
from skindualgen.benchmarking.learning import batch_source, loss_of, run_trial, score
from skindualgen.benchmarking.pools import Trial, merge_repeats
from skindualgen.benchmarking.trials import Recipe, TaskData, read_record, trial_key, write_record
from skindualgen.contracts import InputError
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.training import Augmentation, Budget
from skindualgen.metrics.scores import CLASSIFICATION_METRICS, SEGMENTATION_METRICS, value


def drawn(data: TaskData, trial: Trial, *, batch_size: int = 64, seed: int = 0, step: int = 0) -> NDArray[np.int64]:
    """Return the grey levels of a batch, which name the items (of whichever part)."""
    data = replace(data, recipe=recipe_of(batch_size=batch_size))
    inputs, _ = batch_source(data, trial)(np.random.default_rng(seed), step)
    return np.asarray(((inputs[:, 0, 0, 0] * 0.5 + 0.5) * 255).round(), np.int64)


def test_items_are_drawn_as_often_as_their_weights_say() -> None:
    """2 real at .1 and .5, 2 synthetic at .3 and .1; 4000 draws, four standard errors."""
    data = plain_data()
    pool = trial_of([3, 4], [7, 8], weights=np.array([0.1, 0.5, 0.3, 0.1]))
    levels = np.concatenate([drawn(data, pool, batch_size=1000, seed=seed) for seed in range(4)])
    for level, chance in {3: 0.1, 4: 0.5, 7: 0.3, 8: 0.1}.items():
        assert (levels == level).mean() == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 4000))
    assert set(levels) == {3, 4, 7, 8}


def test_arms_of_one_seed_see_the_same_real_pictures() -> None:
    data = plain_data()
    alone = drawn(data, trial_of(list(range(10)), []))
    mixed_real = trial_of(list(range(10)), list(range(10)))
    data = replace(data, generated=replace(data.generated, images=data.generated.images + 100))
    mixed = drawn(data, mixed_real)
    from_real = mixed < 100
    assert 20 < from_real.sum() < 44
    np.testing.assert_array_equal(mixed[from_real], alone[from_real])


def test_pretraining_sees_generated_pictures_first_and_then_the_real_ones_of_the_plain_pool() -> None:
    """2 steps, half of them for pretraining: step 0 draws generated pictures alone, step 1 real ones alone."""
    data = plain_data()
    data = replace(data, generated=replace(data.generated, images=data.generated.images + 100))
    pool = trial_of(list(range(10)), list(range(10)), pretrain=0.5)
    assert (drawn(data, pool, step=0) >= 100).all()
    np.testing.assert_array_equal(drawn(data, pool, step=1), drawn(data, trial_of(list(range(10)), [])))


def test_repeats_change_nothing_where_all_repeat_alike() -> None:
    """Replay of every pair once is the plain pool: the same key, the same batches; another balance is another pool."""
    data = plain_data()
    plain = merge_repeats(trial_of(list(range(10)), []))
    twice = merge_repeats(trial_of([*range(10), *reversed(range(10))], []))
    some = merge_repeats(trial_of([*range(10), 3, 3], []))
    assert plain.weights.tolist() == twice.weights.tolist() == [0.1] * 10
    keys = [trial_key(data, trial) for trial in (plain, twice, some)]
    assert keys[0] == keys[1] != keys[2]
    assert some.weights[3] == pytest.approx(3 / 12)
    np.testing.assert_array_equal(drawn(data, plain), drawn(data, twice))


def test_key_depends_on_all_that_decides_the_outcome_and_on_nothing_else() -> None:
    data, trial = plain_data(), trial_of([0, 1], [2])
    recipe = data.recipe

    def key(data: TaskData = data, trial: Trial = trial, **of_recipe: Any) -> str:
        return trial_key(replace(data, recipe=replace(data.recipe, **of_recipe)), trial)

    same = key(trial=trial_of([0, 1], [2], name="another name", ratio=2.0))
    other_picture = known(data.train, digests=["new", *data.train.digests[1:]])
    unused_picture = known(data.train, digests=[*data.train.digests[:-1], "new"])
    changed = {
        "seed": key(trial=replace(trial, seed=1)),
        "steps": key(budget=replace(recipe.budget, steps=3)),
        "network": key(network=Network("resnet10t", "random")),
        "weights": key(network=Network(TINY.name, "imagenet")),
        "precision": key(bfloat16=True),
        "size": key(size_px=64),
        "augmentation": key(augmentation=Augmentation(zoom=0.5)),
        "augment": key(trial=trial_of([0, 1], [2], augment=True)),
        "pretrain": key(trial=trial_of([0, 1], [2], pretrain=0.5)),
        "loss": key(trial=replace(trial, loss_weights={"class 0": 2.0})),
        "item": key(trial=trial_of([0, 3], [2])),
        "content": key(replace(data, train=other_picture)),
        "test": key(replace(data, test=pictures(4, seed=3))),
        "task": key(replace(data, task="segment")),
    }
    assert key() == same == key(replace(data, train=unused_picture))
    assert len({same, *changed.values()}) == 1 + len(changed)


def test_key_depends_on_the_version_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    data, trial = plain_data(), trial_of([0, 1], [])
    before = trial_key(data, trial)
    monkeypatch.setattr(trials_module, "RECIPE_VERSION", trials_module.RECIPE_VERSION + 1)
    assert trial_key(data, trial) != before


def test_loss_weights_weigh_each_photographs_loss() -> None:
    """Weights 3 and 1: the loss is the mean of 3 x the first item's and 1 x the second's."""
    data = plain_data()
    logits, target = torch.tensor([[0.3, -0.2], [1.0, 0.5]]), torch.tensor([0, 1])
    plain = loss_of(data, None)
    alone = [plain(logits[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    weighted = loss_of(data, {"class 0": 3.0, "class 1": 1.0})(logits, target)
    assert weighted.item() == pytest.approx((3 * alone[0] + alone[1]) / 2, rel=1e-6)


def test_record_survives_the_disk_and_damage_is_noticed(tmp_path: Path) -> None:
    data = plain_data()
    record = run_trial(data, trial_of([0, 1], []))
    write_record(tmp_path, "key", record, {"arm": "real"})
    read = read_record(tmp_path, "key", "classify")
    assert read is not None
    np.testing.assert_array_equal(read.outcome.probabilities, record.outcome.probabilities)  # type: ignore[union-attr]
    assert (read.seconds, read.final_loss, read.device) == (record.seconds, record.final_loss, "cpu")
    assert read_record(tmp_path, "other", "classify") is None
    whole = (tmp_path / "key.npz").read_bytes()
    (tmp_path / "key.npz").write_bytes(whole[:-7])
    assert read_record(tmp_path, "key", "classify") is None
    (tmp_path / "key.npz").write_bytes(whole)
    assert read_record(tmp_path, "key", "classify") is not None
    (tmp_path / "key.json").write_text("{")
    assert read_record(tmp_path, "key", "classify") is None


def test_seed_decides_weights_and_arms_share_them() -> None:
    data = plain_data()
    networks = [data.build_network(seed) for seed in (0, 0, 1)]
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_networks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = Network("resnet10t", "random").build_segmenter(0)(torch.zeros(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    with pytest.raises(InputError, match=r"timm\.list_models"):
        Network("no_such_network")
    with pytest.raises(InputError, match="five scales"):
        Network("test_vit", "random").build_segmenter(0)

    def offline(*given: Any, **named: Any) -> None:
        raise FileNotFoundError("the hub does not answer")

    monkeypatch.setattr("timm.create_model", offline)
    for build in (Network("resnet18").build_segmenter, lambda seed: Network("resnet18").build_classifier(2, seed)):
        with pytest.raises(InputError, match="no ImageNet weights of resnet18"):
            build(0)


def test_input_is_normalised_as_the_weights_want_it() -> None:
    grey = torch.full((1, 3, 1, 1), 0.485)
    assert Network("resnet18", "random").normalise(grey).flatten().tolist() == pytest.approx([-0.03] * 3)
    assert Network("resnet18").normalise(grey)[0, 0].item() == pytest.approx(0, abs=1e-6)
    assert Network().normalise(torch.ones(1, 3, 1, 1)).flatten().tolist() == [1, 1, 1]


def test_score_reads_masks_and_classes() -> None:
    """Networks that answer what the pictures say: lesion where red is above one half; class by the mean level."""
    test = pictures(4)
    test.images[:, :16, :, 0] = 255
    test.masks[:, :16] = True
    red = score(TaskData("segment", test, test, test, [], recipe_of()), _Red(), "cpu")
    assert value(SEGMENTATION_METRICS["dice"], red) == 1
    halves = replace(test, masks=np.ones_like(test.masks))
    half = score(TaskData("segment", halves, halves, halves, [], recipe_of()), _Red(), "cpu")
    assert value(SEGMENTATION_METRICS["iou"], half) == 0.5
    labelled = known(pictures(4), diagnoses=["class 0", "class 0", "class 1", "class 1"])
    data = TaskData("classify", labelled, labelled, labelled, ["class 0", "class 1"], recipe_of())
    assert value(CLASSIFICATION_METRICS["accuracy"], score(data, _Level(1.5), "cpu")) == 1
    assert value(CLASSIFICATION_METRICS["accuracy"], score(data, _Level(0.5), "cpu")) == 0.75


class _Red(torch.nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, :1]


class _Level(torch.nn.Module):
    """Class 1 for pictures above a grey level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level / 255 * 2 - 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        above = inputs.mean((1, 2, 3)) - self.level
        return torch.stack([-above, above], 1) * 1e3


def halves(count: int, seed: int) -> PictureSet:
    random = np.random.default_rng(seed)
    images = random.integers(120, 256, (count, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
    for index in range(count):
        half = slice(0, SIZE_PX // 2) if index % 2 else slice(SIZE_PX // 2, SIZE_PX)
        images[index, half] //= 4
    return PictureSet.of_arrays(images, [f"class {i % 2}" for i in range(count)])


def accuracy_of(data: TaskData, trial: Trial) -> float:
    return value(CLASSIFICATION_METRICS["accuracy"], run_trial(data, trial).outcome)


def test_planted_generators_give_what_they_must() -> None:
    """Shuffled labels hurt the arm of generated pairs alone; new real pairs under the name of generated ones do not."""
    train, test = halves(16, 0), halves(40, 1)
    honest = halves(16, 2)
    shuffled = known(honest, diagnoses=[f"class {i // 2 % 2}" for i in range(16)])
    recipe = Recipe(TINY, Budget(steps=40, batch_size=8, learning_rate=2e-3), SIZE_PX, bfloat16=False)
    data = TaskData("classify", train, honest, test, ["class 0", "class 1"], recipe)
    everything = list(range(16))
    for seed in range(2):
        real = accuracy_of(data, trial_of(everything, [], seed=seed))
        passed_off = accuracy_of(data, trial_of([], everything, seed=seed))
        mixed = accuracy_of(data, trial_of(everything, everything, seed=seed))
        wrong = accuracy_of(replace(data, generated=shuffled), trial_of([], everything, seed=seed))
        assert min(real, passed_off, mixed) > 0.9
        assert wrong < 0.75
