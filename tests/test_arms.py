"""The arms of a comparison: exact counts on hand-worked cases, nested parts, and no pair used twice unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skindualgen.benchmarking.arms import Arm, ClassAllocation, arms_of
from skindualgen.benchmarking.pools import Trial, build_trial
from skindualgen.benchmarking.subsets import nested_subset
from skindualgen.contracts import InputError

REAL = ["nevus"] * 6 + ["melanoma"] * 2
PLENTY = ["melanoma", "nevus", "dermatofibroma"] * 40
ALLOCATIONS: tuple[ClassAllocation, ...] = ("balance", "match", "even")
CLASSES = ["melanoma", "nevus", "seborrheic keratosis"]
labels = st.lists(st.sampled_from(CLASSES), min_size=1, max_size=40)


def arm(name: str, ratios: tuple[float, ...] = (0.25, 0.5, 1, 2, 5), allocation: ClassAllocation | None = None) -> Arm:
    return next(arm for arm in arms_of("classify", ratios, allocation) if arm.name == name)


def pool_of(
    name: str,
    allocation: ClassAllocation = "match",
    seed: int = 0,
    real: Sequence[str | None] = REAL,
    generated: Sequence[str | None] = PLENTY,
) -> Trial:
    chosen = arm(name, allocation=allocation)
    return build_trial("classify", chosen, real_diagnoses=real, synthetic_diagnoses=generated, seed=seed)


def drawn(pool: Trial, real: list[str] = REAL) -> tuple[Counter[str], Counter[str]]:
    return Counter(real[i] for i in pool.real), Counter(PLENTY[i] for i in pool.synthetic)


def test_the_arms_and_their_order() -> None:
    names = [arm.name for arm in arms_of("segment")]
    hybrids = ["hybrid-0.25", "hybrid-0.5", "hybrid-1", "hybrid-2", "hybrid-5"]
    assert names == ["real", "augment", "replay", "synthetic", "pretrain", *hybrids]
    assert [arm.name for arm in arms_of("classify")] == [*names[:2], "reweight", "oversample", *names[2:]]
    assert [arm.augment for arm in arms_of("classify")] == [False] + [True] * 11
    assert [arm.name for arm in arms_of("classify") if arm.uses_synthetic] == [
        "synthetic",
        "pretrain",
        *hybrids,
    ]
    assert [arm.name for arm in arms_of("segment", [3, 0.5])][-2:] == ["hybrid-0.5", "hybrid-3"]
    assert len({arm.definition for arm in arms_of("classify")}) == 12


def test_controls_are_made_for_ratio_one_or_else_the_largest() -> None:
    for ratios, reference in (((0.25, 1, 5), 1.0), ((0.25, 0.5), 0.5)):
        assert {arm(name, ratios).ratio for name in ("replay", "synthetic", "pretrain")} == {reference}
        assert f"hybrid-{reference:g} " in arm("replay", ratios).definition


@pytest.mark.parametrize("ratios", [[], [0], [-1, 1], [1, 1.0]])
def test_ratios_without_sense_are_refused(ratios: list[float]) -> None:
    with pytest.raises(InputError, match="different numbers above 0"):
        arms_of("segment", ratios)


@pytest.mark.parametrize("name", ["real", "augment"])
def test_real_arms_hold_each_real_pair_once(name: str) -> None:
    pool = pool_of(name)
    assert pool.real.tolist() == list(range(8)) and pool.synthetic.tolist() == []
    assert pool.weights.tolist() == [1 / 8] * 8
    assert (pool.arm.augment, pool.loss_weights) == (name == "augment", None)


@pytest.mark.parametrize(
    ("allocation", "name", "melanoma", "nevus"),
    [
        # In the proportion 2 : 6 of the real pairs.
        ("match", "hybrid-0.5", 1, 3),
        ("match", "hybrid-1", 2, 6),
        ("match", "hybrid-5", 10, 30),
        ("match", "synthetic", 2, 6),
        # 2 melanomas are filled up to the 6 nevi, then both alike: 8 + 8 of 16, 12 + 12 of 24.
        ("balance", "hybrid-0.25", 2, 0),
        ("balance", "hybrid-0.5", 4, 0),
        ("balance", "hybrid-1", 6, 2),
        ("balance", "hybrid-2", 10, 6),
        # Without the real pairs there is nothing to fill up.
        ("balance", "synthetic", 4, 4),
    ],
)
def test_counts_of_generated_pairs(allocation: ClassAllocation, name: str, melanoma: int, nevus: int) -> None:
    pool = pool_of(name, allocation)
    real, synthetic = drawn(pool)
    assert synthetic == Counter(melanoma=melanoma, nevus=nevus)
    assert real == (Counter() if name == "synthetic" else Counter(REAL))
    assert np.allclose(pool.weights, 1 / len(pool.weights))


def test_even_pools_draw_classes_alike_with_the_same_share_generated() -> None:
    for ratio in (0.5, 1, 2):
        pool = pool_of(f"hybrid-{ratio:g}", "even")
        chances: Counter[tuple[str, bool]] = Counter()
        for position, weight in zip(pool.real, pool.weights, strict=False):
            chances[REAL[position], False] += weight
        for position, weight in zip(pool.synthetic, pool.weights[len(pool.real) :], strict=True):
            chances[PLENTY[position], True] += weight
        for name in set(REAL):
            assert np.isclose(chances[name, False], 0.5 / (1 + ratio))
            assert np.isclose(chances[name, True], 0.5 * ratio / (1 + ratio))
        assert drawn(pool)[1] == Counter(dict.fromkeys(set(REAL), round(4 * ratio)))
    replay, oversample = pool_of("replay", "even"), pool_of("oversample", "even")
    assert np.array_equal(replay.real, oversample.real) and np.array_equal(replay.weights, oversample.weights)
    assert drawn(pool_of("synthetic", "even"))[1] == Counter(melanoma=4, nevus=4)
    with pytest.raises(InputError, match="1 real pairs without diagnosis"):
        pool_of("replay", "even", real=[*REAL, None])
    unlabelled = pool_of("hybrid-1", "even", real=[None] * 4)
    assert np.allclose(unlabelled.weights, 1 / 8)


@pytest.mark.parametrize("allocation", ["match", "balance"])
def test_replay_repeats_real_pairs_of_the_hybrids_diagnoses(allocation: ClassAllocation) -> None:
    """Class counts equal those of hybrid-1, and repeats are spread: nobody is drawn twice more than another."""
    pool, hybrid = pool_of("replay", allocation), pool_of("hybrid-1", allocation)
    assert drawn(pool)[0] == sum(drawn(hybrid), Counter())
    assert pool.synthetic.size == 0 and len(pool.weights) == len(hybrid.weights)
    for name in set(REAL):
        times = [int((pool.real == i).sum()) for i, diagnosis in enumerate(REAL) if diagnosis == name]
        assert min(times) >= 1 and max(times) - min(times) <= 1


def test_replay_needs_no_generated_pairs() -> None:
    pool = pool_of("replay", "balance", generated=[])
    assert Counter(REAL[i] for i in pool.real) == Counter(nevus=8, melanoma=8)


def test_reweighting_and_oversampling_make_classes_count_alike() -> None:
    weights = pool_of("reweight").loss_weights
    assert weights == {"nevus": 8 / (2 * 6), "melanoma": 8 / (2 * 2)}
    assert np.mean([weights[diagnosis] for diagnosis in REAL]) == 1
    pool = pool_of("oversample")
    assert pool.loss_weights is None
    assert np.allclose(pool.weights, [1 / 12] * 6 + [1 / 4] * 2)
    with pytest.raises(InputError, match="1 real pairs without diagnosis"):
        pool_of("oversample", "match", real=[*REAL, None], generated=[])


def test_too_few_generated_pairs_are_never_repeated() -> None:
    """The message names the class, what is needed and what is there."""
    for there, message in (
        (["melanoma"] * 3 + ["nevus"] * 2, r"3 of melanoma, 2 of nevus; expected 6 of melanoma, as no pair"),
        (["Melanoma"] * 9 + ["nevus"] * 2, r"9 of Melanoma, 2 of nevus; expected 6 of melanoma"),
        ([], r"none; expected 6 of melanoma, 2 of nevus"),
    ):
        with pytest.raises(InputError, match=message):
            pool_of("hybrid-1", "balance", generated=there)
    exact = ["melanoma"] * 6 + ["nevus"] * 2
    pool = pool_of("hybrid-1", "balance", generated=exact)
    assert pool.synthetic.tolist() == list(range(8))


def test_pairs_without_diagnosis() -> None:
    """Where no real pair has one, any generated pair will do; else those without are a class like others."""
    pool = pool_of("hybrid-1", "balance", real=[None] * 4)
    assert len(set(pool.synthetic.tolist())) == 4
    with pytest.raises(InputError, match="expected 2 of no diagnosis"):
        pool_of("hybrid-1", "match", real=[None, None, "nevus"])
    with pytest.raises(InputError, match="no real pairs"):
        pool_of("real", "match", real=[])


def test_another_seed_chooses_other_pairs() -> None:
    first, again, other = (pool_of("hybrid-2", seed=seed).synthetic for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@settings(max_examples=60)
@given(real=labels, allocation=st.sampled_from(ALLOCATIONS), seed=st.integers(0, 2**32))
def test_every_pool_is_sound(real: list[str], allocation: ClassAllocation, seed: int) -> None:
    synthetic = CLASSES * 250
    sizes = []
    for each in arms_of("classify", class_allocation=allocation):
        pool = build_trial("classify", each, real_diagnoses=real, synthetic_diagnoses=synthetic, seed=seed)
        assert len(pool.weights) == len(pool.real) + len(pool.synthetic)
        assert pool.weights.min() > 0 and np.isclose(pool.weights.sum(), 1)
        assert set(pool.real.tolist()) <= set(range(len(real)))
        assert pool.synthetic.size == 0 or (pool.synthetic.min() >= 0 and pool.synthetic.max() < len(synthetic))
        assert len(set(pool.synthetic.tolist())) == len(pool.synthetic)
        assert {synthetic[i] for i in pool.synthetic} <= set(real)
        assert pool.real.dtype == pool.synthetic.dtype == np.int64
        if each.uses_synthetic:
            assert len(pool.synthetic) == max(1, round((each.ratio or 0) * len(real)))
        if each.is_hybrid:
            sizes.append(set(pool.synthetic.tolist()))
    assert all(small <= large for small, large in pairwise(sizes))


@settings(max_examples=60)
@given(real=labels)
def test_filling_up_is_as_even_as_can_be(real: list[str]) -> None:
    """Water-filling, worked independently: no generated pair stands in a class larger than another by two."""
    pool = pool_of("hybrid-2", "balance", real=real, generated=CLASSES * 200)
    added = Counter((CLASSES * 200)[i] for i in pool.synthetic)
    total = Counter(real) + added
    assert all(total[name] <= min(total.values()) + 1 for name in added)


# --- parts of the real pairs ---


def test_a_part_has_the_proportions_of_the_whole() -> None:
    diagnoses = ["nevus"] * 70 + ["melanoma"] * 20 + ["seborrheic keratosis"] * 10
    ids = [f"ISIC_{i:07d}" for i in range(100)]
    for count, expected in ((3, (1, 1, 1)), (6, (2, 2, 2)), (20, (14, 4, 2)), (50, (35, 10, 5)), (100, (70, 20, 10))):
        part = nested_subset(diagnoses, ids, count=count)
        counts = Counter(diagnoses[i] for i in part)
        assert tuple(counts[name] for name in ("nevus", "melanoma", "seborrheic keratosis")) == expected
    assert not np.array_equal(nested_subset(diagnoses, ids, count=20, seed=1), nested_subset(diagnoses, ids, count=20))


@settings(max_examples=100)
@given(diagnoses=st.lists(st.sampled_from([*CLASSES, None]), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_parts_are_nested_and_hold_each_class(diagnoses: list[str | None], seed: int) -> None:
    ids = [f"p{i}" for i in range(len(diagnoses))]
    sizes = Counter(diagnoses)
    before: set[int] = set()
    for count in range(len(sizes), len(diagnoses) + 1):
        part = nested_subset(diagnoses, ids, count=count, seed=seed)
        assert part.dtype == np.int64 and part.tolist() == sorted(set(part.tolist())) and len(part) == count
        counts = Counter(diagnoses[i] for i in part)
        assert set(counts) == set(sizes)
        if count >= 2 * len(sizes):
            assert all(counts[name] >= min(2, sizes[name]) for name in sizes)
        assert before <= set(part.tolist())
        before = set(part.tolist())


@settings(max_examples=50)
@given(st.randoms(use_true_random=False), st.integers(2, 30))
def test_the_order_of_the_input_does_not_matter(random: object, count: int) -> None:
    items = [(f"p{i}", CLASSES[i % 2], f"lesion{i // 3}") for i in range(30)]
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = []
    for rows in (items, shuffled):
        names, diagnoses, groups = map(list, zip(*rows, strict=True))
        parts.append({names[i] for i in nested_subset(diagnoses, names, count=count, groups=groups)})
    assert parts[0] == parts[1]


@pytest.mark.parametrize("count", range(2, 41))
def test_lesions_are_kept_together(count: int) -> None:
    """Of each class at most one lesion is cut, whatever the size of the part."""
    groups = [f"{name}-{i // 4}" for name in CLASSES[:2] for i in range(20)]
    diagnoses = [group.split("-")[0] for group in groups]
    part = nested_subset(diagnoses, [f"p{i}" for i in range(40)], count=count, groups=groups)
    cut = Counter(name.split("-")[0] for name, number in Counter(groups[i] for i in part).items() if number < 4)
    assert all(number <= 1 for number in cut.values())


def test_parts_that_cannot_be_are_refused() -> None:
    ids = ["a", "b", "c"]
    for count in (1, 4):
        with pytest.raises(InputError, match="of 3 items in 2 classes"):
            nested_subset(["nevus", "nevus", "melanoma"], ids, count=count)
