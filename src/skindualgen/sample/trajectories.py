"""The ways that pairs take from noise to clean in many guided steps, and what a longer step loses of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import SchedulerMixin
from numpy.typing import NDArray
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.contracts import Report
from skindualgen.losses import first_order_step
from skindualgen.planning.requests import PairRequest
from skindualgen.sample.pipeline import SkinDualGenPipeline


@dataclass(frozen=True)
class Trajectories:
    """Pairs of b requests on their way.

    Attributes:
        timesteps: of the image at the n points before the end, falling.
        points: latents [n + 1, b, c, h/8, w/8] from noise to clean.
        predictions: guided ones of the points before the end [n, b, c, h/8, w/8], in the scheduler's type.
        codes: of the masks [n + 1, b, m, h/8, w/8].
    """

    timesteps: list[int]
    points: Tensor
    predictions: Tensor
    codes: Tensor


class _Way:
    """Keeps what the pipeline shows of each step; starts from the noise of both halves."""

    def __init__(self, latents: Tensor, codes: Tensor) -> None:
        self.timesteps: list[int] = []
        self.points, self.codes, self.predictions = [latents], [codes], list[Tensor]()

    def __call__(self, pipeline: object, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> None:
        self.timesteps.append(int(timestep))
        self.points.append(tensors["latents"].float().cpu())
        self.codes.append(tensors["mask_codes"].float().cpu())
        self.predictions.append(tensors["noise_pred"].float().cpu())


def follow(
    pipeline: SkinDualGenPipeline, requests: Sequence[PairRequest], steps: int, *, batch_size: int, report: Report
) -> Trajectories:
    """Draw pairs from text, guided as the adapter says, and keep their ways.

    Args:
        pipeline: without a schedule found for so many steps.
        requests: prompts and seeds.
        steps: of each way.
        batch_size: pairs drawn together.
        report: called with the pairs done and all.
    """
    ways = []
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        ways.append(follow_batch(pipeline, batch, steps))
        report(start + len(batch), len(requests))
    together = (
        torch.cat(each, dim=1) for each in zip(*((w.points, w.predictions, w.codes) for w in ways), strict=True)
    )
    return Trajectories(ways[0].timesteps, *together)


def follow_batch(pipeline: SkinDualGenPipeline, batch: Sequence[PairRequest], steps: int, **given: Any) -> Trajectories:
    """The ways of one batch; ``image`` or ``mask_image`` is a half that is given, and stays from the first point on."""
    way = _Way(*_noise(pipeline, batch).tensor_split([int(pipeline.vae.config.latent_channels)], dim=1))
    _draw(pipeline, batch, steps, way, **given)
    for name, half in (("image", way.points), ("mask_image", way.codes)):
        if name in given:
            half[0] = half[1]
    return Trajectories(way.timesteps, *map(torch.stack, (way.points, way.predictions, way.codes)))


def end_points(
    pipeline: SkinDualGenPipeline, requests: Sequence[PairRequest], steps: int, *, batch_size: int
) -> Tensor:
    """Latents [b, c, h/8, w/8] of the images of the same requests, drawn from the same noise, in so many steps."""
    batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
    return torch.cat([_draw(pipeline, batch, steps) for batch in batches])


def relative_errors(latents: Tensor, target: Tensor) -> Tensor:
    """L2 distance of each sample [b] of [b, ...] from the target, in units of the target's own length."""
    return (latents - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)


def step_costs(ways: Trajectories, scheduler: SchedulerMixin) -> NDArray[np.float64]:
    """What one step from a point to each later one loses: root mean squared distance from the point that is there.

    The step is the first-order one, that of DDIM, from the point's own guided prediction, as in GITS (Chen et al. 2024,
    arXiv 2405.11326). Distances are taken on the pipeline's own variance preserving scale, on which pure noise has a
    place too: that of sigmas, as in the paper, puts it at infinity where the last signal-to-noise ratio is zero.

    Args:
        ways: n points before the end.
        scheduler: whose noise levels and prediction type these are of.

    Returns:
        [n + 1, n + 1], from row to column, the last being the clean end; infinite where the column is no later point.
    """
    count = len(ways.timesteps)
    abar = torch.cat([scheduler.alphas_cumprod[ways.timesteps].double().cpu(), torch.ones(1, dtype=torch.float64)])
    costs = np.full((count + 1, count + 1), np.inf)
    for start in range(count):
        point = ways.points[start].double()  # [b, c, h/8, w/8]
        prediction = ways.predictions[start].double()
        for end in range(start + 1, count + 1):
            reached = first_order_step(prediction, point, abar[start], abar[end], scheduler.config.prediction_type)
            missed = (reached - ways.points[end].double()).flatten(1)  # [b, c h w / 64]
            costs[start, end] = missed.square().mean(dim=1).sqrt().mean()
    return costs


def _draw(
    pipeline: SkinDualGenPipeline,
    batch: Sequence[PairRequest],
    steps: int,
    way: Callable[..., None] | None = None,
    **given: Any,
) -> Tensor:
    """Latents of the images of a batch, each from its seed."""
    shown: dict[str, Any] = {"callback_on_step_end_tensor_inputs": ["latents", "mask_codes", "noise_pred"]}
    latents, _ = pipeline(
        [request.prompt for request in batch],
        num_inference_steps=steps,
        latents=_noise(pipeline, batch),
        generator=[torch.Generator().manual_seed(request.seed) for request in batch],  # of noise on prompts
        output_type="latent",
        return_dict=False,
        callback_on_step_end=way,
        **(shown if way is not None else {}),
        **given,
    )
    return latents.float().cpu()


def _noise(pipeline: SkinDualGenPipeline, batch: Sequence[PairRequest]) -> Tensor:
    """Pure noise of both halves [b, c + m, h/8, w/8], each from its seed."""
    shape = (int(pipeline.unet.config.in_channels), *[pipeline.native_px // CELL_PX] * 2)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(each.seed)) for each in batch])
