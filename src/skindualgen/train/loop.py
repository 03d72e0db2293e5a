"""``train``: real pairs in, an adapter out. Each step is a function of settings, seed and step: it resumes exactly."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from peft import PeftModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from skindualgen.config import FREE_TO_CHANGE, TrainConfig
from skindualgen.contracts import InputError, SkinDualGenError
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.pairs import read_pairs
from skindualgen.model.adapter import attach_adapter, restore_adapter, save_adapter, trainable_parameters
from skindualgen.model.bases import BUILTIN_ADAPTER, Base, load_base
from skindualgen.model.joint_unet import widen_unet
from skindualgen.provenance import atomic_write_json, atomic_write_text, run_record
from skindualgen.train.checkpoint import load_newest, save_checkpoint
from skindualgen.train.latents import LatentCache, draw_batch, draw_probabilities, encode_pairs
from skindualgen.train.objective import draw_noise, joint_loss
from skindualgen.train.precision import measured_precision
from skindualgen.train.validate import Validator

ADAPTER_DIR = "adapter"
CHECKPOINT_DIR = "checkpoints"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"
ADAPTER_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""


class NonFiniteLossError(SkinDualGenError):
    """The loss or a gradient stopped being a number: training ends, and the last checkpoint is what counts."""


class Trainer:
    """State of one training run: what is trained, what optimises it, and how far it is."""

    def __init__(self, config: TrainConfig, base: Base, accelerator: Accelerator) -> None:
        self.config, self.base, self.accelerator = config, base, accelerator
        self.model = _adapted_unet(config, base)
        groups = _parameter_groups(self.model, config)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _rate_factor(step, config))
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
                raise NonFiniteLossError(f"loss {loss.item()} at step {self.step}, pairs {', '.join(ids)}")
            self.accelerator.backward(loss / config.accumulation)
            for name, value in {"loss": loss.detach(), **terms}.items():
                means[name] = means.get(name, 0.0) + value.item() / config.accumulation
        norm = self.accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
        if not torch.isfinite(norm):
            raise NonFiniteLossError(f"gradient norm {norm.item()} at step {self.step}")
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


def train(config: TrainConfig, *, console: Console | None = None, stop_after: int | None = None) -> Path:
    """Adapt a base to pairs. Run the same again to resume; a finished run returns at once.

    Args:
        config: all settings.
        console: for the progress line; quiet if not given.
        stop_after: end this call, with a checkpoint, after that many steps of the run.

    Returns:
        The run folder: ``adapter/``, ``metrics.jsonl``, ``samples/``, ``checkpoints/``, ``tensorboard/``, settings.

    Raises:
        InputError: unusable data, base or settings, or a run folder of other settings.
        NonFiniteLossError: the loss or a gradient stopped being a number.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    precision = _precision(config)
    AcceleratorState._reset_state()  # else a process could not train twice at different precisions
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    records, val_records = read_pairs(config.data, "train"), _validation_records(config)
    base = load_base(config.base)
    _claim_folder(config, base, manifest_sha256(records), precision)
    trainer = Trainer(config, base, accelerator)
    if (state := load_newest(config.out / CHECKPOINT_DIR)) is not None:
        trainer.load_state(state)
    _drop_rows_after(config.out / METRICS_FILE, trainer.step)
    if trainer.step >= config.steps and (config.out / ADAPTER_DIR).is_dir():
        return config.out
    size = config.size or int(base.unet.config.sample_size) * 2 ** (len(base.vae.config.block_out_channels) - 1)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"), console=console or Console(quiet=True),
    )  # fmt: skip
    with progress, _stop_signals() as stopped:
        cache = _encode(config, records, base, size, progress)
        validator = Validator(config, base, val_records, size)
        last = min(config.steps, stop_after or config.steps)
        _run(trainer, cache, validator, last, progress, stopped)
    if accelerator.is_main_process and trainer.step >= config.steps:
        with trainer.averaged() as model:
            recipe = {"base": config.base, "sampling": config.sampling.model_dump(), "steps": trainer.step}
            recipe |= {"train_manifest_sha256": manifest_sha256(records), "train_pairs": len(records), "size": size}
            recipe |= {"config": config.model_dump(mode="json", exclude={"out", "data", "init_adapter"})}
            dtype = ADAPTER_DTYPES[config.adapter_dtype]
            save_adapter(model, config.out / ADAPTER_DIR, recipe=recipe, base=base, dtype=dtype)
            atomic_write_json(config.out / ADAPTER_DIR / "train_ids.json", sorted(r.isic_id for r in records))
    return config.out


def _run(
    trainer: Trainer, cache: LatentCache, validator: Validator, last: int, progress: Progress, stopped: list[int]
) -> None:
    """Step to ``last``, logging, validating and checkpointing on the way."""
    from torch.utils.tensorboard import SummaryWriter

    config, main = trainer.config, trainer.accelerator.is_main_process
    probabilities = draw_probabilities(cache.records, config.balance)
    checkpoints = config.out / CHECKPOINT_DIR
    writer = SummaryWriter(str(config.out / "tensorboard")) if main else None
    task = progress.add_task("training", total=config.steps, completed=trainer.step, note="")
    start, first = time.monotonic(), trainer.step
    while trainer.step < last and not stopped:
        row: dict[str, Any] = trainer.train_step(cache, probabilities)
        step, done = trainer.step, trainer.step == last
        rate = (step - first) * config.batch_size * config.accumulation / (time.monotonic() - start)
        progress.update(task, completed=step, note=f"loss {row['loss']:.3f}  {rate:.1f} pairs/s")
        if main and (step % config.validate_every == 0 or step == config.steps):
            with trainer.averaged() as model:
                row |= validator.run(model, step)
        if main and (step % LOG_EVERY == 0 or step == config.steps or "val_loss" in row):
            row = {"step": step, "lr": trainer.schedule.get_last_lr()[0], "pairs_per_second": rate} | row
            with (config.out / METRICS_FILE).open("a") as file:
                file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                writer.add_scalar(name, value, step)  # type: ignore[union-attr]
        if main and (step % config.checkpoint_every == 0 or done):
            save_checkpoint(checkpoints, step, trainer.state(), keep=config.keep_checkpoints)
    if main and stopped:
        save_checkpoint(checkpoints, trainer.step, trainer.state(), keep=config.keep_checkpoints)
        progress.console.print(f"Stopped at step {trainer.step}. Run the same command again to go on.")
    if writer:
        writer.close()


def _drop_rows_after(path: Path, step: int) -> None:
    """Remove what a killed run logged beyond its last checkpoint, a line cut short included: it is done again."""
    if not path.is_file():
        return
    lines, kept = path.read_text().splitlines(keepends=True), []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    if kept != lines:
        atomic_write_text(path, "".join(kept))


def seed_of(*place: int) -> int:
    """A seed for the random numbers at one place of the run; 63 bits, no two places alike in practice."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:8], "little") >> 1


def _adapted_unet(config: TrainConfig, base: Base) -> PeftModel:
    joint = widen_unet(base.unet)
    if config.init_adapter is not None:
        folder = BUILTIN_ADAPTER if config.init_adapter == "builtin" else Path(config.init_adapter)
        model = restore_adapter(joint, folder)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name or "modules_to_save" in name)
        return model
    lora = config.lora
    return attach_adapter(joint, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, dropout=lora.dropout)


def _parameter_groups(model: PeftModel, config: TrainConfig) -> list[dict[str, Any]]:
    named = trainable_parameters(model)
    lora = [p for name, p in named.items() if "lora_" in name]
    new = [p for name, p in named.items() if "lora_" not in name]
    new_rate = config.new_layer_learning_rate or config.learning_rate
    return [{"params": lora, "lr": config.learning_rate}, {"params": new, "lr": new_rate}]


def _rate_factor(step: int, config: TrainConfig) -> float:
    """Learning rate as a share of its peak: linear warm-up, then constant, or a cosine to 1 % of it."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _precision(config: TrainConfig) -> str:
    """The asked precision; under "auto" what the run recorded, so that resuming does not change it, else measured."""
    if config.precision != "auto":
        return config.precision
    path = config.out / CONFIG_FILE
    return json.loads(path.read_text())["settings"]["precision_used"] if path.is_file() else measured_precision()


def _validation_records(config: TrainConfig) -> list[Any]:
    try:
        return read_pairs(config.data, "val")
    except InputError:
        return []


def _claim_folder(config: TrainConfig, base: Base, manifest: str, precision: str) -> None:
    """Record the settings of a new run, or refuse a folder that holds a run of others."""
    settings = config.model_dump(mode="json", exclude=FREE_TO_CHANGE)
    settings |= {"base_sha256": base.sha256, "train_manifest_sha256": manifest, "precision_used": precision}
    path = config.out / CONFIG_FILE
    if not path.is_file():
        config.out.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {"settings": settings, "run": run_record()})
        return
    before = json.loads(path.read_text())["settings"]
    changed = sorted(name for name in settings if before.get(name) != settings[name])
    if changed:
        raise InputError(
            f"{config.out} with a run of other settings ({', '.join(changed)})",
            "the same settings, to resume it",
            "use them again, or another --out",
        )


def _encode(config: TrainConfig, records: list[Any], base: Base, size: int, progress: Progress) -> LatentCache:
    task = progress.add_task("encoding", total=len(records), note="")
    steps = encode_pairs(
        config.data, records, base, size=size, views=config.views, min_zoom=config.min_zoom,
        prompt_variants=config.prompt_variants, seed=config.seed,
    )  # fmt: skip
    for done in steps:
        if isinstance(done, LatentCache):
            return done
        progress.update(task, completed=done)
    raise AssertionError("encode_pairs ends with the cache")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying; the loop looks after each step. A second one is not caught."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
