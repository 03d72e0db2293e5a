"""One mask: decoded, brought to its photograph's orientation and size, made binary, or refused with a reason code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.data.images import (
    EXIF_TRANSPOSE,
    MAX_PIXELS,
    Adjustment,
    ItemError,
    Photograph,
    open_image,
    same_aspect,
    size_text,
    without_alpha,
)

SOFT_BAND = (0.1, 0.9)
"""Grey levels, as shares of a mask's range, between which a pixel is neither background nor lesion."""
MAX_SOFT_SHARE = 0.05
"""Share of such pixels up to which a mask counts as an anti-aliased outline; above, it is a soft or multi-class map."""


def load_mask(
    path: Path, photograph: Photograph, *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, list[Adjustment]]:
    """Decode a mask, bring it to the photograph's orientation and size, and make it binary.

    Args:
        path: a file in one of `FORMATS`.
        photograph: the photograph it belongs to.
        max_pixels: as in `load_photograph`.

    Returns:
        The mask, mode L with the values 0 and 255 and the photograph's size, and what was done to it.

    Raises:
        ItemError: another aspect, coloured, soft, empty or full, or its orientation cannot be told.
    """
    image, orientation, _ = open_image(path, max_pixels)
    adjustments: list[Adjustment] = []
    if orientation != 1:
        image = image.transpose(EXIF_TRANSPOSE[orientation])
        adjustments.append(Adjustment("mask_exif_rotated", f"orientation {orientation}"))
    elif photograph.orientation != 1:
        image = _orient_mask(image, photograph, adjustments)
    if not same_aspect(image.size, photograph.image.size):
        raise ItemError("mask_aspect", f"mask {size_text(image.size)}, image {size_text(photograph.image.size)}")
    lesion = _binarise(image, adjustments)
    if not lesion.any():
        raise ItemError("mask_empty", "no lesion pixel")
    if lesion.all():
        raise ItemError("mask_full", "no background pixel")
    mask = Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0)))
    if mask.size != photograph.image.size:
        detail = f"{size_text(mask.size)} to {size_text(photograph.image.size)}, nearest neighbour"
        adjustments.append(Adjustment("mask_resized", detail))
        mask = mask.resize(photograph.image.size, Image.Resampling.NEAREST)
    return mask, adjustments


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


def _binarise(mask: Image.Image, adjustments: list[Adjustment]) -> NDArray[np.bool_]:
    """Return the lesion [h, w] of a mask that is binary or has an anti-aliased outline."""
    values = _grey(mask, adjustments)
    levels = np.unique(values)
    peak = int(levels[-1])
    if len(levels) == 1:
        # One value alone: 0 is no lesion, the type's largest value is all lesion.
        return np.full(values.shape, peak > 0)
    if len(levels) == 2:
        if levels[0] != 0:
            raise ItemError("mask_levels", f"the two values {int(levels[0])} and {peak}; expected 0 for background")
        if peak not in (1, 255):
            adjustments.append(Adjustment("mask_rescaled", f"values 0 and {peak} to 0 and 255"))
        return values > 0
    low, high = (bound * peak for bound in SOFT_BAND)
    soft = float(((values > low) & (values < high)).mean())
    if soft > MAX_SOFT_SHARE:
        raise ItemError(
            "mask_soft", f"{soft:.1%} of the pixels between background and lesion, {len(levels)} grey levels"
        )
    adjustments.append(Adjustment("mask_binarised", f"{len(levels)} grey levels, threshold {peak / 2:g}"))
    return values > peak / 2


def _grey(mask: Image.Image, adjustments: list[Adjustment]) -> NDArray[np.integer]:
    """Return a mask's values [h, w]; colour or palette only where its grey meaning is plain."""
    if mask.mode == "P":
        indices = np.asarray(mask)
        if len(np.unique(indices)) <= 2 and indices.min() == 0:
            adjustments.append(Adjustment("mask_from_palette", "index 0 is background"))
            return indices
        mask = mask.convert("RGBA" if "transparency" in mask.info else "RGB")
    if mask.mode in ("LA", "RGBA", "PA"):
        mask = without_alpha(mask, adjustments)
    if mask.mode in ("RGB", "CMYK", "YCbCr"):
        channels = np.asarray(mask.convert("RGB")).astype(np.int16)
        if int(np.ptp(channels, axis=2).max()) > 0:
            raise ItemError("mask_coloured", "channels differ; expected one grey channel, 0 background and 255 lesion")
        adjustments.append(Adjustment("mask_from_rgb", "three equal channels"))
        return channels[..., 0]
    if mask.mode in ("1", "L", "I") or mask.mode.startswith("I;16"):
        return np.asarray(mask).astype(np.int64)
    raise ItemError("colour_mode", f"mask of mode {mask.mode}")
