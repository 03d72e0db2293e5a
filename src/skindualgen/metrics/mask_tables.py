"""Tables over sets of masks: shapes of real against generated ones, and agreement of two masks of each photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import FlooredDistance, floored_distance, kolmogorov_smirnov, wasserstein
from skindualgen.metrics.intervals import Estimate, bootstrap, difference_of_means, mean_of_means, rate
from skindualgen.metrics.masks import ShapeStatistics, agreement, shape_statistics

Masks = Sequence[NDArray[np.bool_]] | NDArray[np.bool_]
Floats = NDArray[np.float64]

AGREEMENT_SCORES = ("dice", "iou", "hd95_px", "boundary_f")
RATES = frozenset({"touches_border"})
"""Statistics that are yes or no: their mean is a share, with Wilson's interval."""

LEAST_SHAPES = 4
"""Non-empty masks of each set, from which on halves can be compared."""


@dataclass(frozen=True)
class ShapeRow:
    """One statistic of :class:`skindualgen.metrics.masks.ShapeStatistics` over two sets of masks.

    Attributes:
        real, generated: means.
        difference: generated - real.
        kolmogorov_smirnov: [0, 1].
        wasserstein: in standard deviations of the real values; None where all of those are equal.
        real_values, generated_values: of each mask that has the statistic, in order.
    """

    real: Estimate
    generated: Estimate
    difference: Estimate
    kolmogorov_smirnov: FlooredDistance
    wasserstein: FlooredDistance | None
    real_values: tuple[float, ...]
    generated_values: tuple[float, ...]


@dataclass(frozen=True)
class ShapeTable:
    """Shapes of generated masks beside those of real ones.

    Attributes:
        n_real, n_generated: masks, the empty ones included.
        empty_real, empty_generated: masks without a lesion; they have an area, but no shape.
        rows: by the name of the statistic.
    """

    n_real: int
    n_generated: int
    empty_real: int
    empty_generated: int
    rows: Mapping[str, ShapeRow]


def compare_shapes(*, real: Masks, generated: Masks, seed: int) -> ShapeTable:
    """Compare the shapes of two sets of masks [h, w], statistic by statistic, with intervals and floors.

    Masks should be of one size: the pixel grid has a part in perimeters.

    Raises:
        InputError: fewer than :data:`LEAST_SHAPES` non-empty masks in a set.
    """
    of_real, of_generated = ([shape_statistics(mask) for mask in masks] for masks in (real, generated))
    empty = [sum(shape.components == 0 for shape in shapes) for shapes in (of_real, of_generated)]
    if min(len(of_real) - empty[0], len(of_generated) - empty[1]) < LEAST_SHAPES:
        raise InputError(
            f"{len(of_real)} real masks, {empty[0]} of them empty, and {len(of_generated)} generated, {empty[1]} empty",
            f"{LEAST_SHAPES} or more with a lesion in each",
            "add pairs",
        )
    rows = {
        name: _shape_row(_defined(of_real, name), _defined(of_generated, name), share=name in RATES, seed=seed)
        for name in (field.name for field in fields(ShapeStatistics))
    }
    return ShapeTable(len(of_real), len(of_generated), empty[0], empty[1], rows)


def _defined(shapes: Sequence[ShapeStatistics], name: str) -> Floats:
    values = np.array([float(getattr(shape, name)) for shape in shapes])
    return np.asarray(values[np.isfinite(values)])


def _shape_row(real: Floats, generated: Floats, *, share: bool, seed: int) -> ShapeRow:
    def mean(values: Floats) -> Estimate:
        return rate(int(values.sum()), len(values)) if share else bootstrap([values], mean_of_means, seed=seed)

    spread = float(real.std())

    def in_deviations(*, real: NDArray[np.floating], generated: NDArray[np.floating]) -> float:
        return wasserstein(real=real, generated=generated) / spread

    return ShapeRow(
        real=mean(real),
        generated=mean(generated),
        difference=bootstrap([generated, real], difference_of_means, seed=seed),
        kolmogorov_smirnov=floored_distance(kolmogorov_smirnov, real=real, generated=generated, seed=seed),
        wasserstein=floored_distance(in_deviations, real=real, generated=generated, seed=seed) if spread else None,
        real_values=tuple(real.tolist()),
        generated_values=tuple(generated.tolist()),
    )


@dataclass(frozen=True)
class AgreementScore:
    """One score over a set of pairs of masks, with the values of each pair in order."""

    mean: Estimate
    median: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class AgreementTable:
    """Agreement of predicted with true masks.

    Attributes:
        n: pairs of masks.
        empty_predicted, empty_truth: how many of each hold no lesion; see :mod:`skindualgen.metrics.masks` for what an
            empty mask scores.
        scores: by name, of :data:`AGREEMENT_SCORES`.
    """

    n: int
    empty_predicted: int
    empty_truth: int
    scores: Mapping[str, AgreementScore]


def summarise_agreement(
    predicted: Sequence[ArrayLike] | NDArray[np.bool_], truth: Sequence[ArrayLike] | NDArray[np.bool_], *, seed: int = 0
) -> AgreementTable:
    """Return Dice, IoU, HD95 and boundary F of pairs of masks [h, w]: mean with interval, and median.

    Raises:
        InputError: fewer than 2 pairs, or not as many of each.
    """
    if len(predicted) != len(truth) or len(truth) < 2:
        raise InputError(f"{len(predicted)} predicted, {len(truth)} true masks", "as many, 2 or more", "match them")
    pairs = [agreement(*pair) for pair in zip(predicted, truth, strict=True)]
    scores = {}
    for name in AGREEMENT_SCORES:
        values = np.array([pair[name] for pair in pairs])
        mean = bootstrap([values], mean_of_means, seed=seed)
        scores[name] = AgreementScore(mean, float(np.median(values)), tuple(values.tolist()))
    empty = [sum(not np.any(mask) for mask in masks) for masks in (predicted, truth)]
    return AgreementTable(len(pairs), empty[0], empty[1], scores)


def compare_agreement(
    *, real_scores: AgreementTable, generated_scores: AgreementTable, seed: int = 0
) -> dict[str, Estimate]:
    """Return generated - real of the mean of each score, with its interval; the two sets are resampled separately."""
    return {
        name: bootstrap(
            [np.array(table.scores[name].values) for table in (generated_scores, real_scores)],
            difference_of_means,
            seed=seed,
        )
        for name in AGREEMENT_SCORES
    }
