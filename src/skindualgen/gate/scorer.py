"""Scores of a pair from its pixels, by whatever judges there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.data.terms import diagnosis_term
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
from skindualgen.judges.features import dihedral_views, to_network_input
from skindualgen.judges.pictures import at_side
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
            return class_probability(self.classifier, image, diagnosis)
        if name == "mask_typicality":
            return self.reference.shapes.typicality(mask) if mask.any() else None
        if name == "novelty":
            return self.reference.novelty(image)
        return {"sharpness": sharpness, "saturation": saturation, "exposure": exposure}[name](image)


@torch.inference_mode()
def class_probability(classifier: Classifier, image: NDArray[np.uint8], diagnosis: str | None) -> float | None:
    """Return the probability of a diagnosis for a picture [s, s, 3], averaged over its quarter turns.

    None where the diagnosis is not known or the classifier has no such class.
    """
    classes, term = classifier.terms, diagnosis_term(diagnosis)
    if term is None or term not in classes:
        return None
    pixels = at_side(image[None], classifier.header["image_size_px"])
    turns = np.concatenate(dihedral_views(pixels)[::2])  # [4, side, side, 3]
    inputs = to_network_input(turns, classifier.header["size_px"]).contiguous(memory_format=torch.channels_last)
    return float(classifier.network(inputs).softmax(1).mean(0)[classes.index(term)])
