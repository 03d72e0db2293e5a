"""Distances between real and generated feature vectors.

Every distance here depends on the sizes of the two sets: read it only next to that of real against real at the same
sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError

Features = NDArray[np.floating]
"""Feature vectors [n, d]."""

KERNEL_OFFSET = 1.0
"""The kernel (x . y / d + 1)^3 of Binkowski et al., Demystifying MMD GANs, ICLR 2018."""

NEIGHBOURS = 5
"""k of precision, recall, density and coverage (Naeem et al., ICML 2020)."""


class SetDistance(Protocol):
    """A distance of two feature sets, such as :func:`frechet_distance`."""

    def __call__(self, *, real: Features, generated: Features) -> float:
        """Return the distance of ``generated`` [m, d] from ``real`` [n, d]."""
        ...


def _checked(real: Features, generated: Features, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pair = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if any(x.ndim != 2 for x in pair) or pair[0].shape[1] != pair[1].shape[1]:
        raise InputError(f"features {pair[0].shape} and {pair[1].shape}", "[n, d] and [m, d]", "use one extractor")
    if min(len(x) for x in pair) < least:
        raise InputError(f"{len(pair[0])} real and {len(pair[1])} generated", f"{least} or more", "add photographs")
    if not all(np.isfinite(x).all() for x in pair):
        raise InputError("features with NaN or infinity", "finite numbers", "check the extractor and its input")
    return pair


def _covariance_root(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R [min(n, d), d] with R^T R = the unbiased covariance of the features [n, d]."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def frechet_distance(*, real: Features, generated: Features) -> float:
    """Return the squared Frechet distance of the Gaussians with the means and covariances of two sets; 0 or more.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the root is the sum of the singular values of R1 R2^T
    where C = R^T R: exact and well conditioned also for fewer samples than features, where the root of a singular
    C1 C2 is not. It falls with the number of samples; never compare it across sizes.

    Args:
        real: [n, d], n of 2 or more.
        generated: [m, d], m of 2 or more.

    Source: Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017 (FID: on Inception features).
    """
    x, y = _checked(real, generated, 2)
    root_x, root_y = _covariance_root(x), _covariance_root(y)
    cross = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    mean_term = np.square(x.mean(0) - y.mean(0)).sum()
    return float(max(0.0, mean_term + np.square(root_x).sum() + np.square(root_y).sum() - 2 * cross))


@dataclass(frozen=True)
class Products:
    """Inner products of the vectors of two sets; every measure here follows from them, so they are computed once.

    Attributes:
        real: [n, n].
        generated: [m, m].
        cross: [n, m], of each real with each generated vector.
        dim: d, the length of the vectors.
    """

    real: NDArray[np.float64]
    generated: NDArray[np.float64]
    cross: NDArray[np.float64]
    dim: int

    def part(self, *, real: NDArray[np.int64], generated: NDArray[np.int64]) -> Products:
        """Return the products of those vectors alone whose positions are given."""
        return Products(
            self.real[np.ix_(real, real)],
            self.generated[np.ix_(generated, generated)],
            self.cross[np.ix_(real, generated)],
            self.dim,
        )


def products(*, real: Features, generated: Features, least: int = 2) -> Products:
    """Return the inner products of two sets [n, d] and [m, d] in float64.

    Raises:
        InputError: fewer vectors than ``least`` in a set, two lengths of vectors, or numbers that are not finite.
    """
    x, y = _checked(real, generated, least)
    return Products(x @ x.T, y @ y.T, x @ y.T, x.shape[1])


def frechet_of_products(p: Products) -> float:
    """Return :func:`frechet_distance` from inner products: the cheaper way for fewer vectors than features.

    The singular values of R1 R2^T are those of the doubly centred cross products, hence the roots of the eigenvalues
    of that matrix times its transpose, at the smaller of the two sizes.
    """
    n, m = p.cross.shape
    mean_term = p.real.mean() + p.generated.mean() - 2 * p.cross.mean()
    spread = (np.trace(p.real) - p.real.sum() / n) / (n - 1) + (np.trace(p.generated) - p.generated.sum() / m) / (m - 1)
    centred = p.cross - p.cross.mean(0) - p.cross.mean(1, keepdims=True) + p.cross.mean()
    eigenvalues = np.linalg.eigvalsh(centred @ centred.T if n <= m else centred.T @ centred)
    # centring makes the smallest eigenvalue 0: the root of its rounding error would not be small
    sound = eigenvalues[eigenvalues > eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps]
    return float(max(0.0, mean_term + spread - 2 * np.sqrt(sound).sum() / np.sqrt((n - 1) * (m - 1))))


def kernel_distance(*, real: Features, generated: Features) -> float:
    """Return the kernel distance (KID): the unbiased squared MMD with a cubic polynomial kernel; can be below 0.

    Over ALL pairs of the two sets, the estimate of least variance, rather than over random subsets; its expectation
    does not depend on the sizes. Equal to torchmetrics' KID with one subset of the full size (tested).

    Args:
        real: [n, d], n of 2 or more.
        generated: [m, d], m of 2 or more.

    Source: Binkowski et al., Demystifying MMD GANs, ICLR 2018, equation 4.
    """
    return kernel_of_products(products(real=real, generated=generated)).value


@dataclass(frozen=True)
class KernelDistance:
    """The kernel distance of two sets with its standard error; the error needs 3 or more vectors in each (else NaN)."""

    value: float
    standard_error: float


def kernel_of_products(p: Products) -> KernelDistance:
    """Return :func:`kernel_distance` with its standard error by the exact jackknife: each vector left out in turn.

    The kernel sums without a vector follow from the sums of its row, so that no kernel is computed twice. Jackknife
    variances err upwards, for U-statistics by terms of second order; where both sets come from one distribution these
    are all there is, and the error is then up to 1.4 times the true one.

    Source: Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9, 1981.
    """

    def kernel(inner: NDArray[np.float64]) -> NDArray[np.float64]:
        base = inner / p.dim + KERNEL_OFFSET
        return base * base * base

    def with_others(inner: NDArray[np.float64]) -> NDArray[np.float64]:
        gram = kernel(inner)
        return np.asarray(gram.sum(1) - gram.diagonal())

    def variance(within: NDArray[np.float64], across: NDArray[np.float64], others: int) -> float:
        size = len(within)
        if size < 3:
            return float("nan")
        own = (within.sum() - 2 * within) / ((size - 1) * (size - 2))  # [size] without each in turn
        mixed = (across.sum() - across) / ((size - 1) * others)
        return (size - 1) * float(np.var(own - 2 * mixed))

    (n, m), cross = p.cross.shape, kernel(p.cross)
    real, generated = with_others(p.real), with_others(p.generated)  # [n], [m] sums of each one's kernel
    value = real.sum() / (n * (n - 1)) + generated.sum() / (m * (m - 1)) - 2 * cross.mean()
    error = np.sqrt(variance(real, cross.sum(1), m) + variance(generated, cross.sum(0), n))
    return KernelDistance(float(value), float(error))


@dataclass(frozen=True)
class ManifoldScores:
    """Shares of one set that lie near the other; see :func:`manifold_scores`."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(*, real: Features, generated: Features, neighbours: int = NEIGHBOURS) -> ManifoldScores:
    """Return precision, recall, density and coverage, with balls that reach each point's k-th neighbour in its own set.

    * precision: share of generated points inside a ball of a real point, [0, 1].
    * recall: share of real points inside a ball of a generated point, [0, 1]; low for a collapsed generator.
    * density: balls of real points around a generated point, divided by k; 0 or more, about 1 for equal distributions.
    * coverage: share of real points with a generated point in their ball, [0, 1].

    Args:
        real: [n, d], n more than ``neighbours``.
        generated: [m, d], m more than ``neighbours``.

    Source: Kynkaanniemi et al., NeurIPS 2019 (precision, recall); Naeem et al., ICML 2020 (density, coverage).
    """
    return manifold_of_products(products(real=real, generated=generated, least=neighbours + 1), neighbours)


def manifold_of_products(p: Products, neighbours: int = NEIGHBOURS) -> ManifoldScores:
    """Return :func:`manifold_scores` from inner products; both sets hold more vectors than ``neighbours``."""
    real_norms, generated_norms = p.real.diagonal(), p.generated.diagonal()

    def squared_radii(inner: NDArray[np.float64], norms: NDArray[np.float64]) -> NDArray[np.float64]:
        squared = norms[:, None] + norms - 2 * inner
        np.fill_diagonal(squared, -np.inf)  # the point itself sorts first, whatever the rounding
        return np.asarray(np.partition(squared, neighbours, axis=1)[:, neighbours])

    squared = real_norms[:, None] + generated_norms - 2 * p.cross  # [n, m]
    in_real_ball = squared <= squared_radii(p.real, real_norms)[:, None]
    return ManifoldScores(
        precision=float(in_real_ball.any(0).mean()),
        recall=float((squared <= squared_radii(p.generated, generated_norms)).any(1).mean()),
        density=float(in_real_ball.sum(0).mean() / neighbours),
        coverage=float(in_real_ball.any(1).mean()),
    )
