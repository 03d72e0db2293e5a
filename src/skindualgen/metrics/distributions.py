"""How far two samples of one number lie apart, next to what two parts of the real sample themselves show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.metrics.fidelity import SetDistance
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.measures import REAL_VS_REAL, Measure, Reference

REPEATS = 20
"""Random parts over which distances are averaged."""

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class SizedDistance:
    """A distance at the sizes of its reference; see :func:`compared_with_real`.

    Attributes:
        value: mean over random parts of the generated and of the real values.
        real_vs_real: mean and range between two parts of the real values, of the same sizes.
        sizes: of the part that plays "generated" and of the one that plays "real".
    """

    value: float
    real_vs_real: Estimate
    sizes: tuple[int, int]

    def measure(self, name: str, *, group: str | None = None, caveat: str | None = None) -> Measure:
        """Return it as a measure."""
        reference = Reference.of(REAL_VS_REAL, self.real_vs_real)
        return Measure.of(name, Estimate(self.value), reference, self.sizes, group=group, caveat=caveat)


def kolmogorov_smirnov(*, real: Floats, generated: Floats) -> float:
    """Return the largest difference of the two cumulative shares, [0, 1]; 0 if equal, 1 if nothing overlaps."""
    return float(stats.ks_2samp(real, generated, method="asymp").statistic)


def wasserstein(*, real: Floats, generated: Floats) -> float:
    """Return the mean amount by which values must move to turn one sample into the other, in their unit; 0 or more."""
    return float(stats.wasserstein_distance(real, generated))


def compared_with_real(distance: SetDistance, *, real: Floats, generated: Floats, seed: int) -> SizedDistance:
    """Measure a distance of two samples, and the same of real against real at the same sizes, over random parts.

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
    real_vs_real, matched = [], []
    for repeat in range(REPEATS):
        random = np.random.default_rng([seed, repeat])
        order = random.permutation(len(real))
        played, rest = real[order[:part]], real[order[part:]]
        real_vs_real.append(distance(real=rest, generated=played))
        matched.append(distance(real=rest, generated=generated[random.permutation(len(generated))[:part]]))
    return SizedDistance(float(np.mean(matched)), Estimate.over_draws(real_vs_real), (part, len(real) - part))
