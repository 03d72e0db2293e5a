"""Tables of mask shapes and of agreement: scipy's numbers, hand-worked ones, and planted differences."""

import numpy as np
import pytest
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import compared_with_real, kolmogorov_smirnov, wasserstein
from skindualgen.metrics.mask_tables import (
    AGREEMENT_SCORES,
    ShapeComparison,
    agreement_measures,
    agreement_values,
    compare_shapes,
)
from skindualgen.metrics.masks import agreement, shape_statistics
from skindualgen.metrics.measures import Measure

SIDE_PX = 48


def ellipses(count: int, seed: int, *, scale: float = 1.0, ragged: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2
    masks = []
    for _ in range(count):
        long, wide, turn = random.uniform(10, 14), random.uniform(6, 10), random.uniform(0, np.pi)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        wave = 1 + ragged * np.sin(9 * np.arctan2(across, along))
        masks.append((along / long) ** 2 + (across / wide) ** 2 <= (scale * wave) ** 2)
    return np.stack(masks)


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return ellipses(60, 0, ragged=0.05)


@pytest.fixture(scope="module")
def same(real):
    return compare_shapes(real=real, generated=ellipses(40, 1, ragged=0.05), seed=0)


@pytest.fixture(scope="module")
def other(real):
    return compare_shapes(real=real, generated=ellipses(40, 2, scale=1.4, ragged=0.2), seed=0)


def measure(shapes: ShapeComparison, name: str) -> Measure:
    return next(each for each in shapes.measures if each.name == name)


def test_a_comparison_holds_the_statistic_of_each_mask_and_its_mean(real, same):
    areas = [shape_statistics(mask).area_fraction for mask in real]
    assert same.real["area_fraction"].tolist() == areas
    mean = measure(same, "area_fraction")
    assert mean.reference.value == pytest.approx(np.mean(areas))
    assert mean.reference.low < mean.reference.value < mean.reference.high
    assert mean.value == pytest.approx(same.generated["area_fraction"].mean())
    assert (mean.n_real, mean.n_generated) == (60, 40)


def test_masks_of_one_kind_stay_within_real_against_real_and_others_do_not(same, other):
    for name in ("area_fraction", "eccentricity", "compactness"):
        distance = measure(same, f"{name}_distance")
        assert distance.reference.low <= distance.value <= distance.reference.high, name
    for name in ("area_fraction", "compactness", "border_irregularity"):
        for kind in ("distance", "shift"):
            distance = measure(other, f"{name}_{kind}")
            assert distance.value > distance.reference.high, name
    for name in ("area_fraction", "border_irregularity"):
        assert measure(other, name).low > measure(other, name).reference.high


def test_shifts_are_in_standard_deviations_of_the_real_values(same, other):
    for name in ("compactness", "asymmetry"):
        shift, spread = measure(other, f"{name}_shift"), other.real[name].std()
        moved = stats.wasserstein_distance(other.real[name], other.generated[name]) / spread
        assert shift.value == pytest.approx(moved, rel=0.2)  # of parts of the sets


def test_turned_copies_do_not_differ_in_shape(real):
    turned = compare_shapes(real=real, generated=np.rot90(real, axes=(1, 2)), seed=0)
    for name, values in turned.generated.items():
        assert values == pytest.approx(turned.real[name], abs=1e-6), name
        assert measure(turned, name).value == pytest.approx(measure(turned, name).reference.value, abs=1e-6), name


def test_a_statistic_that_never_varies_has_no_deviation_to_measure_in(same):
    assert set(same.real["components"]) == {1.0}
    assert "components_shift" not in {each.name for each in same.measures}
    assert measure(same, "components_distance").value == 0


def test_yes_or_no_has_wilsons_interval(same):
    share = measure(same, "touches_border").reference
    assert (share.value, share.low) == (0.0, 0.0)
    assert 0.05 < share.high < 0.07  # of 0 in 60: 3.84 / (60 + 3.84)


def test_empty_masks_have_no_shape(real):
    generated = ellipses(10, 3)
    generated[:3] = False
    shapes = compare_shapes(real=real[:10], generated=generated, seed=0)
    assert len(shapes.generated["asymmetry"]) == 7
    assert shapes.generated["area_fraction"][:3].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="3 empty"):
        compare_shapes(real=real[:10], generated=generated[:6], seed=0)


def test_distances_of_two_samples_worked_out_by_hand():
    real, generated = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 3.0])
    # below 2 lie half of the real values and none of the others; the lower half of the mass moves by 2
    assert kolmogorov_smirnov(real=real, generated=generated) == pytest.approx(1 / 2)
    assert wasserstein(real=real, generated=generated) == pytest.approx(1)


def test_real_against_real_is_between_disjoint_parts_of_the_stated_sizes():
    seen = []

    def distance(*, real, generated):
        seen.append((real, generated))
        return float(len(set(real) & set(generated)))

    real, generated = np.arange(9.0), np.arange(100.0, 103.0)
    found = compared_with_real(distance, real=real, generated=generated, seed=3)
    assert found.sizes == (3, 6)
    assert (found.real_vs_real.value, found.real_vs_real.high, found.value) == (0, 0, 0)
    assert {(len(a), len(b)) for a, b in seen} == {(6, 3)}
    assert all(set(a) | set(b) == set(real) for a, b in seen[::2])
    assert all(set(b) == set(generated) for _, b in seen[1::2])
    with pytest.raises(InputError, match="add photographs"):
        compared_with_real(distance, real=real[:3], generated=generated, seed=0)


def test_equal_distributions_are_above_zero_but_as_real_against_real():
    random = np.random.default_rng(0)
    found = [
        compared_with_real(kolmogorov_smirnov, real=random.normal(size=80), generated=random.normal(size=50), seed=i)
        for i in range(30)
    ]
    value, real_vs_real = np.mean([each.value for each in found]), np.mean([each.real_vs_real.value for each in found])
    assert real_vs_real > 0.1
    assert value == pytest.approx(real_vs_real, rel=0.15)


def test_distances_are_scipys():
    random = np.random.default_rng(1)
    both = {"real": random.normal(size=30), "generated": random.normal(size=20)}
    assert kolmogorov_smirnov(**both) == pytest.approx(stats.ks_2samp(*both.values()).statistic)
    assert wasserstein(**both) == pytest.approx(stats.wasserstein_distance(*both.values()))


def test_agreement_holds_the_scores_of_each_pair(real):
    shifted = np.roll(real, 2, axis=2)
    found = agreement_values(shifted, real)
    scores = [agreement(*pair) for pair in zip(shifted, real, strict=True)]
    assert tuple(found) == AGREEMENT_SCORES
    for name in AGREEMENT_SCORES:
        assert found[name].tolist() == [score[name] for score in scores]
    assert found["dice"].mean() < 1


def test_missed_lesions_are_punished(real):
    predicted = real[:4].copy()
    predicted[0] = False
    found = agreement_values(predicted, real[:4])
    assert found["dice"].mean() == pytest.approx(3 / 4)
    assert found["hd95_px"].mean() == pytest.approx(SIDE_PX * np.sqrt(2) / 4)
    with pytest.raises(InputError, match="match them"):
        agreement_values(predicted[:2], real[:4])


def test_worse_agreement_of_the_generated_set_is_a_gap(real):
    good = agreement_values(np.roll(real, 1, axis=1), real)
    bad = agreement_values(np.roll(real, 5, axis=1), real)
    found = {each.name: each for each in agreement_measures(real=good, generated=bad, seed=0, group="nevus", judge="x")}
    for name in AGREEMENT_SCORES:
        mean = found[f"agreement_{name}"]
        assert (mean.value, mean.reference.value) == pytest.approx((bad[name].mean(), good[name].mean()))
        assert mean.low < mean.value < mean.high
        assert (mean.key, mean.judge) == (f"agreement_{name}[nevus]", "x")
    gap = found["agreement_gap"]
    assert gap.value == pytest.approx(good["dice"].mean() - bad["dice"].mean())
    assert gap.low > 0 == gap.reference.value
    assert agreement_measures(real=good, generated=good, seed=0)[-1].value == 0
