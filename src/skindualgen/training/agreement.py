"""Whether generated masks are those that an independent segmenter, which knows real pairs alone, sees in the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from skindualgen.config import TrainConfig
from skindualgen.data.dataset import Dataset
from skindualgen.data.pairs import read_pairs
from skindualgen.data.prompts import prompt_for
from skindualgen.judges.segmenter import Segmenter
from skindualgen.judges.trained import JudgeRecipe, default_cache, trained_judge
from skindualgen.metrics.masks import dice
from skindualgen.production.sampler import PipelineFactory, device_of

BATCH_SIZE = 8
"""Pairs generated together."""


def independent_segmenter(data: Path, size_px: int, steps: int, report: Callable[[int, int], None]) -> Segmenter:
    """Take the segmenter of a data set's real training pairs from the judges' cache, or train it.

    Args:
        data: data set folder.
        size_px: side of the pictures that it is to judge.
        steps: optimiser steps.
        report: called with those done and their number.

    Raises:
        InputError: no real training pair with a mask, or photographs that are not square.
    """
    train = Dataset.open(data).split("train").where(lambda record: record.origin == "real")
    return Segmenter(trained_judge("segmenter", train, JudgeRecipe(steps).within(size_px), default_cache(), report))


def val_prompts(config: TrainConfig, count: int) -> list[str]:
    """So many prompts of the split val, evenly from all of it; taken again in turn where it has fewer."""
    records = read_pairs(config.data, "val")
    chosen = records[:: max(1, len(records) // count)]
    own = [record.prompt or prompt_for(record) for record in chosen[:count]]
    return [own[place % len(own)] for place in range(count)]


def agreement(adapter: Path, prompts: Sequence[str], size_px: int, judge: Segmenter) -> float:
    """Generate a pair from each prompt and return the mean Dice of its mask with the segmenter's, in [0, 1].

    Steps and guidance are the adapter's own; the seed of a pair is its place.
    """
    pipeline = PipelineFactory(adapter).load().to(device_of(0))
    scores: list[float] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = list(prompts[start : start + BATCH_SIZE])
        seeds = [torch.Generator().manual_seed(start + place) for place in range(len(part))]
        images, masks = pipeline(part, generator=seeds, height=size_px, width=size_px, return_dict=False)
        seen = judge.masks(np.stack([np.asarray(image) for image in images]))
        scores += [dice(np.asarray(mask) > 0, lesion) for mask, lesion in zip(masks, seen, strict=True)]
    return float(np.mean(scores))
