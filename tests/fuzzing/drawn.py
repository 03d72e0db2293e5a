"""Pictures whose truth is known: a lesion on skin without any symmetry, and how people store it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 32, 24
"""Sides in px: small, and not equal, so that an exchange of axes shows."""
ORIENTATION_TAG = 274
"""Of TIFF 6.0 and of Exif."""
STORED_AS: Mapping[int, Image.Transpose | None] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Orientation -> what an upright picture goes through to be stored with it: Exif 2.3, tag 274, read backwards."""


class Drawn(NamedTuple):
    """A photograph, RGB, and the lesion in it: bool [h, w]."""

    image: Image.Image
    lesion: NDArray[np.bool_]


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> Drawn:
    """Draw the photograph of a number: a dark lesion, and a red mark in its upper left corner; no two are alike."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    middle = generator.uniform(0.5, 0.65, 2)
    lesion = ((x - middle[0] * width) / (0.22 * width)) ** 2 + ((y - middle[1] * height) / (0.25 * height)) ** 2 < 1
    pixels = np.where(lesion[..., None], (100, 60, 40), (220, 180, 160)).astype(np.float64)
    pixels += generator.normal(0, 6, pixels.shape)
    pixels[: height // 6, : width // 6] = (250, 0, 0)
    return Drawn(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), lesion)


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """Return an upright picture as a camera held otherwise stores it."""
    operation = STORED_AS[orientation]
    return image if operation is None else image.transpose(operation)


def encoded(image: Image.Image, file_format: str, orientation: int = 1, **options: Any) -> bytes:
    """Return the file of an upright picture, turned and with the tag that says so where ``orientation`` is not 1."""
    if orientation != 1:
        if file_format == "TIFF":
            options["tiffinfo"] = {ORIENTATION_TAG: orientation}
        else:
            exif = Image.Exif()
            exif[ORIENTATION_TAG] = orientation
            options["exif"] = exif
    buffer = io.BytesIO()
    stored(image, orientation).save(buffer, file_format, **options)
    return buffer.getvalue()


def bilevel(lesion: NDArray[np.bool_], background: int = 0, level: int = 255, kind: Any = np.uint8) -> Image.Image:
    """Return a mask of two grey levels."""
    return Image.fromarray(np.where(lesion, kind(level), kind(background)))
