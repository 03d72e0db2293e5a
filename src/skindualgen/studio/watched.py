"""A pipeline that is watched while it draws: it reports each step, with previews, and can be stopped at any."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from skindualgen.sample.pipeline import SkinDualGenPipeline

PREVIEWS = 8
"""Pairs of a batch that are shown while they are drawn."""
PREVIEW_PAUSE_S = 0.4
"""Between previews at least: more often, the page flickers."""
PREVIEW_SHARE = 5
"""A preview waits for this many times what the last one took, so that previews cost a sixth of the time at most."""


class Stopped(KeyboardInterrupt):
    """The visitor pressed "Stop"; a `KeyboardInterrupt`, so that whatever writes files ends as after Ctrl-C."""


@dataclass(frozen=True)
class Step:
    """A step of a draw.

    Attributes:
        step, steps: of the running batch.
        finished: pairs of the batches before it, complete.
        previews: pairs in the making, picture and mask, as the model expects them to become; empty if none was due.
    """

    step: int
    steps: int
    finished: list[tuple[Image.Image, Image.Image]] = field(default_factory=list)
    previews: list[tuple[Image.Image, Image.Image]] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """The end of a draw; ``result`` is None if it was stopped with nothing to show."""

    result: Any


class WatchedPipeline:
    """A pipeline that reports each step and can be stopped; in everything else it is that pipeline.

    Args:
        pipeline: draws.
        tell: called after each step.
        stop: set to end the running call before its next step.
    """

    def __init__(self, pipeline: SkinDualGenPipeline, tell: Callable[[Step], None], stop: threading.Event) -> None:
        self.pipeline, self._tell, self._stop = pipeline, tell, stop
        self.batches: list[Any] = []
        self._change: Callable[..., dict[str, Any]] | None = None
        self._finished: list[tuple[Image.Image, Image.Image]] = []
        self._next_preview = 0.0
        self._states: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=2)
        self._newest: tuple[Tensor, Tensor] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As the pipeline's.

        Raises:
            Stopped: at the first step after "Stop".
        """
        self._check()
        self._change = options.get("callback_on_step_end")
        options |= {"callback_on_step_end": self._on_step}
        options |= {"callback_on_step_end_tensor_inputs": ("latents", "mask_codes")}
        output = self.pipeline(*arguments, **options)
        self.batches.append(output)
        if isinstance(output, tuple) and isinstance(output[0], list):
            self._finished += zip(*output, strict=True)
        return output

    def decode(self, *arguments: Any, **options: Any) -> Any:
        """As the pipeline's; what comes of it is reported as finished."""
        output = self.pipeline.decode(*arguments, **options)
        self._finished += zip(*output, strict=True)
        return output

    def _on_step(self, pipeline: SkinDualGenPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict:
        self._check()
        if self._change is not None:
            tensors = self._change(pipeline, step, timestep, tensors)
        self._remember(pipeline, step, timestep, tensors)
        begun = time.monotonic()
        previews = []
        if begun >= self._next_preview and len(self._states) == self._states.maxlen:
            previews = list(zip(*pipeline.decode(*self._estimates(), clean=False), strict=True))
            took = time.monotonic() - begun
            self._next_preview = time.monotonic() + max(PREVIEW_PAUSE_S, PREVIEW_SHARE * took)
        self._tell(Step(step + 1, pipeline.num_timesteps, list(self._finished), previews))
        return tensors

    def _remember(self, pipeline: SkinDualGenPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        """Keep the two newest states whose noise levels are known: that of a step's result is the next step's."""
        if step == 0:
            self._states.clear()
        elif self._newest is not None:
            self._states.append((*self._newest, float(pipeline.scheduler.alphas_cumprod[int(timestep)])))
        self._newest = tensors["latents"][:PREVIEWS], tensors["mask_codes"][:PREVIEWS]

    def _estimates(self) -> tuple[Tensor, Tensor]:
        """Clean latents and codes, as the step before this one saw them."""
        (latents, codes, abar), (next_latents, next_codes, next_abar) = self._states
        return clean_estimate(latents, next_latents, abar, next_abar), clean_estimate(
            codes, next_codes, abar, next_abar
        )

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped


def clean_estimate(state: Tensor, following: Tensor, abar: float, following_abar: float) -> Tensor:
    """The clean half towards which a deterministic step went; a half that did not move is returned as it is.

    Such a step leads from sqrt(abar) x0 + sqrt(1 - abar) eps to the same x0 and eps at the following level: two
    equations for two unknowns. Source: Song et al. 2021, DDIM, arXiv 2010.02502, equation 12.

    Args:
        state: before the step, at level ``abar``, the cumulative product of alphas.
        following: after it, at level ``following_abar``.
    """
    if state.equal(following):
        return following
    signal, noise = abar**0.5, (1 - abar) ** 0.5
    next_signal, next_noise = following_abar**0.5, (1 - following_abar) ** 0.5
    x0 = noise * following.float() - next_noise * state.float()
    return (x0 / (noise * next_signal - next_noise * signal)).to(following.dtype)
