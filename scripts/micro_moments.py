"""A distance between the features of pictures that a base makes and those of photographs, to be lowered by training.

What a critic would have to learn, two sets of features tell by themselves: a kernel distance has nothing to train and
nothing to fool (generative moment matching networks, Li et al. 2015, arXiv 1502.02761, method only).
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skindualgen.judges.features import load_imagenet_weights
from skindualgen.metrics.fidelity import kernel_distance

ARCHITECTURE, SIZE_PX = "tf_efficientnet_lite1", 240
"""Lite1 and not Lite0, as Lite0 is what the fidelity metrics judge by."""
STAGES = (0, 1, 2, 4)
"""whose means and standard deviations over cells count, beside the features after the last pooling"""
LEAST_FIRST = 0.05
"""distance of a group that others are divided by, at least"""
KEPT = 256
"""generated pictures whose features are kept to compare with; with those of 100 steps the decoder ran past its goal"""


class StageFeatures(nn.Module):
    """Frozen features of images [b, 3, h, w] in [-1, 1] on several scales, each group [b, d]."""

    def __init__(self) -> None:
        super().__init__()
        network: Any = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
        load_imagenet_weights(network, ARCHITECTURE)
        self.net = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        images = F.interpolate(images.clamp(-1.1, 1.1), (SIZE_PX, SIZE_PX), mode="bicubic", antialias=True)
        hidden = self.net.bn1(self.net.conv_stem(images.contiguous(memory_format=torch.channels_last)))
        groups = []
        for index, stage in enumerate(self.net.blocks):
            hidden = stage(hidden)
            if index in STAGES:
                cells = hidden.flatten(2).float()
                groups.append(torch.cat([cells.mean(2), (cells.var(2) + 1e-4).sqrt()], dim=1))
        groups.append(self.net.forward_head(self.net.bn2(self.net.conv_head(hidden))).float())
        return groups


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Polynomial of third degree, as in the kernel inception distance: [n, d] and [m, d] to [n, m]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


class MomentMatching(nn.Module):
    """Kernel distance of generated pictures from photographs, in several groups of features.

    Args:
        photographs: [n, 3, h, w] uint8, whole views.
        device: cpu or cuda.
    """

    def __init__(self, photographs: Tensor, device: str = "cpu") -> None:
        super().__init__()
        self.features = StageFeatures().to(device)
        with torch.no_grad():
            parts = [self.features(part.to(device).float() / 127.5 - 1) for part in photographs.split(32)]
        self.groups = len(parts[0])
        self.first: list[float] = []
        for index in range(self.groups):
            real = torch.cat([part[index] for part in parts])
            deviation = real.std(0)
            deviation = deviation.clamp(min=0.1 * float(deviation.mean()))
            self.register_buffer(f"mean{index}", real.mean(0))
            self.register_buffer(f"deviation{index}", deviation)
            self.register_buffer(f"real{index}", (real - real.mean(0)) / deviation)
            self.register_buffer(f"made{index}", real.new_zeros(0, real.shape[1]))

    def forward(self, pictures: Tensor) -> Tensor:
        """What pictures [b, 3, h, w] in [-1, 1] decide of the squared distance, for their gradient; keeps features."""
        total, groups = pictures.new_zeros(()), []
        for index, found in enumerate(self.features(pictures)):
            groups.append((found - self.get_buffer(f"mean{index}")) / self.get_buffer(f"deviation{index}"))
        if len(self.get_buffer("made0")) >= max(2, KEPT // 4):
            first = self.first_distances()
            for index, own in enumerate(groups):
                made, real = (self.get_buffer(f"{what}{index}") for what in ("made", "real"))
                decided = 2 * kernel(own, made).mean(1) - 2 * kernel(own, real).mean(1)
                total = total + decided.sum() / len(pictures) / first[index]
        for index, own in enumerate(groups):  # in place of the oldest
            setattr(self, f"made{index}", torch.cat([own.detach(), self.get_buffer(f"made{index}")])[:KEPT])
        return total

    def first_distances(self) -> list[float]:
        """Of each group when there was first something to compare, so that none outweighs the others."""
        if not self.first:
            self.first = [max(distance, LEAST_FIRST) for distance in self.distances()]
        return self.first

    def distances(self) -> list[float]:
        """Squared distance in each group, of the pictures kept."""
        result = []
        for index in range(self.groups):
            made, real = (self.get_buffer(f"{what}{index}").cpu().numpy() for what in ("made", "real"))
            result.append(float(kernel_distance(real=real, generated=made)))
        return result
