"""What trained networks do on a test part, item by item."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.metrics.masks import compared, dice, hd95, iou

JACCARD_THRESHOLD = 0.65
"""An IoU below it counts as 0, a failed segmentation (ISIC 2018, task 1: Codella et al., arXiv 1902.03368)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentationOutcome:
    """The masks of one trained network on the test part, scored one by one; each field is [n].

    Attributes:
        dice: in [0, 1].
        iou: in [0, 1].
        hd95_px: 95th percentile Hausdorff distance in px of the masks' size.
        thresholded_jaccard: the IoU, or 0 where it is below :data:`JACCARD_THRESHOLD`.

    Raises:
        InputError: no items, unequal lengths, or a number that is not finite.
    """

    dice: Floats
    iou: Floats
    hd95_px: Floats
    thresholded_jaccard: Floats

    def __post_init__(self) -> None:
        columns = [getattr(self, field.name) for field in fields(self)]
        shapes = [column.shape for column in columns]
        if len(set(shapes)) > 1 or self.dice.ndim != 1 or not self.dice.size:
            raise InputError(f"scores of shapes {shapes}", "one number per item in each", "score every item once")
        if not np.isfinite(columns).all():
            raise InputError("scores with NaN or infinity", "finite numbers", "check the masks")

    def __len__(self) -> int:
        return len(self.dice)


@dataclass(frozen=True)
class ClassificationOutcome:
    """The class probabilities of one trained network on the test part.

    Attributes:
        classes: names of the columns.
        truth: [n], index of the true class.
        probabilities: [n, c], rows sum to 1.

    Raises:
        InputError: no items, shapes that do not fit, an index out of range, or rows that are no probabilities.
    """

    classes: list[str]
    truth: NDArray[np.int64]
    probabilities: Floats

    def __post_init__(self) -> None:
        expected = (len(self.truth), len(self.classes))
        if self.probabilities.shape != expected or not self.truth.size:
            raise InputError(f"probabilities {self.probabilities.shape}", f"{expected}, n of 1 or more", "match them")
        if self.truth.min() < 0 or self.truth.max() >= len(self.classes):
            raise InputError("an index of no class", f"0 to {len(self.classes) - 1}", "check the order of the classes")
        rows_are_sound = np.abs(self.probabilities.sum(1) - 1).max() < 1e-3 and self.probabilities.min() >= 0
        if not rows_are_sound:  # NaN fails the comparison too
            raise InputError("rows that do not sum to 1", "probabilities", "apply a softmax to the logits")

    def __len__(self) -> int:
        return len(self.truth)


Outcome = SegmentationOutcome | ClassificationOutcome


def segmentation_outcome(
    *, predicted: NDArray[np.bool_], truth: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None
) -> SegmentationOutcome:
    """Score masks [n, h, w] against the true ones; empty masks as in :mod:`skindualgen.metrics.masks`.

    Args:
        predicted, truth: True is lesion.
        ignored: True where pixels are not counted, see `skindualgen.metrics.masks.compared`.

    Raises:
        InputError: no masks, or unequal shapes.
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        raise InputError(f"masks {predicted.shape} for {truth.shape}", "[n, h, w] of one shape", "match them")
    left_out = [None] * len(truth) if ignored is None else ignored
    pairs = [compared(*each) for each in zip(predicted, truth, left_out, strict=True)]
    overlaps = np.array([iou(*overlapping) for overlapping, _ in pairs])
    return SegmentationOutcome(
        dice=np.array([dice(*overlapping) for overlapping, _ in pairs]),
        iou=overlaps,
        hd95_px=np.array([hd95(*outlined) for _, outlined in pairs]),
        thresholded_jaccard=np.where(overlaps >= JACCARD_THRESHOLD, overlaps, 0.0),
    )
