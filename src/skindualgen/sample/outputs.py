"""What the pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from skindualgen.codec import MaskCodec, clean_mask
from skindualgen.data.mask_classes import MaskClasses, join_classes


@dataclass
class SkinDualGenPipelineOutput(BaseOutput):
    """Pairs of equal size.

    Args:
        images: list of PIL RGB, or np.ndarray / Tensor [b, h, w, 3] / [b, 3, h, w] in [0, 1], or latents.
        masks: list of PIL L (0 or 255; 0 and their levels for several classes), or np.ndarray / Tensor [b, h, w, k] /
            [b, k, h, w] in {0, 1} for k classes, the lesion first, or codes.
    """

    images: list[Image.Image] | np.ndarray | Tensor
    masks: list[Image.Image] | np.ndarray | Tensor


def codes_to_masks(
    codes: Tensor, output_type: str, *, clean: bool, codec: MaskCodec, classes: MaskClasses
) -> list[Image.Image] | np.ndarray | Tensor:
    """Decode codes [b, m, h/8, w/8] to masks of ``output_type`` "pil", "np" or "pt", as the output class has them."""
    masks = np.stack([fields_to_classes(fields, clean=clean) for fields in codec.decode(codes)])  # [b, k, h, w]
    if output_type == "pt":
        return torch.from_numpy(masks).float()
    if output_type == "np":
        return masks.transpose(0, 2, 3, 1).astype(np.float32)
    return [Image.fromarray(join_classes(mask, classes)) for mask in masks]


def fields_to_classes(fields: Tensor, *, clean: bool) -> NDArray[np.bool_]:
    """Fields [k, h, w] to one mask per class [k, h, w]: the lesion, and parts of it that do not overlap.

    Args:
        fields: as a codec decodes them; where those of several parts are above 0, the largest decides.
        clean: keep the largest region of the lesion and fill its holes; parts may come in several pieces.
    """
    inside = (fields > 0).cpu().numpy()
    lesion = clean_mask(inside[0]) if clean else inside[0]
    if len(inside) == 1:
        return lesion[None]
    largest = fields[1:].argmax(dim=0).cpu().numpy()  # [h, w]
    parts = [part & lesion & (largest == place) for place, part in enumerate(inside[1:])]
    return np.stack([lesion, *parts])
