"""One photograph and its mask: decoded, checked, brought to size. What is wrong is refused with a reason code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from skindualgen.contracts import SkinDualGenError
from skindualgen.provenance import sha256_bytes

Crop = Literal["centre", "pad", "none"]

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000")
"""Formats that are decoded; a phone's MPO counts as JPEG. Others of Pillow's are no photographs (PSD, ...), and some
start other programs (EPS)."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2")
MAX_PIXELS = 120_000_000
"""Pixels an image may have, unless told otherwise: four times the largest ISIC photographs (6,688 x 4,439)."""

TWELVE_BIT_MAX = 4095
SIXTEEN_TO_EIGHT_BIT = 257
LESION_KEPT_REPORT = 0.95
"""Share of the lesion inside the crop below which the loss is reported."""

EXIF_ORIENTATION = 0x0112
EXIF_SWAPS_SIDES = 5
"""EXIF orientations from this one on exchange width and height."""
EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that brings the stored pixels upright (Exif 2.3, tag 274)."""


class Adjustment(NamedTuple):
    """Something that was done to an item so that it could be used: a code and what it was about."""

    code: str
    detail: str


class ItemError(SkinDualGenError):
    """One item cannot be used: reason code and detail for ``rejected.csv``."""

    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, upright.

    Attributes:
        image: RGB, 8 bits a channel.
        stored_size: width and height in px as stored, before the EXIF orientation was applied.
        orientation: the EXIF orientation, 1 to 8; 1 is upright.
        content_sha256: hash of size and upright pixels: equal for the same picture in another lossless file.
        adjustments: what was done to it.
    """

    image: Image.Image
    stored_size: tuple[int, int]
    orientation: int
    content_sha256: str
    adjustments: list[Adjustment] = field(default_factory=list)


def load_photograph(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decode a photograph to upright 8-bit RGB.

    Args:
        path: a file in one of `FORMATS`.
        max_pixels: width x height above which the file is refused before it is decoded.

    Raises:
        ItemError: see the reason codes in docs/data-layouts.md.
    """
    image, orientation, bits = open_image(path, max_pixels)
    adjustments: list[Adjustment] = []
    stored_size = image.size
    if bits == 16:
        adjustments.append(Adjustment("bits_16_to_8", f"mode {image.mode}"))
    if image.info.get("icc_profile"):
        adjustments.append(Adjustment("colour_profile_dropped", "the values are kept as they are"))
    image = _to_rgb(image, adjustments)
    if orientation != 1:
        image = image.transpose(EXIF_TRANSPOSE[orientation])
        adjustments.append(Adjustment("exif_rotated", f"orientation {orientation}"))
    width, height = image.size
    content = sha256_bytes(f"{width}x{height}:".encode() + image.tobytes())
    return Photograph(image, stored_size, orientation, content, adjustments)


def fit(
    image: Image.Image, mask: Image.Image | None, *, size: int, crop: Crop
) -> tuple[Image.Image, Image.Image | None, list[Adjustment]]:
    """Bring image and mask to the same new size: image with a Lanczos filter, mask with nearest neighbour only.

    Args:
        image: RGB [h, w].
        mask: L [h, w] with 0 and 255, or None.
        size: pixels. ``centre`` cuts the middle square and scales it to size x size; ``pad`` scales the long side to
            size and adds black to a square; ``none`` scales the short side to size and keeps the aspect.
        crop: see ``size``.

    Returns:
        image, mask and what there is to report.

    Raises:
        ItemError: no lesion or no background is left inside the crop.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    box: tuple[float, float, float, float] = (0, 0, width, height)
    scale = size / (long if crop == "pad" else short)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if crop == "centre":
        left, top = (width - short) / 2, (height - short) / 2
        box, target = (left, top, left + short, top + short), (size, size)
    adjustments = [Adjustment("upscaled", f"{size_text(image.size)} by {scale:.2f}")] if scale > 1 else []
    fitted = image if target == image.size else image.resize(target, Image.Resampling.LANCZOS, box=box)
    fitted_mask = None
    if mask is not None:
        fitted_mask = mask if target == mask.size else mask.resize(target, Image.Resampling.NEAREST, box=box)
        adjustments += _check_fitted(mask, fitted_mask, box)
    if crop == "pad" and target[0] != target[1]:
        fitted = ImageOps.pad(fitted, (size, size), color=(0, 0, 0))
        fitted_mask = fitted_mask and ImageOps.pad(fitted_mask, (size, size), Image.Resampling.NEAREST, color=0)
    return fitted, fitted_mask, adjustments


def same_aspect(size_a: tuple[int, int], size_b: tuple[int, int]) -> bool:
    """Tell whether two sizes (width, height, px) are one picture at two scales, sides being rounded to whole pixels.

    True if some factor maps both sides of the larger onto the smaller with an error of at most one pixel a side.
    """
    small, large = sorted((size_a, size_b), key=lambda size: size[0] * size[1])
    lower = max((small[i] - 1) / large[i] for i in (0, 1))
    upper = min((small[i] + 1) / large[i] for i in (0, 1))
    return lower <= upper


def open_image(path: Path, max_pixels: int) -> tuple[Image.Image, int, int]:
    """Decode a file; nothing is converted.

    Returns:
        The image as stored, its EXIF orientation (1 to 8) and the bits of a channel in the file.

    Raises:
        ItemError: no image of `FORMATS`, damaged, with more than ``max_pixels`` or more than one frame.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = max_pixels
        # The file is opened here and not by Pillow, which leaves it open when decoding fails.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise ItemError("multi_frame", f"{getattr(image, 'n_frames', 1)} frames in one {image.format} file")
            orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
            bits = _bits(image, path)
            image.load()
    except ItemError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ItemError("decompression_bomb", f"more than {max_pixels} pixels in {path.name}") from None
    except UnidentifiedImageError:
        raise ItemError("not_an_image", f"{path.name} is none of {', '.join(FORMATS)}") from None
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
    except Exception as error:
        raise ItemError("damaged_image", f"{path.name}: {type(error).__name__}: {error}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return image, orientation if orientation in EXIF_TRANSPOSE else 1, bits


def _bits(image: Image.Image, path: Path) -> int:
    """Bits of a channel as stored: Pillow hands out 16-bit RGB as 8-bit without a word."""
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG":
        # IHDR is the first chunk; its bit depth stands at byte 24 of the file (PNG specification, section 11.2.2).
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        bits_per_sample: Sequence[int] | int = getattr(image, "tag_v2", {}).get(258, 8)
        return bits_per_sample if isinstance(bits_per_sample, int) else max(bits_per_sample)
    return 8


def _to_rgb(image: Image.Image, adjustments: list[Adjustment]) -> Image.Image:
    if image.mode == "P":
        adjustments.append(Adjustment("palette_to_rgb", "8-bit palette"))
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = without_alpha(image, adjustments)
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _sixteen_bit_grey(image)
    if image.mode in ("L", "1"):
        adjustments.append(Adjustment("grey_to_rgb", f"mode {image.mode}"))
        return image.convert("RGB")
    if image.mode == "CMYK":
        adjustments.append(Adjustment("cmyk_to_rgb", "without a colour profile"))
        return image.convert("RGB")
    if image.mode == "YCbCr":
        return image.convert("RGB")
    raise ItemError("colour_mode", f"mode {image.mode}; expected RGB, grey, palette or CMYK")


def without_alpha(image: Image.Image, adjustments: list[Adjustment]) -> Image.Image:
    """Drop an alpha channel that is fully opaque, noting it in ``adjustments``; raise ItemError for any other."""
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    share = float((alpha < 255).mean())
    if share:
        raise ItemError("transparent", f"{share:.1%} of the pixels are transparent: what lies under them is not known")
    adjustments.append(Adjustment("alpha_dropped", "fully opaque"))
    return image.convert("L" if image.mode in ("LA", "La") else "RGB")


def _sixteen_bit_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    peak = values.max()
    if image.mode == "F" or not TWELVE_BIT_MAX < peak <= np.iinfo(np.uint16).max or values.min() < 0:
        raise ItemError("bit_depth", f"mode {image.mode} with a peak of {peak}: the range of the values is not known")
    return Image.fromarray((values // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8))


def _check_fitted(mask: Image.Image, fitted: Image.Image, box: tuple[float, float, float, float]) -> list[Adjustment]:
    extrema = fitted.getextrema()
    if extrema == (0, 0):
        raise ItemError("mask_empty", "no lesion pixel is left after cropping and scaling")
    if extrema == (255, 255):
        raise ItemError("mask_full", "no background pixel is left after cropping")
    lesion = np.asarray(mask) > 0
    left, top, right, bottom = (round(edge) for edge in box)
    kept = lesion[top:bottom, left:right].sum() / lesion.sum()
    return [Adjustment("lesion_cut", f"{kept:.1%} of the lesion inside")] if kept < LESION_KEPT_REPORT else []


def size_text(size: tuple[int, int]) -> str:
    """Return "width x height" of a size in px."""
    return f"{size[0]}x{size[1]}"
