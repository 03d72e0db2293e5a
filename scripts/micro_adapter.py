"""`skindualgen train` for the bundled adapter on a CPU: the same steps, with each LoRA merged into its layer first.

    python scripts/micro_adapter.py train --config scripts/micro_adapter.toml --base BASE --data PAIRS --out RUN

Takes what `skindualgen` takes. With a micro UNet the low-rank product W + BA costs little beside a second
convolution over every picture, and one convolution can go by tiles (micro_winograd.py); results are equal to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Conv2d as LoraConv2d
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from micro_winograd import fits_tiles, use_winograd, winograd
from skindualgen.cli import app
from skindualgen.model.joint_unet import MASK_HEAD
from skindualgen.training.trainer import Trainer

ADAPTER = "default"


def merged_weight(layer: nn.Module) -> Tensor:
    """Weight of the layer with its low-rank update, in the layer's shape; without it where adapters are disabled."""
    if layer.disable_adapters:
        return layer.get_base_layer().weight
    down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    weight = layer.get_base_layer().weight
    return torch.addmm(weight.flatten(1), up.flatten(1), down.flatten(1), alpha=layer.scaling[ADAPTER]).view_as(weight)


class MergedLinear(LoraLinear):
    """A linear layer that adds its update to its weight."""

    def forward(self, x: Tensor) -> Tensor:
        """Same as the class it stands for."""
        return F.linear(x, merged_weight(self), self.get_base_layer().bias)


class MergedConv2d(LoraConv2d):
    """A convolution that adds its update to its weight, and goes by tiles where these fit."""

    def forward(self, x: Tensor) -> Tensor:
        """Same as the class it stands for."""
        layer, weight = self.get_base_layer(), merged_weight(self)
        if fits_tiles(layer, x):
            return winograd(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def merge_as_it_trains(model: PeftModel) -> PeftModel:
    """Let every LoRA layer of plain settings (no dropout, no DoRA) merge its update in each forward pass."""
    for module in model.modules():
        for plain, merged in ((LoraLinear, MergedLinear), (LoraConv2d, MergedConv2d)):
            if type(module) is plain:
                if module.lora_dropout[ADAPTER].__class__ is not nn.Identity or module.use_dora[ADAPTER]:
                    raise SystemExit("scripts/micro_adapter.py merges LoRA without dropout and DoRA alone")
                module.__class__ = merged
    if hasattr(model.get_base_model(), MASK_HEAD):
        use_winograd(model.get_base_model().get_submodule(MASK_HEAD))
    return model


class MergingTrainer(Trainer):
    """The trainer of `skindualgen train` with merging layers, channels last."""

    def _adapted_unet(self) -> PeftModel:
        return merge_as_it_trains(super()._adapted_unet()).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    from skindualgen.training import loop

    loop.Trainer = MergingTrainer
    app()
