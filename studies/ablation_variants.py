"""What the package has no setting for, for comparison: the mask half as epsilon, and the mask coded by the autoencoder.

Each is a context manager that exchanges the few names by which the package knows its mask half, while one arm of the
ablation is trained, judged and drawn from. The package itself has one code and one prediction type of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from skindualgen.codec import AutoencoderCodec
from skindualgen.data.pairs import View, load_pair, read_pairs
from skindualgen.model import adapter, joint_unet
from skindualgen.model.bases import Base, load_base
from skindualgen.sample import denoising, outputs, pipeline
from skindualgen.training import cache, objective, trainer, validate

SMALLEST_ABAR = 1e-3
"""Signal power below which epsilon is read as if there were as much. Without, the clean estimate would be infinite at
the micro base's last timestep, where there is no signal; 63 of its 1000 timesteps lie below."""
MEASURED_MASKS = 256
"""train masks that mean and deviation of the autoencoder's codes are measured on"""


@contextmanager
def exchanged(names: dict[ModuleType, dict[str, Any]]) -> Iterator[None]:
    """Give names of modules other values for a while.

    Raises:
        AttributeError: a module has no such name, so that the exchange would be without effect.
    """
    before = {module: {name: getattr(module, name) for name in values} for module, values in names.items()}
    try:
        for module, values in names.items():
            vars(module).update(values)
        yield
    finally:
        for module, values in before.items():
            vars(module).update(values)


def epsilon_to_velocity(eps: Tensor, noisy: Tensor, abar: Tensor) -> Tensor:
    """Return v = (eps - sqrt(1 - abar) noisy) / sqrt(abar); the divisor's abar is at least ``SMALLEST_ABAR``."""
    return (eps - (1 - abar).sqrt() * noisy) / abar.clamp(min=SMALLEST_ABAR).sqrt()


def epsilon_weight(snr: Tensor, gamma: float) -> Tensor:
    """Weight of the velocity's error that makes it epsilon's under min-SNR: min(SNR, gamma) / (SNR + 1).

    A velocity that was converted has epsilon's squared error over abar, and epsilon's weight is min(SNR, gamma) / SNR.
    """
    return snr.clamp(max=gamma) / (snr + 1)


@contextmanager
def epsilon_mask(base: Base, data: Path) -> Iterator[None]:
    """Read the network's mask half as epsilon, in training, validation and sampling.

    From pure noise, where image -> mask starts, epsilon says nothing about the mask: the estimate there is
    (noisy - eps) / sqrt(``SMALLEST_ABAR``), an amplified difference.
    """
    alphas_cumprod = base.scheduler.alphas_cumprod

    def joint_prediction(
        unet: nn.Module, latents: Tensor, codes: Tensor, t_image: Tensor, t_mask: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        image, eps = joint_unet.joint_prediction(unet, latents, codes, t_image, t_mask, text)
        abar = torch.where(t_mask == joint_unet.CLEAN_TIMESTEP, 1.0, alphas_cumprod.to(t_mask.device)[t_mask])
        return image, epsilon_to_velocity(eps.float(), codes.float(), abar.view(-1, 1, 1, 1))

    changes: dict[ModuleType, dict[str, Any]] = {
        objective: {"joint_prediction": joint_prediction, "velocity_weight": epsilon_weight},
        denoising: {"joint_prediction": joint_prediction},
    }
    with exchanged(changes):
        yield


@dataclass(frozen=True)
class StandardisedCodec:
    """The autoencoder's code of a mask, of mean 0 and deviation 1 over masks; its grey picture is the field.

    ``mean`` and ``std`` are one number each, as those of the default code and as an autoencoder's scaling factor.
    What is printed of it becomes part of the name of a cache.
    """

    codec: AutoencoderCodec = field(repr=False)
    channels: int
    mean: float = 0.0
    std: float = 1.0

    def encode(self, masks: Tensor) -> Tensor:
        with torch.no_grad():
            return (self.codec.encode(masks) - self.mean) / self.std  # [b, ck, h/8, w/8]

    def decode(self, codes: Tensor) -> Tensor:
        return self.codec.decode(codes * self.std + self.mean).float()  # [b, k, h, w], about [-1, 1]

    def decode_mask(self, codes: Tensor) -> Tensor:
        return (self.decode(codes) > 0).float()

    def flip(self, codes: Tensor, dims: list[int]) -> Tensor:
        """The code of the flipped mask; a latent has no such symmetry, so through the picture."""
        return self.encode((self.decode(codes).flip(dims) + 1) / 2) if dims else codes


def autoencoder_codec(base: Base, masks: Tensor) -> StandardisedCodec:
    """The codec of a base, its constants measured on masks [n, 1, h, w]."""
    channels = int(base.vae.config.latent_channels)
    plain = StandardisedCodec(AutoencoderCodec(base.vae, channels), channels)
    codes = plain.encode(masks)
    return StandardisedCodec(plain.codec, channels, float(codes.mean()), float(codes.std()))


@contextmanager
def autoencoder_coded_mask(base: Base, data: Path) -> Iterator[None]:
    """Code masks by the base's own autoencoder, in training, validation and sampling."""
    records = [record for record in read_pairs(data, "train") if record.mask_file_name][:MEASURED_MASKS]
    masks = [load_pair(data, record, base.native_px, View())[1] for record in records]
    codec = autoencoder_codec(base, torch.stack([mask for mask in masks if mask is not None]))
    widen = partial(joint_unet.widen_unet, mask_channels=codec.channels)
    encoding = {"CODE_CHANNELS": codec.channels, "mask_to_code": codec.encode}
    changes: dict[ModuleType, dict[str, Any]] = {
        trainer: {"widen_unet": widen},
        adapter: {"widen_unet": widen},
        cache: {"DEFAULT_CODEC": codec, **encoding},
        objective: {"CODE_CHANNELS": codec.channels, "code_to_sdf": codec.decode},
        validate: {"code_to_mask": codec.decode_mask},
        pipeline: {"flip_code": codec.flip, **encoding},
        outputs: {"code_to_sdf": codec.decode},
    }
    with exchanged(changes):
        yield


VARIANTS: dict[str, Callable[[Base, Path], Any]] = {
    "autoencoder-coded mask": autoencoder_coded_mask,
    "epsilon for the mask": epsilon_mask,
}
"""arm -> what it exchanges, given the base and the data set folder"""


@contextmanager
def variant(arm: str, base: str, data: Path) -> Iterator[None]:
    """What an arm needs exchanged; nothing for those that are settings."""
    if arm not in VARIANTS:
        yield
        return
    with VARIANTS[arm](load_base(base), data):
        yield
