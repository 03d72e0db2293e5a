"""Deforms masks a little, so that photographs can be drawn for more outlines than were given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skindualgen.planning.anchors import Jitter

MAX_SCALE, MAX_SHIFT = 0.15, 0.08
"""of the lesion's size, and of the picture's side"""
ELASTIC_PX, ELASTIC_SMOOTH = 0.05, 0.1
"""standard deviation of the displacement and of the smoothing, of the picture's side"""
LEAST_KEPT = 0.5
"""share of a lesion's area that a deformation leaves, or it is halved and tried again"""
ATTEMPTS = 4


def jittered(mask: Image.Image, ways: Sequence[Jitter], seed: int) -> Image.Image:
    """A mask deformed as the seed says; the given one where every attempt pushes most of the lesion out of the frame.

    Args:
        mask: L, 0 or 255, square.
        ways: "affine": turned by any angle, mirrored, larger or smaller, moved; "elastic": pulled about smoothly.
        seed: of the pair.
    """
    lesion = np.asarray(mask) > 0
    if not ways or not lesion.any():
        return mask
    for attempt in range(ATTEMPTS):
        amount = 0.5**attempt
        places = _places(lesion, ways, np.random.default_rng([seed, 1]), amount)
        moved = ndimage.map_coordinates(lesion.astype(np.uint8), places, order=0, mode="constant") > 0
        if moved.sum() >= LEAST_KEPT * lesion.sum():
            return Image.fromarray(moved.astype(np.uint8) * 255)
    return mask


def _places(
    lesion: NDArray[np.bool_], ways: Sequence[Jitter], rng: np.random.Generator, amount: float
) -> NDArray[np.float64]:
    """Where each pixel of the result is read, [2, h, w]."""
    side = lesion.shape[0]
    places = np.indices(lesion.shape).astype(np.float64)
    if "affine" in ways:
        angle, mirrored = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
        scale = 1 + amount * rng.uniform(-MAX_SCALE, MAX_SCALE)
        shift = amount * rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * side
        centre = np.array(ndimage.center_of_mass(lesion))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
        if mirrored:
            turn = turn @ np.diag([1.0, -1.0])
        offset = places - (centre + shift)[:, None, None]
        places = np.einsum("ij,jhw->ihw", turn, offset) + centre[:, None, None]
    if "elastic" in ways:
        noise = rng.standard_normal((2, *lesion.shape))
        smooth = np.stack([ndimage.gaussian_filter(each, ELASTIC_SMOOTH * side, mode="wrap") for each in noise])
        places = places + amount * ELASTIC_PX * side * smooth / smooth.std()
    return places
