"""What visitors send: checked before it is used. Types, bytes and pixels are limited, and contents are decoded anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.images import SUFFIXES, ItemError, Photograph, load_photograph
from skindualgen.data.masks import load_mask

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for at a time.

    Attributes:
        upload_bytes: of a file.
        upload_pixels: width x height of a picture.
        pairs: of one click.
        steps: denoising steps of one click.
        waiting: clicks that wait in the queue; more are refused.
    """

    upload_bytes: int = 20 * MEBIBYTE
    upload_pixels: int = 40_000_000
    pairs: int = 64
    steps: int = 200
    waiting: int = 16


def read_photograph(path: Path, limits: Limits) -> Image.Image:
    """Decode an uploaded photograph to upright RGB.

    Raises:
        InputError: too large, not one of the formats, damaged.
    """
    return _photograph(path, limits).image


def read_mask(path: Path, limits: Limits, photograph: Path | None = None) -> Image.Image:
    """Decode an uploaded mask to L with 0 and 255; its colours and levels say what is lesion.

    Args:
        path: of the mask.
        limits: of uploads.
        photograph: that was uploaded with it; the mask is brought to its orientation and size.

    Raises:
        InputError: as for a photograph; what is lesion is not clear; or nothing, or everything, is.
    """
    _check_file(path, limits)
    shown = None if photograph is None else _photograph(photograph, limits)
    try:
        mask, _ = load_mask(path, shown, max_pixels=limits.upload_pixels, allow_uniform=True)
    except ItemError as error:
        raise error.input_error("the mask") from error
    return checked_mask(np.asarray(mask) > 0)


def _photograph(path: Path, limits: Limits) -> Photograph:
    _check_file(path, limits)
    try:
        return load_photograph(path, max_pixels=limits.upload_pixels)
    except ItemError as error:
        raise error.input_error("the picture") from error


def _check_file(path: Path, limits: Limits) -> None:
    if path.suffix.lower() not in SUFFIXES:
        got = f"a file of the type {path.suffix or '(none)'}"
        raise InputError(got, f"one of {', '.join(SUFFIXES)}", "save the picture as PNG or JPEG")
    if (size := path.stat().st_size) > limits.upload_bytes:
        got = f"a file of {size / MEBIBYTE:.0f} MiB"
        raise InputError(got, f"at most {limits.upload_bytes / MEBIBYTE:.0f} MiB", "make the picture smaller")


def checked_mask(lesion: np.ndarray) -> Image.Image:
    """Return a mask [h, w] as a picture.

    Raises:
        InputError: nothing, or everything, is lesion.
    """
    if not lesion.any() or lesion.all():
        got = "a mask without a lesion" if not lesion.any() else "a mask that is all lesion"
        raise InputError(got, "a lesion and skin around it", "draw the lesion in white, or upload another mask")
    return Image.fromarray(lesion.astype(np.uint8) * 255)
