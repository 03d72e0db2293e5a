"""Photograph -> mask as one ``torch.nn.Module``, for frameworks that call networks on tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.segmentation import read_masks


class MaskReader(nn.Module):
    """Reads masks as ``skindualgen segment`` does.

    Args:
        adapter: what `SkinDualGenPipeline.from_adapter` takes.
        num_inference_steps: the pipeline's default if not given.
        ensemble_size: draws, over flips of the photograph, whose fields are averaged.
        seed: of each photograph: the same one gives the same mask in any batch.
    """

    def __init__(
        self,
        adapter: str | Path = "builtin",
        num_inference_steps: int | None = None,
        ensemble_size: int = ENSEMBLE_SIZE,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pipeline = SkinDualGenPipeline.from_adapter(adapter)
        self.pipeline.set_progress_bar_config(disable=True)
        parts = ("unet", "vae", "text_encoder")
        self.parts = nn.ModuleDict({name: getattr(self.pipeline, name) for name in parts})  # so that .to() moves them
        self.steps = self.pipeline.steps(num_inference_steps, reads_mask=True)
        self.ensemble_size, self.seed = ensemble_size, seed

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """RGB [b, 3, h, w] in [0, 1], of any size -> masks [b, 1, h, w] of 0 and 1, of the same kind of tensor."""
        pixels = (image.clamp(0, 1) * 255).round().byte().movedim(1, -1).cpu().numpy()  # [b, h, w, 3]
        masks = torch.zeros_like(image[:, :1])
        read = read_masks(
            self.pipeline,
            [Image.fromarray(photograph) for photograph in pixels],
            num_inference_steps=self.steps,
            ensemble_size=self.ensemble_size,
            seed=self.seed,
        )
        for row, mask in enumerate(read):
            masks[row, 0] = (torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8) > 0).view(
                mask.height, mask.width
            )
        return masks
