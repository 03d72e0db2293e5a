"""Picture files whose content is in memory: decoded, or refused with their names; and encoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.decoding import EXIF_ORIENTATION, EXIF_TRANSPOSE, FORMATS, MAX_PIXELS
from skindualgen.data.images import size_text
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses
from skindualgen.files import png_bytes, png_info

USUAL_SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "GIF": ".gif",
    "WEBP": ".webp",
    "JPEG2000": ".jp2",
}
"""Format of a picture -> the ending that its files usually have."""


def decoded(data: bytes, name: str) -> Image.Image:
    """Decode a picture of one frame whose pixels are stored upright.

    Raises:
        InputError: it is none, damaged, of more than `MAX_PIXELS` pixels, or not as said.
    """
    try:
        with _opened(data, name) as image:
            image.load()
    except InputError:
        raise
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
    except Exception as error:
        raise InputError(
            f"{name}, which cannot be decoded ({type(error).__name__})", "a picture", "restore it, or write it again"
        ) from error
    return image


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height in px of a picture, which is not decoded.

    Raises:
        InputError: see `decoded`.
    """
    with _opened(data, name) as image:
        return image.size


def usual_suffix(data: bytes, name: str) -> str:
    """Return the usual ending of a picture's format, with its dot.

    Raises:
        InputError: see `decoded`.
    """
    with _opened(data, name) as image:
        return USUAL_SUFFIXES[str(image.format)]


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames, orientation = getattr(image, "n_frames", 1), image.getexif().get(EXIF_ORIENTATION, 1)
    # As in `decoded`, and Pillow's errors for bombs.
    except Exception as error:
        raise InputError(
            f"{name}, which cannot be decoded ({type(error).__name__})", "a picture", "restore it, or write it again"
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{name} of {size_text(image.size)} px", f"at most {MAX_PIXELS} pixels", "make it smaller")
    if frames > 1 and image.format != "MPO":
        raise InputError(f"{name} with {frames} frames", "one picture per file", "choose one frame")
    if orientation in EXIF_TRANSPOSE:
        raise InputError(
            f"{name} with the orientation {orientation} in its metadata",
            "pixels stored upright, as a mask next to them may or may not be turned",
            "store picture and mask upright, or let `skindualgen prepare` do it",
        )
    return image


def refuse_other_size(mask: tuple[int, int], picture: tuple[int, int], name: str) -> None:
    """Raise InputError unless a mask has the size of its picture, both width and height in px."""
    if mask != picture:
        raise InputError(
            f"a mask of {size_text(mask)} px for an image of {size_text(picture)} px ({name})",
            "one size",
            "fix the pair",
        )


def plain_mask(data: bytes, name: str, classes: MaskClasses = LESION_ONLY) -> bytes:
    """Return a mask file that is as the data set layout has it.

    Raises:
        InputError: it is not a grey PNG of 0 and the levels of the classes: 255, if the lesion is the only one.
    """
    mask, levels = decoded(data, name), (0, *sorted(classes.values()))
    if mask.format != "PNG" or mask.mode != "L" or set(np.unique(np.asarray(mask)).tolist()) - {*levels}:
        raise InputError(
            f"mask {name} of mode {mask.mode}",
            f"a grey PNG of {', '.join(map(str, levels[:-1]))} and {levels[-1]}",
            "let `skindualgen prepare` make it binary",
        )
    return data


def is_upright_box(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a mask [h, w] with any pixel is an upright rectangle."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    return int(mask.sum()) == int(rows.sum()) * int(columns.sum())


def encode_mask(lesion: NDArray[np.bool_], isic_id: str | None = None) -> bytes:
    """Encode a mask [h, w] as the data set layout has it: PNG, 0 and 255; that of a generated pair carries its id."""
    picture = Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0)))
    return png_bytes(picture, None if isic_id is None else png_info({"isic_id": isic_id}))


def encode_png(picture: Image.Image) -> bytes:
    """Encode as PNG, without any text or colour profile of the original file."""
    return png_bytes(Image.fromarray(np.asarray(picture)))
