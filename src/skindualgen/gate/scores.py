"""What the gate measures of one pair. Every score is a function of its pair alone, and higher is better.

A mask is compared with a network's reading by the best Dice over all level sets of what it read, not at its fixed
threshold: a network that hesitates how far a pale lesion reaches then still knows the right outline. On real pairs this
is what makes the score's lower tail short enough to set a threshold in (measured in docs/gate.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from skindualgen.data.images import LUMA
from skindualgen.metrics.masks import shape_statistics

CLASS_PROBABILITY = "class_probability"
SCORES: Mapping[str, str] = {
    "self_agreement": "best Dice of the mask with the outlines that the same adapter reads from the picture, 0 to 1",
    "segmenter_agreement": "best Dice of the mask with the outlines that an independent segmenter sees, 0 to 1",
    "mask_typicality": "how ordinary the mask's shape is: minus its Mahalanobis distance from real masks, 0 at most",
    CLASS_PROBABILITY: "of the prompted diagnosis, as an independent classifier reads the picture, 0 to 1",
    "novelty": "misfit with the training photograph that fits best, over that of the next ones; a copy has 0",
    "sharpness": "strength of the finest structures over that of the next coarser ones",
    "saturation": "mean difference of a pixel's largest and smallest channel, 0 (grey) to 1",
    "exposure": "share of the picture that is neither burnt out nor black, 0 to 1",
}
"""Scores that have thresholds, in the order in which they are shown."""

LESION_AREA = "lesion_area"
"""Share of the picture that the mask calls lesion; a pair with none of it, or nothing else, is refused without any
calibration."""

DIGITS = 4
"""Digits after the point that a score has, so that what a file holds is what was compared with the threshold."""

FINE_PX, MIDDLE_PX, COARSE_PX = 1.0, 2.0, 4.0
"""Sigmas of the Gaussians between which structures are fine (1 to 2 px) or coarser (2 to 4 px)."""

BLANK = 0.05
"""Coarse structure in grey levels below which a picture is a plain surface and has no sharpness."""

MaskReader = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""Pictures, RGB uint8 [n, h, w, 3], to lesion fields [n, h, w]: the higher, the more a pixel belongs to the lesion."""


def best_dice(field: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the largest Dice of a mask [h, w] with a level set {field >= level} of a field [h, w]; 0 if it is empty.

    Source: the maximal F-measure of saliency maps (Achanta et al., Frequency-tuned salient region detection, CVPR
    2009).
    """
    area = int(mask.sum())
    if not area:
        return 0.0
    order = np.argsort(field, axis=None)[::-1]
    values = field.ravel()[order]
    hits = np.cumsum(mask.ravel()[order])
    ends = np.append(values[1:] != values[:-1], True)  # a level set holds all pixels of one value
    sizes = np.arange(1, len(order) + 1)
    return float((2 * hits / (sizes + area))[ends].max())


def sharpness(image: NDArray[np.uint8]) -> float:
    """Return the strength of fine over that of coarser structure of a picture [h, w, 3]; a plain surface has 0.

    The root mean squares of its grey picture between Gaussians of 1 and 2 px, and of 2 and 4 px. The ratio does not
    depend on contrast, and hardly on what an autoencoder loses of the very finest detail.
    """
    grey = image.astype(np.float32) @ LUMA
    smooth = np.stack([ndimage.gaussian_filter(grey, sigma) for sigma in (FINE_PX, MIDDLE_PX, COARSE_PX)])
    fine, coarse = np.sqrt(np.square(np.diff(smooth, axis=0)).mean((1, 2))).tolist()
    return fine / coarse if coarse >= BLANK else 0.0


def saturation(image: NDArray[np.uint8]) -> float:
    """Return the mean over the pixels of (largest - smallest channel) / 255 of a picture [h, w, 3]."""
    return float((image.max(-1).astype(np.float32) - image.min(-1)).mean() / 255)


def exposure(image: NDArray[np.uint8]) -> float:
    """Return the share of a picture [h, w, 3] that has no channel at 255 and some channel above 0."""
    brightest = image.max(-1)
    return float(((brightest < 255) & (brightest > 0)).mean())


@dataclass(frozen=True)
class MaskShapes:
    """Where real masks lie among all shapes.

    Attributes:
        mean: [5] of the transformed statistics of :func:`shape_vector`.
        precision: [5, 5] inverse of their covariance.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def typicality(self, mask: NDArray[np.bool_]) -> float:
        """Return minus the Mahalanobis distance of a mask [h, w] with some lesion in it."""
        offset = shape_vector(mask) - self.mean
        return -float(np.sqrt(max(0.0, float(offset @ self.precision @ offset))))


def shape_vector(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return five numbers [5] of a mask's shape on scales on which real masks are roughly normal.

    Logit of the area, logarithms of the ratio of the ellipse's axes, of compactness, and of border irregularity and
    asymmetry above a hundredth. The mask has some lesion.
    """
    shape = shape_statistics(mask)
    inside, pixel = shape.area_fraction, 1 / mask.size
    return np.array(
        [
            np.log((inside + pixel) / (1 - inside + pixel)),
            -0.5 * np.log(max(pixel, float(1 - shape.eccentricity**2))),
            np.log(shape.compactness),
            np.log(max(0.0, shape.border_irregularity - 1) + 0.01),
            np.log(shape.asymmetry + 0.01),
        ]
    )


def fit_shapes(masks: NDArray[np.bool_]) -> MaskShapes:
    """Describe real masks [n, h, w], each with some lesion; n well above 5."""
    vectors = np.stack([shape_vector(mask) for mask in masks])
    return MaskShapes(vectors.mean(0), np.asarray(np.linalg.pinv(np.cov(vectors.T), hermitian=True), np.float64))
