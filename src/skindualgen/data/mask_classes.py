"""Masks of several classes in one PNG: which level is which class.

``dataset.json`` names the classes of a data set, ``"mask_classes": {"lesion": 255, "globules": 128}``; without that
entry there is one, the lesion. The class of the highest level is the lesion and covers every pixel that is not
background (0). Each further class is a part of it, and a pixel has one level: parts do not overlap. All levels are at
least 128, so whoever reads such a mask by its threshold, as every judge does, reads the whole lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import DATASET_FILE, InputError
from skindualgen.data.decoding import ItemError
from skindualgen.data.manifest import read_dataset_info

MaskClasses = Mapping[str, int]
"""Name of a class -> its level, descending: the lesion first."""
LESION_ONLY: MaskClasses = {"lesion": 255}
IGNORED_LEVELS: MaskClasses = {"ignored": 255}
"""Of a picture of ignored pixels."""
LOWEST_LEVEL, HIGHEST_LEVEL = 128, 255


def read_mask_classes(root: Path) -> MaskClasses:
    """The classes of a data set folder's masks; the lesion alone where ``dataset.json`` names none.

    Raises:
        InputError: an entry that is no mapping of names to different levels from 128 to 255.
    """
    path = root / DATASET_FILE
    if not path.is_file():
        return LESION_ONLY
    status = path.stat()
    return _read(root, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read(root: Path, _modified: int, _size: int) -> MaskClasses:
    classes = read_dataset_info(root).get("mask_classes")
    return LESION_ONLY if classes is None else checked_classes(classes, str(root / DATASET_FILE))


def checked_classes(classes: object, where: str) -> MaskClasses:
    """Return what names the classes of masks, ordered by level, if it does.

    Raises:
        InputError: it does not.
    """
    levels = list(classes.values()) if isinstance(classes, Mapping) else []
    whole = all(type(level) is int and LOWEST_LEVEL <= level <= HIGHEST_LEVEL for level in levels)
    if not levels or not whole or len(set(levels)) < len(levels):
        raise InputError(
            f"mask_classes {classes!r} in {where}",
            f"names with different levels from {LOWEST_LEVEL} to {HIGHEST_LEVEL}, the lesion's being the highest",
            'write for example {"lesion": 255, "globules": 128}',
        )
    return dict(sorted(classes.items(), key=lambda item: -item[1]))  # type: ignore[attr-defined]


def split_classes(levels: NDArray[np.uint8], classes: MaskClasses) -> NDArray[np.bool_]:
    """Levels [h, w] to one mask per class [k, h, w]: the first is the whole lesion, the others are parts of it.

    Raises:
        ItemError: a level that is neither 0 nor a class's.
    """
    _refuse_unknown(levels, classes)
    return np.stack([levels > 0, *(levels == level for level in list(classes.values())[1:])])


def join_classes(masks: NDArray[np.bool_], classes: MaskClasses) -> NDArray[np.uint8]:
    """One mask per class [k, h, w], as of `split_classes`, to levels [h, w]."""
    lesion, *parts = masks
    first, *further = classes.values()
    levels = np.where(lesion, np.uint8(first), np.uint8(0))
    for part, level in zip(parts, further, strict=True):
        levels[part & lesion] = level
    return levels


def check_labels(labels: Mapping[str, int]) -> None:
    """Raise InputError unless at least two classes have different levels from 1 to 255, as in a source's masks."""
    levels = list(labels.values())
    if len(levels) < 2 or len(set(levels)) < len(levels) or not all(1 <= level <= HIGHEST_LEVEL for level in levels):
        raise InputError(
            f"the mask classes {dict(labels)}",
            f"two or more names with different levels from 1 to {HIGHEST_LEVEL}, the lesion's first",
            "give for example --mask-class lesion=1 --mask-class globules=2",
        )


def levels_of_labels(labels: Mapping[str, int]) -> MaskClasses:
    """Return the levels that a source's classes get in a data set: the same ones where they can stay.

    Args:
        labels: name -> level in the source's masks; the first is the lesion outside its parts.
    """
    lesion = next(iter(labels.values()))
    if lesion == max(labels.values()) and min(labels.values()) >= LOWEST_LEVEL:
        return checked_classes(labels, "the source")
    step = (HIGHEST_LEVEL - LOWEST_LEVEL) / (len(labels) - 1)
    return {name: round(HIGHEST_LEVEL - number * step) for number, name in enumerate(labels)}


def from_labels(values: NDArray[np.generic], labels: Mapping[str, int]) -> NDArray[np.uint8]:
    """A source's mask [h, w] or, if its channels are equal, [h, w, 3] to the levels [h, w] of `levels_of_labels`.

    Raises:
        ItemError: colours, or a level that is neither 0 nor a class's.
    """
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise ItemError("mask_coloured", "colours where grey levels or the places of a palette name the classes")
        values = values[..., 0]
    _refuse_unknown(values, labels)
    levels = np.zeros(values.shape, np.uint8)
    for name, level in levels_of_labels(labels).items():
        levels[values == labels[name]] = level
    return levels


def _refuse_unknown(levels: NDArray[np.generic], classes: Mapping[str, int]) -> None:
    unknown = sorted(set(np.unique(levels).tolist()) - {0, *classes.values()})
    if unknown:
        known = ", ".join(f"{name} {level}" for name, level in classes.items())
        raise ItemError("mask_levels", f"the level {unknown[0]}, which is neither 0 nor a class's ({known})")


def read_class_mask(file: Path | IO[bytes], classes: MaskClasses, size: tuple[int, int]) -> Image.Image:
    """Read a mask of several classes: grey, with their levels, and of its photograph's size (width, height).

    Raises:
        ItemError: damaged, in colours, of other levels, or of another size.
    """
    try:
        with Image.open(file) as image:
            image.load()
    except Exception as error:  # headers of damaged files raise nearly anything
        raise ItemError("damaged_image", f"{type(error).__name__}: {error}") from None
    if image.mode != "L":
        raise ItemError("colour_mode", f"mode {image.mode}; masks of {len(classes)} classes are grey (L)")
    if image.size != size:
        raise ItemError("mask_aspect", f"mask of {image.size} px, image of {size} px")
    split_classes(np.asarray(image), classes)
    return image
