"""3x3 convolutions by Winograd's minimal filtering, for CPUs on which torch multiplies directly.

Tiles of 4x4 outputs cost 36 multiplications a channel pair instead of 144 (F(4x4, 3x3): Lavin & Gray 2015,
arXiv 1509.09308); the transforms before and after are matrix products with constants. Same result to rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE, PATCH = 4, 6
"""sides of a tile of outputs and of the inputs that it sees"""
LEAST_CHANNELS = 64
"""of input and output; with fewer the transforms cost more than they save"""
INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = torch.tensor(
    [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)
OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
INPUT_2D, KERNEL_2D, OUTPUT_2D = (torch.kron(each, each) for each in (INPUT, KERNEL, OUTPUT))
"""[36, 36], [36, 9], [16, 36]: both directions at once"""


class WinogradConvolution(torch.autograd.Function):
    """Convolution of [b, c, h, w] by [o, c, 3, 3] with stride 1 and padding 1; h and w are multiples of 4.

    In float32 under autocast as well: the transforms lose digits that bfloat16 does not have.
    """

    @staticmethod
    @partial(torch.amp.custom_fwd, device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Images in channels_last are not copied; neither is the result."""
        b, c, h, w = x.shape
        rows, columns = h // TILE, w // TILE
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # [b, h + 2, w + 2, c]
        image, row, column, _ = padded.stride()
        patches = padded.as_strided(
            (PATCH, PATCH, b, rows, columns, c), (row, column, image, TILE * row, TILE * column, 1)
        )
        tiles = INPUT_2D @ patches.reshape(PATCH * PATCH, -1)
        tiles = tiles.view(PATCH * PATCH, -1, c)  # [36, tiles, c]
        kernels = (KERNEL_2D @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(PATCH * PATCH, c, -1)  # [36, c, o]
        out = OUTPUT_2D @ torch.bmm(tiles, kernels).view(PATCH * PATCH, -1)
        ctx.save_for_backward(tiles, kernels)
        ctx.shape = (b, c, h, w)
        out = out.view(TILE, TILE, b, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        return out.reshape(b, h, w, -1).permute(0, 3, 1, 2)

    @staticmethod
    @partial(torch.amp.custom_bwd, device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        """Transposes of the forward steps."""
        tiles, kernels = ctx.saved_tensors
        b, c, h, w = ctx.shape
        rows, columns, o = h // TILE, w // TILE, kernels.shape[-1]
        cut = gradient.permute(0, 2, 3, 1).reshape(b, rows, TILE, columns, TILE, o).permute(2, 4, 0, 1, 3, 5)
        g = (OUTPUT_2D.T @ cut.reshape(TILE * TILE, -1)).view(PATCH * PATCH, -1, o)
        g_weight = (KERNEL_2D.T @ torch.bmm(tiles.transpose(1, 2), g).view(PATCH * PATCH, -1)).view(3, 3, c, o)
        g_weight = g_weight.permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, g_weight
        g_tiles = INPUT_2D.T @ torch.bmm(g, kernels.transpose(1, 2)).view(PATCH * PATCH, -1)
        g_tiles = g_tiles.view(PATCH, PATCH, b, rows, columns, c)
        padded = g_tiles.new_zeros(b, h + 2 + TILE, w + 2 + TILE, c)
        for i in range(PATCH):
            for j in range(PATCH):
                padded[:, i : i + h : TILE, j : j + w : TILE] += g_tiles[i, j]
        return padded[:, 1 : h + 1, 1 : w + 1].permute(0, 3, 1, 2), g_weight


class WinogradConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose 3x3 convolutions go by tiles wherever they fit."""

    def forward(self, x: Tensor) -> Tensor:
        """Same as the class it stands for."""
        return winograd(x, self.weight, self.bias) if fits_tiles(self, x) else super().forward(x)


def is_wide(layer: nn.Conv2d) -> bool:
    """Whether tiles pay for this layer: 3x3 of stride 1 with many channels."""
    shape = layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (1, 1) and layer.groups == 1
    return shape and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS


def fits_tiles(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether pictures of this size can go by tiles through this layer."""
    return is_wide(layer) and not (x.shape[-1] % TILE or x.shape[-2] % TILE)


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of x, [b, c, h, w], by weight, [o, c, 3, 3], by tiles."""
    out = WinogradConvolution.apply(x, weight)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def use_winograd(model: nn.Module) -> None:
    """Let every wide 3x3 convolution of stride 1 in ``model`` go by tiles; weights and their names stay."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and is_wide(module):
            module.__class__ = WinogradConv2d
