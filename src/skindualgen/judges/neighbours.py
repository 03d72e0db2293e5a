"""The nearest picture of a set to each picture asked about, in any vector space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from skindualgen.contracts import InputError


@dataclass(frozen=True)
class Neighbours:
    """For each of n pictures its nearest one, or several, among others.

    Attributes:
        index: [n] positions of the nearest; [n, k] of several, the nearest first.
        distance: [n] or [n, k] distances to them, in the unit of the space.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]


def nearest(
    views: Sequence[NDArray[np.floating]], reference: NDArray[np.floating], *, within: bool = False
) -> Neighbours:
    """Find the nearest of ``reference`` [m, d] for n pictures, each given in one or more views [n, d].

    Args:
        within: the two are the same set, and no picture is compared with itself.

    Raises:
        InputError: no views, or nothing to compare with.
    """
    few = nearest_few(views, reference, 1, within=within)
    return Neighbours(few.index[:, 0], few.distance[:, 0])


def nearest_few(
    views: Sequence[NDArray[np.floating]], reference: NDArray[np.floating], count: int, *, within: bool = False
) -> Neighbours:
    """Find the ``count`` nearest, or all where there are fewer; arguments and errors as of `nearest`."""
    if not views or len(reference) <= within:
        raise InputError("nothing to compare with", "one view and one other picture or more", "check the folders")
    distances = np.full((len(views[0]), len(reference)), np.inf)  # [n, m]
    for view in views:
        np.minimum(distances, euclidean_distances(view.astype(np.float64), reference.astype(np.float64)), out=distances)
    if within:
        np.fill_diagonal(distances, np.inf)
    index = np.argsort(distances, axis=1, kind="stable")[:, : min(count, len(reference) - within)]
    return Neighbours(index.astype(np.int64), np.take_along_axis(distances, index, axis=1))


def distance_to(views: Sequence[NDArray[np.floating]], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance [n] of each picture, in its nearest view [n, d], to the one in the same row of [n, d]."""
    return np.asarray(np.min([np.linalg.norm(view.astype(np.float64) - reference, axis=1) for view in views], axis=0))
