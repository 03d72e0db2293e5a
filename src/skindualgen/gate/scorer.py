"""Scores of a pair from its pixels, by whatever judges there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.gate.reference import Reference
from skindualgen.gate.scores import (
    DIGITS,
    LESION_AREA,
    SCORES,
    MaskReader,
    best_dice,
    exposure,
    saturation,
    sharpness,
)
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.segmenter import Segmenter


@dataclass(frozen=True)
class Scorer:
    """Scores pairs, one by one: what a pair gets does not depend on the others, not even by rounding.

    Attributes:
        names: the scores to give, keys of :data:`~skindualgen.gate.scores.SCORES`.
        reference: of the training pairs.
        size_px: side to which every pair is brought first.
        read_masks: of the adapter, for ``self_agreement``.
        segmenter: for ``segmenter_agreement``.
        classifier: for ``class_probability``.
    """

    names: tuple[str, ...]
    reference: Reference
    size_px: int
    read_masks: MaskReader | None = None
    segmenter: Segmenter | None = None
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        judges = {
            "self_agreement": ("the adapter's reading", self.read_masks),
            "segmenter_agreement": ("a segmenter", self.segmenter),
            "class_probability": ("a classifier of diagnoses", self.classifier),
        }
        unknown = sorted(set(self.names) - set(SCORES))
        if unknown or not self.names:
            raise InputError(f"scores {unknown or 'none'}", f"some of {', '.join(SCORES)}", "fix the names")
        for name in self.names:
            called, judge = judges.get(name, ("", self))
            if judge is None:
                raise InputError(f"the score {name} without {called}", called, f"give it, or leave {name} out")

    def __call__(
        self, images: NDArray[np.uint8], masks: NDArray[np.bool_], diagnoses: Sequence[str | None]
    ) -> list[dict[str, float]]:
        """Return the scores of pairs [n, s, s, 3] and [n, s, s] at the gate's side, with the diagnoses asked for.

        A pair lacks a score that has no meaning for it: the shape of an empty mask, the probability of a diagnosis that
        it does not name or that the classifier does not know.
        """
        return [self._scores(*pair) for pair in zip(images, masks, diagnoses, strict=True)]

    def _scores(self, image: NDArray[np.uint8], mask: NDArray[np.bool_], diagnosis: str | None) -> dict[str, float]:
        found: dict[str, float | None] = {LESION_AREA: float(mask.mean())}
        for name in self.names:
            found[name] = self._score(name, image, mask, diagnosis)
        return {name: round(value, DIGITS) for name, value in found.items() if value is not None}

    def _score(
        self, name: str, image: NDArray[np.uint8], mask: NDArray[np.bool_], diagnosis: str | None
    ) -> float | None:
        if name == "self_agreement" and self.read_masks is not None:
            return best_dice(self.read_masks(image[None])[0], mask)
        if name == "segmenter_agreement" and self.segmenter is not None:
            return best_dice(self.segmenter.upright_probabilities(image[None])[0], mask)
        if name == "class_probability" and self.classifier is not None:
            return self.classifier.probability(image, diagnosis)
        if name == "mask_typicality":
            return self.reference.shapes.typicality(mask) if mask.any() else None
        if name == "novelty":
            return self.reference.novelty(image)
        return {"sharpness": sharpness, "saturation": saturation, "exposure": exposure}[name](image)
