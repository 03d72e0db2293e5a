"""What callers of the pipeline give: refused where it cannot be used, or contradicts itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from skindualgen.codec import CELL_PX
from skindualgen.contracts import InputError
from skindualgen.model.joint_unet import MASK_HEAD

CALLBACK_INPUTS = ["latents", "mask_codes", "prompt_embeds", "noise_pred"]
"""tensors that a callback can be given, and change; the last, what the step went by for the image, only to be seen"""
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_call(
    *,
    texts: Mapping[str, tuple[object, Tensor | None]],
    given: tuple[object, object, object],
    strength: float | tuple[float, float] | None,
    size: tuple[int, int],
    counts: Mapping[str, int],
    generator: torch.Generator | list[torch.Generator] | None,
    latents: Tensor | None,
    output_type: str,
    callback_inputs: Sequence[str],
) -> None:
    """Refuse arguments of a call that cannot be used or contradict each other; see ``SkinDualGenPipeline.__call__``.

    Args:
        texts: "prompt" and "negative_prompt", each as text and as states.
        given: image, mask and guide, or None for each.
        strength, generator, latents, output_type, callback_inputs: as the call takes them.
        size: height and width in px.
        counts: numbers of steps and samples, by the names of their arguments.

    Raises:
        InputError: which ones, and what to give instead.
    """
    has_image, has_mask, has_guide = (each is not None for each in given)
    if all(each is None for each in texts["prompt"]) and not has_image:
        raise InputError("neither prompt nor image", "a prompt, an image, or both", "give prompt=...")
    for name, (text, embeds) in texts.items():
        if text is not None and embeds is not None:
            raise InputError(f"both {name} and {name}_embeds", "one of them", "leave one out")
        if text is not None and not _is_text(text):
            raise InputError(f"{name} {text!r}", "a text, or a list of at least one", "fix the prompt")
    if has_guide and any(each is not None for each in texts["negative_prompt"]):
        got = "a negative prompt for a pipeline with a guide"
        raise InputError(got, "the guide alone to lead away from", "leave the negative prompt out")
    check_size(*size)
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type {output_type!r}", " or ".join(OUTPUT_TYPES), "choose one of them")
    if unknown := [name for name in callback_inputs if name not in CALLBACK_INPUTS]:
        raise InputError(f"callback inputs {unknown}", f"names of {CALLBACK_INPUTS}", "fix the list")
    _check_strength(strength, has_image and has_mask)
    _check_counts(counts, strength)
    _check_generator(generator)
    _check_tensors(latents=latents, **{f"{name}_embeds": embeds for name, (_, embeds) in texts.items()})


def renamed_arguments(**names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Take keyword arguments under their earlier names too, ``earlier="current"``, with a DeprecationWarning.

    Raises:
        InputError: in a call, both names of one argument.
    """

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for earlier in names.keys() & kwargs.keys():
                current = names[earlier]
                if kwargs.get(current) is not None and kwargs[earlier] is not None:
                    raise InputError(
                        f"both {current} and {earlier}, its earlier name", "one of them", f"leave {earlier} out"
                    )
                warnings.warn(
                    f"`{earlier}` is called `{current}` now; the earlier name goes with version 0.3",
                    DeprecationWarning,
                    stacklevel=2,
                )
                given = kwargs.pop(earlier)
                kwargs.setdefault(current, given)
            return function(*args, **kwargs)

        return call

    return decorated


def check_size(height: int, width: int) -> None:
    """Refuse sizes in px that no grid of latent cells has.

    Raises:
        InputError: a side is not a positive multiple of the cell.
    """
    if not (_is_whole(height) and _is_whole(width)):
        raise InputError(f"size {height!r} x {width!r}", "whole numbers of px", f"give multiples of {CELL_PX}")
    if min(height, width) <= 0 or height % CELL_PX or width % CELL_PX:
        raise InputError(f"size {height} x {width}", f"multiples of {CELL_PX} px", "round height and width")


def _check_strength(strength: float | tuple[float, float] | None, both: bool) -> None:
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


def _check_counts(counts: Mapping[str, int], strength: float | tuple[float, float] | None) -> None:
    """Refuse counts that are no whole numbers from 1, and a strength above 0 that amounts to no step at all."""
    for name, value in counts.items():
        if not _is_whole(value):
            raise InputError(f"{name} {value!r}", "a whole number", "give one from 1")
        if value < 1:
            raise InputError(f"{name} {value}", "at least 1", "give a larger number")
    steps = counts["num_inference_steps"]
    for share in strength if isinstance(strength, tuple) else (strength or 0.0,):
        if share > 0 and round(steps * share) == 0:
            raise InputError(
                f"strength {share:g} of {steps} steps, which is no step",
                f"0 to keep a half, or at least {1 / steps:g}",
                "raise strength or num_inference_steps",
            )


def _check_generator(generator: torch.Generator | list[torch.Generator] | None) -> None:
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
    """Refuse a list of generators, or given noise, that does not fit a batch of ``shape`` [b, c + m, h/8, w/8].

    Raises:
        InputError: what was given and what fits.
    """
    if isinstance(generator, list) and len(generator) not in (1, shape[0]):
        raise InputError(f"{len(generator)} generators", f"one, or {shape[0]}: one per sample", "match the batch")
    if noise is not None and tuple(noise.shape) != shape:
        raise InputError(f"latents of shape {tuple(noise.shape)}", f"{shape}", "draw noise of that shape")


def _check_tensors(**given: Tensor | None) -> None:
    """Refuse given tensors that are none, or hold NaN or infinity."""
    for name, tensor in given.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name} of type {type(tensor).__name__}", "a Tensor", "give one, or leave it out")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} with NaN or infinity", "finite numbers", "fix what made them")


def check_joint(unets: Sequence[UNet2DConditionModel | None], image_channels: int, mask_channels: int) -> None:
    """Refuse UNets without the channels of image latents and mask codes, such as that of a plain base.

    Raises:
        InputError: what it has, and what to give instead.
    """
    for unet in unets:
        if unet is not None and unet.config.in_channels != image_channels + mask_channels:
            raise InputError(
                f"a UNet of {unet.config.in_channels} channels",
                f"a joint one of {image_channels} for the image and {mask_channels} for the mask",
                "give unet=..., as skindualgen.model.adapter.load_adapter returns it",
            )


def check_mask_steps(num_mask_steps: int | None, steps: int, *, given: bool) -> None:
    """Refuse steps of the mask's own where a half is given, or more of them than denoising steps.

    Raises:
        InputError: what was given, and what can be.
    """
    if num_mask_steps is None:
        return
    if given:
        raise InputError("num_mask_steps with an image or a mask", "pairs from text alone", "leave it out")
    if not 1 <= num_mask_steps <= steps:
        raise InputError(f"num_mask_steps={num_mask_steps}", f"1 to {steps}, the denoising steps", "choose another")


def check_mask_guidance(unets: Iterable[UNet2DConditionModel | None], scale: float) -> None:
    """Refuse guidance by the mask where nothing says what the mask changes.

    Raises:
        InputError: a UNet has no mask head.
    """
    if scale != 1 and not all(unet is None or hasattr(unet, MASK_HEAD) for unet in unets):
        got = f"mask_guidance_scale={scale} with an adapter without mask head"
        raise InputError(got, "1", "leave it out, or train an adapter with mask_head.width above 0")


def check_as_distilled(distilled: Mapping[str, Any] | None, name: str, value: object, made_for: object) -> None:
    """Refuse what a distilled adapter (`skindualgen.training.distill`) was not made for; None is always right.

    Raises:
        InputError: the adapter is distilled, and for another value.
    """
    if distilled is not None and value is not None and value != made_for:
        got = f"{name}={value} with an adapter distilled to {distilled['calls']} steps, its guidance folded in"
        raise InputError(got, f"{made_for!r}", "leave it out, or take the adapter that it was distilled from")


def callback_changes(
    callback: Callable[..., Any] | None, names: Sequence[str], *step: Any, **tensors: Tensor
) -> dict[str, Any]:
    """Give a callback the tensors that it has named, and return those that it changes, None being no change.

    Raises:
        InputError: it returns something else than a dict.
    """
    if callback is None:
        return {}
    changed = callback(*step, {name: tensors[name] for name in names})
    if changed is not None and not isinstance(changed, dict):
        got = f"a callback_on_step_end that returns {type(changed).__name__}"
        raise InputError(got, "a dict of tensors, or None", "return the dict that it is given")
    return dict(changed or {})


def _is_text(text: object) -> bool:
    if isinstance(text, str):
        return True
    return isinstance(text, Sequence) and len(text) > 0 and all(isinstance(item, str) for item in text)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
