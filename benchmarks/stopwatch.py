"""Seconds of the parts of a pipeline and of production, each counted once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from diffusers import DPMSolverMultistepScheduler
from diffusers.image_processor import VaeImageProcessor

from skindualgen.production import drawing as drawing_module
from skindualgen.production import pictures as pictures_module
from skindualgen.sample import pipeline as pipeline_module
from skindualgen.sample.pipeline import SkinDualGenPipeline


class Stopwatch:
    """Seconds by part; a part that runs within another is counted once, as the inner one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self._whole = False

    @contextmanager
    def part(self, name: str, *, whole: bool = False) -> Iterator[None]:
        """Time the block; if it counts as a whole, the parts within it are not told apart."""
        if self._whole:
            yield
            return
        self._inner.append(0.0)
        self._whole = whole
        start = time.perf_counter()
        try:
            yield
        finally:
            self._whole = False
            taken = time.perf_counter() - start
            self.seconds[name] += taken - self._inner.pop()
            if self._inner:
                self._inner[-1] += taken

    @contextmanager
    def around(self, pipeline: SkinDualGenPipeline) -> Iterator[None]:
        """Time the parts of a pipeline and of production for as long as the block lasts."""
        places = [
            (SkinDualGenPipeline, "__call__", "pipeline: the rest"),
            (pipeline.text_encoder, "forward", "text encoder"),
            (pipeline.unet, "forward", "UNet"),
            (DPMSolverMultistepScheduler, "step", "scheduler, both halves"),
            (pipeline.vae, "decode", "autoencoder"),
            (VaeImageProcessor, "postprocess", "image to PIL"),
            (pipeline_module, "codes_to_masks", "mask from its code"),
            (drawing_module, "image_png", "image to PNG, with record and XMP"),
            (drawing_module, "mask_png", "mask to PNG"),
            (pictures_module, "atomic_write_bytes", "writing files"),
            (pictures_module, "sync", "fsync"),
        ]
        with ExitStack() as stack:
            for owner, name, label in places:
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), label)))
            yield

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.part(label):
                return function(*arguments, **options)

        return timed
