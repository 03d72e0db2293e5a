"""The outline of a COCO annotation as a mask: polygons by pycocotools, run-length codes checked and unrolled.

Source: https://cocodataset.org/#format-data; ``rleFrString`` in pycocotools' ``maskApi.c`` (how counts become text).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.exchange.coco_document import Annotation, inside, numbers
from skindualgen.exchange.source import short

FEWEST_NUMBERS = 6
"""x and y of the three points that a polygon has at least."""
ASCII_ZERO, LAST_BIT, SIGN_BIT, VALUE_BITS = 48, 0x20, 0x10, 0x1F
"""How ``rleToString`` writes a number: five bits a character from 48 on, the sixth says that more follow."""
DIFFERENT_BOX = 0.5
"""Intersection over union of an annotation's box and that of its outline below which the two are not one thing."""


def outline_mask(coder: Any, annotation: Annotation, width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask of an annotation that has a segmentation: bool [height, width].

    Args:
        coder: the module ``pycocotools.mask``.
        annotation: with polygons, a run-length code or its compressed form.
        width: of the picture, in px.
        height: of the picture, in px.

    Raises:
        InputError: too few points, a point outside of the picture, a code of another size, or no pixel at all.
    """
    code, where = annotation.segmentation, annotation.where
    if isinstance(code, list):
        mask = _polygons(coder, code, where, width, height)
    elif isinstance(code, dict) and code.keys() >= {"size", "counts"}:
        if code["size"] != [height, width]:
            raise InputError(
                f"{where} with a run-length code of the size {short(code['size'])}",
                f"[height, width] of its picture, [{height}, {width}]",
                "encode the mask again",
            )
        mask = _unrolled(_counts(code["counts"], where), where, width, height)
    else:
        raise InputError(
            f"{where} with the segmentation {short(code)}", "polygons, or size and counts", "draw it again"
        )
    if not mask.any():
        raise InputError(
            f"{where}, whose outline holds no pixel", "an outline of a lesion", "draw it again, or remove it"
        )
    return mask


def other_box(annotation: Annotation, mask: NDArray[np.bool_]) -> bool:
    """Tell whether the box of an annotation is not that of its outline, a mask [h, w] with at least one pixel."""
    if annotation.bbox is None:
        return False
    left, top, width, height = annotation.bbox
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    own_left, own_top, own_right, own_bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    across = max(0.0, min(left + width, own_right) - max(left, own_left))
    down = max(0.0, min(top + height, own_bottom) - max(top, own_top))
    both = width * height + float((own_right - own_left) * (own_bottom - own_top)) - across * down
    return across * down < DIFFERENT_BOX * both


def _polygons(coder: Any, polygons: list[Any], where: str, width: int, height: int) -> NDArray[np.bool_]:
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise InputError(
            f"{where} with a flat list of numbers",
            "a list of polygons, each a list of x, y, x, y, ...",
            "put it into a list",
        )
    checked = []
    for polygon in polygons:
        points = np.array(list(numbers(polygon, where))).reshape(-1)
        if len(points) % 2 or len(points) < FEWEST_NUMBERS:
            raise InputError(
                f"{where} with a polygon of {len(points)} numbers",
                "x and y of three points at the least",
                "draw it again",
            )
        for x, y in points.reshape(-1, 2):
            if not (inside(x, width) and inside(y, height)):
                raise InputError(
                    f"{where} with the point {x:g}, {y:g}", f"points inside {width}x{height} px", "draw it again"
                )
        checked.append(points.tolist())
    codes = coder.frPyObjects(checked, height, width)
    return np.asarray(coder.decode(codes).reshape(height, width, -1).any(axis=2))


def _counts(counts: Any, where: str) -> list[int]:
    """Return the lengths of the runs, background first."""
    if isinstance(counts, str):
        counts = _from_text(counts, where)
    if not isinstance(counts, list) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts
    ):
        raise InputError(f"{where} with a damaged run-length code", "whole numbers from 0", "encode the mask again")
    return counts


def _from_text(text: str, where: str) -> list[int]:
    """Return the numbers of a compressed code; from the fourth on, each is the difference to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ASCII_ZERO
        if not 0 <= bits < 2 * LAST_BIT or shift > 60:
            raise InputError(
                f"{where} with a damaged run-length code", "the text of pycocotools", "encode the mask again"
            )
        value |= (bits & VALUE_BITS) << shift
        shift += 5
        if not bits & LAST_BIT:
            value -= (1 << shift) if bits & SIGN_BIT else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise InputError(
            f"{where} with a run-length code cut short", "the text of pycocotools", "encode the mask again"
        )
    return counts


def _unrolled(counts: list[int], where: str, width: int, height: int) -> NDArray[np.bool_]:
    if sum(counts) != width * height:
        raise InputError(
            f"{where} with a run-length code of {sum(counts)} pixels",
            f"{width * height}, as its picture has",
            "encode the mask again",
        )
    lesion = np.zeros(len(counts), bool)
    lesion[1::2] = True
    return np.repeat(lesion, counts).reshape(width, height).T  # runs go down the columns
