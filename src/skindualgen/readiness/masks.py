"""Masks that are probably not those of their lesions, and a picture of the most suspicious ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from skindualgen.contracts import InputError
from skindualgen.data.reading import read_pair
from skindualgen.readiness.results import MaskLook
from skindualgen.sample.sheet import pair_sheet

INVERTED_FRAME = 0.7
"""Share of the picture's outermost pixels that are lesion from which a mask looks inverted, if less of its middle is.

Of 1,559 expert masks of ISIC 2017 none looks so, the most being 0.65; inverted, 97 % of them do.
"""
FULL = 0.95
TINY = 0.005
"""Shares of the picture that is lesion; these 1,559 masks, of a set chosen between 0.01 and 0.95, have 0.01 to 0.94."""

DOUBTS = {
    "inverted": "that look inverted",
    "empty": "that are empty",
    "full": f"that fill {FULL:.0%} of the picture or more",
    "tiny": f"that cover less than {TINY:.1%} of the picture",
}
"""Name -> what is said of such masks; the most suspicious first."""

SHEET_PAIRS = 24
SHEET_SIDE_PX = 192


def doubt_of(lesion: NDArray[np.bool_]) -> str | None:
    """Return why a mask [h, w], True is lesion, is probably wrong: a name of `DOUBTS`; None if it looks right."""
    area = lesion.mean()
    height, width = lesion.shape
    frame = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]]).mean()
    middle = lesion[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()
    if frame >= INVERTED_FRAME and middle < frame:
        return "inverted"
    if not area:
        return "empty"
    if area >= FULL:
        return "full"
    return "tiny" if area < TINY else None


def suspects_sheet(root: Path, masks: Sequence[MaskLook]) -> Image.Image:
    """Draw up to `SHEET_PAIRS` pairs, each with the mask's outline and what is suspicious of it.

    First those in doubt, in the order of `DOUBTS`, then those whose area is the most unusual of the set.

    Args:
        root: the data set folder.
        masks: of the check.

    Raises:
        InputError: there is no mask, or a file has gone since the check.
    """
    if not masks:
        raise InputError(f"{root} without a mask that can be read", "a mask for the sheet", "leave out the sheet")
    odds = [np.log((look.area + 1e-9) / (1 - look.area + 1e-9)) for look in masks]
    usual, order = median(odds), [*DOUBTS, None]
    ranked = sorted(zip(masks, odds, strict=True), key=lambda item: (order.index(item[0].doubt), -abs(item[1] - usual)))
    chosen = [look for look, _ in ranked[:SHEET_PAIRS]]
    side = (SHEET_SIDE_PX, SHEET_SIDE_PX)
    images, outlines = [], []
    for look in chosen:
        image, mask = read_pair(root, look.record)
        images.append(ImageOps.pad(image, side, Image.Resampling.LANCZOS))
        outlines.append(ImageOps.pad(mask or Image.new("L", image.size), side, Image.Resampling.NEAREST))
    labels = [f"{look.doubt or 'unusual'} {look.area:.1%}: {look.record.isic_id}" for look in chosen]
    return pair_sheet(images, outlines, labels=labels)
