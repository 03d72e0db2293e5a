"""Mask <-> code: a signed distance field on a quarter grid, four numbers per latent cell, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

GRID_PX = 4
"""The field is stored on a grid of one value per 4 x 4 px ..."""
UNSHUFFLE = 2
"""... of which 2 x 2 make the channels of one latent cell, 8 x 8 px."""
CELL_PX = GRID_PX * UNSHUFFLE
CODE_CHANNELS = UNSHUFFLE**2
TRUNCATION_SHARE = 1 / 16
"""distance, as a share of the shorter side, at which the field reaches tanh(1) = 0.76"""
CODE_MEAN, CODE_STD = -0.485, 0.747
"""mean and standard deviation of the field's quarter grid over real ISIC 2017 masks"""


class MaskCodec(Protocol):
    """What the model needs of a mask codec; one code per class, so k classes make k * ``channels`` channels."""

    channels: int

    def encode(self, masks: Tensor) -> Tensor:
        """Masks [b, k, h, w] in {0, 1} to codes [b, k * channels, h/8, w/8] of about unit variance."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to fields [b, k, h, w] in about [-1, 1]: lesion where > 0. Differentiable."""


@dataclass(frozen=True)
class SignedDistanceCodec:
    """Truncated signed distance, averaged to a quarter grid, pixel-unshuffled by 2, standardised.

    Dice after a round trip of 520 ISIC 2017 masks (docs/results/codec.md): .991 mean and .979 at the 5th percentile at
    128 px, .994 and .983 at 256 px.
    """

    channels: int = CODE_CHANNELS
    mean: float = CODE_MEAN
    std: float = CODE_STD

    def encode(self, masks: Tensor) -> Tensor:
        field = signed_distance_field(masks)  # [b, k, h, w]
        grid = F.avg_pool2d(field, GRID_PX)  # [b, k, h/4, w/4]
        return (F.pixel_unshuffle(grid, UNSHUFFLE) - self.mean) / self.std  # [b, 4k, h/8, w/8]

    def decode(self, codes: Tensor) -> Tensor:
        grid = F.pixel_shuffle(codes.float() * self.std + self.mean, UNSHUFFLE)  # [b, k, h/4, w/4]
        return F.interpolate(grid, scale_factor=GRID_PX, mode="bicubic", align_corners=False)  # [b, k, h, w]


@dataclass(frozen=True)
class AutoencoderCodec:
    """The base's own image autoencoder as a mask codec, the mask as a grey picture: what other methods do.

    Kept for comparison. ``channels`` is the autoencoder's latent width.
    """

    autoencoder: Any
    channels: int = 4

    def encode(self, masks: Tensor) -> Tensor:
        b, k = masks.shape[:2]
        grey = (masks * 2 - 1).flatten(0, 1)[:, None].expand(-1, 3, -1, -1)  # [bk, 3, h, w]
        codes = self.autoencoder.encode(grey).latent_dist.mode() * self.autoencoder.config.scaling_factor
        return codes.unflatten(0, (b, k)).flatten(1, 2)  # [b, ck, h/8, w/8]

    def decode(self, codes: Tensor) -> Tensor:
        b = codes.shape[0]
        codes = codes.unflatten(1, (-1, self.channels)).flatten(0, 1)  # [bk, c, h/8, w/8]
        grey = self.autoencoder.decode(codes / self.autoencoder.config.scaling_factor).sample
        return grey.mean(1).unflatten(0, (b, -1))  # [b, k, h, w]


DEFAULT_CODEC = SignedDistanceCodec()


def signed_distance_field(masks: Tensor) -> Tensor:
    """Truncated signed distance to the contour, tanh(d / (shorter side / 16)): positive inside the lesion.

    A pixel's distance is the Euclidean one to the nearest pixel centre on the other side, less the half pixel from
    there to the contour: exact along rows and columns. An empty mask is -1 everywhere, a full one +1.

    Args:
        masks: [b, k, h, w] in {0, 1}; h and w multiples of 8.

    Returns:
        [b, k, h, w] float32 in [-1, 1], on the device of ``masks``.
    """
    _, _, h, w = masks.shape
    if h % CELL_PX or w % CELL_PX:
        raise ValueError(f"mask size {h} x {w}; expected multiples of {CELL_PX} px")
    inside = (masks > 0.5).cpu().numpy()
    field = np.empty(inside.shape, np.float32)
    for index in np.ndindex(inside.shape[:2]):
        field[index] = _distance_to_contour(inside[index])
    return torch.tanh(torch.from_numpy(field) / (min(h, w) * TRUNCATION_SHARE)).to(masks.device)


def _distance_to_contour(inside: np.ndarray) -> np.ndarray:
    """Signed distance in px of [h, w]; the contour runs half a pixel from the centres on both of its sides."""
    if not inside.any():
        return np.full(inside.shape, -np.inf, np.float32)
    if inside.all():
        return np.full(inside.shape, np.inf, np.float32)
    outward = ndimage.distance_transform_edt(~inside)
    inward = ndimage.distance_transform_edt(inside)
    return np.where(inside, inward - 0.5, 0.5 - outward)


def mask_to_code(masks: Tensor) -> Tensor:
    """Masks [b, k, h, w] in {0, 1} to standardised codes [b, 4k, h/8, w/8]; h and w multiples of 8."""
    return DEFAULT_CODEC.encode(masks)


def code_to_sdf(codes: Tensor) -> Tensor:
    """Codes [b, 4k, h/8, w/8] to truncated signed distance fields [b, k, h, w]. Differentiable."""
    return DEFAULT_CODEC.decode(codes)


def code_to_mask(codes: Tensor) -> Tensor:
    """Codes [b, 4k, h/8, w/8] to masks [b, k, h, w] in {0, 1}, float32."""
    return (code_to_sdf(codes) > 0).float()


def flip_code(codes: Tensor, dims: list[int]) -> Tensor:
    """The code of the flipped mask: [b, 4k, h/8, w/8] along ``dims`` (-2 rows, -1 columns), on the field's grid."""
    if not dims:
        return codes
    return F.pixel_unshuffle(F.pixel_shuffle(codes, UNSHUFFLE).flip(dims), UNSHUFFLE)


def clean_mask(mask: np.ndarray) -> np.ndarray:
    """Keep the largest 4-connected lesion region and fill its holes: [h, w] bool -> bool. Empty stays empty.

    Removes speckle that sampling can leave. Its effect is measured in docs/results/codec.md; switch it off where
    lesions are known to come in several parts.
    """
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask.astype(bool)
    sizes = np.bincount(labels.ravel())[1:]
    return ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
