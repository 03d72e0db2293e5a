"""How far two samples of one number lie apart, beside what two parts of the real sample themselves show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.metrics.fidelity import SetDistance

REPEATS = 20
"""Random parts of which the floor is the mean."""

Floats = NDArray[np.floating]


def kolmogorov_smirnov(*, real: Floats, generated: Floats) -> float:
    """Return the largest difference of the two cumulative shares, [0, 1]; 0 if equal, 1 if nothing overlaps."""
    return float(stats.ks_2samp(real, generated, method="asymp").statistic)


def wasserstein(*, real: Floats, generated: Floats) -> float:
    """Return the mean amount by which values must move to turn one sample into the other, in their unit; 0 or more."""
    return float(stats.wasserstein_distance(real, generated))


@dataclass(frozen=True)
class FlooredDistance:
    """A distance beside its floor; see :func:`floored_distance`.

    Attributes:
        value: between all real and all generated values.
        matched: mean between random parts of the two of the floor's sizes: this is to be compared with the floor.
        floor: mean between two parts of the real values, of the same sizes.
        floor_low, floor_high: least and greatest of them.
        sizes: of the part that plays "generated" and of the one that plays "real".
    """

    value: float
    matched: float
    floor: float
    floor_low: float
    floor_high: float
    sizes: tuple[int, int]


def floored_distance(distance: SetDistance, *, real: Floats, generated: Floats, seed: int) -> FlooredDistance:
    """Measure a distance of two samples and its floor: real against real, at the same sizes, over random parts.

    Distances of samples are above 0 even for equal distributions, and more so for small ones. So half of the real
    values (or as many as there are generated ones, if fewer) play "generated" against the others; then as many
    generated ones take their place.

    Args:
        real: [n], 4 or more.
        generated: [m], 2 or more.

    Raises:
        InputError: too few values.
    """
    if len(real) < 4 or len(generated) < 2:
        raise InputError(f"{len(real)} real and {len(generated)} generated", "4 and 2 or more", "add photographs")
    part = min(len(generated), len(real) // 2)
    floors, matched = [], []
    for repeat in range(REPEATS):
        random = np.random.default_rng([seed, repeat])
        order = random.permutation(len(real))
        played, rest = real[order[:part]], real[order[part:]]
        floors.append(distance(real=rest, generated=played))
        matched.append(distance(real=rest, generated=generated[random.permutation(len(generated))[:part]]))
    return FlooredDistance(
        value=distance(real=real, generated=generated),
        matched=float(np.mean(matched)),
        floor=float(np.mean(floors)),
        floor_low=min(floors),
        floor_high=max(floors),
        sizes=(part, len(real) - part),
    )
