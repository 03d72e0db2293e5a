"""``train``: real pairs in, an adapter out. Each step is a function of settings, seed and step: it resumes exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skindualgen.codec import codec_record
from skindualgen.config import LOCAL, TrainConfig
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import manifest_sha256, read_metadata
from skindualgen.data.pairs import read_pairs
from skindualgen.data.review import count_rejected, left_out_line
from skindualgen.data.training_items import (
    TRAINING_ITEMS_FILE,
    TrainingItems,
    read_training_items,
    write_training_items,
)
from skindualgen.files import atomic_write_json, sha256_file
from skindualgen.hardware import DTYPES
from skindualgen.model.adapter import (
    ADAPTER_DIR,
    WEIGHTS_FILE,
    adapter_folder,
    adapter_state,
    lora_settings,
    mask_head_of,
    read_header,
    save_adapter,
)
from skindualgen.model.bases import MICRO_BASE, Base, load_base
from skindualgen.planning.looks import appearances_of
from skindualgen.training.batches import Batches
from skindualgen.training.cache import open_cache
from skindualgen.training.checkpoint import load_newest, save_checkpoint
from skindualgen.training.progress import METRICS_FILE, drop_rows_after
from skindualgen.training.run_folder import CHECKPOINT_DIR, claim_folder, run_precision
from skindualgen.training.stopping import Best, TrainingPruned, TrainingStopped, any_process, stop_signals
from skindualgen.training.throughput import Throughput
from skindualgen.training.tracking import Tracking, require_client
from skindualgen.training.trainer import NonFiniteLossError, Trainer, accelerator_of
from skindualgen.training.validate import Validator, validation_records

CACHE_DIR, BEST_DIR = "cache", "best"
LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""

Hopeless = Callable[[int, Mapping[str, float]], bool]
"""Told step and numbers of each validation; whether the run is to be given up there."""


def train(
    config: TrainConfig,
    *,
    console: Console | None = None,
    stop_after: int | None = None,
    hopeless: Hopeless = lambda step, row: False,
) -> Path:
    """Adapt a base to pairs. Run the same again to resume; a finished run returns at once.

    More ``max_train_steps`` continue a run where that gives what as many from the beginning give: with
    ``lr_scheduler = "constant"``.

    Args:
        config: all settings.
        console: for the progress line; quiet if not given.
        stop_after: end this call, with a checkpoint, after that many steps of the run.
        hopeless: asked after each validation; its answer to the last one does not matter.

    Returns:
        The run folder: ``adapter/``, ``best/``, ``metrics.jsonl``, ``samples/``, ``checkpoints/``, ``tensorboard/``,
        ``cache/``, settings, parts.

    Raises:
        InputError: unusable data, base or settings, a run folder of other settings, a tracker that is not installed or
            does not begin, or a full disk.
        TrainingStopped: told to stop by SIGINT or SIGTERM; a checkpoint is written first.
        TrainingPruned: a validation was ``hopeless``.
        NonFiniteLossError: the loss or a gradient stopped being a number; a report of it is in the run folder.
    """
    require_client(config.track)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    console = console or Console(quiet=True)
    with console.status("Loading the base ..."):
        precision = run_precision(config)
        accelerator = accelerator_of(precision)
        if not accelerator.is_main_process:
            console = Console(quiet=True)
        records, val_records = read_pairs(config.data, "train"), validation_records(config)
        base = load_base(config.base)
        trainer = Trainer(config, base, accelerator)
    for line in filter(None, (_left_out(config), _ignored_pixels(records))):
        console.print(line, soft_wrap=True, highlight=False)
    with accelerator.main_process_first():
        found: dict[str, Any] = {"base_sha256": base.sha256, "train_manifest_sha256": manifest_sha256(records)}
        found |= {"precision_used": precision, "processes": accelerator.num_processes}
        claim_folder(config, found | {"mask_classes": dict(trainer.classes)})
    run = Run(trainer, records, val_records, console, hopeless)
    if not run.finished():
        run.go(min(config.max_train_steps, stop_after or config.max_train_steps))
    return config.out


class Run:
    """One call of ``train``: the trainer with its data, its validation, its files and its progress line."""

    def __init__(
        self,
        trainer: Trainer,
        records: list[PairRecord],
        val_records: list[PairRecord],
        console: Console,
        hopeless: Hopeless,
    ) -> None:
        self.trainer, self.config, self.console, self.hopeless = trainer, trainer.config, console, hopeless
        self.records, self.val_records = records, val_records
        self.accelerator = trainer.accelerator
        self.main = self.accelerator.is_main_process
        self.joins = self.main or trainer.sharded
        """whether this process takes part in validating and saving; without its shards the main one could do neither"""
        self.best = Best(self.config.best_by)
        self.checkpoints = self.config.out / CHECKPOINT_DIR
        if (state := load_newest(self.checkpoints)) is not None:
            self.best = Best(**state.pop("best"))
            trainer.load_state(state)
        self.accelerator.wait_for_everyone()
        if self.main:
            drop_rows_after(self.config.out / METRICS_FILE, trainer.step)

    def finished(self) -> bool:
        """Whether the adapter of the last step is there, and not that of a shorter run which is continued."""
        folder, best = self.config.out / ADAPTER_DIR, self.config.out / BEST_DIR
        if not (self.trainer.step >= self.config.max_train_steps or self._given_up()):
            return False
        chosen = self.best.step if self.config.result == "best" and best.is_dir() else self.trainer.step
        return (folder / TRAINING_ITEMS_FILE).is_file() and read_header(folder)["recipe"].get("steps") == chosen

    def go(self, last: int) -> None:
        """Step to ``last``, logging, validating and checkpointing on the way; write the adapter after the last step."""
        config = self.config
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        with ExitStack() as ends:
            pairs = {"train_pairs": len(self.records), "val_pairs": len(self.val_records)}
            pairs["step_pairs"] = self._step_pairs()
            tracking = ends.enter_context(Tracking(config, self.trainer.step, pairs)) if self.main else None
            ends.enter_context(progress)
            with self.accelerator.main_process_first():  # one process encodes, the others open what it wrote
                batches, validator = self._open_data(progress)
            with stop_signals() as stopped:
                self._steps(batches, validator, last, progress, stopped, tracking)
        if self.trainer.step >= config.max_train_steps or self._given_up():
            best = config.out / BEST_DIR
            if config.result == "best" and any_process(
                self.accelerator, self.main and (best / TRAINING_ITEMS_FILE).is_file()
            ):
                if self.main:
                    shutil.rmtree(config.out / ADAPTER_DIR, ignore_errors=True)
                    shutil.copytree(best, config.out / ADAPTER_DIR)
            else:
                self._save(config.out / ADAPTER_DIR)

    def _step_pairs(self) -> int:
        config = self.config
        return config.train_batch_size * config.gradient_accumulation_steps * self.accelerator.num_processes

    def _open_data(self, progress: Progress) -> tuple[Batches, Validator]:
        config, trainer = self.config, self.trainer
        root = config.cache or config.out / CACHE_DIR
        options = trainer.encode_options
        cache = open_cache(
            root,
            config.data,
            self.records,
            trainer.base,
            options,
            report=_counter(progress, "encoding"),
            workers=config.dataloader_num_workers,
        )
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        batches = Batches(cache, config, len(trainer.alphas_cumprod), process, processes)
        report = _counter(progress, "encoding for validation")
        validator = Validator(config, trainer.base, self.val_records, options, root, self.accelerator.autocast, report)
        return batches, validator

    def _steps(
        self,
        batches: Batches,
        validator: Validator,
        last: int,
        progress: Progress,
        stopped: list[int],
        tracking: Tracking | None,
    ) -> None:
        config, trainer = self.config, self.trainer
        task = progress.add_task("training", total=config.max_train_steps, completed=trainer.step, note="")
        throughput = Throughput(iter(batches.loader(trainer.step)), self._step_pairs(), self.accelerator.device)
        stop = hopeless = False
        while trainer.step < last and not stop and not self._given_up():
            try:
                row: dict[str, Any] = trainer.train_step(throughput)
            except NonFiniteLossError as error:
                name = f"nonfinite-step-{error.report['step']:07d}-{self.accelerator.process_index}.json"
                atomic_write_json(config.out / name, error.report)
                error.args = (f"{error}. Report: {config.out / name}",)
                raise
            step, done = trainer.step, trainer.step == last
            speed = throughput.step_done()
            progress.update(task, completed=step, note=f"loss {row['loss']:.3f}  {throughput.line()}")
            drawn = None
            if step % config.validation_steps == 0 or step == config.max_train_steps:
                drawn = validator.path(step)
                with throughput.paused():
                    row |= self._validate(validator, step)
            if tracking and (step % LOG_EVERY == 0 or drawn):
                row = {"step": step, "lr": trainer.schedule.get_last_lr()[0]} | speed | row
                with (config.out / METRICS_FILE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                tracking.log(row, drawn)
            hopeless = drawn is not None and self.main and self.hopeless(step, row)
            stop = any_process(self.accelerator, bool(stopped) or hopeless)
            if self.joins and (step % config.checkpointing_steps == 0 or done or stop or self._given_up()):
                state = trainer.state() | {"best": self.best.state()}
                if self.main:
                    with throughput.paused():
                        save_checkpoint(self.checkpoints, step, state, keep=config.checkpoints_total_limit)
        if self._given_up():
            self.console.print(f"No better {self.best.by} than {self.best.value:.4g} of step {self.best.step}: ended.")
        elif stop and trainer.step < last:
            raise TrainingPruned(trainer.step) if hopeless and not stopped else TrainingStopped(trainer.step)

    def _validate(self, validator: Validator, step: int) -> dict[str, float]:
        """Measure on the main process, and tell the others what the decision to go on hangs on."""
        row: dict[str, float] = {}
        if self.joins:
            with self.trainer.averaged() as model:
                row = validator.run(model, step, write=self.main)
        better = self.main and self.best.by in row and self.best.note(row[self.best.by], step)
        if any_process(self.accelerator, better):  # numbers of several GPUs may differ in the last bits
            if self.main:
                shutil.rmtree(self.config.out / BEST_DIR, ignore_errors=True)
            self._save(self.config.out / BEST_DIR)
        if self.accelerator.num_processes > 1:
            since = torch.tensor(float(self.best.since if self.main else 0), device=self.accelerator.device)
            self.best.since = int(self.accelerator.reduce(since).item())
        return row

    def _given_up(self) -> bool:
        return self.config.patience is not None and self.best.since >= self.config.patience

    def _save(self, folder: Path) -> None:
        """Write the adapter; to be called by all processes."""
        if not self.joins:
            return
        config, trainer, base = self.config, self.trainer, self.trainer.base
        with trainer.averaged() as model:
            state = adapter_state(model)
            if not self.main:
                return
            recipe = {"base": config.base, "sampling": config.sampling.model_dump(), "steps": trainer.step}
            recipe |= {"train_manifest_sha256": manifest_sha256(self.records), "train_pairs": len(self.records)}
            settings = config.model_dump(mode="json", exclude=LOCAL)
            recipe |= {"mask_codec": codec_record(trainer.codec), "mask_classes": dict(trainer.classes)}
            if (head := mask_head_of(model)) is not None:
                recipe["mask_head"] = head
            recipe |= {"size": trainer.size, "config": settings | {"lora": lora_settings(model)}}
            if config.appearance_prompts:
                recipe["appearances"] = appearances_of(self.records)
            if config.init_adapter is not None:
                recipe["init_adapter_sha256"] = sha256_file(adapter_folder(config.init_adapter) / WEIGHTS_FILE)
            (folder / TRAINING_ITEMS_FILE).unlink(missing_ok=True)  # written last: with it, the folder is whole
            save_adapter(model, folder, recipe=recipe, base=base, dtype=DTYPES[config.adapter_dtype], state=state)
        write_training_items(folder, self.records, root=config.data, earlier=_earlier_items(config, base))


def _earlier_items(config: TrainConfig, base: Base) -> dict[str, TrainingItems | None]:
    """What the base and the adapter that is trained further have seen; None where that is not recorded."""
    base_folder = MICRO_BASE if config.base == "micro" else Path(config.base)
    earlier = {f"base {base.place}": read_training_items(base_folder)}
    if config.init_adapter is not None:
        earlier[f"adapter {Path(config.init_adapter).name}"] = read_training_items(adapter_folder(config.init_adapter))
    return earlier


def _left_out(config: TrainConfig) -> str | None:
    """The line that says how many pairs of the two splits that are read a reviewer has rejected."""
    records = read_metadata(config.data)
    return left_out_line(
        {split: count_rejected(record for record in records if record.split == split) for split in ("train", "val")}
    )


def _ignored_pixels(records: Sequence[PairRecord]) -> str | None:
    """The line that says of how many pairs the mask is learnt as it is, although some of its pixels are ignored."""
    count = sum(record.ignore_file_name is not None for record in records)
    return f"note: {count} pairs have ignored pixels: training learns from their masks as they are" if count else None


def _counter(progress: Progress, name: str) -> Callable[[int, int], None]:
    task = progress.add_task(name, total=None, note="")
    return lambda done, total: progress.update(task, completed=done, total=total)
