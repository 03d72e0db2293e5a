"""An adapter of higher rank that does the same: room for more to learn."""

from __future__ import annotations

import math

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from skindualgen.contracts import InputError

NAME = "default"


@torch.no_grad()
def raise_rank(model: PeftModel, rank: int, *, seed: int) -> None:
    """Give LoRA in every layer ``rank`` directions, the new ones random at the input and zero at the output.

    Args:
        model: as returned by ``restore_adapter``; changed in place.
        rank: at least that of the adapter.
        seed: of the new directions.

    Raises:
        InputError: a lower rank.
    """
    config = model.peft_config[NAME]
    before = config.r
    if rank < before:
        raise InputError(f"rank {rank} for an adapter of rank {before}", f"at least {before}", "raise it")
    generator = torch.Generator().manual_seed(seed)
    grown = rank / before
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or NAME not in layer.lora_A:
            continue
        first, last = layer.lora_A[NAME], layer.lora_B[NAME]
        bound = 1 / math.sqrt(first.weight[0].numel())  # as peft draws them
        new = torch.empty(rank - before, *first.weight.shape[1:]).uniform_(-bound, bound, generator=generator)
        first.weight = nn.Parameter(torch.cat([first.weight, new.to(first.weight)]))
        zeros = last.weight.new_zeros(last.weight.shape[0], rank - before, *last.weight.shape[2:])
        last.weight = nn.Parameter(torch.cat([last.weight, zeros], dim=1))
        layer.r[NAME] = rank
    config.lora_alpha *= math.sqrt(grown) if config.use_rslora else grown  # updates keep their scale
    config.r = rank
