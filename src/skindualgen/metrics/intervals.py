"""Intervals of 95 % confidence for means, differences of means, balanced rates and rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.contracts import InputError

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its interval, or of its range over random draws; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        """Write as ``0.812 (0.795 to 0.828)``."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low)

    def __sub__(self, offset: float) -> Estimate:
        return Estimate(self.value - offset, self.low - offset, self.high - offset)

    def __truediv__(self, divisor: float) -> Estimate:
        """Divide all three by a number above 0."""
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)

    @classmethod
    def over_draws(cls, values: Sequence[float]) -> Estimate:
        """Return mean, least and greatest of random draws."""
        return cls(float(np.mean(values)), float(min(values)), float(max(values)))


def bootstrap(
    samples: Sequence[NDArray[np.floating]], statistic: Callable[..., NDArray[np.floating]], *, seed: int = 0
) -> Estimate:
    """Estimate a statistic of independent samples with a percentile bootstrap that resamples each of them by itself.

    Args:
        samples: one or more vectors of at least 2 items.
        statistic: takes them all and an ``axis`` keyword.

    Raises:
        InputError: a sample has fewer than 2 items.
    """
    if min(len(sample) for sample in samples) < 2:
        raise InputError(f"samples of {[len(s) for s in samples]} items", "2 or more in each", "add items")
    result = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends = result.confidence_interval
    return Estimate(float(statistic(*samples, axis=-1)), float(ends.low), float(ends.high))


def mean_of_means(*samples: NDArray[np.floating], axis: int = -1) -> NDArray[np.floating]:
    """Return the mean over the samples of their means: a plain mean for one, balanced accuracy for one per class."""
    return np.asarray(sum(sample.mean(axis=axis) for sample in samples) / len(samples))


@lru_cache(maxsize=4)
def cluster_resamples(groups: tuple[str, ...], seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return how often each item is in each bootstrap resample of whole groups [r, n]; it cannot be written to.

    The draws depend on the groups and on ``seed`` alone.

    Args:
        groups: [n], the lesion or patient of each item.

    Raises:
        InputError: fewer than 2 groups.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{len(names)} group of test items", "2 or more", "test on more lesions")
    shares = np.full(len(names), 1 / len(names))
    counts = np.random.default_rng(seed).multinomial(len(names), shares, size=resamples)
    result = np.ascontiguousarray(counts.T.astype(np.float64))[member].T  # items vary slowest in memory, for sorting
    result.flags.writeable = False
    return np.asarray(result)


def difference_of_means(
    first: NDArray[np.floating], second: NDArray[np.floating], *, axis: int = -1
) -> NDArray[np.floating]:
    """Return mean(first) - mean(second)."""
    return np.asarray(first.mean(axis=axis) - second.mean(axis=axis))


def rate(hits: int, count: int) -> Estimate:
    """Estimate a rate with Wilson's score interval, which holds for rates of 0 and 1 too.

    Raises:
        InputError: count is 0, or hits are not within it.
    """
    if not 0 <= hits <= count or count == 0:
        raise InputError(f"{hits} of {count}", "hits within a count of 1 or more", "count again")
    ends = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(hits / count, float(ends.low), float(ends.high))
