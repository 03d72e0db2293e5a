"""One photograph and its mask: read, checked, brought to size. What is wrong is refused with a reason code."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from skindualgen.data.arrays import Values, check_finite, opaque_alpha, photograph_items
from skindualgen.data.decoding import (
    EXIF_SWAPS_SIDES,
    FORMATS,
    MAX_PIXELS,
    SUFFIXES,
    Adjustment,
    ItemError,
    decode,
    without_palette,
)
from skindualgen.files import sha256_bytes

__all__ = [
    "FORMATS",
    "LUMA",
    "MAX_PIXELS",
    "SUFFIXES",
    "Adjustment",
    "Crop",
    "ItemError",
    "Photograph",
    "fit",
    "load_photograph",
    "same_aspect",
    "size_text",
]

Crop = Literal["centre", "pad", "none"]

TWELVE_BIT_MAX = 4095
SIXTEEN_BIT_MAX = 65535
SIXTEEN_TO_EIGHT_BIT = 257
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601), as Pillow's mode L has them."""
LESION_KEPT_REPORT = 0.95
"""Share of the lesion inside the crop below which the loss is reported."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, upright.

    Attributes:
        image: RGB, 8 bits a channel.
        orientation: the EXIF orientation that was applied, 1 to 8; 1 is upright.
        adjustments: what was done to it.
    """

    image: Image.Image
    orientation: int = 1
    adjustments: list[Adjustment] = field(default_factory=list)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in px as stored, before the EXIF orientation was applied."""
        width, height = self.image.size
        return (height, width) if self.orientation >= EXIF_SWAPS_SIDES else (width, height)

    @cached_property
    def content_sha256(self) -> str:
        """Hash of size and upright pixels: equal for the same picture in another lossless file."""
        width, height = self.image.size
        return sha256_bytes(f"{width}x{height}:".encode() + self.image.tobytes())


def load_photograph(source: Path | bytes | Image.Image | Any, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Read a photograph as upright 8-bit RGB: the one reader, whatever holds the picture.

    Args:
        source: a file in one of `FORMATS`, its content, a picture of Pillow's, or one array [h, w], [h, w, 1],
            [h, w, 3] or [h, w, 4], or tensor [h, w], [1, h, w], [3, h, w] or [4, h, w], of uint8 (0 to 255), uint16 (0
            to 65535), decimal numbers in [0, 1] or bool.
        max_pixels: width x height above which a file is refused before it is decoded.

    Raises:
        ItemError: see the reason codes in docs/data-layouts.md.
    """
    adjustments: list[Adjustment] = []
    if not isinstance(source, (Path, bytes, Image.Image)):
        items = photograph_items(source)
        if len(items) != 1:
            raise ItemError("array_shape", f"{len(items)} pictures where one is read")
        if not isinstance(items[0], Image.Image):
            return Photograph(_rgb_of_values(items[0], adjustments), 1, adjustments)
        source = items[0]
    decoded = decode(source, max_pixels)
    image = decoded.image
    if decoded.bits == 16:
        adjustments.append(Adjustment("bits_16_to_8", f"mode {image.mode}"))
    if image.info.get("icc_profile"):
        adjustments.append(Adjustment("colour_profile_dropped", "the values are kept as they are"))
    if decoded.lower_bits_lost and np.asarray(image.convert("RGB")).max() <= TWELVE_BIT_MAX // 256:
        raise ItemError("bit_depth", f"16 bits with a peak of {TWELVE_BIT_MAX} or less: the range is not known")
    image = _to_rgb(image, adjustments)
    if decoded.orientation != 1:
        adjustments.append(Adjustment("exif_rotated", f"orientation {decoded.orientation}"))
    return Photograph(image, decoded.orientation, adjustments)


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
    box, target, scale = _frame(image.size, size, crop)
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


def fit_pixels(marked: Image.Image, *, size: int, crop: Crop) -> Image.Image:
    """Bring a picture of marked pixels, L [h, w], to where `fit` brings a mask; it may end without any of them."""
    box, target, _ = _frame(marked.size, size, crop)
    fitted = marked if target == marked.size else marked.resize(target, Image.Resampling.NEAREST, box=box)
    if crop == "pad" and target[0] != target[1]:
        fitted = ImageOps.pad(fitted, (size, size), Image.Resampling.NEAREST, color=0)
    return fitted


def _frame(
    sides: tuple[int, int], size: int, crop: Crop
) -> tuple[tuple[float, float, float, float], tuple[int, int], float]:
    """Part of a picture of these sides (width, height) that is kept, its new sides before padding, and the scale."""
    width, height = sides
    short, long = min(sides), max(sides)
    scale = size / (long if crop == "pad" else short)
    if crop == "centre":
        left, top = (width - short) / 2, (height - short) / 2
        return (left, top, left + short, top + short), (size, size), scale
    return (0, 0, width, height), (max(1, round(width * scale)), max(1, round(height * scale))), scale


def same_aspect(size_a: tuple[int, int], size_b: tuple[int, int]) -> bool:
    """Tell whether two sizes (width, height, px) are one picture at two scales, sides being rounded to whole pixels.

    True if some factor maps both sides of the larger onto the smaller with an error of at most one pixel a side.
    """
    small, large = sorted((size_a, size_b), key=lambda size: size[0] * size[1])
    lower = max((small[i] - 1) / large[i] for i in (0, 1))
    upper = min((small[i] + 1) / large[i] for i in (0, 1))
    return lower <= upper


def _to_rgb(image: Image.Image, adjustments: list[Adjustment]) -> Image.Image:
    if image.mode == "P":
        adjustments.append(Adjustment("palette_to_rgb", "8-bit palette"))
        image = without_palette(image)
    if image.has_transparency_data:
        image = _without_alpha(image, adjustments)
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image), adjustments))
    if image.mode in ("L", "1"):
        adjustments.append(Adjustment("grey_to_rgb", f"mode {image.mode}"))
        return image.convert("RGB")
    if image.mode == "CMYK":
        adjustments.append(Adjustment("cmyk_to_rgb", "without a colour profile"))
        return image.convert("RGB")
    if image.mode == "YCbCr":
        return image.convert("RGB")
    raise ItemError("colour_mode", f"mode {image.mode}; expected RGB, grey, palette or CMYK")


def _without_alpha(image: Image.Image, adjustments: list[Adjustment]) -> Image.Image:
    """Drop an alpha channel that is fully opaque, noting it in ``adjustments``; raise ItemError for any other."""
    _refuse_transparent(np.asarray(image.convert("RGBA"))[..., 3] < 255, adjustments)
    return image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def _refuse_transparent(transparent: NDArray[np.bool_], adjustments: list[Adjustment]) -> None:
    if share := float(transparent.mean()):
        raise ItemError("transparent", f"{share:.1%} of the pixels are transparent: what lies under them is not known")
    adjustments.append(Adjustment("alpha_dropped", "fully opaque"))


def _rgb_of_values(values: Values, adjustments: list[Adjustment]) -> Image.Image:
    """Numbers [h, w], [h, w, 3] or [h, w, 4] as RGB."""
    if values.ndim == 3 and values.shape[-1] == 4:
        _refuse_transparent(values[..., 3] < opaque_alpha(values), adjustments)
        values = values[..., :3]
    image = Image.fromarray(np.ascontiguousarray(_eight_bits(values, adjustments)))
    if image.mode != "RGB":
        adjustments.append(Adjustment("grey_to_rgb", "one channel"))
    return image.convert("RGB")


def _eight_bits(values: Values, adjustments: list[Adjustment]) -> NDArray[np.uint8]:
    """Bring numbers to 0 to 255 where their type and range say what they mean."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    low, high = check_finite(values)
    if values.dtype.kind == "f":
        if low < 0 or high > 1:
            raise ItemError("bit_depth", f"decimal values from {low:g} to {high:g}: their range is not known")
        adjustments.append(Adjustment("decimals_to_8_bits", f"values from {low:g} to {high:g}"))
        return np.round(values * 255.0).astype(np.uint8)
    if low < 0 or not TWELVE_BIT_MAX < high <= SIXTEEN_BIT_MAX:
        raise ItemError("bit_depth", f"{values.dtype} with a peak of {high:g}: the range of the values is not known")
    return (values // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8)


def _check_fitted(mask: Image.Image, fitted: Image.Image, box: tuple[float, float, float, float]) -> list[Adjustment]:
    lowest, highest = fitted.getextrema()
    if not highest:
        raise ItemError("mask_empty", "no lesion pixel is left after cropping and scaling")
    if lowest:
        raise ItemError("mask_full", "no background pixel is left after cropping")
    lesion = np.asarray(mask) > 0
    left, top, right, bottom = (round(edge) for edge in box)
    kept = lesion[top:bottom, left:right].sum() / lesion.sum()
    return [Adjustment("lesion_cut", f"{kept:.1%} of the lesion inside")] if kept < LESION_KEPT_REPORT else []


def size_text(size: tuple[int, int]) -> str:
    """Return "width x height" of a size in px."""
    return f"{size[0]}x{size[1]}"
