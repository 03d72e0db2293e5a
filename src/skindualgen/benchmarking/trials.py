"""What a trial is made of and known by, its pictures, recipe and key, and its record on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skindualgen.benchmarking import augmentation
from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.pools import Trial
from skindualgen.files import atomic_path, atomic_write_json, sha256_bytes, sha256_file
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.training import Augmentation, Budget
from skindualgen.metrics.outcomes import ClassificationOutcome, Outcome, SegmentationOutcome

RECIPE_VERSION = 1
"""Raised whenever a change of the code changes what a trial computes: records of another version are not used."""

OUTCOMES: dict[Task, type[Outcome]] = {"segment": SegmentationOutcome, "classify": ClassificationOutcome}


@dataclass(frozen=True)
class Recipe:
    """What is equal in all arms: network, optimiser steps and schedule, precision, augmentation (where the arm has it).

    ``budget.seed`` is replaced by each trial's own, and its steps where the trial has its own.
    """

    network: Network
    budget: Budget
    size_px: int
    bfloat16: bool
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class TaskData:
    """What all trials of a task share: pictures, the test part among them, classes (to classify) and recipe.

    ``val`` is what arms choose on, None where there is no such part beside the test part.
    """

    task: Task
    train: PictureSet
    generated: PictureSet
    test: PictureSet
    classes: list[str]
    recipe: Recipe
    val: PictureSet | None = None

    @property
    def truth(self) -> NDArray[np.int64]:
        """The index of each test item's class [n]."""
        return np.array([self.classes.index(str(name)) for name in self.test.diagnoses], np.int64)

    def budget_of(self, trial: Trial) -> Budget:
        """Return steps and schedule of a trial, with its own seed."""
        budget = self.recipe.budget
        return replace(budget, seed=trial.seed, steps=trial.steps or budget.steps)

    def build_network(self, seed: int) -> nn.Module:
        """Return the untrained network of the task, the same for the same seed."""
        if self.task == "segment":
            return self.recipe.network.build_segmenter(seed)
        return self.recipe.network.build_classifier(len(self.classes), seed)


@dataclass(frozen=True)
class TrialRecord:
    """What a trial gave: the outcome on the test part, how the training went, and what the arm chose if it chooses."""

    outcome: Outcome
    seconds: float
    final_loss: float
    device: str
    chosen: str = ""


def trial_key(data: TaskData, trial: Trial) -> str:
    """Return the hash of everything that decides a trial's outcome, contents of the pictures included."""
    recipe = replace(data.recipe, budget=data.budget_of(trial))
    items = [data.train.digests[i] for i in trial.real] + [data.generated.digests[i] for i in trial.synthetic]
    content = {
        "version": RECIPE_VERSION,
        "task": data.task,
        "classes": data.classes,
        "recipe": asdict(recipe),
        "augment": trial.arm.augment,
        "items": sha256_bytes("\n".join(items).encode()),
        "weights": sha256_bytes(trial.weights.tobytes()),
        "loss_weights": trial.loss_weights,
        "pretrain": trial.arm.pretrain,
        "test": sha256_bytes("\n".join(data.test.digests).encode()),
    }
    return sha256_bytes(json.dumps(content | _further(data, trial), sort_keys=True).encode())


def _further(data: TaskData, trial: Trial) -> dict[str, Any]:
    """What decides the outcome of some trials alone: the keys of all others stay those of earlier versions."""
    arm = trial.arm
    further: dict[str, Any] = {
        "own_masks": arm.own_masks,
        "separate_norms": arm.separate_norms,
        "mix": arm.mix,
        "ignored_learnt": any(part.ignored is None and part.data.has_ignored for part in (data.train, data.generated)),
    }
    if arm.tuned and data.val is not None:
        choices = augmentation.candidates(data.task)
        further["tuned"] = {name: None if choice is None else asdict(choice) for name, choice in choices.items()}
        further["val"] = sha256_bytes("\n".join(data.val.digests).encode())
    return {name: value for name, value in further.items() if value}


def write_record(folder: Path, key: str, record: TrialRecord, notes: Mapping[str, Any]) -> None:
    """Write ``KEY.npz`` (the outcome) and then ``KEY.json`` (its hash, how the training went, ``notes``)."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(record.outcome).items()}
    outcome = folder / f"{key}.npz"
    with atomic_path(outcome) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    training: dict[str, Any] = {"seconds": record.seconds, "final_loss": record.final_loss, "device": record.device}
    if record.chosen:
        training["chosen"] = record.chosen
    atomic_write_json(folder / f"{key}.json", {**notes, **training, "key": key, "outcome_sha256": sha256_file(outcome)})


def read_record(folder: Path, key: str, task: Task) -> TrialRecord | None:
    """Return a trial's record, or None where there is none or it is damaged."""
    try:
        header = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        path = folder / f"{key}.npz"
        if header["key"] != key or header["outcome_sha256"] != sha256_file(path):
            return None
        with np.load(path) as arrays:
            columns: dict[str, NDArray[Any] | list[str]] = dict(arrays)
        training = {name: header[name] for name in ("seconds", "final_loss", "device")}
        training["chosen"] = header.get("chosen", "")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if task == "classify":
        columns["classes"] = [str(name) for name in columns["classes"]]
    return TrialRecord(OUTCOMES[task](**columns), **training)  # type: ignore[arg-type]
