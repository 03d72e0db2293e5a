"""Tables of mask shapes and of agreement: scipy's numbers, hand-worked ones, and planted differences."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import floored_distance, kolmogorov_smirnov, wasserstein
from skindualgen.metrics.mask_tables import AGREEMENT_SCORES, compare_agreement, compare_shapes, summarise_agreement
from skindualgen.metrics.masks import agreement, shape_statistics

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


def test_row_holds_the_statistic_of_each_mask_and_its_mean(real, same):
    areas = [shape_statistics(mask).area_fraction for mask in real]
    row = same.rows["area_fraction"]
    assert row.real_values == tuple(areas)
    assert row.real.value == pytest.approx(np.mean(areas))
    assert row.real.low < row.real.value < row.real.high
    assert row.difference.value == pytest.approx(row.generated.value - row.real.value)
    assert (same.n_real, same.n_generated, len(row.generated_values)) == (60, 40, 40)


def test_distances_are_scipys_and_wasserstein_is_in_real_standard_deviations(other):
    row = other.rows["compactness"]
    real, generated = np.array(row.real_values), np.array(row.generated_values)
    assert row.kolmogorov_smirnov.value == pytest.approx(stats.ks_2samp(real, generated).statistic)
    assert row.wasserstein.value == pytest.approx(stats.wasserstein_distance(real, generated) / real.std())


def test_masks_of_one_kind_stay_within_the_floor_and_others_do_not(same, other):
    for name in ("area_fraction", "eccentricity", "compactness"):
        distance = same.rows[name].kolmogorov_smirnov
        assert distance.floor_low <= distance.matched <= distance.floor_high, name
    for name in ("area_fraction", "compactness", "border_irregularity"):
        row = other.rows[name]
        assert row.kolmogorov_smirnov.matched > row.kolmogorov_smirnov.floor_high, name
        assert row.wasserstein.matched > row.wasserstein.floor_high, name
    assert other.rows["area_fraction"].difference.low > 0
    assert other.rows["border_irregularity"].difference.low > 0


def test_turned_copies_do_not_differ_in_shape(real):
    turned = compare_shapes(real=real, generated=np.rot90(real, axes=(1, 2)), seed=0)
    for name, row in turned.rows.items():
        assert row.difference.value == pytest.approx(0, abs=1e-6), name
        assert row.difference.low <= 0 <= row.difference.high, name
    assert turned.rows["area_fraction"].kolmogorov_smirnov.value == 0
    assert turned.rows["asymmetry"].wasserstein.value == pytest.approx(0, abs=1e-6)


def test_a_statistic_that_never_varies_has_no_deviation_to_measure_in(same):
    row = same.rows["components"]
    assert set(row.real_values) == {1.0}
    assert row.wasserstein is None
    assert row.kolmogorov_smirnov.value == 0


def test_yes_or_no_has_wilsons_interval(same):
    row = same.rows["touches_border"]
    assert (row.real.value, row.real.low) == (0.0, 0.0)
    assert 0.05 < row.real.high < 0.07  # of 0 in 60: 3.84 / (60 + 3.84)


def test_empty_masks_are_counted_and_have_no_shape(real):
    generated = ellipses(10, 3)
    generated[:3] = False
    table = compare_shapes(real=real[:10], generated=generated, seed=0)
    assert (table.empty_real, table.empty_generated) == (0, 3)
    assert len(table.rows["asymmetry"].generated_values) == 7
    assert table.rows["area_fraction"].generated_values[:3] == (0, 0, 0)
    with pytest.raises(InputError, match="3 empty"):
        compare_shapes(real=real[:10], generated=generated[:6], seed=0)


def test_tables_are_plain_numbers(same):
    assert json.loads(json.dumps(asdict(same), allow_nan=False))["rows"]["asymmetry"]["real"]["value"] > 0


def test_distances_of_two_samples_worked_out_by_hand():
    real, generated = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 3.0])
    # below 2 lie half of the real values and none of the others; the lower half of the mass moves by 2
    assert kolmogorov_smirnov(real=real, generated=generated) == pytest.approx(1 / 2)
    assert wasserstein(real=real, generated=generated) == pytest.approx(1)


def test_floor_is_between_disjoint_parts_of_the_stated_sizes():
    seen = []

    def distance(*, real, generated):
        seen.append((real, generated))
        return float(len(set(real) & set(generated)))

    real, generated = np.arange(9.0), np.arange(100.0, 103.0)
    found = floored_distance(distance, real=real, generated=generated, seed=3)
    assert found.sizes == (3, 6)
    assert (found.floor, found.floor_high, found.matched) == (0, 0, 0)
    parts = seen[:-1]
    assert {(len(a), len(b)) for a, b in parts} == {(6, 3)}
    assert all(set(a) | set(b) == set(real) for a, b in parts[::2])
    assert all(set(b) == set(generated) for _, b in parts[1::2])
    assert (seen[-1][0] == real).all()
    assert (seen[-1][1] == generated).all()
    with pytest.raises(InputError, match="add photographs"):
        floored_distance(distance, real=real[:3], generated=generated, seed=0)


def test_equal_distributions_are_above_zero_but_at_their_floor():
    random = np.random.default_rng(0)
    values = [
        floored_distance(kolmogorov_smirnov, real=random.normal(size=80), generated=random.normal(size=50), seed=i)
        for i in range(30)
    ]
    matched, floor = np.mean([v.matched for v in values]), np.mean([v.floor for v in values])
    assert floor > 0.1
    assert matched == pytest.approx(floor, rel=0.15)


def test_agreement_table_holds_means_medians_and_values(real):
    shifted = np.roll(real, 2, axis=2)
    table = summarise_agreement(shifted, real)
    scores = [agreement(*pair) for pair in zip(shifted, real, strict=True)]
    assert tuple(table.scores) == AGREEMENT_SCORES
    for name in AGREEMENT_SCORES:
        values = [score[name] for score in scores]
        assert table.scores[name].values == tuple(values)
        assert table.scores[name].mean.value == pytest.approx(np.mean(values))
        assert table.scores[name].median == pytest.approx(np.median(values))
    assert (table.n, table.empty_predicted, table.empty_truth) == (60, 0, 0)
    assert table.scores["dice"].mean.value < 1


def test_missed_lesions_are_counted_and_punished(real):
    predicted = real[:4].copy()
    predicted[0] = False
    table = summarise_agreement(predicted, real[:4])
    assert table.empty_predicted == 1
    assert table.scores["dice"].mean.value == pytest.approx(3 / 4)
    assert table.scores["hd95_px"].mean.value == pytest.approx(SIDE_PX * np.sqrt(2) / 4)
    with pytest.raises(InputError, match="match them"):
        summarise_agreement(predicted[:2], real[:4])


def test_worse_agreement_of_the_generated_set_is_a_negative_difference(real):
    good = summarise_agreement(np.roll(real, 1, axis=1), real)
    bad = summarise_agreement(np.roll(real, 5, axis=1), real)
    gap = compare_agreement(real_scores=good, generated_scores=bad)
    assert gap["dice"].value == pytest.approx(bad.scores["dice"].mean.value - good.scores["dice"].mean.value)
    assert gap["dice"].high < 0
    assert gap["hd95_px"].low > 0
    assert compare_agreement(real_scores=good, generated_scores=good)["iou"].value == 0
