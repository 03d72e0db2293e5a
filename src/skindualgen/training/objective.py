"""The joint objective: noise a batch of pairs at two levels, predict, and weigh the terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skindualgen.codec import CELL_PX, MaskCodec
from skindualgen.config import LossSettings, NoiseSettings
from skindualgen.losses import (
    add_noise,
    bce_loss,
    dice_loss,
    field_loss,
    mask_gate,
    min_snr_weight,
    prediction_target,
    prediction_to_x0,
    snr_of,
    velocity_target,
    velocity_to_x0,
    velocity_weight,
    weighted_mse,
)
from skindualgen.model.joint_unet import CLEAN_TIMESTEP, joint_prediction

FIELD_SHARPNESS = 8.0
"""logits per unit of the signed distance field: a pixel 1/64 of the side inside the contour is lesion with p = .88"""


@dataclass(frozen=True)
class Noise:
    """What is random in one step: noise of both halves and their timesteps [b]; timestep 0 is a given, clean half."""

    image: Tensor
    mask: Tensor
    t_image: Tensor
    t_mask: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Noise:
        """The same with every tensor changed: moved, or cut."""
        return Noise(change(self.image), change(self.mask), change(self.t_image), change(self.t_mask))


def draw_noise(
    shape: Sequence[int],
    mask_channels: int,
    has_mask: Tensor,
    settings: NoiseSettings,
    timesteps: int,
    generator: torch.Generator,
) -> Noise:
    """Draw a way of noising, timesteps and noise for each pair.

    A pair without mask always has its mask half in the noisiest state, whatever the way. The noise offset, which lets a
    model of epsilon draw very dark and very light pictures, is one more normal number per image channel, scaled
    (https://www.crosslabs.org/blog/diffusion-with-offset-noise).

    Args:
        shape: [b, c, h/8, w/8] of the image latents.
        mask_channels: m, of the mask codes.
        has_mask: [b] bool.
    """
    b, c, h, w = shape
    shares = [settings.equal, settings.mask_given, settings.image_given, settings.independent, settings.reading]
    way = torch.multinomial(torch.tensor(shares), b, replacement=True, generator=generator)
    t, other = torch.randint(1, timesteps, (2, b), generator=generator)
    t_image = torch.where((way == 2) | (way == 4), CLEAN_TIMESTEP, t)
    t_mask = torch.where(way == 1, CLEAN_TIMESTEP, torch.where(way == 3, other, t))
    t_mask = torch.where(way == 4, timesteps - 1, t_mask)
    t_image = torch.where(has_mask, t_image, t)
    t_mask = torch.where(has_mask, t_mask, timesteps - 1)
    noise = torch.randn(b, c + mask_channels, h, w, generator=generator)
    image, mask = noise.split([c, mask_channels], dim=1)
    if settings.offset:
        image = image + settings.offset * torch.randn(b, c, 1, 1, generator=generator)
    return Noise(image, mask, t_image, t_mask)


BasePrediction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Noisy image latents [b, c, h/8, w/8], timesteps [b] and text states [b, tokens, width] -> the base's prediction."""


def joint_loss(
    unet: nn.Module,
    latents: Tensor,
    codes: Tensor,
    has_mask: Tensor,
    text: Tensor,
    noise: Noise,
    *,
    codec: MaskCodec,
    alphas_cumprod: Tensor,
    prediction_type: str,
    settings: LossSettings,
    base_prediction: BasePrediction | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the weighted sum of all terms.

    Args:
        unet: joint UNet.
        latents, codes: clean pairs [b, c, h/8, w/8], [b, m, h/8, w/8].
        has_mask: [b] bool; pairs without mask count in the image term only.
        text: [b, tokens, width].
        noise: as of ``draw_noise``.
        codec: of the masks.
        alphas_cumprod: [timesteps], of the base's scheduler.
        prediction_type: of the image half, the base's.
        settings: weights of the terms.
        base_prediction: what the base makes of noisy latents, timesteps and text states; without it, no term "base".

    Returns:
        The scalar loss, and of each term, detached and unweighted, [2]: the sum over the pairs it applies to, and how
        many these are.
    """
    clean = torch.ones((), device=latents.device)
    abar_image = torch.where(noise.t_image == CLEAN_TIMESTEP, clean, alphas_cumprod[noise.t_image])  # [b]
    abar_mask = torch.where(noise.t_mask == CLEAN_TIMESTEP, clean, alphas_cumprod[noise.t_mask])
    a_image, a_mask = (a.view(-1, 1, 1, 1) for a in (abar_image, abar_mask))
    noisy_image, noisy_mask = add_noise(latents, noise.image, a_image), add_noise(codes, noise.mask, a_mask)
    image_out, mask_out = joint_prediction(unet, noisy_image, noisy_mask, noise.t_image, noise.t_mask, text)
    image_out, mask_out = image_out.float(), mask_out.float()

    asked_image = noise.t_image != CLEAN_TIMESTEP
    asked_mask = (noise.t_mask != CLEAN_TIMESTEP) & has_mask
    target_mask = (codec.decode(codes) > 0).float()  # [b, k, h, w]
    per_sample: dict[str, tuple[Tensor, Tensor]] = {}

    image_weight = min_snr_weight(snr_of(abar_image), prediction_type, settings.snr_gamma)
    if settings.image:
        lesion = None
        if settings.lesion:
            share = torch.nn.functional.avg_pool2d(target_mask[:, :1], CELL_PX)  # [b, 1, h/8, w/8]
            lesion = 1 + settings.lesion * share * has_mask.view(-1, 1, 1, 1)
        image_target = prediction_target(latents, noise.image, a_image, prediction_type)
        per_sample["image"] = (image_weight * weighted_mse(image_out, image_target, lesion), asked_image)
    if settings.base and base_prediction is not None:
        # Where the mask is given, the picture is to follow it, of which the base knows nothing.
        kept = asked_image & (noise.t_mask != CLEAN_TIMESTEP)
        own = image_out.detach().clone()
        if kept.any():
            own[kept] = base_prediction(noisy_image[kept], noise.t_image[kept], text[kept]).float()
        per_sample["base"] = (image_weight * weighted_mse(image_out, own), kept)
    if settings.mask:
        weight = velocity_weight(snr_of(abar_mask), settings.snr_gamma)
        mask_target = velocity_target(codes, noise.mask, a_mask)
        per_sample["mask"] = (weight * weighted_mse(mask_out, mask_target), asked_mask)

    field = codec.decode(velocity_to_x0(mask_out, noisy_mask, a_mask))  # [b, k, h, w]
    gate = mask_gate(abar_image, abar_mask)
    logits = FIELD_SHARPNESS * field
    if settings.dice:
        per_sample["dice"] = (gate * dice_loss(logits.sigmoid(), target_mask), asked_mask)
    if settings.bce:
        per_sample["bce"] = (gate * bce_loss(logits, target_mask), asked_mask)
    if settings.consistency:
        estimate = prediction_to_x0(image_out, noisy_image, a_image, prediction_type)
        read = read_mask(unet, estimate, noise.mask, text, alphas_cumprod, codec)
        per_sample["consistency"] = (abar_image * field_loss(read, field.detach()), asked_image & asked_mask)

    weights = settings.model_dump()
    total = latents.new_zeros(())
    sums = {}
    for name, (values, asked) in per_sample.items():
        # Divided by the batch, not by the pairs asked: a term's weight does not swing with the draw of the ways.
        total = total + weights[name] * (values * asked).sum() / len(values)
        sums[name] = torch.stack([(values * asked).sum(), asked.sum()]).detach()
    return total, sums


def term_means(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of each term of ``joint_loss`` over the pairs it applies to; 0 where these are none."""
    return {name: (total / count.clamp(min=1)).item() for name, (total, count) in sums.items()}


def read_mask(
    unet: nn.Module, latents: Tensor, noise: Tensor, text: Tensor, alphas_cumprod: Tensor, codec: MaskCodec
) -> Tensor:
    """Field [b, k, h, w] that one step reads from clean image latents, from the noisiest mask."""
    last = len(alphas_cumprod) - 1
    t_mask = torch.full((len(latents),), last, device=latents.device)
    abar = alphas_cumprod[last].view(1, 1, 1, 1)
    _, velocity = joint_prediction(unet, latents, noise, torch.full_like(t_mask, CLEAN_TIMESTEP), t_mask, text)
    return codec.decode(velocity_to_x0(velocity.float(), noise, abar))
