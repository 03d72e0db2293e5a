"""Which pixels of a mask are lesion: by its colours and levels, and by nothing else.

A mask is binary (black and one other colour), or has an outline that is anti-aliased or lossy between black and one
colour. Few levels far apart are classes, or a rim that is to be ignored: which of them is lesion, only its author can
say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skindualgen.data.arrays import Values, check_finite, opaque_alpha
from skindualgen.data.decoding import Adjustment, ItemError

SOFT_BAND = (0.1, 0.9)
"""Levels, as shares of a mask's largest, between which a pixel is neither background nor lesion."""
MAX_SOFT_SHARE = 0.05
"""Share of such pixels up to which a mask counts as one with a soft outline; above, it is a map of probabilities."""
FEW_LEVELS = 8
"""Up to this number, levels are labels, unless all lie at the two ends, as in a mask of little loss."""
AT_AN_END = 0.03
"""How far from an end, as a share of the largest level: JPEG and WebP of the best qualities change levels by 1 or 2."""
MAX_FLAT_SHARE = 0.1
"""Share of the pixels between the ends that may lie amid pixels of their own level: an outline has next to none, a
region with a label has mostly such."""
COLOUR_TOLERANCE = 0.1
"""Distance of a pixel from the line between black and the lesion's colour, as a share of the largest value: lossy WebP
of grey masks has up to 0.01."""
SHOWN_LEVELS = 6


def lesion_of(values: Values, adjustments: list[Adjustment]) -> NDArray[np.bool_]:
    """Return the lesion [h, w] of a mask's numbers [h, w], [h, w, 3] or [h, w, 4], noting what was read from what.

    A mask of black alone has no lesion, one of the largest value alone has nothing else.

    Raises:
        ItemError: the numbers do not say what is lesion; the detail has levels or colours and their shares.
    """
    check_finite(values)
    levels_of = _levels(values, adjustments)
    levels, counts = _counted(levels_of)
    if levels[0] < 0:
        raise ItemError("mask_levels", f"values from {levels[0]:g} to {levels[-1]:g}")
    peak = levels[-1]
    if len(levels) == 1:
        whole = 1.0 if levels_of.dtype.kind in "fb" else float(np.iinfo(levels_of.dtype).max)
        if peak not in (0, 1, whole):
            raise ItemError("mask_levels", f"the one value {peak:g}, values from {peak:g} to {peak:g}")
        return np.full(levels_of.shape, peak > 0)
    if levels[0] != 0 and len(levels) == 2:
        raise ItemError("mask_levels", f"the two values {levels[0]:g} and {peak:g}; expected 0 for background")
    if len(levels) == 2:
        if peak not in (1, 255):
            adjustments.append(Adjustment("mask_rescaled", f"values 0 and {peak:g} to 0 and 255"))
        return levels_of > 0
    _refuse_labels(levels_of, levels, counts)
    adjustments.append(Adjustment("mask_binarised", f"{len(levels)} grey levels, threshold {peak / 2:g}"))
    return levels_of > peak / 2


def _refuse_labels(levels_of: Values, levels: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
    """Refuse three and more levels that are no outline between two."""
    between = levels[1:-1] / levels[-1] if levels[0] == 0 else levels[:-1] / levels[-1]
    low, high = between < SOFT_BAND[0], between > SOFT_BAND[1]
    at_ends = (between <= AT_AN_END).any() and (between >= 1 - AT_AN_END).any()
    at_ends = at_ends and bool(((between <= AT_AN_END) | (between >= 1 - AT_AN_END)).all())
    if (len(levels) <= FEW_LEVELS and not at_ends) or low.all():
        raise ItemError("mask_levels", f"{shares_text(levels, counts)}: classes, or a rim to be ignored?")
    peak = float(levels[-1])
    soft = (levels_of > SOFT_BAND[0] * peak) & (levels_of < SOFT_BAND[1] * peak)
    share = float(soft.mean())
    if share > MAX_SOFT_SHARE:
        raise ItemError("mask_soft", f"{share:.1%} of the pixels between background and lesion, {len(levels)} levels")
    if not (low | high).all() and float(_flat(levels_of)[soft].mean()) > MAX_FLAT_SHARE:
        raise ItemError("mask_levels", f"{shares_text(levels, counts)}: whole regions between the ends")


def _flat(values: Values) -> NDArray[np.bool_]:
    """Pixels [h, w] whose eight neighbours have their own value."""
    padded = np.pad(values, 1, mode="edge")
    h, w = values.shape
    around = [padded[y : y + h, x : x + w] == values for y in range(3) for x in range(3)]
    return np.logical_and.reduce(around)


def shares_text(levels: Sequence[float] | NDArray[np.float64], counts: NDArray[np.int64]) -> str:
    """Levels with the share of the pixels that each has, the commonest first where they are many."""
    order = np.argsort(-counts, kind="stable")[:SHOWN_LEVELS]
    shown = ", ".join(f"{levels[place]:g} ({counts[place] / counts.sum():.1%})" for place in sorted(order))
    more = f" and {len(levels) - SHOWN_LEVELS} more" if len(levels) > SHOWN_LEVELS else ""
    return f"{len(levels)} levels, {shown}{more}"


def _counted(values: Values) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Levels, ascending, and how many pixels have each."""
    if values.dtype.kind == "b" or values.dtype in (np.uint8, np.uint16):
        counts = np.bincount(values.ravel().astype(np.int64))
        levels = np.flatnonzero(counts)
        return levels.astype(np.float64), counts[levels]
    levels, counts = np.unique(values, return_counts=True)
    return levels.astype(np.float64), counts


def _levels(values: Values, adjustments: list[Adjustment]) -> Values:
    """A mask's grey values [h, w]; of colours, how much of the one on black a pixel has."""
    if values.ndim == 3 and values.shape[-1] == 4:
        values = _without_alpha(values, adjustments)
    if values.ndim == 2:
        return values
    if (values == values[..., :1]).all():
        adjustments.append(Adjustment("mask_from_rgb", "three equal channels"))
        return values[..., 0]
    return _amount_of_colour(values, adjustments)


def _without_alpha(values: Values, adjustments: list[Adjustment]) -> Values:
    """The colours of an opaque mask; the alpha of one that is painted in one colour on nothing."""
    alpha, colours = values[..., 3], values[..., :3]
    if (alpha == opaque_alpha(values)).all():
        adjustments.append(Adjustment("alpha_dropped", "fully opaque"))
        return colours
    share = float((alpha < opaque_alpha(values)).mean())
    visible = colours[alpha > 0]
    if not len(visible) or (visible != visible[0]).any():
        raise ItemError("transparent", f"{share:.1%} of the pixels are transparent, and what is not has many colours")
    if not visible[0].any():
        raise ItemError("transparent", f"black, and {share:.1%} of the pixels transparent: either may be the lesion")
    adjustments.append(Adjustment("mask_from_alpha", f"{_colour_text(visible[0])} on nothing"))
    return alpha


def _amount_of_colour(values: Values, adjustments: list[Adjustment]) -> Values:
    """The share [h, w] of the one colour in the pixels of a mask on black, 0 to 255, its outline perhaps of both."""
    rgb = values.astype(np.float32)
    peak = rgb.max()
    strong = rgb.max(axis=-1) >= peak / 2
    found, counts = _colours(values[strong])
    colour = found[counts.argmax()].astype(np.float32)
    amount = (rgb @ colour) / (colour @ colour)
    if np.abs(rgb - amount[..., None] * colour).max() > COLOUR_TOLERANCE * peak:
        raise ItemError("mask_coloured", _colours_text(values))
    adjustments.append(Adjustment("mask_from_colour", f"{_colour_text(colour)} on black"))
    return np.round(amount.clip(0, 1) * 255).astype(np.uint8)


def _colours(pixels: Values) -> tuple[Values, NDArray[np.int64]]:
    """The different colours of pixels [n, 3], and how many have each."""
    if pixels.dtype != np.uint8:
        return np.unique(pixels, axis=0, return_counts=True)
    codes, counts = np.unique(pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1), counts


def _colours_text(values: Values) -> str:
    found, counts = _colours(values.reshape(-1, 3))
    order = np.argsort(-counts, kind="stable")[:SHOWN_LEVELS]
    shown = ", ".join(f"{_colour_text(found[place])} {counts[place] / counts.sum():.1%}" for place in order)
    more = f" and {len(found) - SHOWN_LEVELS} more" if len(found) > SHOWN_LEVELS else ""
    return f"{len(found)} colours: {shown}{more}"


def _colour_text(colour: NDArray[np.generic]) -> str:
    return f"({', '.join(f'{float(channel):g}' for channel in colour)})"
