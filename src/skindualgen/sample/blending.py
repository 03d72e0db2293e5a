"""Edits of a part: while the rest is drawn anew, a region of the picture is put back after every step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.losses import add_noise
from skindualgen.sample.inputs import image_latents, image_pixels, mask_to_tensor
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.schedules import set_schedule


class BlendedLatents:
    """A ``callback_on_step_end`` that keeps a region of a photograph, up to what its autoencoder loses.

    After a step, the region's latents are those of the photograph, noised to the level of the next step, and after the
    last step without noise; what is drawn around them fits to them. A cell of latents that the region covers in part
    is mixed. Source: Avrahami et al. 2022, Blended diffusion, arXiv 2111.14818, section 3.2.

    Args:
        pipeline: what it is a callback of; needs ``latents`` among the callback's tensors.
        photograph: that is edited; one for all samples, or one for each.
        region: of the photograph's aspect, as many of them; what is kept, as a mask.
        seeds: of the call's generators; the noise is that which the call begins with.
        steps: of the call, before its strength cuts them.
        height, width: of the call, in px.
    """

    def __init__(
        self,
        pipeline: SkinDualGenPipeline,
        photograph: Image.Image | list[Image.Image],
        region: Image.Image | list[Image.Image],
        *,
        seeds: Sequence[int],
        steps: int,
        height: int,
        width: int,
    ) -> None:
        device, dtype = pipeline.unet.device, pipeline.unet.dtype
        with torch.no_grad():
            self._latents = image_latents(pipeline, image_pixels(pipeline, photograph, height, width))
        self._share = F.avg_pool2d(mask_to_tensor(region, height, width).float(), CELL_PX).to(device, dtype)
        channels = pipeline.unet.config.in_channels
        shape = (len(seeds), channels, height // CELL_PX, width // CELL_PX)
        noise = randn_tensor(shape, [torch.Generator().manual_seed(seed) for seed in seeds], device, dtype)
        scheduler = copy.deepcopy(pipeline.scheduler)
        set_schedule(scheduler, pipeline.found_timesteps(steps, photograph=True) or steps, device)
        self._timesteps = scheduler.timesteps
        self._noise = noise[:, : self._latents.shape[1]]  # [b, c, h/8, w/8]

    def __call__(
        self, pipeline: SkinDualGenPipeline, step: int, _timestep: Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """Put the region back into ``latents`` [b, c, h/8, w/8]."""
        kept = self._latents
        left = pipeline.num_timesteps - (step + 1)
        if left:
            abar = pipeline.scheduler.alphas_cumprod.to(kept.device)
            kept = add_noise(kept, self._noise, abar[self._timesteps[-left]]).to(kept.dtype)
        return {**tensors, "latents": self._share * kept + (1 - self._share) * tensors["latents"]}
