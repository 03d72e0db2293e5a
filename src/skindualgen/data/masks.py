"""One mask: read, brought to its photograph's orientation and size, made binary, or refused with a reason code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skindualgen.data.arrays import Values, mask_items
from skindualgen.data.decoding import (
    EXIF_TRANSPOSE,
    MAX_PIXELS,
    Adjustment,
    Decoded,
    ItemError,
    decode,
    without_palette,
)
from skindualgen.data.images import Photograph, same_aspect, size_text
from skindualgen.data.mask_classes import from_labels
from skindualgen.data.mask_levels import lesion_of

LESION_ABOVE = 127
"""Grey level of a mask above which a pixel is lesion, where a mask is no longer of 0 and 255 alone."""
RESIZED = "mask_resized"
LOOKS_INVERTED = "mask_looks_inverted"
"""Adjustment code of a mask whose four corners are lesion: reported, never corrected."""
BLACK_BELOW = 9
"""Grey level below which a pixel of a picture is black: JPEG of usual quality changes levels by that much."""
ONE_COLOUR = 6
"""Distance from the middle of a colour, in each channel, up to which pixels have that colour."""
MASK_SHARE = 0.95
"""Share of the pixels that are black or of one other colour from which a picture is a mask; of photographs with dark
corners, skin varies more."""
SAMPLED_SIDE_PX = 256
"""Shorter side of the grid of pixels that are looked at."""
LINE_SHARE = 0.5
"""Share of what it encloses, itself included, up to which a mask may be a line around a lesion."""
LINE_WIDTH = 0.06
"""Width of a line at most, as a share of the shorter side."""


def load_mask(
    source: Path | bytes | Image.Image | Any,
    photograph: Photograph | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    allow_uniform: bool = False,
    labels: Mapping[str, int] | None = None,
) -> tuple[Image.Image, list[Adjustment]]:
    """Read a mask, whatever holds it, bring it to its photograph's orientation and size, and make it binary.

    Args:
        source: a file in one of `skindualgen.data.images.FORMATS`, its content, a picture of Pillow's, or one array or
            tensor, as `skindualgen.data.arrays.mask_items` takes it; `skindualgen.data.mask_levels` reads its levels.
        photograph: the photograph it belongs to; without it, the mask keeps its size.
        max_pixels: as in `skindualgen.data.images.load_photograph`.
        allow_uniform: take a mask without any lesion, or without anything else, as well.
        labels: name -> level of the classes of a label map, see `skindualgen.data.mask_classes.from_labels`; None: the
            lesion alone.

    Returns:
        The mask, mode L with the values 0 and 255 (or the classes' own levels) and the photograph's size, and what was
        done to it.

    Raises:
        ItemError: another aspect, several colours, soft or with more than two labels, empty or full, or its orientation
            is not known; or a line around a lesion.
    """
    adjustments: list[Adjustment] = []
    if not isinstance(source, (Path, bytes, Image.Image)):
        items = mask_items(source)
        if len(items) != 1:
            raise ItemError("array_shape", f"{len(items)} masks where one is read")
        source = items[0]
    decoded = None
    if isinstance(source, (Path, bytes, Image.Image)):
        decoded = decode(source, max_pixels)
        source = _values(decoded, adjustments) if labels is None else _labels(decoded)
    if labels is None:
        levels = np.where(lesion_of(source, adjustments), np.uint8(255), np.uint8(0))
    else:
        levels = from_labels(source, labels)
    if not allow_uniform and not levels.any():
        raise ItemError("mask_empty", "no lesion pixel")
    if not allow_uniform and levels.all():
        raise ItemError("mask_full", "no background pixel")
    if not allow_uniform and labels is None:
        _refuse_line(levels)
    mask = Image.fromarray(levels)
    if decoded is not None and decoded.orientation != 1:
        adjustments.append(Adjustment("mask_exif_rotated", f"orientation {decoded.orientation}"))
    elif photograph is not None and photograph.orientation != 1:
        mask = _orient_mask(mask, photograph, adjustments)
    if photograph is not None:
        mask = _fit_mask(mask, photograph, adjustments)
    _note_inverted(mask, adjustments)
    return mask, adjustments


def looks_like_mask(picture: Image.Image) -> str | None:
    """Return what shows that a picture, RGB, is a mask that was taken for a photograph; None if nothing does.

    Such pictures are black and one other colour, or have no level above the first few, as label maps.
    """
    step = max(1, min(picture.size) // SAMPLED_SIDE_PX)
    values = np.asarray(picture)[::step, ::step].reshape(-1, 3).astype(np.int16)
    peaks = values.max(axis=1)
    if 0 < peaks.max() < BLACK_BELOW:
        return f"levels from 0 to {peaks.max()} alone"
    rest = values[peaks >= BLACK_BELOW]
    if len(rest) in (0, len(values)):
        return None
    colour = np.median(rest, axis=0).round().astype(int)
    share = (len(values) - len(rest) + (np.abs(rest - colour) <= ONE_COLOUR).all(axis=1).sum()) / len(values)
    return f"{share:.1%} of it black or {tuple(colour.tolist())}" if share >= MASK_SHARE else None


def _refuse_line(levels: NDArray[np.uint8]) -> None:
    """Refuse a mask [h, w] that is a closed line: its pixels are a lesion's edge, and the lesion lies inside.

    Raises:
        ItemError: with the code "mask_line".
    """
    small = Image.fromarray(levels).reduce(max(1, min(levels.shape) // SAMPLED_SIDE_PX))
    line = np.asarray(small) > 0  # a line of one pixel stays whole
    share = line.sum() / ndimage.binary_fill_holes(line).sum()
    if share > LINE_SHARE:
        return
    width = 2 * ndimage.distance_transform_edt(np.pad(line, 1)).max()
    if width <= max(3, LINE_WIDTH * min(line.shape)):
        raise ItemError("mask_line", f"a line that is {share:.0%} of what it encloses")


def lesion_pixels(mask: Image.Image) -> NDArray[np.bool_]:
    """The lesion [h, w] of a mask of any grey levels: above `LESION_ABOVE`."""
    return np.asarray(mask.convert("L")) > LESION_ABOVE


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bring a mask, L with 0 and 255, to another size (width, height) by nearest neighbour.

    Raises:
        ItemError: it has both lesion and background, and one of them is lost.
    """
    resized = mask.resize(size, Image.Resampling.NEAREST)
    before, after = mask.getextrema(), resized.getextrema()
    if before != after and after[0] == after[1]:
        lost, code = ("background", "mask_full") if after[0] else ("lesion", "mask_empty")
        raise ItemError(code, f"no {lost} pixel is left of {size_text(mask.size)} px at {size_text(size)} px")
    return resized


def _values(decoded: Decoded, adjustments: list[Adjustment]) -> Values:
    """A decoded mask's numbers [h, w], [h, w, 3] or [h, w, 4]; a palette stands for its colours."""
    image = decoded.image
    if decoded.lower_bits_lost:
        raise ItemError("bit_depth", f"16 bits in mode {image.mode}, of which the upper 8 alone can be read")
    if image.mode == "P":
        adjustments.append(Adjustment("mask_from_palette", "read by its colours"))
        image = without_palette(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    if image.mode in ("1", "L", "I", "F", "RGB", "RGBA") or image.mode.startswith("I;16"):
        return np.asarray(image)
    raise ItemError("colour_mode", f"mask of mode {image.mode}")


def _labels(decoded: Decoded) -> Values:
    """The numbers of a label map: grey levels, or places in the palette."""
    if decoded.image.mode not in ("1", "L", "P", "RGB") or decoded.bits == 16:
        raise ItemError("colour_mode", f"mask of mode {decoded.image.mode}; label maps are grey or have a palette")
    return np.asarray(decoded.image)


def _orient_mask(mask: Image.Image, photograph: Photograph, adjustments: list[Adjustment]) -> Image.Image:
    """Turn a mask that was drawn on the stored pixels; one drawn on the upright photograph stays."""
    fits_upright = same_aspect(mask.size, photograph.image.size)
    fits_stored = same_aspect(mask.size, photograph.stored_size)
    if fits_upright and fits_stored:
        raise ItemError(
            "mask_orientation",
            f"the image has EXIF orientation {photograph.orientation}, its mask fits both upright and stored pixels; "
            "store the image upright",
        )
    if not fits_stored:
        return mask
    adjustments.append(Adjustment("mask_rotated", f"as the image's EXIF orientation {photograph.orientation}"))
    return mask.transpose(EXIF_TRANSPOSE[photograph.orientation])


def _fit_mask(mask: Image.Image, photograph: Photograph, adjustments: list[Adjustment]) -> Image.Image:
    if not same_aspect(mask.size, photograph.image.size):
        raise ItemError("mask_aspect", f"mask {size_text(mask.size)}, image {size_text(photograph.image.size)}")
    if mask.size == photograph.image.size:
        return mask
    detail = f"{size_text(mask.size)} to {size_text(photograph.image.size)}, nearest neighbour"
    adjustments.append(Adjustment(RESIZED, detail))
    return resize_mask(mask, photograph.image.size)


def _note_inverted(mask: Image.Image, adjustments: list[Adjustment]) -> None:
    values = np.asarray(mask)
    if values[[0, 0, -1, -1], [0, -1, 0, -1]].all() and not values.all():
        adjustments.append(Adjustment(LOOKS_INVERTED, "all four corners are lesion: kept as it is"))
