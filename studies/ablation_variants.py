"""For comparison: the mask coded by the autoencoder, and the mask half as epsilon.

Each is a context manager in which one arm of the ablation is trained, judged and drawn from, and that yields further
settings of its training. The codec is a setting, whose constants are measured; for epsilon, which the package does not
have, two names by which it knows its mask half are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from skindualgen.codec import AutoencoderCodec, codec_record
from skindualgen.data.pairs import View, load_pair, read_pairs
from skindualgen.model import joint_unet
from skindualgen.model.bases import Base, load_base
from skindualgen.sample import denoising
from skindualgen.training import objective

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
def epsilon_mask(base: Base, data: Path) -> Iterator[dict[str, Any]]:
    """Read the network's mask half as epsilon, in training, validation and sampling.

    From pure noise, where image -> mask starts, epsilon says nothing about the mask: the estimate there is
    (noisy - eps) / sqrt(``SMALLEST_ABAR``), an amplified difference.
    """
    alphas_cumprod = base.scheduler.alphas_cumprod

    def joint_prediction(
        unet: nn.Module, latents: Tensor, codes: Tensor, t_image: Tensor, t_mask: Tensor, text: Tensor, **led: float
    ) -> tuple[Tensor, Tensor]:
        image, eps = joint_unet.joint_prediction(unet, latents, codes, t_image, t_mask, text, **led)
        abar = torch.where(t_mask == joint_unet.CLEAN_TIMESTEP, 1.0, alphas_cumprod.to(t_mask.device)[t_mask])
        return image, epsilon_to_velocity(eps.float(), codes.float(), abar.view(-1, 1, 1, 1))

    changes: dict[ModuleType, dict[str, Any]] = {
        objective: {"joint_prediction": joint_prediction, "velocity_weight": epsilon_weight},
        denoising: {"joint_prediction": joint_prediction},
    }
    with exchanged(changes):
        yield {}


def autoencoder_codec(base: Base, masks: Tensor) -> AutoencoderCodec:
    """The codec of a base, its mean and standard deviation measured on masks [n, 1, h, w]."""
    codes = AutoencoderCodec(base.vae).encode(masks)
    return AutoencoderCodec(base.vae, float(codes.mean()), float(codes.std()))


@contextmanager
def autoencoder_coded_mask(base: Base, data: Path) -> Iterator[dict[str, Any]]:
    """Code masks by the base's own autoencoder, in training, validation and sampling."""
    records = [record for record in read_pairs(data, "train") if record.mask_file_name][:MEASURED_MASKS]
    masks = [load_pair(data, record, base.native_px, View())[1] for record in records]
    codec = autoencoder_codec(base, torch.stack([mask for mask in masks if mask is not None]))
    yield {f"mask_codec.{name}": value for name, value in codec_record(codec).items()}


VARIANTS: dict[str, Callable[[Base, Path], Any]] = {
    "autoencoder-coded mask": autoencoder_coded_mask,
    "epsilon for the mask": epsilon_mask,
}
"""arm -> its context manager, given the base and the data set folder"""


@contextmanager
def variant(arm: str, base: str, data: Path) -> Iterator[dict[str, Any]]:
    """What an arm needs besides its settings in the table: further ones, or names exchanged for the time."""
    if arm not in VARIANTS:
        yield {}
        return
    with VARIANTS[arm](load_base(base), data) as further:
        yield further
