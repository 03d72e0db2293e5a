"""Make a base deeper without changing what it predicts: a larger network that goes on from a smaller one.

    python scripts/micro_deepen.py --base BASE --out BASE

Every block of the UNet gets one residual layer more, and one attention more where it has some. The new layers add
nothing at first: their last weights are zero (Net2Net: Chen et al. 2016, arXiv 1511.05641; zero convolutions: Zhang et
al. 2023, arXiv 2302.05543), and those that read a skip connection pass on what they are given.
`micro_base.py --init` takes the result, and trains as many layers as it has.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from skindualgen.folders import new_folder

LAYERS = ("resnets", "attentions")


def deepened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The UNet with one layer more in each block down and up, and the same predictions."""
    config = dict(unet.config) | {"layers_per_block": unet.config.layers_per_block + 1}
    deeper = UNet2DConditionModel.from_config(config)
    for side in ("down_blocks", "up_blocks"):
        for block in getattr(deeper, side):
            for name in LAYERS:
                if hasattr(block, name) and len(getattr(block, name)):
                    _add_nothing(getattr(block, name)[new_place(side, len(getattr(block, name)))])
    kept = {_renamed(name, unet): value for name, value in unet.state_dict().items()}
    missing, unexpected = deeper.load_state_dict(kept, strict=False)
    if unexpected or not missing:
        raise ValueError(f"weights {unexpected[:3]} have no place in the deeper network")
    return deeper.to(unet.dtype)


def new_place(side: str, layers: int) -> int:
    """Where the new one of so many layers stands: last on the way down, and on the way up before the last.

    On the way down its output is a skip connection more, equal to the one before it; on the way up the last layer
    reads the skip connection of the block above.
    """
    return layers - 1 if side == "down_blocks" else layers - 2


def _renamed(name: str, unet: UNet2DConditionModel) -> str:
    """The name of a weight in the deeper network: the last layers of blocks on the way up move on by one."""
    parts = name.split(".")
    if parts[0] == "up_blocks" and parts[2] in LAYERS and int(parts[3]) == unet.config.layers_per_block:
        parts[3] = str(int(parts[3]) + 1)
    return ".".join(parts)


@torch.no_grad()
def _add_nothing(layer: nn.Module) -> None:
    """Have a residual layer or an attention return the hidden states that it is given."""
    last = layer.proj_out if hasattr(layer, "proj_out") else layer.conv2
    last.weight.zero_()
    last.bias.zero_()
    shortcut = getattr(layer, "conv_shortcut", None)
    if shortcut is not None:  # it reads hidden states [b, out, h, w], and after them a skip connection
        shortcut.weight.zero_()
        shortcut.bias.zero_()
        shortcut.weight[:, : len(shortcut.weight), 0, 0] = torch.eye(len(shortcut.weight))


def deepen(base: Path, out: Path) -> None:
    """Write a base with a deeper UNet as ``out``; all else is as it was."""
    with new_folder(out) as temporary:
        shutil.copytree(base, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns("unet"))
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32)
        deepened(unet).half().save_pretrained(temporary / "unet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    deepen(args.base, args.out)
