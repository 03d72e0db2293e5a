"""What callers of the pipeline give: checked, settled, brought to tensors of one batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.contracts import InputError
from skindualgen.data.arrays import mask_items, photograph_items
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.masks import load_mask, resize_mask

FULL_NOISE = 1.0
"""strength of a half that is drawn from nothing"""
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_call(
    prompt: object,
    negative_prompt: object,
    prompt_embeds: object,
    image: object,
    mask: object,
    strength: float | tuple[float, float] | None,
    height: int,
    width: int,
    output_type: str,
    callback_names: Sequence[str],
    known_names: Sequence[str],
) -> None:
    """Refuse arguments of a call that contradict each other; see ``SkinDualGenPipeline.__call__``.

    Raises:
        InputError: which ones, and what to give instead.
    """
    if prompt is None and prompt_embeds is None and image is None:
        raise InputError("neither prompt nor image", "a prompt, an image, or both", "give prompt=...")
    if prompt is not None and prompt_embeds is not None:
        raise InputError("both prompt and prompt_embeds", "one of them", "leave one out")
    for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if text is not None and not _is_text(text):
            raise InputError(f"{name} {text!r}", "a text, or a list of at least one", "fix the prompt")
    check_size(height, width)
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type {output_type!r}", " or ".join(OUTPUT_TYPES), "choose one of them")
    both = image is not None and mask is not None
    if both != (strength is not None):
        raise InputError(
            "image and mask_image without strength" if both else "strength without both image and mask_image",
            "image, mask_image and strength for an edit; image alone for a mask; mask_image alone for an image",
            "add strength=0.5" if both else "give image and mask_image, or leave strength out",
        )
    if strength is not None:
        pair = strength if isinstance(strength, tuple) else (strength, strength)
        numbers = len(pair) == 2 and all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in pair)
        if not numbers or max(pair) == 0:
            raise InputError(f"strength {strength}", "a number in [0, 1], or a tuple of two, not all 0", "try 0.5")
    unknown = [name for name in callback_names if name not in known_names]
    if unknown:
        raise InputError(f"callback inputs {unknown}", f"names of {known_names}", "fix the list")


def renamed_argument(mask: Any, mask_image: Any) -> Any:
    """What was given as ``mask_image``, or under its earlier name ``mask``, with a warning.

    Raises:
        InputError: both.
    """
    if mask is None:
        return mask_image
    if mask_image is not None:
        raise InputError("both mask_image and mask, its earlier name", "one of them", "leave mask out")
    warnings.warn(
        "`mask` is called `mask_image` now; the earlier name goes with version 0.3", FutureWarning, stacklevel=4
    )
    return mask


def check_size(height: int, width: int) -> None:
    """Refuse sizes in px that no grid of latent cells has.

    Raises:
        InputError: a side is not a positive multiple of the cell.
    """
    if not (_is_whole(height) and _is_whole(width)):
        raise InputError(f"size {height!r} x {width!r}", "whole numbers of px", f"give multiples of {CELL_PX}")
    if min(height, width) <= 0 or height % CELL_PX or width % CELL_PX:
        raise InputError(f"size {height} x {width}", f"multiples of {CELL_PX} px", "round height and width")


def check_counts(
    *, steps: int, num_images_per_prompt: int, ensemble_size: int, strength: float | tuple[float, float] | None
) -> None:
    """Refuse counts that are no whole numbers from 1, and a strength above 0 that amounts to no step at all.

    Raises:
        InputError: which, and what to give instead.
    """
    counts = {
        "num_inference_steps": steps,
        "num_images_per_prompt": num_images_per_prompt,
        "ensemble_size": ensemble_size,
    }
    for name, value in counts.items():
        if not _is_whole(value):
            raise InputError(f"{name} {value!r}", "a whole number", "give one from 1")
        if value < 1:
            raise InputError(f"{name} {value}", "at least 1", "give a larger number")
    for share in strength if isinstance(strength, tuple) else (strength or 0.0,):
        if share > 0 and round(steps * share) == 0:
            raise InputError(
                f"strength {share:g} of {steps} steps, which is no step",
                f"0 to keep a half, or at least {1 / steps:g}",
                "raise strength or num_inference_steps",
            )


def check_generator(generator: torch.Generator | list[torch.Generator] | None) -> None:
    """Refuse what is no generator, or a list of them.

    Raises:
        InputError: what was given.
    """
    some = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if wrong := [each for each in some if not isinstance(each, torch.Generator)]:
        raise InputError(
            f"generator {wrong[0]!r}",
            "a torch.Generator, or a list of one for each sample",
            f"give torch.Generator().manual_seed({wrong[0] if _is_whole(wrong[0]) else 0})",
        )


def check_batch(
    generator: torch.Generator | list[torch.Generator] | None, noise: Tensor | None, shape: tuple[int, ...]
) -> None:
    """Refuse a list of generators, or given noise, that does not fit a batch of ``shape`` [b, c + 4, h/8, w/8].

    Raises:
        InputError: what was given and what fits.
    """
    if isinstance(generator, list) and len(generator) not in (1, shape[0]):
        raise InputError(f"{len(generator)} generators", f"one, or {shape[0]}: one per sample", "match the batch")
    if noise is not None and tuple(noise.shape) != shape:
        raise InputError(f"latents of shape {tuple(noise.shape)}", f"{shape}", "draw noise of that shape")


def check_tensors(**given: Tensor | None) -> None:
    """Refuse given tensors that are none, or hold NaN or infinity.

    Raises:
        InputError: which.
    """
    for name, tensor in given.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name} of type {type(tensor).__name__}", "a Tensor", "give one, or leave it out")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} with NaN or infinity", "finite numbers", "fix what made them")


def strengths(strength: float | tuple[float, float] | None, has_image: bool, has_mask: bool) -> tuple[float, float]:
    """Share of the noise schedule that image and mask go through."""
    if strength is not None:
        return strength if isinstance(strength, tuple) else (strength, strength)
    return (0.0 if has_image else FULL_NOISE, 0.0 if has_mask else FULL_NOISE)


def repeat(tensor: Tensor | None, count: int, copies: int) -> Tensor | None:
    """[1 or count, ...] to [count * copies, ...], copies of one item side by side."""
    if tensor is None:
        return None
    if len(tensor) not in (1, count):
        raise InputError(
            f"{len(tensor)} and {count} of prompts, negative prompts, images or masks",
            "equal numbers, or one for all",
            "give one of each per sample",
        )
    return tensor.expand(count, *tensor.shape[1:]).repeat_interleave(copies, dim=0)


def image_to_tensor(image: PipelineImageInput, height: int, width: int, processor: VaeImageProcessor) -> Tensor:
    """Photographs at the wanted size, read as `skindualgen.data.images.load_photograph` reads files.

    Args:
        image: PIL image, array [h, w], [h, w, c] or [b, h, w, c], or Tensor [h, w], [c, h, w] or [b, c, h, w], c being
            1 (grey), 3, or 4 with an opaque alpha, of uint8, uint16, or decimal numbers in [0, 1]; or a list of these.
            An EXIF orientation that a PIL image carries is applied.
        height, width: in px.
        processor: the pipeline's, which resizes.

    Returns:
        [b, 3, height, width] in [-1, 1], of 8 bits a channel.

    Raises:
        InputError: nothing in a list, a type, shape or range that does not say what it means, or transparent pixels.
    """
    try:
        photographs = [load_photograph(item).image for item in photograph_items(image)]
    except ItemError as error:
        raise error.input_error("an image") from None
    _check_some(photographs, "images")
    return torch.cat([processor.preprocess(each, height=height, width=width) for each in photographs])


def mask_to_tensor(mask: PipelineImageInput, height: int, width: int) -> Tensor:
    """Binary masks at the wanted size, by nearest neighbour, read as `skindualgen.data.masks.load_mask` reads files.

    Args:
        mask: PIL image, array or Tensor as `skindualgen.data.arrays.mask_items` takes it, or a list of these: black and
            one other level or colour, perhaps with a soft outline.
        height, width: in px.

    Returns:
        [b, 1, height, width] float32 in {0, 1}.

    Raises:
        InputError: nothing in a list, a shape that can be read in two ways, levels or colours that do not say what is
            lesion, or a lesion that is lost at the wanted size.
    """
    try:
        loaded = [load_mask(item, allow_uniform=True)[0] for item in mask_items(mask)]
        masks = [np.asarray(resize_mask(each, (width, height))) > 0 for each in loaded]
    except ItemError as error:
        raise error.input_error("a mask") from None
    _check_some(masks, "masks")
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))


def callback_changes(changed: object) -> dict[str, Any]:
    """What a callback has returned, None being no change.

    Raises:
        InputError: something else than a dict.
    """
    if changed is not None and not isinstance(changed, dict):
        got = f"a callback_on_step_end that returns {type(changed).__name__}"
        raise InputError(got, "a dict of tensors, or None", "return the dict that it is given")
    return dict(changed or {})


def _is_text(text: object) -> bool:
    if isinstance(text, str):
        return True
    return isinstance(text, Sequence) and len(text) > 0 and all(isinstance(item, str) for item in text)


def _check_some(items: Sequence[object], name: str) -> None:
    if not items:
        raise InputError(f"an empty list of {name}", "at least one", f"leave the {name} out, or give some")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
