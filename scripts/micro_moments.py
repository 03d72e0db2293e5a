"""A distance between the features of pictures that a base makes and those of photographs, to be lowered by training.

What a critic would have to learn, two sets of features tell by themselves: a kernel distance has nothing to train and
nothing to fool (generative moment matching networks, Li et al. 2015, arXiv 1502.02761, method only).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
    """Kernel distance of generated pictures from photographs of their kind, in several groups of features.

    Args:
        photographs: [n, 3, h, w] uint8, whole views.
        device: cpu or cuda.
        kinds: [n] what a photograph shows, 0 and up; below 0 it counts for nothing. One kind if not given.
        kept: generated pictures of a kind whose features are kept to compare with.
        weights: of the groups; all alike if not given.
    """

    def __init__(
        self,
        photographs: Tensor,
        device: str = "cpu",
        *,
        kinds: Tensor | None = None,
        kept: int | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.features = StageFeatures().to(device)
        self.kept = KEPT if kept is None else kept
        kinds = torch.zeros(len(photographs), dtype=torch.long) if kinds is None else kinds
        self.kinds = int(kinds.max()) + 1
        with torch.no_grad():
            parts = [self.features(part.to(device).float() / 127.5 - 1) for part in photographs.split(32)]
        self.groups = len(parts[0])
        self.weights = [1.0] * self.groups if weights is None else list(weights)
        self.first: list[float] = []
        for index in range(self.groups):
            real = torch.cat([part[index] for part in parts])
            deviation = real.std(0)
            deviation = deviation.clamp(min=0.1 * float(deviation.mean()))
            self.register_buffer(f"mean{index}", real.mean(0))
            self.register_buffer(f"deviation{index}", deviation)
            for kind in range(self.kinds):
                of_kind = real[(kinds == kind).to(real.device)]
                self.register_buffer(f"real{index}_{kind}", (of_kind - real.mean(0)) / deviation)
                self.register_buffer(f"made{index}_{kind}", real.new_zeros(0, real.shape[1]))

    def forward(self, pictures: Tensor, kinds: Tensor | None = None) -> Tensor:
        """What pictures [b, 3, h, w] in [-1, 1] decide of the squared distance, for their gradient; keeps features.

        ``kinds`` [b] says what each is to show.
        """
        kinds = torch.zeros(len(pictures), dtype=torch.long) if kinds is None else kinds
        total, places = pictures.new_zeros(()), []
        for index, found in enumerate(self.features(pictures)):
            found = (found - self.get_buffer(f"mean{index}")) / self.get_buffer(f"deviation{index}")
            places += [(index, kind, found[(kinds == kind).to(found.device)]) for kind in range(self.kinds)]
        if self.compares:
            first = self.first_distances()
            for index, kind, own in places:
                made, real = (self.get_buffer(f"{what}{index}_{kind}") for what in ("made", "real"))
                decided = 2 * kernel(own, made).mean(1) - 2 * kernel(own, real).mean(1)
                total = total + self.weights[index] * decided.sum() / len(pictures) / first[index]
        for index, kind, own in places:
            self.keep(index, kind, own.detach())
        return total

    @property
    def compares(self) -> bool:
        """Whether enough pictures of every kind are kept."""
        least = max(2, self.kept // 4)
        return all(len(self.get_buffer(f"made0_{kind}")) >= least for kind in range(self.kinds))

    def keep(self, index: int, kind: int, own: Tensor) -> None:
        """Remember features [n, d] of a group and kind, in place of the oldest."""
        name = f"made{index}_{kind}"
        setattr(self, name, torch.cat([own, self.get_buffer(name)])[: self.kept])

    def first_distances(self) -> list[float]:
        """Of each group when there was first something to compare, so that none outweighs the others.

        It is the mean over kinds: that of a single kind may be nothing at first, by chance, and would then divide
        all that follows.
        """
        if not self.first:
            groups = np.array(self.distances()).reshape(self.groups, self.kinds).mean(1)
            self.first = [max(float(mean), LEAST_FIRST) for mean in groups]
        return self.first

    def distances(self) -> list[float]:
        """Squared distance in each group and of each kind, of the pictures kept."""
        result = []
        for index in range(self.groups):
            for kind in range(self.kinds):
                made, real = (self.get_buffer(f"{what}{index}_{kind}").cpu().numpy() for what in ("made", "real"))
                result.append(kernel_distance(real=real, generated=made))
        return result
