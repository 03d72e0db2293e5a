"""A pair as two rows of one batch: photograph and mask picture go through the stock UNet side by side.

The cost of designs such as MedSegFactory (Mao et al. 2025, arXiv 2504.06897), whose mask is a grey picture in the image
autoencoder's latent space. What couples the two streams there, joint cross-attention, is left out: it would add to the
cost. So the time here is the least that such a design takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from skindualgen.model.bases import Base

LESION_FROM = 0.5
"""grey value of the decoded mask picture from which on a pixel is lesion"""


class DualStream:
    """Draws photographs and mask pictures in one batch.

    Args:
        base: whose text encoder and autoencoder are used.
        unet: stock UNet.
        scheduler: as for the photograph alone.
    """

    def __init__(self, base: Base, unet: UNet2DConditionModel, scheduler: SchedulerMixin) -> None:
        self.base, self.unet, self.scheduler = base, unet, scheduler
        self.vae: ModelMixin = base.vae
        self.pixels_per_latent = 2 ** (len(base.vae.config.block_out_channels) - 1)
        self.processor = VaeImageProcessor(vae_scale_factor=self.pixels_per_latent)

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        *,
        generator: list[torch.Generator],
        steps: int,
        guidance: float,
        size: int,
    ) -> tuple[list[Image.Image], list[Image.Image]]:
        """Photographs and masks of b prompts, with one generator each."""
        side = size // self.pixels_per_latent
        shape = (len(prompts), self.unet.config.in_channels, side, side)
        rows = torch.cat([randn_tensor(shape, generator), randn_tensor(shape, generator)])  # [2b, c, h/8, w/8]
        text = self.base.embed(list(prompts)).repeat(2, 1, 1)  # [2b, 77, width]
        if guidance > 1:
            text = torch.cat([self.base.embed([""]).expand_as(text), text])  # [4b, 77, width]
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            rows = self.scheduler.step(self._predict(rows, t, text, guidance), t, rows, return_dict=False)[0]
        pixels = self.vae.decode(rows / self.vae.config.scaling_factor, return_dict=False)[0]  # [2b, 3, h, w]
        photographs, masks = pixels.chunk(2)
        grey = (masks.mean(dim=1) / 2 + 0.5).numpy()  # [b, h, w]
        lesions = [Image.fromarray((mask >= LESION_FROM).astype(np.uint8) * 255) for mask in grey]
        return self.processor.postprocess(photographs, output_type="pil"), lesions

    def _predict(self, rows: Tensor, t: Tensor, text: Tensor, guidance: float) -> Tensor:
        copies = len(text) // len(rows)
        predicted = self.unet(rows.repeat(copies, 1, 1, 1), t, text, return_dict=False)[0]
        if copies == 1:
            return predicted
        without, with_text = predicted.chunk(2)
        return without + guidance * (with_text - without)
