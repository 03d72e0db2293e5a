"""State of a training run: what is trained, what optimises it, and one step of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from peft import PeftModel
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError, SkinDualGenError
from skindualgen.model.adapter import (
    adapter_folder,
    attach_adapter,
    lora_settings,
    restore_adapter,
    trainable_parameters,
)
from skindualgen.model.bases import Base
from skindualgen.model.joint_unet import widen_unet
from skindualgen.train.latents import LatentCache, draw_batch
from skindualgen.train.objective import draw_noise, joint_loss

DIVERGED = "look at these pairs, or train anew with a lower learning rate"

UNFUSED_ATTENTION_CELLS = 256
"""Latent cells up to which a CPU trains with unfused attention: 1.4 times as fast there, as the fused backward pass is
slow. Beyond, the score matrices that it holds would cost memory."""


class NonFiniteLossError(SkinDualGenError):
    """The loss or a gradient stopped being a number: training ends, and the last checkpoint is what counts."""


class Trainer:
    """State of one training run: what is trained, what optimises it, and how far it is."""

    def __init__(self, config: TrainConfig, base: Base, accelerator: Accelerator) -> None:
        self.config, self.base, self.accelerator = config, base, accelerator
        self.size = config.size or base.native_px
        self.model = _adapted_unet(config, base)
        if accelerator.device.type == "cpu" and (self.size // CELL_PX) ** 2 <= UNFUSED_ATTENTION_CELLS:
            unet: UNet2DConditionModel = self.model.get_base_model()
            unet.set_attn_processor(AttnProcessor())
        groups = _parameter_groups(self.model, config)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate_factor(step, config))
        self.parameters = list(trainable_parameters(self.model).values())
        self.ema = EMAModel(self.parameters, decay=config.ema_decay) if config.ema_decay else None
        self.step = 0
        for part in (base.vae, base.text_encoder):
            part.to(accelerator.device)
        self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        if self.ema:
            self.ema.to(accelerator.device)
        self.alphas_cumprod = base.scheduler.alphas_cumprod.to(accelerator.device)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs; random states are none of it, as each step seeds its own."""
        return {
            "step": self.step,
            "parameters": [p.detach().cpu() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        self.step = state["step"]
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def train_step(self, cache: LatentCache, probabilities: Tensor) -> dict[str, float]:
        """One optimiser step over all batches that it accumulates; returns the mean of each term."""
        config, device = self.config, self.accelerator.device
        means: dict[str, float] = {}
        for part in range(config.accumulation):
            place = [config.seed, self.step, part, self.accelerator.process_index]
            generator = torch.Generator().manual_seed(seed_of(*place))
            torch.manual_seed(seed_of(*place, 1))  # LoRA's dropout draws from the global generator
            *tensors, prompts, ids = draw_batch(
                cache, probabilities, config.batch_size, config.caption_dropout, generator
            )
            noise = draw_noise(tensors[0], tensors[2], config.noise, len(self.alphas_cumprod), generator)
            latents, codes, has_mask = (t.to(device) for t in tensors)
            noise = type(noise)(*(t.to(device) for t in (noise.image, noise.mask, noise.t_image, noise.t_mask)))
            with self.accelerator.autocast():
                loss, terms = joint_loss(
                    self.model, latents, codes, has_mask, self.base.embed(prompts), noise,
                    alphas_cumprod=self.alphas_cumprod,
                    prediction_type=self.base.prediction_type,
                    settings=config.loss,
                )  # fmt: skip
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"loss {loss.item()} at step {self.step}, pairs {', '.join(ids)}; {DIVERGED}")
            self.accelerator.backward(loss / config.accumulation)
            for name, value in {"loss": loss.detach(), **terms}.items():
                means[name] = means.get(name, 0.0) + value.item() / config.accumulation
        norm = self.accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
        # Under fp16 an overflow is part of the loss scaling: the optimiser skips the step and the scale is halved.
        if not torch.isfinite(norm) and self.accelerator.scaler is None:
            raise NonFiniteLossError(f"gradient norm {norm.item()} at step {self.step}; {DIVERGED}")
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
        self.step += 1
        return means | {"grad_norm": float(norm)}

    @contextmanager
    def averaged(self) -> Iterator[PeftModel]:
        """The model with its moving average in place of the raw weights."""
        if self.ema:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        try:
            yield self.accelerator.unwrap_model(self.model)
        finally:
            if self.ema:
                self.ema.restore(self.parameters)


def seed_of(*place: int) -> int:
    """A seed for the random numbers at one place of the run; 63 bits, no two places alike in practice."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:8], "little") >> 1


def _adapted_unet(config: TrainConfig, base: Base) -> PeftModel:
    lora = config.lora
    if config.init_adapter is not None:
        model = restore_adapter(base, adapter_folder(config.init_adapter))
        own = lora_settings(model)
        for name in lora.model_fields_set:
            if getattr(lora, name) != own[name]:
                raise InputError(
                    f"lora.{name} = {getattr(lora, name)!r} with init_adapter {config.init_adapter}",
                    f"{own[name]!r}, which that adapter has",
                    f"leave lora.{name} out, or start without init_adapter",
                )
        return model
    return attach_adapter(
        widen_unet(base.unet), rank=lora.rank, alpha=lora.alpha, targets=lora.targets, dropout=lora.dropout
    )


def _parameter_groups(model: PeftModel, config: TrainConfig) -> list[dict[str, Any]]:
    named = trainable_parameters(model)
    lora = [p for name, p in named.items() if "lora_" in name]
    new = [p for name, p in named.items() if "lora_" not in name]
    new_rate = config.new_layer_learning_rate or config.learning_rate
    return [{"params": lora, "lr": config.learning_rate}, {"params": new, "lr": new_rate}]


def rate_factor(step: int, config: TrainConfig) -> float:
    """Learning rate as a share of its peak: linear warm-up, then constant, or a cosine to 1 % of it."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
