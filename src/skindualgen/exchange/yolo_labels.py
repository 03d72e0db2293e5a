"""The label file of a YOLO picture: lines of polygons and boxes, every number of them checked.

Source: https://docs.ultralytics.com/datasets/segment/ (``class x1 y1 x2 y2 ...``),
https://docs.ultralytics.com/datasets/detect/ (``class x_center y_center width height``); all from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.exchange.source import Source
from skindualgen.exchange.yolo_layout import Picture

FEWEST_VERTICES = 3
BOX_NUMBERS = 4
OUTSIDE_PX = 1.0
"""What a point may lie outside of its picture, as tools round; loaders cut it to the picture."""
EXPECTED = "a class and a polygon of numbers from 0 to 1"


@dataclass(frozen=True)
class Labelled:
    """One line of a label file.

    Attributes:
        where: file and line, for messages.
        name: of its class.
        vertices: int [n, 2], x and y in px; None of a box.
    """

    where: str
    name: str
    vertices: NDArray[np.int64] | None


def read_labels(
    source: Source, picture: Picture, names: Mapping[int, str], width: int, height: int
) -> list[Labelled] | None:
    """Return what a picture's label file says; None where it has none. Blank lines say nothing.

    Args:
        source: the folder.
        picture: one of its pictures.
        names: number of a class -> its name.
        width: of the picture, in px.
        height: of the picture, in px.

    Raises:
        InputError: a line that is neither polygon nor box, with a number out of range or a class that is not declared.
    """
    if picture.labels not in source.files:
        return None
    lines = source.text(picture.labels).splitlines()
    return [
        _labelled(f"{picture.labels}, line {number}", line.split(), names, width, height)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _labelled(where: str, words: list[str], names: Mapping[int, str], width: int, height: int) -> Labelled:
    try:
        row, *shares = (float(word) for word in words)
    except ValueError as error:
        raise InputError(f"{where}: {error}", EXPECTED, "fix the line") from None
    if not all(map(math.isfinite, (row, *shares))):
        raise InputError(f"{where} with a number that is not finite", EXPECTED, "fix the line")
    if not row.is_integer() or int(row) not in names:
        raise InputError(f"{where} with the class {words[0]}", "a class of data.yaml", "fix the line, or add the class")
    if len(shares) == BOX_NUMBERS:
        x, y, across, down = shares
        corners = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        if across <= 0 or down <= 0:
            raise InputError(f"{where}, a box of {across:g} x {down:g}", "a box with an area", "fix the line")
        _refuse_outside(where, corners, width, height)
        return Labelled(where, names[int(row)], None)
    if len(shares) % 2 or len(shares) < 2 * FEWEST_VERTICES:
        raise InputError(f"{where} with {len(shares)} numbers after the class", EXPECTED, "fix the line")
    _refuse_outside(where, shares, width, height)
    points = np.array(shares).reshape(-1, 2) * (width, height)
    return Labelled(where, names[int(row)], np.clip(points, 0, (width - 1, height - 1)).astype(np.int64))


def _refuse_outside(where: str, shares: list[float] | tuple[float, ...], width: int, height: int) -> None:
    for place, share in enumerate(shares):
        margin = OUTSIDE_PX / (height if place % 2 else width)
        if not -margin <= share <= 1 + margin:
            raise InputError(f"{where} with {share:g}, outside of the picture", EXPECTED, "fix the line")
