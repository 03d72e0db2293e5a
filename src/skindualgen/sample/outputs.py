"""What the pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from skindualgen.codec import clean_mask, code_to_sdf


@dataclass
class SkinDualGenPipelineOutput(BaseOutput):
    """Pairs of equal size.

    Args:
        images: list of PIL RGB, or np.ndarray / Tensor [b, h, w, 3] / [b, 3, h, w] in [0, 1], or latents.
        masks: list of PIL L (0 or 255), or np.ndarray / Tensor [b, h, w, 1] / [b, 1, h, w] in {0, 1}, or codes.
    """

    images: list[Image.Image] | np.ndarray | Tensor
    masks: list[Image.Image] | np.ndarray | Tensor


def codes_to_masks(codes: Tensor, output_type: str, *, clean: bool) -> list[Image.Image] | np.ndarray | Tensor:
    """Decode codes [b, 4, h/8, w/8] to masks of ``output_type`` "pil", "np" or "pt", as the output class has them."""
    masks = (code_to_sdf(codes) > 0).cpu().numpy()  # [b, 1, h, w]
    if clean:
        masks = np.stack([clean_mask(mask[0])[None] for mask in masks])
    if output_type == "pt":
        return torch.from_numpy(masks).float()
    if output_type == "np":
        return masks.transpose(0, 2, 3, 1).astype(np.float32)
    return [Image.fromarray(mask[0].astype(np.uint8) * 255) for mask in masks]
