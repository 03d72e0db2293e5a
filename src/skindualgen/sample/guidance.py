"""How predictions are led: away from the empty prompt or from a weaker model, where, how far, and under noisy text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from skindualgen.contracts import InputError

Generators = torch.Generator | list[torch.Generator] | None
WHOLE_SCHEDULE = (0.0, 1.0)


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance, each with a value that switches it off.

    Args:
        scale: w in ``weak + w (strong - weak)``; strong is the model with its prompt, weak the same model with the
            negative prompt (Ho & Salimans 2022, arXiv 2207.12598), or a weaker model with the same prompt where the
            pipeline has one (autoguidance: Karras et al. 2024, arXiv 2406.02507). 1 or less switches it off.
        rescale: share in [0, 1] to which a guided prediction's standard deviation is brought back to the unguided one
            (Lin et al. 2023, arXiv 2305.08891, section 3.4; diffusers' ``guidance_rescale``).
        interval: shares of the timesteps between which guidance acts, 0 clean and 1 pure noise (Kynkaanniemi et al.
            2024, arXiv 2404.07724); outside, predictions are the strong model's own.
        prompt_noise: standard deviation of the noise that is added to the prompt's states, in units of their own, at
            the noisiest steps (CADS: Sadat et al. 2023, arXiv 2310.17347). 0 switches it off.
        prompt_noise_until: timesteps' shares from which on the noise grows, and at which it is full.
        mask: how far the picture is led towards its mask (`skindualgen.model.mask_head.HeadedUNet`); 1 is as trained.

    Raises:
        InputError: a number that is not finite or out of its range.
    """

    scale: float = 1.0
    rescale: float = 0.0
    interval: Sequence[float] = WHOLE_SCHEDULE
    prompt_noise: float = 0.0
    prompt_noise_until: Sequence[float] = (0.6, 0.9)
    mask: float = 1.0

    def __post_init__(self) -> None:
        limits: tuple[tuple[str, object, float, float], ...] = (
            ("guidance_scale", self.scale, -math.inf, math.inf),
            ("guidance_rescale", self.rescale, 0.0, 1.0),
            ("prompt_noise", self.prompt_noise, 0.0, math.inf),
            ("mask_guidance_scale", self.mask, 0.0, math.inf),
        )
        for name, value, least, most in limits:
            if not (isinstance(value, Real) and math.isfinite(value) and least <= float(value) <= most):
                span = "a finite number" if most == math.inf else "a number in [0, 1]"
                raise InputError(f"{name} {value!r}", span, f"give {name} another value")
        for name, pair in (("guidance_interval", self.interval), ("prompt_noise_until", self.prompt_noise_until)):
            if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= 1:
                raise InputError(f"{name} {pair}", "two rising shares of the schedule in [0, 1]", "try (0.2, 0.8)")

    @property
    def told(self) -> dict[str, Any]:
        """What differs from plain guidance apart from the scale, for records: name -> number."""
        numbers = {"guidance_rescale": self.rescale, "prompt_noise": self.prompt_noise}
        told = {name: float(number) for name, number in numbers.items() if number}
        if tuple(self.interval) != WHOLE_SCHEDULE:
            told |= {"guidance_from": float(self.interval[0]), "guidance_until": float(self.interval[1])}
        return told | ({} if self.mask == 1 else {"mask_guidance": float(self.mask)})

    @property
    def on(self) -> bool:
        """Whether predictions are led anywhere at all."""
        return self.scale > 1

    def acts_at(self, share: float) -> bool:
        """Whether a step at this share of the timesteps, 0 clean and 1 pure noise, is guided."""
        return self.on and self.interval[0] <= share <= self.interval[1]

    def combine(self, strong: Tensor, weak: Tensor) -> Tensor:
        """Lead predictions [b, c, h, w] of the strong model away from those of the weak one."""
        led = weak + self.scale * (strong - weak)
        if not self.rescale:
            return led
        dims = tuple(range(1, led.ndim))
        matched = led * (strong.std(dim=dims, keepdim=True) / led.std(dim=dims, keepdim=True))
        return self.rescale * matched + (1 - self.rescale) * led

    def noisy_prompt(self, embeds: Tensor, share: float, generator: Generators) -> Tensor:
        """Text states [b, n, width] under annealed noise, with the mean and deviation that they had.

        Args:
            embeds: states of the prompts, not of the negative ones.
            share: of the timesteps, 0 clean and 1 pure noise.
            generator: one, or one for each of the b.
        """
        low, high = self.prompt_noise_until
        kept = min(max((high - share) / (high - low), 0.0), 1.0)  # gamma of the paper: 1 leaves the prompt as it is
        if not self.prompt_noise or kept == 1:
            return embeds
        dims = (-2, -1)
        mean, deviation = embeds.mean(dim=dims, keepdim=True), embeds.std(dim=dims, keepdim=True)
        noise = randn_tensor(embeds.shape, generator, embeds.device, embeds.dtype)
        noisy = math.sqrt(kept) * embeds + self.prompt_noise * math.sqrt(1 - kept) * deviation * noise
        scaled = (noisy - noisy.mean(dim=dims, keepdim=True)) / noisy.std(dim=dims, keepdim=True)
        return scaled * deviation + mean


def guidance_with_defaults(
    config: Any,
    scale: float | None = None,
    rescale: float | None = None,
    interval: Sequence[float] | None = None,
    prompt_noise: float | None = None,
    mask: float | None = None,
) -> Guidance:
    """Settings of guidance, from a pipeline's configuration where they are None.

    Raises:
        InputError: one is out of its range.
    """
    return Guidance(
        config.default_guidance if scale is None else scale,
        config.default_guidance_rescale if rescale is None else rescale,
        config.default_guidance_interval if interval is None else interval,
        config.default_prompt_noise if prompt_noise is None else prompt_noise,
        mask=config.default_mask_guidance if mask is None else mask,
    )
