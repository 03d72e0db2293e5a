"""How a trial's network is trained and scored: batches, losses, and the ways of arms that train more than one.

Batches are drawn with two numbers per item: one decides between real and synthetic, the other which. So two arms that
train with the same seed see the same real photographs wherever both draw a real one, and the same augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skindualgen.benchmarking.augmentation import candidates, mixed
from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.trials import TaskData, TrialRecord
from skindualgen.contracts import InputError
from skindualgen.judges.classifier import ClassifierConfig
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.segmenter import mask_targets, segmentation_loss
from skindualgen.judges.training import Draw, batches, fit
from skindualgen.metrics.outcomes import ClassificationOutcome, Outcome, segmentation_outcome
from skindualgen.metrics.scores import CLASSIFICATION_METRICS, SEGMENTATION_METRICS, value

EVALUATION_BATCH = 32
LEAST_APART = 2
"""Pictures of each kind in a batch that is normalised apart: one alone has no spread."""

Progress = Callable[[int, float], None]


def run_trial(data: TaskData, trial: Trial, *, device: str = "cpu", progress: Progress | None = None) -> TrialRecord:
    """Train and score the network of a trial, and before it those that its arm needs to come to it.

    Args:
        data: pictures and recipe of the task.
        trial: the pool and the seed.
        device: where to train.
        progress: is given the steps done of a network and the step's loss.
    """
    if trial.arm.own_masks:
        data = _with_own_masks(data, trial, device, progress)
    if trial.arm.tuned:
        return _best_augmented(data, trial, device, progress)
    network, run = _trained(data, trial, device, progress)
    return TrialRecord(score(data, network, device), run["seconds"], run["final_loss"], device)


def check_arm(data: TaskData, trial: Trial) -> None:
    """Refuse an arm that these pictures or this network cannot have.

    Raises:
        InputError: no part to choose the augmentation on, or nothing that could be normalised apart.
    """
    if trial.arm.tuned:
        part_to_choose_on(data)
    if trial.arm.separate_norms:
        if data.recipe.budget.batch_size < 2 * LEAST_APART:
            got = f"batches of {data.recipe.budget.batch_size}"
            raise InputError(got, f"{2 * LEAST_APART} or more, to normalise both kinds apart", "raise --batch-size")
        if not any(isinstance(module, _BatchNorm) for module in data.build_network(trial.seed).modules()):
            got = f"{data.recipe.network.name}, which has no BatchNorm"
            raise InputError(got, "a network with it, to normalise both kinds apart", "leave the arm out")


def batch_source(data: TaskData, trial: Trial) -> Draw:
    """Return the function that draws the batch of a step from a pool: network input [b, 3, s, s] and its target.

    The target is the mask [b, 1, s, s] in {0, 1}, the index of the class [b], or shares of classes [b, classes] where
    the arm mixes photographs. If any pair of the pool has ignored pixels, these are a second channel of the mask
    (`skindualgen.judges.segmenter.segmentation_loss`). What is normalised apart is real first, then generated.
    """
    recipe, sources = data.recipe, ((data.train, trial.real), (data.generated, trial.synthetic))
    shares = np.split(trial.weights, [len(trial.real)])
    cumulative = [np.cumsum(part) for part in shares]
    class_index = {name: index for index, name in enumerate(data.classes)}
    pretraining = round(trial.arm.pretrain * data.budget_of(trial).steps)
    some_ignored = any(
        source.ignored is not None and bool(source.ignored[positions].any()) for source, positions in sources
    )

    def draw(random: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        which, item = random.random((2, recipe.budget.batch_size))
        if trial.arm.separate_norms:
            order = np.argsort(which, kind="stable")
            item, kinds = item[order], np.arange(len(which)) >= len(which) - _generated_in_batch(data, trial)
        else:
            kinds = which >= (shares[0].sum() if not pretraining else float(step >= pretraining))
        images, masks, ignored, labels = [], [], [], []
        for synthetic, place in zip(kinds.astype(int), item, strict=True):
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
        inputs = recipe.network.normalise(images_01)
        return mixed(trial.arm.mix, inputs, target, len(data.classes), random) if trial.arm.mix else (inputs, target)

    return draw


def loss_of(data: TaskData, loss_weights: Mapping[str, float] | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a task: Dice + cross-entropy of masks, or cross-entropy of diagnoses with class weights."""
    if data.task == "segment":
        return segmentation_loss
    smoothing = ClassifierConfig.label_smoothing
    of_class = torch.tensor([1.0 if loss_weights is None else loss_weights[name] for name in data.classes])

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")  # [b]
        if target.ndim == 2:  # mixed photographs
            return losses.mean()
        return (losses * of_class.to(logits)[target]).mean()

    return loss


def score(data: TaskData, network: nn.Module, device: str) -> Outcome:
    """Return what a trained network does on the test part: one forward pass per photograph, in float32."""
    logits = _answers(data, network, data.test.images, device)
    if data.task == "segment":
        predicted = (logits[:, 0] > 0).numpy()
        return segmentation_outcome(predicted=predicted, truth=np.asarray(data.test.masks), ignored=data.test.ignored)
    return ClassificationOutcome(list(data.classes), data.truth, logits.double().softmax(1).numpy())


@torch.inference_mode()
def _answers(data: TaskData, network: nn.Module, images: NDArray[np.uint8], device: str) -> Tensor:
    """Return the logits of photographs, [n, 1, s, s] or [n, classes]."""
    outputs = []
    for part in batches(len(images), EVALUATION_BATCH):
        images_01 = torch.from_numpy(np.array(images[part])).permute(0, 3, 1, 2).float() / 255
        inputs = data.recipe.network.normalise(images_01).to(device).contiguous(memory_format=torch.channels_last)
        outputs.append(network(inputs).cpu())
    return torch.cat(outputs)


def _trained(data: TaskData, trial: Trial, device: str, progress: Progress | None) -> tuple[nn.Module, dict[str, Any]]:
    """Train one network; return it and what was run."""
    network = data.build_network(trial.seed)
    run = fit(
        _NormalisedApart(network, _generated_in_batch(data, trial)) if trial.arm.separate_norms else network,
        batch_source(data, trial),
        loss_of(data, trial.loss_weights),
        data.budget_of(trial),
        bfloat16=data.recipe.bfloat16,
        device=device,
        progress=progress,
    )
    return network, run


def _with_own_masks(data: TaskData, trial: Trial, device: str, progress: Progress | None) -> TaskData:
    """Return the data with the trial's generated pairs' masks as a network reads them that has learnt the real ones."""
    weights = trial.weights[: len(trial.real)]
    plain = trial.arm.model_copy(update={"own_masks": False, "uses_synthetic": False, "ratio": None})
    real = replace(trial, arm=plain, synthetic=trial.synthetic[:0], weights=weights / weights.sum())
    network, _ = _trained(data, real, device, progress)
    made = data.generated.take(trial.synthetic)
    masks = np.array(data.generated.masks)
    masks[trial.synthetic] = (_answers(data, network, made.images, device)[:, 0] > 0).numpy()
    return replace(data, generated=PictureSet(data.generated.data, data.generated.images, masks))


def part_to_choose_on(data: TaskData) -> PictureSet:
    """Return the validation part.

    Raises:
        InputError: there is none beside the test part.
    """
    if data.val is None or not len(data.val):
        got = "no validation part to choose on"
        raise InputError(
            got, "pairs of the split val, and a split test to test on", "prepare both, or leave the arm out"
        )
    return data.val


def _best_augmented(data: TaskData, trial: Trial, device: str, progress: Progress | None) -> TrialRecord:
    """Train with each augmentation, and return what is best on the validation part; the first of equals."""
    val = part_to_choose_on(data)
    found: list[tuple[float, TrialRecord]] = []
    for name, augmentation in candidates(data.task).items():
        recipe = data.recipe if augmentation is None else replace(data.recipe, augmentation=augmentation)
        arm = trial.arm.model_copy(update={"augment": augmentation is not None})
        of_choice = replace(data, recipe=recipe)
        network, run = _trained(of_choice, replace(trial, arm=arm), device, progress)
        outcome = score(of_choice, network, device)
        on_val = score_to_choose_by(score(replace(of_choice, test=val), network, device))
        found.append((on_val, TrialRecord(outcome, run["seconds"], run["final_loss"], device, chosen=name)))
    return max(found, key=lambda each: each[0])[1]


def score_to_choose_by(outcome: Outcome) -> float:
    """Return Dice or balanced accuracy of what a network did on the validation part."""
    if isinstance(outcome, ClassificationOutcome):
        return value(CLASSIFICATION_METRICS["balanced_accuracy"], outcome)
    return value(SEGMENTATION_METRICS["dice"], outcome)


def _generated_in_batch(data: TaskData, trial: Trial) -> int:
    """Number of generated pictures of a batch that is normalised apart: the arm's share, in whole pictures."""
    size = data.recipe.budget.batch_size
    share = float(trial.weights[len(trial.real) :].sum())
    return min(max(round(share * size), LEAST_APART), size - LEAST_APART)


class _NormalisedApart(nn.Module):
    """A network that in training normalises the last ``generated`` pictures of a batch by their own statistics.

    The running statistics, which the test uses, are those of the others alone.
    """

    def __init__(self, network: nn.Module, generated: int) -> None:
        super().__init__()
        self.network, self.generated = network, generated

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's logits of a batch [b, 3, s, s], in its order."""
        if not self.training:
            return self.network(inputs)  # type: ignore[no-any-return]
        real, made = inputs.split([len(inputs) - self.generated, self.generated])
        of_real = self.network(real)
        with _statistics_kept(self.network):
            return torch.cat([of_real, self.network(made)])


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let batches pass without a trace in the running statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
