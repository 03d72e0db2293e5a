"""Measures of sets equal the plain ones, hold their references and intervals, and name a generator's failure."""

from dataclasses import asdict, dataclass

import numpy as np
import pytest

from skindualgen.contracts import InputError
from skindualgen.judges.feature_space import DRAWS, MANIFOLD, MEASURES, FeatureSpace, interval
from skindualgen.judges.fidelity import AGAINST, MIN_SAMPLES, compare_sets
from skindualgen.judges.pictures import PictureSet
from skindualgen.metrics.fidelity import (
    frechet_distance,
    frechet_of_products,
    kernel_distance,
    kernel_of_products,
    manifold_scores,
    products,
)
from skindualgen.metrics.measures import Measure

D = 24


class GreyLevels:
    """Features of planted pictures: each holds its own vector as grey levels, scaled to about unit variance."""

    name, preprocessing, dim = "levels", "none", D

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1)[:, :D].astype(np.float32) - 128) / 20


def pictures(vectors: np.ndarray, diagnoses: list[str | None] | str = "nevus") -> PictureSet:
    """Pictures [n, 4, 2, 3] whose features are these vectors [n, 24], rounded to grey levels."""
    levels = np.clip(np.rint(vectors * 20 + 128), 0, 255).astype(np.uint8)
    labels = [diagnoses] * len(levels) if isinstance(diagnoses, str) else diagnoses
    return PictureSet.of_arrays(levels.reshape(-1, 4, 2, 3), labels)


def gaussian(n: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    spread = np.linspace(1.5, 0.3, D)  # of unequal directions, as photographs' features
    return np.random.default_rng(seed).normal(0, 1, (n, D)) * spread * scale + shift


TRAIN, HELD_OUT = gaussian(400, 0), gaussian(120, 1)


@dataclass(frozen=True)
class Table:
    measures: list[Measure]
    notes: list[str]

    def row(self, group: str, measure: str, reference: str) -> Measure:
        name = measure + AGAINST[reference]
        return next(m for m in self.measures if (m.group or "all", m.name) == (group, name))


def table(generated: PictureSet, **options) -> Table:
    sets = {"train": pictures(TRAIN), "held_out": pictures(HELD_OUT), "generated": generated}
    return Table(*compare_sets(GreyLevels(), **sets, **options))


@pytest.fixture(scope="module")
def same() -> Table:
    """A perfect generator: fresh draws of the real distribution."""
    return table(pictures(gaussian(150, 2)))


def test_values_are_the_plain_measures_of_the_same_features(same):
    # 150 generated pictures are all used against 120 held-out ones, in whatever order
    real, generated = (GreyLevels()(pictures(v).images) for v in (HELD_OUT, gaussian(150, 2)))
    expected = asdict(manifold_scores(real=real, generated=generated))
    expected["frechet"] = frechet_distance(real=real, generated=generated)
    expected["kid"] = kernel_distance(real=real, generated=generated)
    for measure in MEASURES:
        row = same.row("all", measure, "held_out")
        assert row.value == pytest.approx(expected[measure], rel=1e-6)
        assert (row.n_generated, row.n_real) == (150, 120)


def test_frechet_distance_is_the_same_from_products():
    for sizes in ((9, 14), (14, 9), (40, 60)):  # fewer and more vectors than features
        real, generated = gaussian(sizes[0], 0), gaussian(sizes[1], 1, shift=0.4, scale=1.3)
        expected = frechet_distance(real=real, generated=generated)
        assert frechet_of_products(products(real=real, generated=generated)) == pytest.approx(expected, rel=1e-6)
    copies = np.repeat(gaussian(3, 0), 20, axis=0)
    assert frechet_of_products(products(real=copies, generated=copies)) == pytest.approx(0, abs=1e-5)


def test_manifold_scores_equal_a_naive_count():
    real, generated, k = gaussian(40, 0), gaussian(30, 1, shift=0.2), 5

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    real_radii, generated_radii = ([radius(p, i) for i in range(len(p))] for p in (real, generated))
    inside = np.array(
        [[np.linalg.norm(r - g) <= radius for g in generated] for r, radius in zip(real, real_radii, strict=True)]
    )
    reached = [any(np.linalg.norm(r - g) <= q for g, q in zip(generated, generated_radii, strict=True)) for r in real]
    scores = manifold_scores(real=real, generated=generated)
    assert scores.precision == np.mean([inside[:, j].any() for j in range(30)])
    assert scores.recall == np.mean(reached)
    assert scores.density == pytest.approx(inside.sum() / (k * 30))
    assert scores.coverage == np.mean([inside[i].any() for i in range(40)])
    assert 0.1 < scores.coverage < 1  # neither end, where every formula agrees


def test_kernel_error_is_the_jackknife_that_leaves_each_vector_out():
    real, generated = gaussian(20, 0), gaussian(25, 1, shift=0.5)
    exact = kernel_of_products(products(real=real, generated=generated))
    variance = 0.0
    for name, members in (("real", real), ("generated", generated)):
        without = [
            kernel_distance(**{"real": real, "generated": generated} | {name: np.delete(members, i, axis=0)})
            for i in range(len(members))
        ]
        variance += (len(members) - 1) * np.var(without)
    assert exact.standard_error == pytest.approx(variance**0.5)
    assert exact.value == kernel_distance(real=real, generated=generated)


def test_intervals_hold_as_often_as_they_say():
    """Simulation: the interval of each measure holds its expectation in about 95 of 100 samples, at unequal sizes."""
    values, estimates = [], []
    for sample in range(80):
        space = FeatureSpace(
            {"real": gaussian(60, 2 * sample), "generated": gaussian(80, 2 * sample + 1, shift=0.45, scale=0.9)}
        )
        found = space.values(MEASURES, **space.members)
        errors = space.standard_errors(MEASURES, seed=sample, **space.members)
        values.append(found)
        estimates.append({m: interval(m, found[m], errors[m], n_real=60, n_generated=80) for m in MEASURES})
    for measure in MEASURES:
        expectation = np.mean([found[measure] for found in values])
        held = np.mean([e[measure].low <= expectation <= e[measure].high for e in estimates])
        width = np.mean([e[measure].high - e[measure].low for e in estimates])
        # 0.95 +- 3 standard errors of 80 samples below; above, no wider than 1.7 times what normal theory asks
        assert held >= 0.87, measure
        assert width < 1.7 * 2 * 1.96 * np.std([found[measure] for found in values]), measure


def test_shares_of_all_or_nothing_keep_an_interval():
    none = interval("recall", 0.0, 0.0, n_real=100, n_generated=30)
    assert (none.low, none.high) == (0.0, pytest.approx(1.959964**2 / (100 + 1.959964**2)))  # Wilson, 0 of 100
    every = interval("precision", 1.0, 0.01, n_real=100, n_generated=50)
    assert every.low == pytest.approx(50 / (50 + 1.959964**2))
    assert every.high == 1.0
    assert interval("coverage", 0.5, 0.1, n_real=400, n_generated=9).high == pytest.approx(0.6825, abs=1e-4)  # 25
    assert interval("frechet", 1.0, 5.0, n_real=9, n_generated=9).low == 0.0
    assert interval("kid", 0.0, 1.0, n_real=9, n_generated=9).low == pytest.approx(-2.306, abs=1e-3)  # Student, 8


def test_equal_distributions_lie_within_their_floor_as_often_as_stated(monkeypatch):
    """A fresh real set falls within the range of 20 draws in 19 of 21 cases."""
    monkeypatch.setattr(FeatureSpace, "standard_errors", lambda *_, **__: dict.fromkeys(MEASURES, 0.0))
    within: dict[str, list[bool]] = {measure: [] for measure in MEASURES}
    for seed in range(0, 60, 3):
        sets = {"train": (180, seed), "held_out": (110, seed + 1), "generated": (110, seed + 2)}
        drawn = {name: pictures(gaussian(n, 100 + own)) for name, (n, own) in sets.items()}
        result = Table(*compare_sets(GreyLevels(), **drawn, seed=seed))
        for measure in MEASURES:
            row = result.row("all", measure, "held_out")
            assert row.reference.low <= row.reference.value <= row.reference.high
            within[measure].append(row.reference.low <= row.value <= row.reference.high)
    for measure, cases in within.items():
        assert np.mean(cases) >= 0.7, measure  # 0.905 - 3 standard errors of 20 cases
    assert not all(all(cases) for cases in within.values())  # a range that holds everything says nothing


def test_mode_collapse_shows_high_precision_and_low_recall(same):
    jitter = np.random.default_rng(5).normal(0, 0.15, (150, D))
    collapsed = table(pictures(HELD_OUT[np.arange(150) % 4] + jitter))
    precision, recall = (collapsed.row("all", measure, "held_out") for measure in ("precision", "recall"))
    assert precision.value >= precision.reference.high
    assert recall.value < 0.1 < recall.reference.low
    assert recall.high < recall.reference.low
    for measure in ("frechet", "kid"):
        assert collapsed.row("all", measure, "held_out").value > 10 * same.row("all", measure, "held_out").value


def test_a_copy_of_train_looks_perfect_here():
    """Fidelity cannot see copies: the table must not pretend to. Novelty does."""
    copied = table(pictures(TRAIN[:150]))
    row = copied.row("all", "recall", "held_out")
    assert row.reference.low - 0.05 <= row.value <= row.reference.high + 0.05
    assert copied.row("all", "precision", "train").value == 1.0


def test_shifted_pictures_are_beyond_the_floor():
    shifted = table(pictures(gaussian(150, 3, shift=0.5)))
    for measure in ("frechet", "kid"):
        row = shifted.row("all", measure, "train")
        assert row.low > row.reference.high


def two_classes(nevi: int, melanomas: int, seed: int) -> PictureSet:
    vectors = np.concatenate([gaussian(nevi, seed), gaussian(melanomas, seed + 1, shift=1.0)])
    return pictures(vectors, ["nv"] * nevi + ["Melanoma"] * melanomas)


@pytest.fixture(scope="module")
def classed() -> Table:
    """Real classes 3 : 1, generated ones 1 : 1, so that unmatched sets would differ."""
    return compare_classes()


def compare_classes() -> Table:
    sets = {"train": (300, 100, 10), "held_out": (90, 30, 40), "generated": (120, 120, 30)}
    return Table(*compare_sets(GreyLevels(), **{name: two_classes(*drawn) for name, drawn in sets.items()}))


def test_like_is_compared_with_like(classed):
    """Guards against class mixtures: other proportions alone must not look like bad pictures."""
    row = classed.row("all", "kid", "held_out")
    assert (row.n_generated, row.n_real) == (160, 120)  # 120 nevi and 40 melanomas
    assert row.value <= row.reference.high
    mixture = kernel_distance(
        real=GreyLevels()(two_classes(90, 30, 40).images), generated=GreyLevels()(two_classes(120, 120, 30).images)
    )
    assert mixture > row.reference.high
    assert classed.notes[0].startswith("all against held_out: 160 of 240 generated and 120 of 120 held_out")
    against_train = classed.row("all", "kid", "train")
    # 160 of the 520 real pictures play "generated", and 360 remain in the class proportions of train
    assert (against_train.n_generated, against_train.n_real) == (160, 360)


def test_each_diagnosis_has_its_rows_whatever_its_spelling(classed):
    assert {row.group for row in classed.measures} == {None, "melanoma", "nevus"}
    melanoma = classed.row("melanoma", "recall", "train")
    assert (melanoma.n_generated, melanoma.n_real) == (65, 65)  # half each of 130 real ones
    assert melanoma.value is not None


def test_floors_are_drawn_from_disjoint_real_parts_of_the_same_sizes(classed, monkeypatch):
    asked = []
    values = FeatureSpace.values

    def spy(self, measures, *, real, generated):
        asked.append((set(real), set(generated), set(self.members["generated"])))
        return values(self, measures, real=real, generated=generated)

    monkeypatch.setattr(FeatureSpace, "values", spy)
    monkeypatch.setattr(FeatureSpace, "standard_errors", lambda *_, **__: dict.fromkeys(MEASURES, 0.0))
    again = compare_classes()
    assert len(asked) == 6 * (1 + DRAWS)
    floors = [(real, played) for real, played, fake in asked if not played & fake]
    assert len(floors) == 6 * DRAWS
    assert not any(real & played for real, played in floors)
    assert {(len(played), len(real)) for real, played in floors} == {
        (row.n_generated, row.n_real) for row in classed.measures
    }
    assert [row.value for row in again.measures] == [row.value for row in classed.measures]  # a seed fixes every draw


def test_too_few_photographs_give_a_caveat_and_no_number():
    few = table(pictures(gaussian(60, 4)))
    frechet = few.row("all", "frechet", "held_out")
    assert (frechet.value, frechet.low, frechet.high, frechet.reference.value) == (None,) * 4
    assert "60 photographs" in frechet.caveat and str(MIN_SAMPLES["frechet"]) in frechet.caveat
    recall = few.row("all", "recall", "held_out")
    assert recall.value is not None and "uncertain" in recall.caveat
    hardly = table(pictures(gaussian(3, 4)))
    assert all(row.value is None and row.caveat for row in hardly.measures)
    enough = table(pictures(gaussian(120, 4)))
    assert enough.row("all", "frechet", "held_out").caveat is None  # 120 vectors of 24 features
    assert all(enough.row("all", measure, "held_out").caveat for measure in MANIFOLD)


def test_diagnoses_that_do_not_meet_are_said_or_refused():
    other = table(pictures(gaussian(150, 2), ["nevus"] * 130 + ["bcc"] * 20))
    assert any("basal cell carcinoma" in note and "20 generated" in note for note in other.notes)
    assert other.row("all", "kid", "held_out").n_generated == 130
    unnamed = table(pictures(gaussian(150, 2), [None] * 150))
    assert unnamed.notes[0].startswith("generated without diagnoses")
    assert {row.group for row in unnamed.measures} == {None}
    assert unnamed.row("all", "kid", "held_out").n_generated == 150
    with pytest.raises(InputError, match="name the diagnoses alike"):
        table(pictures(gaussian(20, 2), "melanoma"))


def test_large_sets_are_cut_and_it_is_said():
    cut = table(pictures(gaussian(150, 2)), most=60)
    assert cut.row("all", "kid", "held_out").n_real == 60
    assert "60 of 400 train photographs were used" in cut.notes
    assert "60 of 150 generated photographs were used" in cut.notes


def test_measures_name_their_judge_and_count_in_multiples_of_real_against_real(same):
    assert {measure.judge for measure in same.measures} == {"levels"}
    frechet, ratio = (next(m for m in same.measures if m.key == key) for key in ("frechet", "frechet_ratio_to_floor"))
    for name in ("value", "low", "high"):
        assert getattr(ratio, name) == pytest.approx(getattr(frechet, name) / frechet.reference.value)
    assert ratio.reference.value == 1 and ratio.reference.low < 1 < ratio.reference.high
    further = table(pictures(gaussian(30, 2)), judge_suffix="grey")
    assert all(measure.key.endswith("@grey") for measure in further.measures)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="as many of each"):
        PictureSet.of_arrays(np.zeros((2, 4, 4, 3), np.uint8), ["nevus"])
    with pytest.raises(InputError, match="one or more"):
        table(PictureSet.of_arrays(np.zeros((0, 4, 2, 3), np.uint8)))
    with pytest.raises(InputError, match="NaN"):
        FeatureSpace({"real": np.full((2, 2), np.nan)})
