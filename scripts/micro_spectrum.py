"""How much of each spatial frequency pictures hold, beside photographs: a decoder of patches leaves a grid behind.

Such a grid follows the content of each picture, so that no mean of many pictures shows it; but its frequencies do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCH_PX = 8
LEAST_POWER = 1e-4
"""below which it does not count: the square of a step of grey in 8 bits is 6e-5"""
ASIDE = 3
"""bins from a frequency of the grid to those that it is compared with; a window spreads a line over two"""


def log_power(images: Tensor) -> Tensor:
    """Logarithm of the mean power of grey pictures [b, 3, s, s] in [-1, 1] at each frequency, [b, s, s / 2 + 1]."""
    side = images.shape[-1]
    window = torch.hann_window(side, periodic=True, device=images.device)
    window = window[:, None] * window
    grey = images.mean(1).float()
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window
    power = torch.view_as_real(torch.fft.rfft2(grey)).square().sum(-1) / window.square().sum()
    return (power + LEAST_POWER).log()


class SpectrumMatching(nn.Module):
    """Squared difference of the mean logarithmic spectrum of pictures from that of photographs.

    Args:
        photographs: [n, 3, s, s] uint8, whole views.
        device: cpu or cuda.
    """

    def __init__(self, photographs: Tensor, device: str = "cpu") -> None:
        super().__init__()
        parts = [log_power(part.to(device).float() / 127.5 - 1).sum(0) for part in photographs.split(64)]
        self.register_buffer("real", torch.stack(parts).sum(0) / len(photographs), persistent=False)

    def forward(self, images: Tensor, photographs: Tensor | None = None) -> Tensor:
        """Of pictures [b, 3, s, s] in [-1, 1], a scalar; of b photographs about 1.6 / b.

        Where ``photographs``, as large, are given, the pictures are to be like these and not like all.
        """
        wanted = self.get_buffer("real") if photographs is None else log_power(photographs).mean(0)
        return (log_power(images).mean(0) - wanted).square().mean()


def grid_strength(images: Tensor) -> float:
    """How far the logarithmic power at the frequencies of a patch's grid is above that around; photographs have 0."""
    spectrum = log_power(images).mean(0)
    side = spectrum.shape[0]
    step = side // PATCH_PX
    rows = torch.arange(0, side, step)
    columns = torch.arange(step, side // 2, step)
    lines = spectrum[rows][:, columns]
    around = [spectrum[(rows + y) % side][:, columns + x] for y in (-ASIDE, ASIDE) for x in (-ASIDE, ASIDE)]
    return float((lines - torch.stack(around).mean(0)).mean())
