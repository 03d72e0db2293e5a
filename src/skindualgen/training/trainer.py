"""State of a training run: what is trained, what optimises it, and one step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from peft import PeftModel
from torch import Tensor

from skindualgen.codec import CELL_PX, codec_record, make_codec
from skindualgen.config import MaskHeadSettings, TrainConfig
from skindualgen.contracts import InputError, SkinDualGenError
from skindualgen.data.mask_classes import read_mask_classes
from skindualgen.hardware import DTYPES
from skindualgen.model.adapter import (
    adapter_folder,
    attach_adapter,
    lora_settings,
    mask_head_of,
    read_header,
    recorded_codec,
    restore_adapter,
    trainable_parameters,
)
from skindualgen.model.bases import Base, zero_terminal_snr
from skindualgen.model.joint_unet import freeze_base_filters, joint_prediction, train_head_alone, widen_unet
from skindualgen.training.batches import Batch, seed_of
from skindualgen.training.cache import EncodeOptions
from skindualgen.training.objective import joint_loss, term_means
from skindualgen.training.optimizer import make_optimizer, parameter_groups, rate_factor
from skindualgen.training.sharding import like, optimizer_state_like, reshard, take_sharding, whole

DIVERGED = "look at these pairs, or train anew with a lower learning rate"

UNFUSED_ATTENTION_CELLS = 256
"""Latent cells up to which a CPU trains with unfused attention: 1.4 times as fast there, as the fused backward pass is
slow. Beyond, the score matrices that it holds would cost memory."""


class NonFiniteLossError(SkinDualGenError):
    """The loss or a gradient stopped being a number: training ends, and the last checkpoint is what counts.

    Args:
        what: "loss" or "gradient norm".
        value: of it.
        step: that was not done.
        batch: of this process that was seen last.
        terms: of its loss, as returned by ``joint_loss``.
    """

    def __init__(self, what: str, value: float, step: int, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        self.report: dict[str, Any] = {
            "what": what,
            "value": str(value),
            "step": step,
            "ids": batch.ids,
            "prompts": batch.prompts,
            "t_image": batch.noise.t_image.tolist(),
            "t_mask": batch.noise.t_mask.tolist(),
            "terms": {name: str(value) for name, value in term_means(terms).items()},
            "largest_latent": [str(value) for value in batch.latents.abs().amax((1, 2, 3)).tolist()],
        }
        super().__init__(f"{what} {value} at step {step}, pairs {', '.join(batch.ids)}; {DIVERGED}")


class Trainer:
    """State of one training run: what is trained, what optimises it, and how far it is."""

    def __init__(self, config: TrainConfig, base: Base, accelerator: Accelerator) -> None:
        self.config, self.base, self.accelerator = config, base, accelerator
        take_sharding(config, accelerator)
        self.sharded: bool = accelerator.is_fsdp2
        self.size = config.resolution or base.native_px
        self.codec = make_codec(config.mask_codec.model_dump(), base.vae)
        self.classes = read_mask_classes(config.data)
        self._check_classes()
        if config.noise.rescale_betas_zero_snr:
            base.scheduler = zero_terminal_snr(base.scheduler)
        on_cpu = accelerator.device.type == "cpu"
        trained_in = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
        frozen = frozen_dtype(config, trained_in, on_cpu=on_cpu)
        torch.nn.Module.to(base.unet, frozen)  # diffusers' own warns of parts it has none of
        self.model = self._adapted_unet()
        unet: UNet2DConditionModel = self.model.get_base_model()
        if config.mask_head.alone:
            train_head_alone(self.model)
        if config.freeze_base_filters:
            freeze_base_filters(unet, base.unet.config.in_channels)
        if trains_unfused(self.size, on_cpu=on_cpu):
            unet.set_attn_processor(AttnProcessor())
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        if config.channels_last:
            unet.to(memory_format=torch.channels_last)
        if config.compile:
            unet.compile()
        self.optimizer = make_optimizer(parameter_groups(self.model, config), config, accelerator.device)
        factors: list[Callable[[int], float]] = [
            partial(rate_factor, config=config, warmup=group["warmup"]) for group in self.optimizer.param_groups
        ]
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factors)
        self.step = 0
        for part in (base.vae, base.text_encoder):
            part.to(accelerator.device)
        if self.sharded:  # the UNet and not peft's wrapper around it, as drawing a pair calls it directly
            self.synced, self.optimizer = accelerator.prepare(unet, self.optimizer)
        else:
            self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
            self.synced = self.model
        self.parameters = list(trainable_parameters(self.model).values())
        self.ema = EMAModel(self.parameters, decay=config.ema_decay) if config.ema_decay else None
        self.model.train()
        self.alphas_cumprod = base.scheduler.alphas_cumprod.to(accelerator.device)

    @property
    def encode_options(self) -> EncodeOptions:
        """How training pairs are encoded."""
        config = self.config
        return EncodeOptions(
            self.size,
            config.views,
            config.min_zoom,
            config.colour,
            config.prompt_variants,
            config.seed,
            config.appearance_prompts,
            self.codec,
            self.classes,
        )

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs; random states are none of it, as each step seeds its own.

        Where weights are sharded, all processes must call this; it is the state of all of them.
        """
        return {
            "step": self.step,
            "parameters": [whole(p).detach().cpu() for p in self.parameters],
            "optimizer": whole(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "ema": whole(self.ema.state_dict()) if self.ema else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        self.step = state["step"]
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(like(value, parameter))
        self.optimizer.load_state_dict(optimizer_state_like(state["optimizer"], self.optimizer))
        self.schedule.load_state_dict(state["schedule"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
            self.ema.shadow_params = [like(*pair) for pair in zip(self.ema.shadow_params, self.parameters, strict=True)]
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def train_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step over all batches that it accumulates; returns the mean of each term over all processes."""
        config, accelerator = self.config, self.accelerator
        loss_sum = torch.zeros((), device=accelerator.device)
        sums: dict[str, Tensor] = {}
        for part in range(config.gradient_accumulation_steps):
            # LoRA's dropout draws from the global generator.
            torch.manual_seed(seed_of(config.seed, self.step, part, accelerator.process_index, 1))
            batch = next(batches).to(accelerator.device)
            last = part == config.gradient_accumulation_steps - 1
            with nullcontext() if last else accelerator.no_sync(self.synced):
                with accelerator.autocast():
                    loss, terms = joint_loss(
                        self.model,
                        batch.latents,
                        batch.codes,
                        batch.has_mask,
                        batch.text,
                        batch.noise,
                        alphas_cumprod=self.alphas_cumprod,
                        prediction_type=self.base.prediction_type,
                        settings=config.loss,
                        codec=self.codec,
                        base_prediction=self.base_prediction,
                    )
                if not torch.isfinite(loss):
                    raise NonFiniteLossError("loss", loss.item(), self.step, batch, terms)
                accelerator.backward(loss / config.gradient_accumulation_steps)
            loss_sum += loss.detach() / config.gradient_accumulation_steps
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value
        norm = whole(accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm))
        # Under fp16 an overflow is part of the loss scaling: the optimiser skips the step and the scale is halved.
        if not torch.isfinite(norm) and accelerator.scaler is None:
            raise NonFiniteLossError("gradient norm", norm.item(), self.step, batch, terms)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
        self.step += 1
        if accelerator.num_processes > 1:
            loss_sum = accelerator.reduce(loss_sum, "mean")
            sums = {name: accelerator.reduce(value) for name, value in sums.items()}
        return {"loss": loss_sum.item(), **term_means(sums), "grad_norm": float(norm)}

    @torch.no_grad()
    def base_prediction(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """What the base predicts, of which no second copy is needed: the model without its adapter is the base."""
        model = self.accelerator.unwrap_model(self.model)
        codes = noisy.new_zeros((len(noisy), self.codec.channels * len(self.classes), *noisy.shape[2:]))
        with model.disable_adapter():
            return joint_prediction(model, noisy, codes, timesteps, torch.zeros_like(timesteps), text)[0]

    @contextmanager
    def averaged(self) -> Iterator[PeftModel]:
        """The model with its moving average in place of the raw weights; sharded, all processes must use it alike."""
        if self.ema:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        try:
            yield self.accelerator.unwrap_model(self.model)
        finally:
            if self.sharded:
                reshard(self.synced)
            if self.ema:
                self.ema.restore(self.parameters)

    def _check_classes(self) -> None:
        """Refuse another number of classes than the settings ask for."""
        asked = self.config.mask_codec.classes
        if asked is not None and asked != len(self.classes):
            raise InputError(
                f"mask_codec.classes = {asked} with masks of {len(self.classes)} ({', '.join(self.classes)})",
                "the number of classes that dataset.json names",
                "leave mask_codec.classes out, or fix mask_classes in dataset.json (docs/data-layouts.md)",
            )

    def _adapted_unet(self) -> PeftModel:
        config, base, lora = self.config, self.base, self.config.lora
        if config.init_adapter is None:
            channels = self.codec.channels * len(self.classes)
            joint = widen_unet(base.unet, channels, share=True, head=head_record(config.mask_head))
            return attach_adapter(joint, **lora.model_dump())
        folder = adapter_folder(config.init_adapter)
        header = read_header(folder)
        if "distilled" in header["recipe"]:
            raise InputError(
                f"init_adapter {config.init_adapter}, which was distilled",
                "an adapter that was trained on pairs: a distilled one knows only its own few steps",
                "start from its teacher, and distil the result",
            )
        codec, classes = recorded_codec(header, base)
        ours, theirs = (f"{codec_record(c)} of {dict(k)}" for c, k in ((self.codec, self.classes), (codec, classes)))
        if ours != theirs:
            raise InputError(
                f"masks coded by {ours} with init_adapter {config.init_adapter}",
                f"{theirs}, as that adapter codes them",
                "set mask_codec alike and use data of the same classes, or start without init_adapter",
            )
        model = restore_adapter(base, folder, allow_base_mismatch=config.allow_base_mismatch, share=True)
        own_head = mask_head_of(model) or {"width": 0}
        for table, given, own in (("lora", lora, lora_settings(model)), ("mask_head", config.mask_head, own_head)):
            for name in given.model_fields_set & set(own):
                if getattr(given, name) != own[name]:
                    raise InputError(
                        f"{table}.{name} = {getattr(given, name)!r} with init_adapter {config.init_adapter}",
                        f"{own[name]!r}, which that adapter has",
                        f"leave {table}.{name} out, or start without init_adapter",
                    )
        return model


def accelerator_of(precision: str) -> Accelerator:
    """An accelerator for a training in this precision, one of those of `DTYPES`."""
    AcceleratorState._reset_state()  # else a process could not train twice at different precisions
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision)


def head_record(settings: MaskHeadSettings) -> dict[str, int] | None:
    """A mask head as adapters record it and ``widen_unet`` takes it; None without one."""
    return settings.model_dump(exclude={"alone"}) if settings.width else None


def frozen_dtype(config: TrainConfig, trained_in: str, *, on_cpu: bool) -> torch.dtype:
    """Type of the base's weights, which are not trained, next to a training in the precision ``trained_in``.

    Raises:
        InputError: a half precision without the autocast that goes with it.
    """
    if config.base_dtype == "auto":
        return DTYPES["fp32" if on_cpu else trained_in]
    if config.base_dtype not in ("fp32", trained_in):
        raise InputError(
            f"base_dtype {config.base_dtype} with mixed_precision {trained_in}",
            "fp32, or the precision of the training",
            "set both alike",
        )
    return DTYPES[config.base_dtype]


def trains_unfused(size: int, *, on_cpu: bool) -> bool:
    """Whether attention is trained unfused at this side in px."""
    return on_cpu and (size // CELL_PX) ** 2 <= UNFUSED_ATTENTION_CELLS
