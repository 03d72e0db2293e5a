"""What callers of the pipeline give: checked, settled, brought to tensors of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from PIL import Image
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.contracts import InputError

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
            raise InputError(f"{name} {text!r}", "a text, or a list of at least one", "mend the prompt")
    check_size(height, width)
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type {output_type!r}", " or ".join(OUTPUT_TYPES), "choose one of them")
    both = image is not None and mask is not None
    if both != (strength is not None):
        raise InputError(
            "image and mask without strength" if both else "strength without both image and mask",
            "image, mask and strength for an edit; image alone for a mask; mask alone for an image",
            "add strength=0.5" if both else "give image and mask, or leave strength out",
        )
    if strength is not None:
        pair = strength if isinstance(strength, tuple) else (strength, strength)
        numbers = len(pair) == 2 and all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in pair)
        if not numbers or max(pair) == 0:
            raise InputError(f"strength {strength}", "a number in [0, 1], or a tuple of two, not all 0", "try 0.5")
    unknown = [name for name in callback_names if name not in known_names]
    if unknown:
        raise InputError(f"callback inputs {unknown}", f"names of {known_names}", "mend the list")


def check_size(height: int, width: int) -> None:
    """Refuse sizes in px that no grid of latent cells has.

    Raises:
        InputError: a side is not a positive multiple of the cell.
    """
    if min(height, width) <= 0 or height % CELL_PX or width % CELL_PX:
        raise InputError(f"size {height} x {width}", f"multiples of {CELL_PX} px", "round height and width")


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Refuse a scheduler whose samples are not sqrt(abar) x0 + sqrt(1 - abar) noise.

    Raises:
        InputError: it is not variance preserving.
    """
    if scheduler.init_noise_sigma != 1 or not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"scheduler {type(scheduler).__name__}",
            "a variance preserving one, as the mask's velocity is converted by its alphas",
            "use DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler",
        )


def check_counts(
    *, steps: int, num_images_per_prompt: int, ensemble_size: int, strength: float | tuple[float, float] | None
) -> None:
    """Refuse counts below 1, and a strength above 0 that amounts to no step at all.

    Raises:
        InputError: which, and what to give instead.
    """
    counts = {
        "num_inference_steps": steps,
        "num_images_per_prompt": num_images_per_prompt,
        "ensemble_size": ensemble_size,
    }
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}", "at least 1", "give a larger number")
    for share in strength if isinstance(strength, tuple) else (strength or 0.0,):
        if share > 0 and round(steps * share) == 0:
            raise InputError(
                f"strength {share:g} of {steps} steps, which is no step",
                f"0 to keep a half, or at least {1 / steps:g}",
                "raise strength or num_inference_steps",
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
    """Photographs at the wanted size.

    Args:
        image: PIL image of any mode, array [h, w, 3] or [b, h, w, 3] or Tensor [3, h, w] or [b, 3, h, w] in [0, 1], or
            a list of these.
        height, width: in px.
        processor: the pipeline's, which resizes.

    Returns:
        [b, 3, height, width] in [-1, 1].

    Raises:
        InputError: nothing in a list, a shape not listed, or values outside [0, 1].
    """
    if isinstance(image, (list, tuple)):
        _check_some(image, "images")
        return torch.cat([image_to_tensor(item, height, width, processor) for item in image])
    if isinstance(image, Image.Image):
        return processor.preprocess(image.convert("RGB"), height=height, width=width)
    if not isinstance(image, (np.ndarray, Tensor)):
        raise InputError(f"an image of type {type(image).__name__}", "PIL, np.ndarray or Tensor", "open the file first")
    if image.ndim not in (3, 4) or image.shape[-1 if isinstance(image, np.ndarray) else -3] != 3:
        raise InputError(
            f"an image of shape {tuple(image.shape)}", "array [b, h, w, 3] or Tensor [b, 3, h, w]", "reshape it"
        )
    _check_range("image", float(image.min()), float(image.max()))
    return processor.preprocess(image, height=height, width=width)


def mask_to_tensor(mask: PipelineImageInput, height: int, width: int) -> Tensor:
    """Binary masks at the wanted size, by nearest neighbour.

    Args:
        mask: PIL image of any mode (lesion where its grey value >= 128), array or Tensor in [0, 1] (lesion where
            >= 0.5) of shape [h, w], [b, h, w], [h, w, 1] and [b, h, w, 1] (arrays) or [b, 1, h, w] (tensors), or a
            list of these.
        height, width: in px.

    Returns:
        [b, 1, height, width] float32 in {0, 1}.

    Raises:
        InputError: nothing in a list, a shape not listed, values outside [0, 1], or a picture of 0 and 1 for 0 and 255.
    """
    if isinstance(mask, (list, tuple)):
        _check_some(mask, "masks")
        return torch.cat([mask_to_tensor(item, height, width) for item in mask])
    if isinstance(mask, Image.Image):
        grey = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.NEAREST))
        if grey.max() == 1:
            raise InputError("a mask picture with grey values 0 and 1", "0 and 255", "multiply it by 255")
        return torch.from_numpy((grey >= 128).astype(np.float32))[None, None]
    tensor = mask.float() if isinstance(mask, Tensor) else torch.from_numpy(np.asarray(mask, np.float32))
    if tensor.ndim in (3, 4) and isinstance(mask, np.ndarray) and tensor.shape[-1] == 1:
        tensor = tensor.movedim(-1, -3)
    if tensor.ndim in (2, 3):
        tensor = tensor.reshape(-1, 1, *tensor.shape[-2:])
    if tensor.ndim != 4 or tensor.shape[1] != 1:
        raise InputError(f"a mask of shape {tuple(mask.shape)}", "[h, w], [b, h, w] or one channel", "reshape it")
    _check_range("mask", float(tensor.min()), float(tensor.max()))
    return (F.interpolate(tensor, (height, width), mode="nearest-exact") >= 0.5).float()


def _is_text(text: object) -> bool:
    if isinstance(text, str):
        return True
    return isinstance(text, Sequence) and len(text) > 0 and all(isinstance(item, str) for item in text)


def _check_some(items: Sequence[object], name: str) -> None:
    if not items:
        raise InputError(f"an empty list of {name}", "at least one", f"leave the {name} out, or give some")


def _check_range(name: str, low: float, high: float) -> None:
    if not (low >= 0 and high <= 1):  # so that NaN is refused
        raise InputError(
            f"{name} values from {low:g} to {high:g}", "values in [0, 1]", "divide values from 0 to 255 by 255"
        )
