"""Pairs beside each other, to see what an adapter does: from one prompt to another, and prompts times seeds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from skindualgen.contracts import InputError
from skindualgen.data.prompts import refuse_long, tokens_of
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.sheet import outline, pair_sheet

FRAME_MS = 120
"""milliseconds that a picture of a walk is shown"""


def walk(
    pipeline: SkinDualGenPipeline, start: str, end: str, *, frames: int, seed: int, batch_size: int = 8, **call: object
) -> tuple[list[Image.Image], list[Image.Image]]:
    """Draw one lesion on the way from a prompt to another: the text's states go over linearly, the noise stays.

    Args:
        pipeline: of an adapter.
        start, end: prompts of the first and of the last pair, which are those that the prompts alone give.
        frames: pairs, at least 2.
        seed: of the noise of all of them.
        batch_size: pairs drawn together; changes nothing.
        call: further arguments of the pipeline's call, such as ``num_inference_steps``.

    Returns:
        Images and masks, from ``start`` to ``end``.

    Raises:
        InputError: fewer than two frames, or a prompt that is too long.
    """
    if frames < 2:
        raise InputError(f"a walk of {frames} frames", "2 or more", "take more")
    first, last = _states(pipeline, [start, end])
    states = torch.stack([torch.lerp(first, last, place / (frames - 1)) for place in range(frames)])  # [n, 77, width]
    return _drawn(pipeline, states, [seed] * frames, batch_size, call)


def walk_gif(images: Sequence[Image.Image], masks: Sequence[Image.Image]) -> bytes:
    """A GIF of a walk there and back without end, each image with its mask's outline."""
    there = [outline(image, mask) for image, mask in zip(images, masks, strict=True)]
    first, *others = [*there, *there[-2:0:-1]]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return buffer.getvalue()


def grid(
    pipeline: SkinDualGenPipeline, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int = 8, **call: object
) -> Image.Image:
    """Draw each prompt with each seed: a row for each prompt, a column for each seed, which gives it its noise.

    Raises:
        InputError: a prompt is too long.
    """
    states = _states(pipeline, prompts).repeat_interleave(len(seeds), dim=0)  # [n, 77, width]
    images, masks = _drawn(pipeline, states, list(seeds) * len(prompts), batch_size, call)
    labels = [f"{seed}: {prompt}" for prompt in prompts for seed in seeds]
    return pair_sheet(images, masks, columns=len(seeds), labels=labels)


def _states(pipeline: SkinDualGenPipeline, prompts: Sequence[str]) -> Tensor:
    for prompt in prompts:
        refuse_long(prompt, partial(tokens_of, pipeline.tokenizer))
    return pipeline.encode_prompt(prompts)


def _drawn(
    pipeline: SkinDualGenPipeline, states: Tensor, seeds: Sequence[int], batch_size: int, call: dict[str, object]
) -> tuple[list[Image.Image], list[Image.Image]]:
    images, masks, device = list[Image.Image](), list[Image.Image](), pipeline._execution_device
    for begin in range(0, len(states), batch_size):
        part = slice(begin, begin + batch_size)
        generators = [torch.Generator(device).manual_seed(seed) for seed in seeds[part]]
        drawn = pipeline(prompt_embeds=states[part], generator=generators, return_dict=False, **call)
        images, masks = images + drawn[0], masks + drawn[1]
    return images, masks
