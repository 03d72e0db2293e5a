"""What callers of the pipeline give: checked, settled, brought to tensors of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from diffusers.image_processor import PipelineImageInput
from PIL import Image
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.contracts import InputError

FULL_NOISE = 1.0
"""strength of a half that is drawn from nothing"""


def check_call(
    prompt: object,
    prompt_embeds: object,
    image: object,
    mask: object,
    strength: float | tuple[float, float] | None,
    height: int,
    width: int,
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
    if height % CELL_PX or width % CELL_PX:
        raise InputError(f"size {height} x {width}", f"multiples of {CELL_PX} px", "round height and width")
    both = image is not None and mask is not None
    if both != (strength is not None):
        raise InputError(
            "image and mask without strength" if both else "strength without both image and mask",
            "image, mask and strength for an edit; image alone for a mask; mask alone for an image",
            "add strength=0.5" if both else "give image and mask, or leave strength out",
        )
    if strength is not None:
        pair = strength if isinstance(strength, tuple) else (strength, strength)
        if len(pair) != 2 or not all(0 <= s <= 1 for s in pair) or max(pair) == 0:
            raise InputError(f"strength {strength}", "numbers in [0, 1], not all 0", "try 0.5")
    unknown = [name for name in callback_names if name not in known_names]
    if unknown:
        raise InputError(f"callback inputs {unknown}", f"names of {known_names}", "mend the list")


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


def mask_to_tensor(mask: PipelineImageInput, height: int, width: int) -> Tensor:
    """Binary masks at the wanted size, by nearest neighbour.

    Args:
        mask: PIL image of any mode (lesion where its grey value >= 128), array or Tensor in [0, 1] (lesion where
            >= 0.5) of shape [h, w], [b, h, w], [b, h, w, 1] (arrays) or [b, 1, h, w] (tensors), or a list of these.
        height, width: in px.

    Returns:
        [b, 1, height, width] float32 in {0, 1}.

    Raises:
        InputError: values outside [0, 1], or a shape not listed.
    """
    if isinstance(mask, (list, tuple)):
        return torch.cat([mask_to_tensor(item, height, width) for item in mask])
    if isinstance(mask, Image.Image):
        grey = np.asarray(mask.convert("L").resize((width, height), Image.Resampling.NEAREST))
        return torch.from_numpy((grey >= 128).astype(np.float32))[None, None]
    tensor = mask.float() if isinstance(mask, Tensor) else torch.from_numpy(np.asarray(mask, np.float32))
    if tensor.ndim == 4 and isinstance(mask, np.ndarray):
        tensor = tensor.permute(0, 3, 1, 2)
    if tensor.ndim in (2, 3):
        tensor = tensor.reshape(-1, 1, *tensor.shape[-2:])
    if tensor.ndim != 4 or tensor.shape[1] != 1:
        raise InputError(f"a mask of shape {tuple(mask.shape)}", "[h, w], [b, h, w] or one channel", "reshape it")
    if tensor.min() < 0 or tensor.max() > 1:
        raise InputError(
            f"mask values from {tensor.min():g} to {tensor.max():g}", "values in [0, 1]", "divide a 0/255 mask by 255"
        )
    return (F.interpolate(tensor, (height, width), mode="nearest-exact") >= 0.5).float()
