"""How well two masks agree, and what a mask's shape is.

All functions take 2-D masks of one size; every non-zero pixel is lesion. Empty masks are defined, not undefined: two
empty masks agree fully (Dice = IoU = boundary F = 1, HD95 = 0); an empty against a non-empty one does not agree at all
(0, and HD95 = the picture's diagonal, so that a mean over a data set punishes a missed lesion instead of skipping it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.measure import label, perimeter_crofton, regionprops

from skindualgen.contracts import InputError

BOUNDARY_TOLERANCE = 0.0075
"""Tolerance of the boundary F score as a share of the diagonal (DAVIS benchmark: Perazzi et al., CVPR 2016)."""


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(predicted) != 0, np.asarray(truth) != 0
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        raise InputError(f"masks of shapes {a.shape} and {b.shape}", "two 2-D masks of one size", "resize one of them")
    return a, b


def dice(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return 2 |A and B| / (|A| + |B|) in [0, 1]."""
    a, b = _pair(predicted, truth)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def iou(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return |A and B| / |A or B| (Jaccard) in [0, 1]."""
    a, b = _pair(predicted, truth)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def boundary(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return the lesion pixels [h, w] with a 4-neighbour outside the lesion; beyond the picture counts as outside."""
    lesion = np.asarray(mask) != 0
    return lesion & ~ndimage.binary_erosion(lesion)


def _boundary_distances(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in px from each boundary pixel of a to the boundary of b, and back; both masks non-empty."""
    edge_a, edge_b = boundary(a), boundary(b)
    return ndimage.distance_transform_edt(~edge_b)[edge_a], ndimage.distance_transform_edt(~edge_a)[edge_b]


def hd95(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return the 95th percentile Hausdorff distance of the boundaries in px: the larger direction (as MONAI).

    Two empty masks: 0. One empty: the diagonal of the picture.
    """
    a, b = _pair(predicted, truth)
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else float(np.hypot(*a.shape))
    there, back = _boundary_distances(a, b)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def boundary_f(predicted: ArrayLike, truth: ArrayLike, *, tolerance_px: float | None = None) -> float:
    """Return the F1 score in [0, 1] of boundary pixels that lie within a tolerance of the other boundary.

    Args:
        tolerance_px: default :data:`BOUNDARY_TOLERANCE` of the diagonal, rounded up (2 px at 128 x 128).

    Source: Perazzi et al., A benchmark dataset and evaluation methodology for video object segmentation, CVPR 2016.
    """
    a, b = _pair(predicted, truth)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    tolerance = float(np.ceil(BOUNDARY_TOLERANCE * np.hypot(*a.shape))) if tolerance_px is None else tolerance_px
    there, back = _boundary_distances(a, b)
    precision, recall = float((there <= tolerance).mean()), float((back <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def compared(
    predicted: ArrayLike, truth: ArrayLike, ignored: ArrayLike | None
) -> tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return two masks as overlaps, and as outlines, are to be compared, so that ignored pixels do not count.

    Args:
        predicted, truth: [h, w].
        ignored: [h, w], not 0 where pixels do not count; None: all do.

    Returns:
        The masks without lesion at ignored pixels, for Dice and IoU; and the masks as they are but that the prediction
        is the truth at ignored pixels, for distances of outlines.

    Raises:
        InputError: several sizes.
    """
    a, b = _pair(predicted, truth)
    if ignored is None:
        return (a, b), (a, b)
    _, left_out = _pair(truth, ignored)
    return (a & ~left_out, b & ~left_out), (np.where(left_out, b, a), b)


def agreement(predicted: ArrayLike, truth: ArrayLike, ignored: ArrayLike | None = None) -> dict[str, float]:
    """Return all four scores of one pair of masks: ``dice``, ``iou``, ``hd95_px``, ``boundary_f``; see `compared`."""
    overlapping, outlined = compared(predicted, truth, ignored)
    return {
        "dice": dice(*overlapping),
        "iou": iou(*overlapping),
        "hd95_px": hd95(*outlined),
        "boundary_f": boundary_f(*outlined),
    }


@dataclass(frozen=True)
class ShapeStatistics:
    """Shape of one mask; see :func:`shape_statistics`."""

    area_fraction: float
    eccentricity: float
    compactness: float
    border_irregularity: float
    asymmetry: float
    components: int
    touches_border: bool

    def as_dict(self) -> dict[str, float]:
        """Return the fields as numbers, for tables and ``PairRecord.scores``."""
        return {name: float(value) for name, value in asdict(self).items()}


def shape_statistics(mask: ArrayLike) -> ShapeStatistics:
    """Describe the shape of a mask [h, w].

    * area_fraction: share of the picture that is lesion, [0, 1].
    * eccentricity: of the ellipse with the same second moments, [0, 1); 0 is a circle.
    * compactness: 4 pi area / perimeter^2 with Crofton's perimeter; about 1 for a disc, smaller for a ragged border and
      for a long shape.
    * border_irregularity: see :func:`border_irregularity`; 1 for any convex shape, round or long.
    * asymmetry: see :func:`asymmetry`; [0, 1].
    * components: 8-connected pieces.
    * touches_border: whether a lesion pixel lies on the picture's edge.

    An empty mask has area 0, no components, and NaN for what only a shape has.
    """
    lesion = np.asarray(mask) != 0
    if lesion.ndim != 2 or not lesion.size:
        raise InputError(f"a mask of shape {lesion.shape}", "a 2-D mask", "pass one mask at a time")
    if not lesion.any():
        nan = float("nan")
        return ShapeStatistics(0.0, nan, nan, nan, nan, 0, False)
    # a margin keeps the perimeter of a lesion that is cut by the picture's edge closed
    region = regionprops(np.pad(lesion, 1).astype(np.uint8))[0]
    labels = label(lesion, connectivity=2)
    edge = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
    return ShapeStatistics(
        area_fraction=float(lesion.mean()),
        eccentricity=float(region.eccentricity),
        compactness=float(4 * np.pi * region.area / region.perimeter_crofton**2),
        border_irregularity=border_irregularity(labels == 1 + np.bincount(labels.ravel())[1:].argmax()),
        asymmetry=asymmetry(lesion),
        components=int(labels.max()),
        touches_border=bool(edge.any()),
    )


def border_irregularity(piece: NDArray[np.bool_]) -> float:
    """Return perimeter / perimeter of the convex hull of one piece [h, w]: 1 if convex, more the more it is indented.

    Of a mask of several pieces, :func:`shape_statistics` measures the largest, as specks are no border; holes are
    filled first. Both perimeters are Crofton's, so that the pixel grid cancels. Unlike compactness, it leaves a long
    convex lesion at 1.

    Source: the border of the ABCD rule (Stolz et al., European Journal of Dermatology 4 (1994) 521) as the reciprocal
    of the convexity "perimeter of hull / perimeter" (Zunic and Rosin, IEEE TPAMI 26 (2004) 923).
    """
    region = regionprops(piece.astype(np.uint8))[0]
    outline, hull = (perimeter_crofton(np.pad(x, 1)) for x in (region.image_filled, region.image_convex))
    return float(outline / hull)


def asymmetry(lesion: NDArray[np.bool_]) -> float:
    """Return the share of a non-empty mask [h, w] without counterpart across a principal axis, mean of both; [0, 1].

    The axes go through the centroid along the eigenvectors of the second moments. 0 for an ellipse, within pixel
    rounding. What the picture's edge cuts off has no counterpart. A shape of equal moments, as a square, has no
    principal axes of its own: its value depends on how it lies.

    Source: the asymmetry of the ABCD rule (Stolz et al. 1994), by folding over the principal axes: half of A2 of Celebi
    et al., Computerized Medical Imaging and Graphics 31 (2007) 362.
    """
    points = np.argwhere(lesion).astype(np.float64)  # [n, 2], row and column
    centre = points.mean(0)
    offsets = points - centre
    unmatched = []
    for normal in np.linalg.eigh(offsets.T @ offsets).eigenvectors.T:
        mirrored = np.rint(points - 2 * np.outer(offsets @ normal, normal)).astype(np.int64)
        inside = mirrored[((mirrored >= 0) & (mirrored < lesion.shape)).all(1)]
        unmatched.append(1 - lesion[inside[:, 0], inside[:, 1]].sum() / len(points))
    return float(np.mean(unmatched))
