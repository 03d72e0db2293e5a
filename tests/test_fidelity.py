"""Set distances against torchmetrics, an independent computation, identities, and planted failures of a generator."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from skindualgen.contracts import InputError
from skindualgen.metrics.fidelity import (
    frechet_distance,
    kernel_distance,
    manifold_scores,
)
from skindualgen.metrics.intervals import bootstrap, difference_of_means, mean_of_means, rate

D = 12


def gaussian(n: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (n, D))


def feed(metric, *, real: np.ndarray, generated: np.ndarray):
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real)[:, :, None, None], real=True)
    metric.update(torch.from_numpy(generated)[:, :, None, None], real=False)
    return metric.compute()


def test_frechet_distance_equals_torchmetrics_and_the_matrix_root():
    real, generated = gaussian(80, 0), gaussian(60, 1, shift=0.3, scale=1.2)
    value = frechet_distance(real=real, generated=generated)
    metric = FrechetInceptionDistance(feature=torch.nn.Flatten(), input_img_size=(D, 1, 1))
    assert value == pytest.approx(float(feed(metric, real=real, generated=generated)), rel=1e-6)
    covariances = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = np.square(real.mean(0) - generated.mean(0)).sum() + np.trace(sum(covariances) - 2 * root.real)
    assert value == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_holds_with_fewer_samples_than_features():
    # the singular covariances make scipy's matrix root unreliable: eigenvalues of the symmetric form are the reference
    real, generated = gaussian(7, 2), gaussian(9, 3, shift=1.0)
    c1, c2 = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    values, vectors = np.linalg.eigh(c1)
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    expected = np.square(real.mean(0) - generated.mean(0)).sum() + np.trace(c1 + c2) - 2 * cross
    assert frechet_distance(real=real, generated=generated) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    # one feature each way: |m1 - m2|^2 + (s1 - s2)^2 with m = 0, 3 and s = sqrt 2, sqrt 8
    real, generated = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert frechet_distance(real=real, generated=generated) == pytest.approx(9 + 2)
    assert frechet_distance(real=real, generated=real) == pytest.approx(0, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features")
def test_kernel_distance_equals_torchmetrics_and_its_definition():
    real, generated = gaussian(30, 0), gaussian(30, 1, shift=0.5)
    metric = KernelInceptionDistance(feature=torch.nn.Flatten(), subsets=1, subset_size=30)
    value = kernel_distance(real=real, generated=generated)
    assert value == pytest.approx(float(feed(metric, real=real, generated=generated)[0]), rel=1e-5)

    def mean_kernel(a, b, skip_same):
        terms = [(x @ y / D + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(b) if not (skip_same and i == j)]
        return np.mean(terms)

    fewer = generated[:11]
    expected = mean_kernel(real, real, True) + mean_kernel(fewer, fewer, True) - 2 * mean_kernel(real, fewer, False)
    assert kernel_distance(real=real, generated=fewer) == pytest.approx(expected)


def test_kernel_distance_is_unbiased_and_sees_a_shift():
    same = [kernel_distance(real=gaussian(20, 2 * i), generated=gaussian(40, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert min(same) < 0
    assert kernel_distance(real=gaussian(50, 0), generated=gaussian(50, 1, shift=1.0)) > max(same)


def test_manifold_scores_name_the_failure_of_a_generator():
    real = gaussian(200, 0)
    copied = manifold_scores(real=real, generated=real)
    assert (copied.precision, copied.recall, copied.coverage) == (1.0, 1.0, 1.0)
    assert copied.density == pytest.approx(1.2, abs=0.2)  # a copy also counts in the ball of the point itself
    same = manifold_scores(real=real, generated=gaussian(200, 1))
    assert same.density == pytest.approx(1, abs=0.15)
    collapsed = manifold_scores(real=real, generated=gaussian(200, 2, scale=0.1))
    assert collapsed.precision == 1.0
    assert collapsed.recall < 0.1
    assert collapsed.coverage < same.coverage / 2
    noise = manifold_scores(real=real, generated=gaussian(200, 3, shift=9.0))
    assert (noise.precision, noise.recall, noise.density, noise.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_manifold_scores_tell_real_from_generated():
    """Guards against swapped arguments: a generator that is wider than reality keeps recall and loses precision."""
    scores = manifold_scores(real=gaussian(200, 0), generated=gaussian(200, 1, scale=2.0))
    assert scores.precision < 0.3 < 0.9 < scores.recall


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, manifold_scores])
def test_bad_features_are_refused(distance):
    with pytest.raises(InputError, match="one extractor"):
        distance(real=gaussian(9, 0), generated=gaussian(9, 0)[:, :5])
    with pytest.raises(InputError, match="add photographs"):
        distance(real=gaussian(9, 0), generated=gaussian(1, 0))
    with pytest.raises(InputError, match="NaN"):
        distance(real=gaussian(9, 0), generated=gaussian(9, 0) * np.nan)


def test_bootstrap_interval_of_a_mean_is_that_of_theory():
    sample = np.random.default_rng(0).normal(2.0, 1.0, 400)
    estimate = bootstrap([sample], mean_of_means)
    assert estimate.value == pytest.approx(sample.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.1)
    assert estimate.low < estimate.value < estimate.high


def test_bootstrap_of_several_samples_keeps_them_apart():
    # constant samples leave nothing to resample: any mixing would widen the interval
    ones, zeros = np.ones(10), np.zeros(40)
    balanced = bootstrap([ones, zeros], mean_of_means)
    assert (balanced.value, balanced.low, balanced.high) == (0.5, 0.5, 0.5)
    gap = bootstrap([zeros, ones], difference_of_means)
    assert (gap.value, gap.low, gap.high) == (-1.0, -1.0, -1.0)
    assert str(balanced) == "0.500 (0.500 to 0.500)"


def test_rate_interval_is_wilsons():
    none = rate(0, 100)
    assert (none.value, none.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert none.high == pytest.approx(1.959964**2 / (100 + 1.959964**2))
    with pytest.raises(InputError, match="count again"):
        rate(3, 2)
