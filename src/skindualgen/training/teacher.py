"""What a distilled adapter learns from: a teacher's trajectories at the few points that the student steps between."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from skindualgen.contracts import Report
from skindualgen.files import atomic_path
from skindualgen.losses import first_order_step
from skindualgen.model.joint_unet import joint_prediction
from skindualgen.model.tensor_file import read_header_of, save_tensors
from skindualgen.planning.requests import PairRequest
from skindualgen.sample.denoising import JointDenoiser
from skindualgen.sample.outputs import codes_to_masks
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.trajectories import follow_batch, relative_errors

PAIRS, IMAGES, MASKS = "pairs", "images", "masks"
DIRECTIONS = (PAIRS, IMAGES, MASKS)
"""text -> pair, mask -> image, image -> mask"""
HALVES = ("image", "mask")


@dataclass(frozen=True)
class TeacherTrajectories:
    """TeacherTrajectories of one direction at the n + 1 points that n steps of a student lead between.

    Attributes:
        points: [n + 1, b, c + m, h/8, w/8], image and mask half from noise to clean; a given half is the same in all.
        text: states of the prompts [b, 77, width].
        levels: timesteps of image and mask at each step.
        powers: signal powers of image and mask at each point; two equal ones are a half that does not move.
    """

    points: Tensor
    text: Tensor
    levels: list[tuple[int, int]]
    powers: list[tuple[float, float]]

    def __len__(self) -> int:
        return self.points.shape[1]

    def moves(self, step: int, half: int) -> bool:
        """Whether a half is on its way in a step, and does not wait or stay as given."""
        return self.powers[step][half] != self.powers[step + 1][half]

    def some(self, places: Sequence[int] | Tensor, device: torch.device) -> TeacherTrajectories:
        """Those at ``places`` of the batch."""
        places = torch.as_tensor(places)
        return replace(self, points=self.points[:, places].to(device), text=self.text[places].to(device))


def student_steps(
    model: nn.Module, trajectories: TeacherTrajectories, channels: Sequence[int], prediction_type: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go from the first point to the end with a student, as the pipeline goes with a distilled adapter.

    Each step is unguided, of first order, and starts from where the student's own one before has led, without its
    gradient: so it learns to correct what it does itself. Source: Zhou et al. 2024, arXiv 2409.19681, algorithm 2.

    Args:
        model: joint UNet.
        trajectories: on the model's device.
        channels: of image and mask half.
        prediction_type: of the image half.

    Yields:
        Both halves [b, c, h/8, w/8] and [b, m, h/8, w/8] after each of the n steps.
    """
    image, codes = trajectories.points[0].split(list(channels), dim=1)
    for step, levels in enumerate(trajectories.levels):
        t_image, t_mask = (torch.full((len(trajectories),), level, device=image.device) for level in levels)
        predictions = joint_prediction(model, image, codes, t_image, t_mask, trajectories.text)
        here, there = (image.new_tensor(powers) for powers in trajectories.powers[step : step + 2])
        image, codes = (
            first_order_step(prediction.float(), half, here[place], there[place], kind)
            if trajectories.moves(step, place)
            else half
            for place, (prediction, half, kind) in enumerate(
                zip(predictions, (image, codes), (prediction_type, "v_prediction"), strict=True)
            )
        )
        yield image, codes
        image, codes = image.detach(), codes.detach()


class Teacher:
    """Draws trajectories of an adapter in many guided steps, and keeps the points that a student's steps lead between.

    Args:
        pipeline: of the adapter.
        steps: of the trajectories, in the scheduler's usual spacing.
        autocast: makes the context in which the networks are called.
    """

    def __init__(
        self, pipeline: SkinDualGenPipeline, steps: int, batch_size: int, autocast: AbstractContextManager[None]
    ) -> None:
        self.pipeline = SkinDualGenPipeline.from_pipe(pipeline, schedules=None, default_prompt_noise=0.0)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self._batch_size, self._autocast = steps, batch_size, autocast
        self.channels = (
            int(pipeline.vae.config.latent_channels),
            int(pipeline.unet.config.in_channels - pipeline.vae.config.latent_channels),
        )
        waits = pipeline.config.default_mask_steps
        self.mask_steps = None if waits is None or waits >= steps else 1
        """of the student's mask: where the teacher's waits in noise, the student draws it in its last step"""

    def draw(
        self, requests: Sequence[PairRequest], schedule: Sequence[int], shares: dict[str, float], report: Report
    ) -> dict[str, TeacherTrajectories]:
        """TeacherTrajectories of each direction for the same prompts, from the noise of their seeds.

        The masks that images are drawn for, and the pictures that masks are read from, are those of the first pairs: no
        photograph is needed.

        Args:
            requests: of pairs.
            schedule: timesteps of the student, some of the teacher's own.
            shares: of trajectories in each direction, those of the pairs being all.
            report: called with the pairs done and all.
        """
        drawn: dict[str, list[TeacherTrajectories]] = {direction: [] for direction in DIRECTIONS}
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            pairs = self._follow(PAIRS, batch, schedule)
            drawn[PAIRS].append(pairs)
            ends = pairs.points[-1].split(list(self.channels), dim=1)
            for direction in (IMAGES, MASKS):
                if count := math.ceil(shares[direction] * len(batch)):
                    drawn[direction].append(
                        self._given(direction, batch[:count], [end[:count] for end in ends], schedule)
                    )
            report(start + len(batch), len(requests))
        return {direction: _joined(trajectories) for direction, trajectories in drawn.items() if trajectories}

    def _given(
        self, direction: str, batch: Sequence[PairRequest], ends: Sequence[Tensor], schedule: Sequence[int]
    ) -> TeacherTrajectories:
        latents, codes = ends
        pipe = self.pipeline
        if direction == IMAGES:
            again = [replace(request, seed=request.seed + 1) for request in batch]
            masks = codes_to_masks(codes, "pt", clean=True, codec=pipe.codec, classes=pipe.mask_classes)
            return self._follow(IMAGES, again, schedule, mask_image=masks)
        untold = [replace(request, seed=request.seed + 2, prompt="") for request in batch]
        pictures, _ = pipe.decode(latents.to(pipe.unet.device, pipe.vae.dtype), codes, "pt")
        return self._follow(MASKS, untold, pipe.config.default_segment_steps, image=pictures)

    def _follow(
        self, direction: str, batch: Sequence[PairRequest], schedule: Sequence[int] | int, **given: Any
    ) -> TeacherTrajectories:
        pipe = self.pipeline
        with self._autocast:
            way = follow_batch(pipe, batch, schedule if isinstance(schedule, int) else self.steps, **given)
        timesteps = way.timesteps if isinstance(schedule, int) else schedule
        places = [*(way.timesteps.index(timestep) for timestep in timesteps), len(way.timesteps)]
        points = torch.cat([way.points, way.codes], dim=2)[places]  # [n + 1, b, c + m, h/8, w/8]
        text = pipe.encode_prompt([request.prompt for request in batch]).float().cpu()
        starts = [0.0 if name in given else 1.0 for name in ("image", "mask_image")]
        mask_steps = self.mask_steps if direction == PAIRS else None
        denoiser = JointDenoiser(pipe.scheduler, starts, schedule, torch.device("cpu"), mask_steps)
        levels = [denoiser.levels(step) for step in range(len(timesteps))]
        alphas = pipe.scheduler.alphas_cumprod.double()
        image, mask = (
            [float(alphas[each[half]]) if start else 1.0 for each in levels] + [1.0]
            for half, start in enumerate(starts)
        )
        return TeacherTrajectories(points, text, levels, list(zip(image, mask, strict=True)))


def kept_trajectories(path: Path) -> dict[str, TeacherTrajectories] | None:
    """TeacherTrajectories by direction as `keep_trajectories` has written them, or None."""
    if not path.is_file():
        return None
    tensors = load_file(path)
    return {
        name: TeacherTrajectories(
            tensors[f"{name}.points"],
            tensors[f"{name}.text"],
            [tuple(each) for each in told["levels"]],
            [tuple(each) for each in told["powers"]],
        )
        for name, told in (read_header_of(path) or {}).items()
    }


def keep_trajectories(path: Path, trajectories: dict[str, TeacherTrajectories]) -> None:
    """Write trajectories by direction, entirely or not at all."""
    tensors = {f"{name}.points": each.points.contiguous() for name, each in trajectories.items()}
    tensors |= {f"{name}.text": each.text.contiguous() for name, each in trajectories.items()}
    with atomic_path(path) as temporary:
        save_tensors(
            temporary, tensors, {n: {"levels": each.levels, "powers": each.powers} for n, each in trajectories.items()}
        )


def errors_of(ends: Tensor, trajectories: TeacherTrajectories, channels: Sequence[int]) -> dict[str, float]:
    """Mean relative L2 distance of ends [b, c + m, h/8, w/8] from the trajectories', of each half that was drawn."""
    halves = zip(HALVES, ends.split(list(channels), 1), trajectories.points[-1].split(list(channels), 1), strict=True)
    moved = [
        any(trajectories.moves(step, half) for step in range(len(trajectories.levels))) for half in range(len(HALVES))
    ]
    return {
        name: float(relative_errors(end, target).mean())
        for (name, end, target), drawn in zip(halves, moved, strict=True)
        if drawn
    }


def _joined(trajectories: Sequence[TeacherTrajectories]) -> TeacherTrajectories:
    points, text = (
        torch.cat([each.points for each in trajectories], dim=1),
        torch.cat([each.text for each in trajectories]),
    )
    return replace(trajectories[0], points=points, text=text)
