"""Data set folder -> tensors: one pair at a time, at one size, with aligned augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, split_classes
from skindualgen.data.reading import read_ignore, read_pair
from skindualgen.data.review import read_used

TURNS = 8
"""the symmetries of a square: four quarter turns, each with and without a flip"""
MAX_LIGHT, MAX_GAIN, MAX_GAMMA = 0.15, 0.06, 0.15
"""largest change of brightness, of one colour's gain and of gamma at full strength; the median skin of 520 photographs
of ISIC 2017 has a standard deviation of 17 % in brightness, of 13 % and 8 % in red and blue over green"""


@dataclass(frozen=True)
class View:
    """One augmentation: crop box as shares of the picture, and which of the square's eight symmetries.

    Args:
        zoom: side of the crop over side of the picture, in (0, 1].
        left, top: position of the crop over the room that it leaves, in [0, 1].
        turn: 0 to 7: quarter turns, then flipped for 4 to 7.
        gains: of red, green and blue, as another light or white balance would have it.
        gamma: of the camera's curve.
    """

    zoom: float = 1.0
    left: float = 0.0
    top: float = 0.0
    turn: int = 0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0


def draw_view(index: int, view: int, *, seed: int, min_zoom: float, colour: float = 0.0) -> View:
    """Augmentation number ``view`` of pair ``index``: a function of these and the seed; 0 is the plain picture.

    Colour is changed as light and camera change it, for lesion and skin alike, and at most by ``MAX_LIGHT``,
    ``MAX_GAIN`` and ``MAX_GAMMA`` times ``colour``: what a diagnosis is read from, colours beside each other, stays.
    """
    if view == 0:
        return View()
    rng = np.random.default_rng([seed, index, view])
    crop = float(rng.uniform(min_zoom, 1)), float(rng.random()), float(rng.random()), int(rng.integers(TURNS))
    if not colour:
        return View(*crop)
    light, *balance = rng.uniform(-1, 1, size=4)
    red, green, blue = (1 + colour * (MAX_LIGHT * light + MAX_GAIN * value) for value in balance)
    return View(*crop, (float(red), float(green), float(blue)), float(1 + colour * MAX_GAMMA * rng.uniform(-1, 1)))


def read_pairs(root: Path, split: str | None) -> list[PairRecord]:
    """Records of one split, without those that a reviewer has rejected.

    Raises:
        InputError: none there.
    """
    records = read_used(root, split)
    if not records:
        raise InputError(f"{root} without any pair of split {split!r}", "at least one", "prepare it with --split")
    return records


def load_pair(
    root: Path, record: PairRecord, size: int, view: View | None = None, classes: MaskClasses = LESION_ONLY
) -> tuple[Tensor, Tensor | None]:
    """Load a photograph and its mask, squared by cropping, and augmented alike.

    Args:
        root: data set folder.
        record: one of its records.
        size: side in px of the result.
        view: augmentation; none if not given.
        classes: of the mask; the lesion alone if not given, whatever parts the data set names.

    Returns:
        Image [3, size, size] in [-1, 1], antialiased; mask [k, size, size] in {0, 1} by nearest neighbour, or None.

    Raises:
        InputError: see `skindualgen.data.reading.read_pair`.
    """
    return load_views(root, record, size, [view or View()], classes)[0]


def load_ignored(root: Path, record: PairRecord, size: int) -> Tensor:
    """Load which pixels of a pair are not to be learnt from or counted, cut and scaled as `load_pair` does the mask.

    Returns:
        [1, size, size] in {0, 1}, 1 is ignored.

    Raises:
        InputError: see `skindualgen.data.reading.read_ignore`.
    """
    picture = read_ignore(root, record)
    if picture is None:
        return torch.zeros(1, size, size)
    return _mask_view(torch.from_numpy(np.array(picture)[None] > 0).float(), View(), size)


def load_views(
    root: Path, record: PairRecord, size: int, views: Sequence[View], classes: MaskClasses = LESION_ONLY
) -> list[tuple[Tensor, Tensor | None]]:
    """Load a pair once and return ``load_pair`` of each view."""
    picture, outline = read_pair(root, record, levels=True)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [3, h, w] uint8
    if outline is None:
        return [(_view_of(image, view, size), None) for view in views]
    levels = np.array(outline)
    inside = levels[None] > 0 if len(classes) == 1 else split_classes(levels, classes)
    mask = torch.from_numpy(inside).float()  # [k, h, w]
    return [(_view_of(image, view, size), _mask_view(mask, view, size)) for view in views]


def _view_of(image: Tensor, view: View, size: int) -> Tensor:
    cut = F.interpolate(_crop(image, view)[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    return _turn(_recolour(cut.float() / 255, view) * 2 - 1, view.turn)


def _mask_view(mask: Tensor, view: View, size: int) -> Tensor:
    return _turn(F.interpolate(_crop(mask, view)[None], (size, size), mode="nearest-exact")[0], view.turn)


def _crop(picture: Tensor, view: View) -> Tensor:
    """Cut the view's square out of [c, h, w]; without zoom it is the centre square."""
    _, h, w = picture.shape
    side = max(1, round(min(h, w) * view.zoom))
    # A picture that is not square offers room on its long side too; the plain view takes the centre of it.
    plain = view.zoom == 1
    top = round((h - side) * (0.5 if plain else view.top))
    left = round((w - side) * (0.5 if plain else view.left))
    return picture[:, top : top + side, left : left + side]


def _turn(picture: Tensor, turn: int) -> Tensor:
    picture = picture.rot90(turn % 4, (1, 2))
    return picture.flip(-1) if turn >= 4 else picture


def _recolour(image: Tensor, view: View) -> Tensor:
    """Gains and gamma of [3, h, w] in [0, 1]; a picture whose colours stay is returned as it is."""
    if view.gains == (1.0, 1.0, 1.0) and view.gamma == 1.0:
        return image
    return (image * torch.tensor(view.gains)[:, None, None]).clamp(0, 1) ** view.gamma
