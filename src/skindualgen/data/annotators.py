"""Several masks of one photograph, by several annotators: which is used, or how they become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.images import ItemError
from skindualgen.files import sha256_bytes

AnnotatorRule = Literal["first", "majority", "random", "staple"]
STAPLE_THRESHOLD = 0.5


@dataclass(frozen=True)
class Annotators:
    """How one mask comes of several.

    Attributes:
        rule: ``first`` takes the first by name; ``random`` one by a hash of seed and id, the same at every run;
            ``majority`` the pixels that more than half of the annotators call lesion; ``staple`` those that are lesion
            with a probability of at least one half, each annotator weighted by an estimate of his sensitivity and
            specificity (Warfield, Zou, Wells, IEEE Transactions on Medical Imaging 23, 903-921, 2004).
        seed: of ``random``.
    """

    rule: AnnotatorRule
    seed: int = 0


def check_rule(rule: str) -> None:
    """Raise InputError for an unknown rule, or for ``staple`` without SimpleITK, which computes it."""
    if rule not in get_args(AnnotatorRule):
        raise InputError(f"annotator {rule!r}", f"one of {', '.join(get_args(AnnotatorRule))}", "use for example first")
    if rule == "staple":
        _simple_itk()


def combined(masks: Sequence[Image.Image], annotators: Annotators | None, isic_id: str) -> Image.Image:
    """Return one mask, mode L with 0 and 255, of one or, by the rule, several such masks of one size.

    Raises:
        ItemError: ``mask_disagreement`` if no pixel, or each, is lesion by the rule.
        InputError: ``staple`` without SimpleITK.
    """
    if len(masks) == 1 or annotators is None or annotators.rule == "first":
        return masks[0]
    if annotators.rule == "random":
        digest = sha256_bytes(f"{annotators.seed}\0{isic_id}".encode())
        return masks[int(digest[:16], 16) % len(masks)]
    votes = np.stack([np.asarray(mask) > 0 for mask in masks])  # [annotators, h, w]
    lesion = votes.mean(axis=0) > 0.5 if annotators.rule == "majority" else _staple(votes) >= STAPLE_THRESHOLD
    if not lesion.any() or lesion.all():
        raise ItemError(
            "mask_disagreement", f"{annotators.rule} of {len(masks)} masks leaves no lesion or no background"
        )
    return Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0)))


def _staple(votes: np.ndarray) -> np.ndarray:
    """Return the probability [h, w] of lesion, from votes [annotators, h, w]."""
    itk = _simple_itk()
    probability = itk.STAPLE([itk.GetImageFromArray(vote.astype(np.uint8)) for vote in votes], 1.0)
    values: np.ndarray = itk.GetArrayFromImage(probability)
    return values


def _simple_itk():  # type: ignore[no-untyped-def]  # the library has no types
    try:
        import SimpleITK
    except ImportError:
        got, remedy = "the rule staple without SimpleITK", "run `pip install skindualgen[annotators]`, or use majority"
        raise InputError(got, "the package SimpleITK", remedy) from None
    return SimpleITK
