"""What optimises a run: parameter groups with rates of their own, AdamW in 32 or 8 bits, the course of the rates."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import PeftModel

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError
from skindualgen.model.adapter import trainable_parameters

FINAL_SHARE = 0.01
"""of the peak rate, at the end of a cosine"""


def parameter_groups(model: PeftModel, config: TrainConfig) -> list[dict[str, Any]]:
    """LoRA's A, LoRA's B with DoRA's magnitudes, and the new layers: each with its peak rate and warm-up.

    LoRA+ gives B a higher rate (Hayou et al. 2024, arXiv 2402.12354).
    """
    named = trainable_parameters(model)
    a = [p for name, p in named.items() if "lora_A" in name]
    new = [p for name, p in named.items() if "lora_" not in name]
    b = [p for name, p in named.items() if "lora_" in name and "lora_A" not in name]
    new_warmup = config.lr_warmup_steps if config.new_layer_warmup_steps is None else config.new_layer_warmup_steps
    # Weight decay would shrink filters of the base that nothing else changes.
    decay = 0.0 if config.freeze_base_filters else config.adam_weight_decay
    rate = config.new_layer_learning_rate or config.learning_rate
    groups = [
        {"params": a, "lr": config.learning_rate, "warmup": config.lr_warmup_steps},
        {"params": b, "lr": config.learning_rate * config.lora_plus_ratio, "warmup": config.lr_warmup_steps},
        {"params": new, "lr": rate, "warmup": new_warmup, "weight_decay": decay},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(groups: list[dict[str, Any]], config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW over the groups.

    Raises:
        InputError: 8 bits without bitsandbytes or without a GPU.
    """
    options: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": config.adam_weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, **options)
    remedy = "pip install bitsandbytes on a machine with a GPU, or use optimizer = 'adamw'"
    if device.type == "cpu":
        raise InputError("optimizer 'adamw8bit' on a CPU", "a GPU", remedy)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise InputError("optimizer 'adamw8bit' without bitsandbytes", "the package", remedy) from error
    return AdamW8bit(groups, **options)


def rate_factor(step: int, config: TrainConfig, warmup: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, then constant, or a cosine to 1 % of it."""
    if step < warmup:
        return (step + 1) / warmup
    if config.lr_scheduler == "constant":
        return 1.0
    return falling_factor((step - warmup) / max(1, config.max_train_steps - warmup))


def falling_factor(share: float) -> float:
    """A cosine from 1 to 1 % over a share of the way from 0 to 1."""
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
