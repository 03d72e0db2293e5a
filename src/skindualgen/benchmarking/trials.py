"""One training of one network on one pool, scored on the test part, and its record on disk.

Batches are drawn with two numbers per item: one decides between real and synthetic, the other which. So two arms that
train with the same seed see the same real photographs wherever both draw a real one, and the same augmentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.pools import Trial
from skindualgen.files import atomic_path, atomic_write_json, sha256_bytes, sha256_file
from skindualgen.judges.classifier import ClassifierConfig
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.segmenter import mask_targets, segmentation_loss
from skindualgen.judges.training import Augmentation, Budget, Draw, batches, fit
from skindualgen.metrics.outcomes import ClassificationOutcome, Outcome, SegmentationOutcome, segmentation_outcome

RECIPE_VERSION = 1
"""Raised whenever a change of the code changes what a trial computes: records of another version are not used."""

EVALUATION_BATCH = 32

OUTCOMES: dict[Task, type[Outcome]] = {"segment": SegmentationOutcome, "classify": ClassificationOutcome}


@dataclass(frozen=True)
class Recipe:
    """What is equal in all arms: network, optimiser steps and schedule, precision, augmentation (where the arm has it).

    ``budget.seed`` is replaced by each trial's own.
    """

    network: Network
    budget: Budget
    size_px: int
    bfloat16: bool
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class TaskData:
    """What all trials of a task share: pictures, the test part among them, classes (to classify) and recipe."""

    task: Task
    train: PictureSet
    generated: PictureSet
    test: PictureSet
    classes: list[str]
    recipe: Recipe

    @property
    def truth(self) -> NDArray[np.int64]:
        """The index of each test item's class [n]."""
        return np.array([self.classes.index(str(name)) for name in self.test.diagnoses], np.int64)

    def build_network(self, seed: int) -> nn.Module:
        """Return the untrained network of the task, the same for the same seed."""
        if self.task == "segment":
            return self.recipe.network.build_segmenter(seed)
        return self.recipe.network.build_classifier(len(self.classes), seed)


@dataclass(frozen=True)
class TrialRecord:
    """What a trial gave: the outcome on the test part, and how the training went."""

    outcome: Outcome
    seconds: float
    final_loss: float
    device: str


def trial_key(data: TaskData, trial: Trial) -> str:
    """Return the hash of everything that decides a trial's outcome, contents of the pictures included."""
    recipe = replace(data.recipe, budget=replace(data.recipe.budget, seed=trial.seed))
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
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())


def run_trial(
    data: TaskData, trial: Trial, *, device: str = "cpu", progress: Callable[[int, float], None] | None = None
) -> TrialRecord:
    """Train and score one network.

    Args:
        data: pictures and recipe of the task.
        trial: the pool and the seed.
        device: where to train.
        progress: is given the steps done and the step's loss.
    """
    network = data.build_network(trial.seed)
    run = fit(
        network,
        batch_source(data, trial),
        loss_of(data, trial.loss_weights),
        replace(data.recipe.budget, seed=trial.seed),
        bfloat16=data.recipe.bfloat16,
        device=device,
        progress=progress,
    )
    return TrialRecord(score(data, network, device), run["seconds"], run["final_loss"], device)


def batch_source(data: TaskData, trial: Trial) -> Draw:
    """Return the function that draws the batch of a step from a pool: network input [b, 3, s, s] and its target.

    The target is the mask [b, 1, s, s] in {0, 1}, or the index of the class [b]. If any pair of the pool has ignored
    pixels, these are a second channel of the mask (`skindualgen.judges.segmenter.segmentation_loss`).
    """
    recipe, sources = data.recipe, ((data.train, trial.real), (data.generated, trial.synthetic))
    shares = np.split(trial.weights, [len(trial.real)])
    cumulative = [np.cumsum(part) for part in shares]
    class_index = {name: index for index, name in enumerate(data.classes)}
    pretraining = round(trial.arm.pretrain * recipe.budget.steps)
    some_ignored = any(
        source.ignored is not None and bool(source.ignored[positions].any()) for source, positions in sources
    )

    def draw(random: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        which, item = random.random((2, recipe.budget.batch_size))
        real_share = shares[0].sum() if not pretraining else float(step >= pretraining)
        images, masks, ignored, labels = [], [], [], []
        for synthetic, place in zip((which >= real_share).astype(int), item, strict=True):
            running = cumulative[synthetic]
            chosen = np.searchsorted(running, place * running[-1], side="right")
            source, positions = sources[synthetic]
            position = positions[min(chosen, len(running) - 1)]
            images.append(source.images[position])
            masks.append(source.masks[position])
            ignored.append(np.zeros_like(masks[-1]) if source.ignored is None else source.ignored[position])
            labels.append(source.diagnoses[position])
        images_01 = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255  # [b, 3, s, s]
        masks_01 = None
        if data.task == "segment":
            masks_01 = mask_targets(np.stack(masks), np.stack(ignored) if some_ignored else None)
        if trial.arm.augment:
            images_01, masks_01 = recipe.augmentation(images_01, masks_01, random)
        target = masks_01 if masks_01 is not None else torch.tensor([class_index[str(name)] for name in labels])
        return recipe.network.normalise(images_01), target

    return draw


def loss_of(data: TaskData, loss_weights: Mapping[str, float] | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a task: Dice + cross-entropy of masks, or cross-entropy of diagnoses with class weights."""
    if data.task == "segment":
        return segmentation_loss
    smoothing = ClassifierConfig.label_smoothing
    of_class = torch.tensor([1.0 if loss_weights is None else loss_weights[name] for name in data.classes])

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")  # [b]
        return (losses * of_class.to(logits)[target]).mean()

    return loss


@torch.inference_mode()
def score(data: TaskData, network: nn.Module, device: str) -> Outcome:
    """Return what a trained network does on the test part: one forward pass per photograph, in float32."""
    outputs = []
    for part in batches(len(data.test), EVALUATION_BATCH):
        images_01 = torch.from_numpy(np.array(data.test.images[part])).permute(0, 3, 1, 2).float() / 255
        inputs = data.recipe.network.normalise(images_01).to(device).contiguous(memory_format=torch.channels_last)
        outputs.append(network(inputs).cpu())  # [b, 1, s, s] or [b, classes]
    logits = torch.cat(outputs)
    if data.task == "segment":
        predicted = (logits[:, 0] > 0).numpy()
        return segmentation_outcome(predicted=predicted, truth=np.asarray(data.test.masks), ignored=data.test.ignored)
    return ClassificationOutcome(list(data.classes), data.truth, logits.double().softmax(1).numpy())


def write_record(folder: Path, key: str, record: TrialRecord, notes: Mapping[str, Any]) -> None:
    """Write ``KEY.npz`` (the outcome) and then ``KEY.json`` (its hash, how the training went, ``notes``)."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(record.outcome).items()}
    outcome = folder / f"{key}.npz"
    with atomic_path(outcome) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    training = {"seconds": record.seconds, "final_loss": record.final_loss, "device": record.device}
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
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if task == "classify":
        columns["classes"] = [str(name) for name in columns["classes"]]
    return TrialRecord(OUTCOMES[task](**columns), **training)  # type: ignore[arg-type]
