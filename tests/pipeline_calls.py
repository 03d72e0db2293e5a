"""Calls of a tiny pipeline: seeds, pictures to give, and how far two results differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from skindualgen.sample.pipeline import SkinDualGenPipeline, SkinDualGenPipelineOutput

PROMPT = "a dermoscopic image of a nevus"
SIZE_PX = 64


def quiet_pipeline(adapter: Path) -> SkinDualGenPipeline:
    """The pipeline of an adapter, without its progress bar."""
    pipe = SkinDualGenPipeline.from_adapter(adapter)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def call(pipe: SkinDualGenPipeline, prompt: Any = PROMPT, seeds: tuple[int, ...] = (0,), **given: Any) -> Any:
    given = {"generator": generators(*seeds), "output_type": "np", "num_inference_steps": 2} | given
    return pipe(prompt, **given)


def difference(first: Any, second: Any) -> float:
    """Largest difference of two outputs, or of two lists of arrays or tensors."""
    pairs = [x.to_tuple() if isinstance(x, SkinDualGenPipelineOutput) else x for x in (first, second)]
    return max(float(np.abs(np.asarray(a, np.float64) - np.asarray(b)).max()) for a, b in zip(*pairs, strict=True))


def photograph(seed: int = 0) -> Image.Image:
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    inside = (rows - 28) ** 2 + (columns - 36) ** 2 < 300
    skin = np.random.default_rng(seed).normal(0, 6, (SIZE_PX, SIZE_PX, 3)) + np.array([220, 180, 160])
    return Image.fromarray(np.clip(skin - 90 * inside[..., None], 0, 255).astype(np.uint8))


def disc(radius_px: float = 17) -> Image.Image:
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    return Image.fromarray((((rows - 28) ** 2 + (columns - 36) ** 2 < radius_px**2) * 255).astype(np.uint8))
