"""``distill``: an adapter of many guided steps in, one of the same form out that takes a few, each in a single pass."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from peft import PeftModel

from skindualgen.config import SamplingSettings
from skindualgen.contracts import InputError
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import sha256_bytes, sha256_file
from skindualgen.folders import claim, new_folder, only_writer
from skindualgen.hardware import DTYPES, check_device, training_precision
from skindualgen.model.adapter import (
    ADAPTER_DIR,
    WEIGHTS_FILE,
    adapter_folder,
    lora_settings,
    read_header,
    recorded_base,
    restore_adapter,
    save_adapter,
    trainable_parameters,
)
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import freeze_base_filters
from skindualgen.model.rank import raise_rank
from skindualgen.planning.prompt_files import PromptFile, read_prompts
from skindualgen.planning.requests import PairRequest, places_in_turn, requests_from_prompts
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.schedule_search import cheapest_path, recorded_requests
from skindualgen.sample.trajectories import follow, follow_batch, step_costs
from skindualgen.training.batches import seed_of
from skindualgen.training.checkpoint import load_newest, save_checkpoint
from skindualgen.training.distill_settings import DistillSettings
from skindualgen.training.optimizer import falling_factor
from skindualgen.training.progress import METRICS_FILE, drop_rows_after
from skindualgen.training.run_folder import CHECKPOINT_DIR
from skindualgen.training.stopping import TrainingStopped, stop_signals
from skindualgen.training.teacher import (
    PAIRS,
    Teacher,
    TeacherTrajectories,
    errors_of,
    keep_trajectories,
    kept_trajectories,
    student_steps,
)
from skindualgen.training.trainer import trains_unfused

SETTINGS_FILE, WORK_DIR, TRAJECTORIES_DIR = "distill.json", "work", "trajectories"
WARM_UP = 20
"""optimiser steps until the rate is at its peak"""


def distill(
    adapter: str | Path,
    out: Path,
    settings: DistillSettings,
    *,
    base: str | None = None,
    prompts: Path | None = None,
    minutes: float | None = None,
    max_train_steps: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Path:
    """Distil an adapter. Run the same again to resume; a longer run goes on from where a shorter one has ended.

    The student begins as its teacher, and is held to the points of the teacher's guided trajectories by L1,
    relative to how far the teacher goes in each step (SFD: Zhou et al. 2024, arXiv 2409.19681). Prompts and noise
    are all it learns from.

    Args:
        adapter: the teacher: "builtin", a run folder or an adapter folder.
        out: run folder, in which ``adapter`` is written at the end.
        settings: of the student; ``distill_settings.PRESETS`` has some.
        base: the teacher's; as recorded in the adapter if not given.
        prompts: file of prompts to learn from; as the adapter's training pairs were told if not given.
        minutes, max_train_steps: when it ends, whichever comes first; one is needed. The rate falls towards it.
        device: of torch.
        say: called with lines for the user.
        report: called with a stage, what is done of it, and all.

    Returns:
        The run folder.

    Raises:
        InputError: settings that cannot be, a teacher that is itself distilled, or a folder of another run.
        TrainingStopped: told to stop by SIGINT or SIGTERM; a checkpoint is written first.
    """
    if not (minutes or max_train_steps):
        raise InputError("neither minutes nor max_train_steps", "when the run is to end", "give one of them")
    folder = adapter_folder(adapter)
    header = read_header(folder)
    if header["recipe"].get("distilled"):
        raise InputError(f"adapter {adapter}, which is distilled itself", "its teacher", "distil that one further")
    file = None if prompts is None else read_prompts(prompts)
    check_device(device)
    with only_writer(out, out / WORK_DIR):
        decided = {**vars(settings), "teacher_sha256": sha256_file(folder / WEIGHTS_FILE)}
        decided |= {
            "prompts": None if file is None else sha256_bytes(json.dumps([row.prompt for row in file.rows]).encode())
        }
        claim(out, SETTINGS_FILE, decided, ignored=[WORK_DIR])
        run = Distillation(folder, out, settings, base, file, device, say, report)
        run.resume(minutes, max_train_steps)
        if not run.finished():
            run.go()
            run.save()
    return out


class Distillation:
    """One call of ``distill``: teacher and student, and how far it is; arguments are those of the call."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        settings: DistillSettings,
        base: str | None,
        prompts: PromptFile | None,
        device: str,
        say: Callable[[str], None],
        report: Callable[[str, int, int], None],
    ) -> None:
        self.folder, self.out, self.settings, self.prompts = folder, out, settings, prompts
        self.say, self.report, self.device = say, report, torch.device(device)
        self.header = read_header(folder)
        pipeline = SkinDualGenPipeline.from_adapter(folder, base).to(device)
        precision = training_precision(device)
        self.autocast = torch.autocast(self.device.type, DTYPES[precision], enabled=precision != "fp32")
        self.teacher = Teacher(pipeline, settings.teacher_steps, settings.train_batch_size, self.autocast)
        self.channels, self.prediction_type = self.teacher.channels, pipeline.scheduler.config.prediction_type
        self.base = load_base(base or recorded_base(self.header))
        self.model = self._student()
        self.parameters = list(trainable_parameters(self.model).values())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.step, self.started = 0, time.monotonic()
        self.chunk: tuple[int, dict[str, TeacherTrajectories]] | None = None
        self.lengths: dict[str, list[list[float]]] = {}
        """`step_lengths` of the chunk"""

    def _student(self) -> PeftModel:
        settings = self.settings
        model = restore_adapter(self.base, self.folder, share=True)
        if settings.rank is not None:
            raise_rank(model, settings.rank, seed=settings.seed)
        unet = model.get_base_model()
        if self.header["recipe"].get("config", {}).get("freeze_base_filters"):
            freeze_base_filters(unet, self.channels[0])
        if trains_unfused(self.teacher.pipeline.native_px, on_cpu=self.device.type == "cpu"):
            unet.set_attn_processor(AttnProcessor())
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        return model.to(self.device).eval()  # without dropout, which the teacher has none of either

    def resume(self, minutes: float | None, max_train_steps: int | None) -> None:
        """Take up the newest checkpoint, if there is one, to go on until one of the ends."""
        self.minutes, self.max_train_steps = minutes, max_train_steps
        state = load_newest(self.out / CHECKPOINT_DIR)
        if state is not None:
            self.step, self.started = state["step"], time.monotonic() - state["elapsed"]
            with torch.no_grad():
                for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                    parameter.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
        drop_rows_after(self.out / METRICS_FILE, self.step)

    @property
    def elapsed(self) -> float:
        """Seconds, over all calls."""
        return time.monotonic() - self.started

    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        by_time = 0.0 if self.minutes is None else self.elapsed / 60 / self.minutes
        return max(by_time, 0.0 if self.max_train_steps is None else self.step / self.max_train_steps)

    def finished(self) -> bool:
        """Whether the adapter of the last step is there."""
        if self.share() < 1 or not (self.out / ADAPTER_DIR).is_dir():
            return False
        return read_header(self.out / ADAPTER_DIR)["recipe"]["distilled"]["max_train_steps"] == self.step

    def go(self) -> None:
        """Step until the end, validating and writing checkpoints on the way."""
        held_out, own = self._held_out()
        with stop_signals() as stopped:
            if not self.step:
                self._validate(held_out, own, 0.0)
            losses, done = list[float](), self.share() >= 1
            while not (done or stopped):
                losses.append(self._train_step())
                self.step += 1
                done = self.share() >= 1
                if done or self.step % self.settings.validation_steps == 0:
                    self._validate(held_out, own, sum(losses) / len(losses))
                    losses = []
                    self._checkpoint()
                elif stopped:
                    self._checkpoint()
        if not done:
            raise TrainingStopped(self.step)

    def _train_step(self) -> float:
        settings, total = self.settings, 0.0
        draws = torch.Generator().manual_seed(seed_of(settings.seed, 0, self.step))
        chunk = self._chunk(self.step * settings.train_batch_size // (settings.trajectories * settings.epochs))
        weights = torch.tensor([settings.shares[name] for name in chunk])
        direction = list(chunk)[int(torch.multinomial(weights, 1, generator=draws))]
        trajectories, lengths = chunk[direction], self.lengths[direction]
        chosen = torch.randperm(len(trajectories), generator=draws)[: settings.train_batch_size]
        batch = trajectories.some(chosen, self.device)
        steps = student_steps(self.model, batch, self.channels, self.prediction_type)
        for step in range(len(trajectories.levels)):
            with self.autocast:
                halves = next(steps)
            targets = batch.points[step + 1].split(list(self.channels), dim=1)
            losses = [
                (half - target).abs().mean() / lengths[step][place]
                for place, (half, target) in enumerate(zip(halves, targets, strict=True))
                if trajectories.moves(step, place)
            ]
            loss = torch.stack(losses).mean() / len(trajectories.levels)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = settings.learning_rate * min(1.0, (self.step + 1) / WARM_UP) * falling_factor(self.share())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _chunk(self, number: int) -> dict[str, TeacherTrajectories]:
        """Those of the teacher that are learnt from now; drawn where no interrupted run has left them."""
        if self.chunk is None or self.chunk[0] != number:
            path = self.out / TRAJECTORIES_DIR / f"part-{number:04d}.safetensors"
            trajectories = kept_trajectories(path)
            if trajectories is None:
                for earlier in path.parent.glob("part-*"):
                    earlier.unlink()
                requests = self._requests(self.settings.trajectories, 1, number)
                trajectories = self.teacher.draw(
                    requests, self.schedule, self.settings.shares, partial(self.report, "teacher")
                )
                keep_trajectories(path, trajectories)
            self.chunk = number, trajectories
            self.lengths = {name: step_lengths(each, self.channels) for name, each in trajectories.items()}
        return self.chunk[1]

    def _held_out(self) -> tuple[dict[str, TeacherTrajectories], dict[str, float]]:
        """Those to validate on, and how far the teacher itself ends from them in as many steps as the student."""
        path, pipeline = self.out / TRAJECTORIES_DIR / "held-out.safetensors", self.teacher.pipeline
        settings, trajectories = self.settings, kept_trajectories(path)
        requests = self._requests(settings.held_out, 2)
        if trajectories is None:
            path.parent.mkdir(exist_ok=True)
            steps, batch_size = settings.teacher_steps, settings.train_batch_size
            with self.autocast:
                searched = follow(
                    pipeline,
                    self._requests(settings.held_out, 3),
                    steps,
                    batch_size=batch_size,
                    report=partial(self.report, "schedule"),
                )
            places = cheapest_path(step_costs(searched, pipeline.scheduler), settings.calls)
            schedule = [searched.timesteps[place] for place in places]
            trajectories = self.teacher.draw(requests, schedule, settings.shares, partial(self.report, "held out"))
            keep_trajectories(path, trajectories)
        self.schedule = [image for image, _ in trajectories[PAIRS].levels]
        few = SkinDualGenPipeline.from_pipe(pipeline, schedules={str(len(self.schedule)): self.schedule})
        few.set_progress_bar_config(disable=True)
        with self.autocast:
            way = follow_batch(few, requests, len(self.schedule))
        return trajectories, errors_of(
            torch.cat([way.points[-1], way.codes[-1]], dim=1), trajectories[PAIRS], self.channels
        )

    @torch.no_grad()
    def _validate(self, held_out: dict[str, TeacherTrajectories], own: dict[str, float], loss: float) -> None:
        """How far the student ends from the teacher's trajectories that it does not learn from."""
        row: dict[str, float] = {"step": self.step, "minutes": self.elapsed / 60, "loss": loss}
        for name, trajectories in held_out.items():
            ends = []
            for places in torch.arange(len(trajectories)).split(self.settings.train_batch_size):
                some = trajectories.some(places, self.device)
                with self.autocast:
                    *_, end = student_steps(self.model, some, self.channels, self.prediction_type)
                ends.append(torch.cat(end, dim=1).cpu())
            errors = errors_of(torch.cat(ends), trajectories, self.channels)
            row |= {f"{name}_{half}": error for half, error in errors.items()}
        row |= {f"teacher_{half}": error for half, error in own.items()}
        with (self.out / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        told = ", ".join(f"{name} {value:.3f}" for name, value in row.items() if name not in ("step", "minutes"))
        self.say(f"step {self.step}, {row['minutes']:.1f} min: {told}")

    def _checkpoint(self) -> None:
        state: dict[str, Any] = {"step": self.step, "elapsed": self.elapsed, "optimizer": self.optimizer.state_dict()}
        state["parameters"] = [parameter.detach().cpu() for parameter in self.parameters]
        save_checkpoint(self.out / CHECKPOINT_DIR, self.step, state, keep=2)

    def save(self) -> None:
        """Write the student as an adapter that says what it is."""
        pipeline, recipe = self.teacher.pipeline, dict(self.header["recipe"])
        guided = pipeline.guidance()
        sampling = SamplingSettings(
            default_steps=self.settings.calls,
            default_guidance=1.0,
            default_mask_steps=self.teacher.mask_steps,
            default_segment_steps=pipeline.config.default_segment_steps,
        )
        told: dict[str, Any] = {"teacher_sha256": sha256_file(self.folder / WEIGHTS_FILE)}
        told |= {"guidance_scale": guided.scale, **guided.told}
        recipe |= {
            "sampling": sampling.model_dump(mode="json"),
            "schedules": {str(self.settings.calls): self.schedule},
            "distilled": told | vars(self.settings) | {"max_train_steps": self.step},
        }
        if "config" in recipe:
            recipe["config"] = {**recipe["config"], "lora": lora_settings(self.model)}
        dtype = DTYPES[recipe.get("config", {}).get("adapter_dtype", "fp32")]
        shutil.rmtree(self.out / ADAPTER_DIR, ignore_errors=True)
        with new_folder(self.out / ADAPTER_DIR) as temporary:
            save_adapter(self.model, temporary, recipe=recipe, base=self.base, dtype=dtype)
            if (seen := self.folder / TRAINING_ITEMS_FILE).is_file():
                shutil.copy(seen, temporary)

    def _requests(self, count: int, *place: int) -> list[PairRequest]:
        """Prompts and seeds, other ones at each place of the run."""
        seed = seed_of(self.settings.seed, *place)
        if self.prompts is None:
            return recorded_requests(self.teacher.pipeline.config.appearances, count, seed)
        rows = [self.prompts.rows[row] for row in places_in_turn(len(self.prompts.rows), count, seed)]
        return requests_from_prompts([(row.prompt, row.labels) for row in rows], count, seed)


def step_lengths(trajectories: TeacherTrajectories, channels: tuple[int, int]) -> list[list[float]]:
    """Mean distance, in L1 of each element, that the teacher's image and mask go in each step."""
    halves = trajectories.points.diff(dim=0).abs().split(list(channels), dim=2)
    return torch.stack([half.flatten(1).mean(dim=1) for half in halves], dim=1).tolist()
