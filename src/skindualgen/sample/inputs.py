"""Masks as callers have them -> tensors as the codec wants them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.image_processor import PipelineImageInput
from PIL import Image
from torch import Tensor

from skindualgen.contracts import InputError


def mask_to_tensor(mask: PipelineImageInput, height: int, width: int) -> Tensor:
    """Binary masks at the wanted size, by nearest neighbour.

    Args:
        mask: PIL image of any mode (lesion where its grey value >= 128), array or Tensor in [0, 1] (lesion where
            >= 0.5) of shape [h, w], [b, h, w], [b, h, w, 1] (arrays) or [b, 1, h, w] (tensors), or a list of these.
        height, width: in px.

    Returns:
        [b, 1, height, width] float32 in {0, 1}.

    Raises:
        InputError: values outside [0, 1], or a shape not listed.
    """
    if isinstance(mask, (list, tuple)):
        return torch.cat([mask_to_tensor(item, height, width) for item in mask])
    if isinstance(mask, Image.Image):
        grey = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.NEAREST))
        return torch.from_numpy((grey >= 128).astype(np.float32))[None, None]
    tensor = mask.float() if isinstance(mask, Tensor) else torch.from_numpy(np.asarray(mask, np.float32))
    if tensor.ndim == 4 and isinstance(mask, np.ndarray):
        tensor = tensor.permute(0, 3, 1, 2)
    if tensor.ndim in (2, 3):
        tensor = tensor.reshape(-1, 1, *tensor.shape[-2:])
    if tensor.ndim != 4 or tensor.shape[1] != 1:
        raise InputError(f"a mask of shape {tuple(mask.shape)}", "[h, w], [b, h, w] or one channel", "reshape it")
    if tensor.min() < 0 or tensor.max() > 1:
        raise InputError(
            f"mask values from {tensor.min():g} to {tensor.max():g}", "values in [0, 1]", "divide a 0/255 mask by 255"
        )
    return (F.interpolate(tensor, (height, width), mode="nearest-exact") >= 0.5).float()
