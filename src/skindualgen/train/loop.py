"""``train``: real pairs in, an adapter out. Each step is a function of settings, seed and step: it resumes exactly."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.pairs import read_pairs
from skindualgen.model.adapter import ADAPTER_DIR, WEIGHTS_FILE, adapter_folder, lora_settings, save_adapter
from skindualgen.model.bases import Base, load_base
from skindualgen.provenance import atomic_write_json, sha256_file
from skindualgen.train.checkpoint import load_newest, save_checkpoint
from skindualgen.train.latents import LatentCache, draw_probabilities, encode_pairs
from skindualgen.train.run_folder import (
    CHECKPOINT_DIR,
    METRICS_FILE,
    claim_folder,
    drop_rows_after,
    run_precision,
)
from skindualgen.train.trainer import Trainer
from skindualgen.train.validate import Validator

ADAPTER_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
IDS_FILE = "train_ids.json"
"""the last file of an adapter folder to be written"""
LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""


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
        KeyboardInterrupt: told to stop by SIGINT or SIGTERM; a checkpoint is written first.
        NonFiniteLossError: the loss or a gradient stopped being a number.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    console = console or Console(quiet=True)
    with console.status("Loading the base ..."):
        precision = run_precision(config)
        AcceleratorState._reset_state()  # else a process could not train twice at different precisions
        accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
        records, val_records = read_pairs(config.data, "train"), _validation_records(config)
        base = load_base(config.base)
        trainer = Trainer(config, base, accelerator)
    claim_folder(config, base, manifest_sha256(records), precision)
    if (state := load_newest(config.out / CHECKPOINT_DIR)) is not None:
        trainer.load_state(state)
    drop_rows_after(config.out / METRICS_FILE, trainer.step)
    if trainer.step >= config.steps and (config.out / ADAPTER_DIR / IDS_FILE).is_file():
        return config.out
    size = trainer.size
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"), console=console,
    )  # fmt: skip
    with progress:
        cache = _encode(config, records, base, size, progress)
        validator = Validator(config, base, val_records, size, _counter(progress, "encoding for validation"))
        last = min(config.steps, stop_after or config.steps)
        with _stop_signals() as stopped:
            _run(trainer, cache, validator, last, progress, stopped)
    if accelerator.is_main_process and trainer.step >= config.steps:
        with trainer.averaged() as model:
            recipe = {"base": config.base, "sampling": config.sampling.model_dump(), "steps": trainer.step}
            recipe |= {"train_manifest_sha256": manifest_sha256(records), "train_pairs": len(records), "size": size}
            settings = config.model_dump(mode="json", exclude={"out", "data", "init_adapter"})
            recipe |= {"config": settings | {"lora": lora_settings(model)}}
            if config.init_adapter is not None:
                recipe["init_adapter_sha256"] = sha256_file(adapter_folder(config.init_adapter) / WEIGHTS_FILE)
            dtype = ADAPTER_DTYPES[config.adapter_dtype]
            save_adapter(model, config.out / ADAPTER_DIR, recipe=recipe, base=base, dtype=dtype)
            atomic_write_json(config.out / ADAPTER_DIR / IDS_FILE, sorted(r.isic_id for r in records))
    return config.out


def _run(
    trainer: Trainer, cache: LatentCache, validator: Validator, last: int, progress: Progress, stopped: list[int]
) -> None:
    """Step to ``last``, logging, validating and checkpointing on the way."""
    config, main = trainer.config, trainer.accelerator.is_main_process
    probabilities = draw_probabilities(cache.records, config.balance)
    checkpoints = config.out / CHECKPOINT_DIR
    # What a killed run drew beyond its last checkpoint is hidden, as it is drawn again.
    writer = SummaryWriter(str(config.out / "tensorboard"), purge_step=trainer.step + 1) if main else None
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
    if writer:
        writer.close()
    if stopped and trainer.step < last:
        if main:
            save_checkpoint(checkpoints, trainer.step, trainer.state(), keep=config.keep_checkpoints)
            progress.console.print(f"Stopped at step {trainer.step}. Run the same command again to go on.")
        raise KeyboardInterrupt


def _validation_records(config: TrainConfig) -> list[PairRecord]:
    try:
        return read_pairs(config.data, "val")
    except InputError:
        return []


def _encode(config: TrainConfig, records: list[PairRecord], base: Base, size: int, progress: Progress) -> LatentCache:
    return encode_pairs(
        config.data, records, base, size=size, views=config.views, min_zoom=config.min_zoom,
        prompt_variants=config.prompt_variants, seed=config.seed, report=_counter(progress, "encoding"),
    )  # fmt: skip


def _counter(progress: Progress, name: str) -> Callable[[int, int], None]:
    task = progress.add_task(name, total=None, note="")
    return lambda done, total: progress.update(task, completed=done, total=total)


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
