"""A joint UNet whose mask half has layers of its own, so that learning masks leaves the picture's layers alone."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # a pipeline that is loaded looks it up here
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

LAST_TIMESTEP = 999
"""of the schedules of Stable Diffusion and the micro base: pure noise"""
TIME_CHANNELS = 64
"""of the sinusoids of each of the two timesteps"""
GROUP_CHANNELS = 6
"""per normalisation group"""


class MaskHead(nn.Module):
    """Mask velocity, and what the mask changes in the picture, by a small U-shaped network behind the UNet.

    In a plain joint UNet the mask's noise has to pass through every layer that the picture uses. Here it enters and
    leaves by the head, which sees features of the UNet and both noisy halves; the UNet's last convolution has to say
    only where the lesion is. The last layer starts at zero.

    Args:
        latents: channels of both halves together.
        channels: of the mask code.
        features: channels of the UNet's that it reads.
        width: of its layers, a multiple of 6.
        levels: sizes that it works at, each half of the one before.
    """

    def __init__(self, latents: int, *, channels: int, features: int, width: int, levels: int) -> None:
        super().__init__()
        groups, embedding = width // GROUP_CHANNELS, 2 * TIME_CHANNELS
        self.first = nn.Conv2d(features + latents, width, 3, padding=1)
        self.time = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedding = TimestepEmbedding(embedding, embedding)

        def block(seen: int) -> ResnetBlock2D:
            return ResnetBlock2D(
                in_channels=seen,
                out_channels=width,
                temb_channels=embedding,
                groups=groups,
                time_embedding_norm="scale_shift",  # what a velocity takes of the noisy mask depends on the timestep
            )

        self.down = nn.ModuleList(block(width) for _ in range(levels))
        self.up = nn.ModuleList(block(2 * width) for _ in range(levels - 1))
        self.norm = nn.GroupNorm(groups, width)
        self.last = nn.Conv2d(width, latents, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, latents: Tensor, t_image: Tensor, t_mask: Tensor) -> Tensor:
        """Features [b, f, h, w], noisy halves [b, c + m, h, w], timesteps [b] to [b, c + m, h, w].

        The first c channels are what the mask changes in the picture's prediction, the others the mask's velocity.
        """
        times = torch.cat([self.time(t_image), self.time(t_mask)], dim=1).to(latents.dtype)
        embedding = self.embedding(times)
        hidden, finer = self.first(torch.cat([features, latents], dim=1)), list[Tensor]()
        for level, block in enumerate(self.down):
            if level:
                finer.append(hidden)
                hidden = F.avg_pool2d(hidden, 2, ceil_mode=True)
            hidden = block(hidden, embedding)
        for block in self.up:
            skip = finer.pop()
            hidden = block(torch.cat([F.interpolate(hidden, skip.shape[-2:]), skip], dim=1), embedding)
        return self.last(F.silu(self.norm(hidden)))


class HeadedUNet(UNet2DConditionModel):
    """A joint UNet with a :class:`MaskHead`: what its last convolution gives beside the image is features for the head.

    A mask counts for the picture the less the noisier it is, and not at all in pure noise: the picture's prediction is
    then that of the UNet alone. Where no such share was set, the UNet's first layer, which cannot tell a mask from
    noise, learnt to look at neither (docs/lab-notebook.md, 2026-12-02).

    Args:
        head: ``width``, ``levels``, ``features`` and ``channels`` of the head.
        config: of the UNet; ``out_channels`` are those of the image and the features.
    """

    def __init__(self, *, head: dict[str, int], **config: Any) -> None:
        super().__init__(**config)
        self.register_to_config(head=dict(head))
        self.mask_head = MaskHead(config["in_channels"], **head)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
        mask_guidance: float = 1.0,
        **others: Any,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """As of UNet2DConditionModel: [image | mask code] [b, c + m, h, w] and both timesteps to their predictions.

        ``mask_guidance`` is w in ``without + w change``. What the head changes in the picture for its mask is known by
        itself, so that leading by it needs no second pass; what the UNet itself makes of the mask is not amplified.
        """
        head = self.config["head"]
        t_image, t_mask = (
            torch.as_tensor(t, device=sample.device).expand(len(sample)) for t in (timestep, class_labels)
        )
        image, code = sample.split([sample.shape[1] - head["channels"], head["channels"]], dim=1)
        told = (t_image * (LAST_TIMESTEP - t_mask) / LAST_TIMESTEP**2).to(sample.dtype).view(-1, 1, 1, 1)
        out = super().forward(
            torch.cat([image, told * code], dim=1),
            timestep,
            encoder_hidden_states,
            class_labels=class_labels,
            return_dict=False,
            **others,
        )[0]
        image, read = out.split([out.shape[1] - head["features"], head["features"]], dim=1)
        change, velocity = self.mask_head(read, sample, t_image, t_mask).split(
            [image.shape[1], head["channels"]], dim=1
        )
        joined = torch.cat([image + mask_guidance * told * change, velocity], dim=1)
        return UNet2DConditionOutput(sample=joined) if return_dict else (joined,)


HeadedUNet.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *inspect.signature(UNet2DConditionModel.__init__).parameters.values(),
        inspect.signature(HeadedUNet.__init__).parameters["head"],
    ]
)
"""``from_pretrained`` asks the signature which settings of the file it may give."""
