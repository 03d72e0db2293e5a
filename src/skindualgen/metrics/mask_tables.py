"""Measures over sets of masks: shapes of real against generated ones, and agreement of two masks of each photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import compared_with_real, kolmogorov_smirnov, wasserstein
from skindualgen.metrics.intervals import Estimate, bootstrap, difference_of_means, mean_of_means, rate
from skindualgen.metrics.masks import ShapeStatistics, agreement, shape_statistics
from skindualgen.metrics.measures import HELD_OUT, Measure, Reference

Masks = Sequence[NDArray[np.bool_]] | NDArray[np.bool_]
Floats = NDArray[np.float64]

SHAPES = tuple(field.name for field in fields(ShapeStatistics))
RATES = frozenset({"touches_border"})
"""Statistics that are yes or no: their mean is a share, with Wilson's interval."""
DISTANCE, SHIFT = "_distance", "_shift"
"""What the names of a statistic's Kolmogorov-Smirnov and Wasserstein distances end in."""

AGREEMENT_SCORES = ("dice", "iou", "hd95_px", "boundary_f")

LEAST_SHAPES = 4
"""Non-empty masks of each set, from which on halves can be compared."""


@dataclass(frozen=True)
class ShapeComparison:
    """Shapes of generated masks next to those of real ones.

    Attributes:
        real, generated: by statistic, the values of the masks that have it, in order; an empty mask has an area of 0
            and no shape.
        measures: of each statistic the mean, under its name; the Kolmogorov-Smirnov distance, [0, 1]; and, unless all
            real values are equal, the Wasserstein distance in standard deviations of the real values.
    """

    real: Mapping[str, Floats]
    generated: Mapping[str, Floats]
    measures: list[Measure]


def compare_shapes(*, real: Masks, generated: Masks, seed: int) -> ShapeComparison:
    """Compare the shapes of two sets of masks [h, w], statistic by statistic.

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
    real_values, generated_values = (
        {name: _defined(shapes, name) for name in SHAPES} for shapes in (of_real, of_generated)
    )
    measures = [
        measure
        for name in SHAPES
        for measure in _shape_measures(name, real=real_values[name], generated=generated_values[name], seed=seed)
    ]
    return ShapeComparison(real_values, generated_values, measures)


def _defined(shapes: Sequence[ShapeStatistics], name: str) -> Floats:
    values = np.array([float(getattr(shape, name)) for shape in shapes])
    return np.asarray(values[np.isfinite(values)])


def _shape_measures(name: str, *, real: Floats, generated: Floats, seed: int) -> list[Measure]:
    def mean(values: Floats) -> Estimate:
        return rate(int(values.sum()), len(values)) if name in RATES else bootstrap([values], mean_of_means, seed=seed)

    spread = float(real.std())

    def in_deviations(*, real: NDArray[np.floating], generated: NDArray[np.floating]) -> float:
        return wasserstein(real=real, generated=generated) / spread

    both = {"real": real, "generated": generated}
    found = [Measure.of(name, mean(generated), Reference.of(HELD_OUT, mean(real)), (len(generated), len(real)))]
    found.append(compared_with_real(kolmogorov_smirnov, **both, seed=seed).measure(name + DISTANCE))
    if spread:
        found.append(compared_with_real(in_deviations, **both, seed=seed).measure(name + SHIFT))
    return found


def agreement_values(
    predicted: Sequence[ArrayLike] | NDArray[np.bool_],
    truth: Sequence[ArrayLike] | NDArray[np.bool_],
    ignored: NDArray[np.bool_] | None = None,
) -> dict[str, Floats]:
    """Return Dice, IoU, HD95 and boundary F [n] of pairs of masks [h, w].

    See :mod:`skindualgen.metrics.masks` for what an empty mask scores, and what ignored pixels [n, h, w] are.

    Raises:
        InputError: not as many of each.
    """
    if len(predicted) != len(truth):
        raise InputError(f"{len(predicted)} predicted, {len(truth)} true masks", "as many of each", "match them")
    left_out = [None] * len(truth) if ignored is None else ignored
    pairs = [agreement(*pair) for pair in zip(predicted, truth, left_out, strict=True)]
    return {name: np.array([pair[name] for pair in pairs]) for name in AGREEMENT_SCORES}


def agreement_measures(
    *,
    real: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    seed: int,
    group: str | None = None,
    judge: str | None = None,
) -> list[Measure]:
    """Return the mean of each score next to that of real pairs, and how far the mean Dice falls short of theirs.

    Args:
        real, generated: of :func:`agreement_values`, 2 pairs or more.
        group, judge: as in :class:`Measure`.
    """
    sizes = len(generated["dice"]), len(real["dice"])

    def measure(name: str, estimate: Estimate, reference: Estimate) -> Measure:
        return Measure.of(name, estimate, Reference.of(HELD_OUT, reference), sizes, group=group, judge=judge)

    found = []
    for name in AGREEMENT_SCORES:
        means = [bootstrap([values[name]], mean_of_means, seed=seed) for values in (generated, real)]
        found.append(measure(f"agreement_{name}", *means))
    difference = bootstrap([generated["dice"], real["dice"]], difference_of_means, seed=seed)
    return [*found, measure("agreement_gap", -difference, Estimate(0.0))]
