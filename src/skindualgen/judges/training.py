"""What the downstream networks share: augmentation, a training loop of fixed optimiser steps, and model files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.files import BUNDLED, atomic_path
from skindualgen.hardware import training_precision

HEADER_KEY = "skindualgen"
FACTOR = ".factor"
"""End of the name of what a tensor in bytes is to be multiplied by."""
BUNDLED_JUDGES = BUNDLED / "judges"
"""Made by ``studies/bundled_judges.py`` from real photographs of the ISIC Archive, docs/results/judges.md"""
GRADIENT_NORM = 1.0
"""Clipping norm of the gradient."""

Kind = Literal["segmenter", "classifier"]
Draw = Callable[[np.random.Generator, int], tuple[Tensor, Tensor]]
"""Draws one batch: network input [b, 3, s, s] in [-1, 1] and its target."""


@dataclass(frozen=True)
class Budget:
    """Optimiser steps and schedule, the same for every arm of a comparison.

    Attributes:
        steps: optimiser steps.
        batch_size: photographs per step.
        learning_rate: AdamW's peak rate, after a linear warm-up, falling to 0 along a cosine.
        weight_decay: AdamW's decoupled decay.
        warmup: share of the steps that warm up.
        seed: of initialisation, sampling and augmentation; step i draws from the generator (seed, i).
    """

    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise InputError(f"{self.steps} steps of {self.batch_size}", "1 step or more of 2 or more", "raise them")

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step in [0, steps)."""
        warmup_steps = max(1, round(self.warmup * self.steps))
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        return self.learning_rate / 2 * (1 + math.cos(math.pi * (step - warmup_steps) / (self.steps - warmup_steps)))


@dataclass(frozen=True)
class Augmentation:
    """Classical augmentation: mirror, any rotation, zoom, shift; light, contrast, saturation, colour cast; blur.

    Each number is a half-width around "unchanged": ``zoom=0.25`` draws from [1/1.25, 1.25], ``shift`` is a share of the
    side, ``blur`` the chance of a 3 x 3 binomial filter.
    """

    zoom: float = 0.25
    shift: float = 0.1
    light: float = 0.2
    contrast: float = 0.25
    saturation: float = 0.25
    cast: float = 0.06
    blur: float = 0.2

    def __call__(
        self, images_01: Tensor, masks_01: Tensor | None, random: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Augment photographs [b, 3, s, s] in [0, 1] and, the same way, their masks [b, k, s, s] in {0, 1}."""
        grid = F.affine_grid(self._affine(len(images_01), random), list(images_01.shape), align_corners=False)
        images_01 = F.grid_sample(images_01, grid, padding_mode="reflection", align_corners=False)
        if masks_01 is not None:
            masks_01 = F.grid_sample(masks_01, grid, padding_mode="reflection", align_corners=False).round()
        return self._colour(images_01, random).clamp(0, 1), masks_01

    def _affine(self, count: int, random: np.random.Generator) -> Tensor:
        angle = random.uniform(0, 2 * np.pi, count)
        scale = np.exp(random.uniform(-1, 1, count) * np.log1p(self.zoom))
        mirror = random.choice([-1.0, 1.0], count)
        theta = np.empty((count, 2, 3), np.float32)
        theta[:, 0] = np.stack([mirror * scale * np.cos(angle), -scale * np.sin(angle), np.zeros(count)], 1)
        theta[:, 1] = np.stack([mirror * scale * np.sin(angle), scale * np.cos(angle), np.zeros(count)], 1)
        theta[:, :, 2] = random.uniform(-2 * self.shift, 2 * self.shift, (count, 2))  # the grid's side is 2 long
        return torch.from_numpy(theta)

    def _colour(self, images_01: Tensor, random: np.random.Generator) -> Tensor:
        def factors(width: float, channels: int = 1) -> Tensor:
            draws = random.uniform(1 - width, 1 + width, (len(images_01), channels, 1, 1))
            return torch.from_numpy(draws.astype(np.float32))

        images_01 = images_01 * factors(self.light) * factors(self.cast, 3)
        grey = images_01.mean(1, keepdim=True)
        images_01 = grey + (images_01 - grey) * factors(self.saturation)
        level = images_01.mean((1, 2, 3), keepdim=True)
        images_01 = level + (images_01 - level) * factors(self.contrast)
        blurred = torch.from_numpy(random.random(len(images_01)) < self.blur)[:, None, None, None]
        kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])).div(16).expand(3, 1, 3, 3)
        smooth = F.conv2d(F.pad(images_01, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
        return torch.where(blurred, smooth, images_01)


def _loss_of_step(
    network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, target: Tensor, bfloat16: bool
) -> Tensor:
    device = next(network.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        logits = network(inputs.to(device).contiguous(memory_format=torch.channels_last))
    return loss(logits.float(), target.to(device))


def _gradient_norm(network: nn.Module) -> float:
    """Clip the gradient and return the norm that it had; reading it also waits for the device."""
    return float(nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM))


def fit(
    network: nn.Module,
    draw: Draw,
    loss: Callable[[Tensor, Tensor], Tensor],
    budget: Budget,
    *,
    bfloat16: bool | None = None,
    device: str = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train a network in place for the budget's optimiser steps, and leave it in evaluation mode.

    Args:
        draw: draws a batch with the generator of its step, and the step.
        loss: mean loss of logits and target, in float32.
        bfloat16: autocast to bfloat16; None: where the hardware computes in it.
        device: where the network is moved and trained; batches are drawn on the CPU.
        progress: is given the steps done and the step's loss.

    Returns:
        What was run: ``bfloat16``, ``seconds``, ``final_loss`` (mean of the last tenth).
    """
    start = time.perf_counter()
    network.to(device).to(memory_format=torch.channels_last).train()
    if bfloat16 is None:
        bfloat16 = training_precision(device) == "bf16"
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=budget.weight_decay)
    losses = []
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(budget.seed)  # dropout
        for step in range(budget.steps):
            optimizer.param_groups[0]["lr"] = budget.rate_at(step)
            value = _loss_of_step(network, loss, *draw(np.random.default_rng([budget.seed, step]), step), bfloat16)
            optimizer.zero_grad()
            value.backward()
            _gradient_norm(network)
            optimizer.step()
            losses.append(value.item())
            if progress is not None:
                progress(step + 1, losses[-1])
    network.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return {"bfloat16": bfloat16, "seconds": time.perf_counter() - start, "final_loss": float(np.mean(tail))}


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Yield the slices of consecutive batches of ``count`` items."""
    return (slice(start, start + batch_size) for start in range(0, count, batch_size))


def save_model(path: Path, network: nn.Module, header: dict[str, Any], *, in_bytes: bool = False) -> None:
    """Write weights and header atomically as one safetensors file.

    Args:
        in_bytes: matrices and filters as whole numbers from -127 to 127, and a factor for each output: a quarter of
            the size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    if in_bytes:
        for name in [name for name, value in state.items() if value.ndim > 1]:
            value = state[name]
            factor = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp(min=1e-12) / 127
            state[name], state[name + FACTOR] = (value / factor).round().to(torch.int8), factor
    with atomic_path(path) as part:
        save_file(state, part, metadata={HEADER_KEY: json.dumps(header, sort_keys=True)})


def bundled_file(kind: Kind) -> Path:
    """Return the file of the judge of this kind that comes with the package."""
    return BUNDLED_JUDGES / f"{kind}.safetensors"


def load_header(path: Path, kind: str) -> dict[str, Any]:
    """Return the header of a model file.

    Raises:
        InputError: no such file, or it is none of a judge, or holds another kind of model.
    """
    if not path.is_file():
        raise InputError(f"no file {path}", f"a trained {kind}", "train one first")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    except SafetensorError as error:
        got = f"{path}, which is no file of a judge ({error})"
        raise InputError(got, f"a trained {kind}", "pass another file") from None
    if header.get("kind") != kind:
        raise InputError(f"{path.name}: a {header.get('kind', 'foreign')} model", f"a {kind}", "pass another file")
    return dict(header)


def load_weights(path: Path, network: nn.Module) -> None:
    """Load the weights of a model file into a network, which is left in evaluation mode."""
    state = load_file(path)
    for name in [name for name in state if name.endswith(FACTOR)]:
        factor = state.pop(name)
        state[name.removesuffix(FACTOR)] = state[name.removesuffix(FACTOR)] * factor
    network.load_state_dict(state)
    network.to(memory_format=torch.channels_last).eval()


def make_header(
    kind: str, budget: Budget, train_ids: Sequence[str], run: dict[str, Any], **fields: Any
) -> dict[str, Any]:
    """Return the header of a model file: recipe, what was run, and the training ids, which a leak guard needs."""
    return {"kind": kind, "budget": asdict(budget), "train_ids": sorted(train_ids), "run": run, **fields}
