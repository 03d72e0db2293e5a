"""Copies that were compressed, cropped, recoloured, flipped or turned: photographs compared after laying them together.

Network features see the traces of JPEG compression before they see the lesion, and perceptual hashes lose a crop. So
every photograph is laid over its likeliest originals at small shifts and scales, and the fine pattern is correlated. A
small dark spot on plain skin correlates with every other such spot; what tells a copy is that ONE reference photograph
fits far better than the next ones do.

Source: the ratio to the mean over the neighbours follows Carlini et al., Extracting training data from diffusion
models, USENIX Security 2023.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from skindualgen.contracts import InputError
from skindualgen.data.images import LUMA
from skindualgen.judges.features import dihedral_views
from skindualgen.judges.neighbours import Neighbours

CANDIDATES = 10
"""Reference photographs, likeliest by thumbnail, over which each photograph is laid."""

THUMBNAIL_PX = 16
CROP = 0.05
"""Share of the side that a crop may have taken away, and by which scales differ."""

DETAIL_PX = 64
PATTERN_SIGMAS_PX = (0.7, 4.0)
"""Gaussians whose difference is the pattern: finer is noise and compression, coarser is light and vignette."""

BLOCK = 256
"""Photographs whose thumbnails are compared at a time; bounds the memory."""

MARGIN_PX = 8
"""Edge of the picture that is not compared: dark corners, and room for shifts."""

SHIFT_PX = 5
"""Largest shift, 8 % of the side."""

TEMPLATE_PX = DETAIL_PX - 2 * MARGIN_PX
BLANK = 1.0
"""Root of the summed squares of a pattern in grey levels, below which it is rounding and fits nothing."""

NO_DIFFERENCE = 0.05
"""1 - correlation below which two patterns are the same: compressed or recoloured copies stay below 0.02, unrelated
photographs have about 0.4. It keeps the ratio defined where the reference itself holds one photograph many times."""

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]


def nearest_aligned(images: Images, reference: Images, *, within: bool = False) -> Neighbours:
    """Find for each photograph the reference photograph that fits best once laid over it.

    Args:
        images: [n, s, s, 3].
        reference: [m, t, t, 3], 2 or more.
        within: the two are the same set, and no photograph is compared with itself.

    Returns:
        Position of the best fit, and as distance the ratio (1 - its correlation) / (mean of 1 - correlation of the
        other candidates): 0 for a copy, towards 1 where several references fit alike.

    Raises:
        InputError: fewer than 2 photographs to compare with.
    """
    others = len(reference) - within
    if others < 2:
        raise InputError(f"{others} reference photographs", "2 or more to compare with", "add photographs")
    candidates, views = _candidates(images, reference, min(CANDIDATES, others), within)
    patterns = _patterns(reference, DETAIL_PX)
    scaled = [_patterns(images, round(DETAIL_PX * scale)) for scale in (1, 1 - CROP, 1 + CROP)]
    index, ratio = np.zeros(len(images), np.int64), np.zeros(len(images))
    for i, (chosen, turned) in enumerate(zip(candidates, views, strict=True)):
        templates = np.stack([_template(pattern[i]) for pattern in scaled])  # [scales, size, size]
        misfit = np.array([_misfit(_view(templates, v), patterns[k]) for k, v in zip(chosen, turned, strict=True)])
        best = misfit.argmin()
        index[i] = chosen[best]
        ratio[i] = misfit[best] / max(float(np.delete(misfit, best).mean()), NO_DIFFERENCE)
    return Neighbours(index, ratio)


def _candidates(
    images: Images, reference: Images, count: int, within: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Likeliest references [n, count] by thumbnail, and for each the view of the photograph that fits, as 0 to 7."""
    side = reference.shape[1]
    cut = max(1, round(side * CROP))
    starts = [(0, 0), (0, cut), (cut, 0), (cut, cut), (cut // 2, cut // 2)]
    crops = [reference, *(reference[:, y : y + side - cut, x : x + side - cut] for y, x in starts)]
    known = [thumbnails(crop) for crop in crops]
    chosen, views = [], []
    for start in range(0, len(images), BLOCK):
        turned = [thumbnails(view) for view in dihedral_views(images[start : start + BLOCK])]
        scores = np.stack([np.max([view @ crop.T for crop in known], axis=0) for view in turned])  # [8, block, m]
        best = scores.max(0)
        if within:
            rows = np.arange(len(best))
            best[rows, start + rows] = -np.inf
        chosen.append(np.argsort(-best, axis=1, kind="stable")[:, :count])
        views.append(np.take_along_axis(scores.argmax(0), chosen[-1], axis=1))
    return np.concatenate(chosen), np.concatenate(views)


def resized(images: Images, side_px: int) -> torch.Tensor:
    """Return photographs [n, h, w, 3] at a side in px, antialiased: [n, 3, side, side] in grey levels."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return F.interpolate(pixels, (side_px, side_px), mode="bicubic", antialias=True)  # [n, 3, side, side]


def thumbnails(images: Images) -> Floats:
    """Return thumbnails [n, 3 * 16 * 16] without each channel's mean, of length 1: their products are correlations."""
    small = resized(images, THUMBNAIL_PX)
    small = (small - small.mean((2, 3), keepdim=True)).flatten(1)
    return np.asarray(F.normalize(small).numpy())


def _patterns(images: Images, side_px: int) -> Floats:
    """Grey pictures [n, side, side] between the two Gaussians."""
    grey = np.tensordot(resized(images, side_px).numpy(), LUMA, (1, 0))
    fine, coarse = (ndimage.gaussian_filter(grey, (0, sigma, sigma)) for sigma in PATTERN_SIGMAS_PX)
    return np.asarray(fine - coarse)


def _template(pattern: Floats) -> Floats:
    """The middle of a pattern, without its mean and of length 1."""
    start = (len(pattern) - TEMPLATE_PX) // 2
    middle = pattern[start : start + TEMPLATE_PX, start : start + TEMPLATE_PX]
    middle = middle - middle.mean()
    return np.asarray(middle / max(float(np.linalg.norm(middle)), BLANK))


def _view(templates: Floats, view: int) -> Floats:
    """Flip and turn as `dihedral_views` does; light and scale do not depend on how a picture lies."""
    turned = np.rot90(templates, view // 2, axes=(1, 2))
    return turned[:, :, ::-1] if view % 2 else turned


def _misfit(templates: Floats, pattern: Floats) -> float:
    """1 - the highest correlation of the templates [k, size, size] with a reference's pattern, at any shift."""
    near = pattern[MARGIN_PX - SHIFT_PX : SHIFT_PX - MARGIN_PX, MARGIN_PX - SHIFT_PX : SHIFT_PX - MARGIN_PX]
    windows = sliding_window_view(near, (TEMPLATE_PX, TEMPLATE_PX)).reshape(-1, TEMPLATE_PX**2)  # [shifts, size^2]
    squares = np.einsum("ij,ij->i", windows, windows) - TEMPLATE_PX**2 * np.square(windows.mean(1))
    lengths = np.sqrt(np.maximum(squares, BLANK**2))
    products = windows @ templates.reshape(len(templates), -1).T  # [shifts, k]
    return max(0.0, 1 - float((products / lengths[:, None]).max()))
