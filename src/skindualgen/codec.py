"""Mask <-> code; by default a signed distance field on a quarter grid, four numbers per latent cell, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from skindualgen.contracts import InputError

GRID_PX = 4
"""The field is stored on a grid of one value per 4 x 4 px ..."""
UNSHUFFLE = 2
"""... of which 2 x 2 make the channels of one latent cell, 8 x 8 px."""
CELL_PX = GRID_PX * UNSHUFFLE
CODE_CHANNELS = UNSHUFFLE**2
"""of the code of one class"""
TRUNCATION_SHARE = 1 / 16
"""distance, as a share of the shorter side, at which the field reaches tanh(1) = 0.76"""
CODE_MEAN, CODE_STD = -0.485, 0.747
"""mean and standard deviation of the field's quarter grid over real ISIC 2017 masks"""


class MaskCodec(Protocol):
    """What the model needs of a mask codec. One code a class: k classes make k * ``channels`` channels.

    ``name``, ``mean`` and ``std`` are what an adapter records of it (`codec_record`) and what rebuilds it
    (`make_codec`); what ``repr`` says of it is part of the name of a cache of encoded pairs.
    """

    name: ClassVar[str]

    @property
    def channels(self) -> int:
        """Of the code of one class."""

    @property
    def mean(self) -> float:
        """Of an unstandardised code, over masks."""

    @property
    def std(self) -> float:
        """Standard deviation of an unstandardised code, over masks."""

    def encode(self, masks: Tensor) -> Tensor:
        """Masks [b, k, h, w] in {0, 1} to codes [b, k * channels, h/8, w/8] of about unit variance."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to fields [b, k, h, w] in about [-1, 1]: inside where > 0. Differentiable."""

    def flip(self, codes: Tensor, dims: list[int]) -> Tensor:
        """The codes of masks flipped along ``dims`` (-2 rows, -1 columns)."""


@dataclass(frozen=True)
class SignedDistanceCodec:
    """Truncated signed distance, averaged to a quarter grid, pixel-unshuffled by 2, standardised.

    Dice after a round trip of 520 ISIC 2017 masks (docs/results/codec.md): .991 mean and .979 at the 5th percentile at
    128 px, .994 and .983 at 256 px.
    """

    name: ClassVar[str] = "signed-distance"
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

    def flip(self, codes: Tensor, dims: list[int]) -> Tensor:
        """On the field's grid, exactly."""
        if not dims:
            return codes
        return F.pixel_unshuffle(F.pixel_shuffle(codes, UNSHUFFLE).flip(dims), UNSHUFFLE)


@dataclass(frozen=True)
class AutoencoderCodec:
    """The base's own image autoencoder as a mask codec, the mask as a grey picture: what other methods do.

    Kept for comparison. ``mean`` and ``std`` are one number each, as an autoencoder's scaling factor is.
    """

    name: ClassVar[str] = "autoencoder"
    autoencoder: Any = field(repr=False)
    mean: float = 0.0
    std: float = 1.0

    @property
    def channels(self) -> int:
        return int(self.autoencoder.config.latent_channels)

    def encode(self, masks: Tensor) -> Tensor:
        b, k = masks.shape[:2]
        grey = (masks * 2 - 1).flatten(0, 1)[:, None].expand(-1, 3, -1, -1)  # [bk, 3, h, w]
        with torch.no_grad():
            posterior = self.autoencoder.encode(grey.to(self.autoencoder.device, self.autoencoder.dtype)).latent_dist
        codes = posterior.mode().to(masks) * self.autoencoder.config.scaling_factor
        return (codes.unflatten(0, (b, k)).flatten(1, 2) - self.mean) / self.std  # [b, ck, h/8, w/8]

    def decode(self, codes: Tensor) -> Tensor:
        b = codes.shape[0]
        codes = (codes * self.std + self.mean).unflatten(1, (-1, self.channels)).flatten(0, 1)  # [bk, c, h/8, w/8]
        latents = (codes / self.autoencoder.config.scaling_factor).to(self.autoencoder.dtype)
        return self.autoencoder.decode(latents).sample.float().mean(1).unflatten(0, (b, -1))  # [b, k, h, w]

    def flip(self, codes: Tensor, dims: list[int]) -> Tensor:
        """By way of the picture, as a latent has no such symmetry."""
        return self.encode((self.decode(codes).flip(dims) + 1) / 2) if dims else codes


DEFAULT_CODEC = SignedDistanceCodec()
CODECS = (SignedDistanceCodec.name, AutoencoderCodec.name)


def make_codec(record: Mapping[str, Any] | None, autoencoder: Any) -> MaskCodec:
    """Build a codec from its name and parameters, as training settings and adapters hold them.

    Args:
        record: "name", and perhaps "mean" and "std", the codec's own if None; None: the codec of version 0.1.
        autoencoder: the base's.

    Raises:
        InputError: a name that this version does not know.
    """
    given = {key: value for key, value in (record or {}).items() if value is not None}
    parameters: dict[str, Any] = {key: float(given[key]) for key in ("mean", "std") if key in given}
    match given.get("name", DEFAULT_CODEC.name):
        case SignedDistanceCodec.name:
            return SignedDistanceCodec(**parameters)
        case AutoencoderCodec.name:
            return AutoencoderCodec(autoencoder, **parameters)
    raise InputError(f"the mask codec {given['name']!r}", " or ".join(CODECS), "update skindualgen or name another")


def codec_record(codec: MaskCodec) -> dict[str, Any]:
    """What `make_codec` rebuilds a codec from."""
    return {"name": codec.name, "mean": codec.mean, "std": codec.std}


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
