"""What callers of the pipeline give, brought to what the network takes: pixels, latents, codes, states of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from skindualgen.contracts import InputError
from skindualgen.data.arrays import mask_items, photograph_items
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, join_classes, split_classes
from skindualgen.data.masks import load_mask, resize_mask

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline

FULL_NOISE = 1.0
"""strength of a half that is drawn from nothing"""


def strengths(strength: float | tuple[float, float] | None, has_image: bool, has_mask: bool) -> tuple[float, float]:
    """Share of the noise schedule that image and mask go through."""
    if strength is not None:
        return strength if isinstance(strength, tuple) else (strength, strength)
    return (0.0 if has_image else FULL_NOISE, 0.0 if has_mask else FULL_NOISE)


def encode_call(
    pipeline: SkinDualGenPipeline,
    texts: Sequence[tuple[str | Sequence[str] | None, Tensor | None]],
    image: PipelineImageInput | None,
    mask: PipelineImageInput | None,
    size: tuple[int, int],
    copies: int,
) -> list[Any]:
    """Encode what a call is given, each for every sample of the batch.

    Args:
        pipeline: whose modules encode.
        texts: prompts and negative prompts, each as text or as states.
        image, mask: as the call takes them.
        size: height and width in px.
        copies: samples of each prompt, photograph or mask, which follow each other.

    Returns:
        States of prompts and negative prompts [b, 77, width], pixels [b, 3, h, w] or None, codes [b, m, h/8, w/8] or
        None.

    Raises:
        InputError: unequal numbers of them, or pictures that cannot be used.
    """
    prompts, negative = (text_states(pipeline, *text) for text in texts)
    pixels = None if image is None else image_pixels(pipeline, image, *size)
    codes = None if mask is None else mask_codes(pipeline, mask, *size)
    count = max(len(t) for t in (prompts, pixels, codes) if t is not None)
    return [repeat(t, count, copies) for t in (prompts, negative, pixels, codes)]


def image_pixels(pipeline: SkinDualGenPipeline, image: PipelineImageInput, height: int, width: int) -> Tensor:
    """Photographs to [n, 3, h, w] in [-1, 1], as the autoencoder takes them."""
    pixels = image_to_tensor(image, height, width, pipeline.image_processor)
    return pixels.to(pipeline._execution_device, pipeline.vae.dtype)


def image_latents(pipeline: SkinDualGenPipeline, pixels: Tensor) -> Tensor:
    """Pixels [n, 3, h, w] to latents [n, c, h/8, w/8], scaled as the UNet takes them."""
    latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    return latents.to(pipeline.unet.dtype)


def mask_codes(pipeline: SkinDualGenPipeline, mask: PipelineImageInput, height: int, width: int) -> Tensor:
    """Masks of k classes to codes [n, m, h/8, w/8]."""
    masks = mask_to_tensor(mask, height, width, pipeline.mask_classes)  # [n, k, h, w]
    return pipeline.codec.encode(masks).to(pipeline._execution_device, pipeline.unet.dtype)


def text_states(pipeline: SkinDualGenPipeline, text: str | Sequence[str] | None, given: Tensor | None) -> Tensor:
    """Text, or the states that are given in its place, to states [n, 77, width]; no text is the empty prompt."""
    texts = [text or ""] if text is None or isinstance(text, str) else list(text)
    states = pipeline.encode_prompt(texts) if given is None else given.to(pipeline._execution_device)
    return states.to(pipeline.unet.dtype)


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


def mask_to_tensor(mask: PipelineImageInput, height: int, width: int, classes: MaskClasses = LESION_ONLY) -> Tensor:
    """Masks at the wanted size, by nearest neighbour, read as `skindualgen.data.masks.load_mask` reads files.

    Args:
        mask: PIL image, array or Tensor as `skindualgen.data.arrays.mask_items` takes it, or a list of these: black and
            one other level or colour, perhaps with a soft outline. Of several classes: PIL images or arrays [h, w] with
            their levels, or arrays [b, h, w, k] or tensors [k, h, w] or [b, k, h, w] in {0, 1}.
        height, width: in px.
        classes: of the masks.

    Returns:
        [b, k, height, width] float32 in {0, 1}.

    Raises:
        InputError: nothing in a list, a shape that can be read in two ways, levels or colours that do not say what is
            lesion, or a lesion that is lost at the wanted size.
    """
    try:
        if len(classes) > 1:
            pictures = [Image.fromarray(levels) for levels in _class_levels(mask, classes)]
            resized = [np.asarray(resize_mask(each, (width, height))) for each in pictures]
            masks = [split_classes(levels, classes) for levels in resized]
        else:
            loaded = [load_mask(item, allow_uniform=True)[0] for item in mask_items(mask)]
            masks = [np.asarray(resize_mask(each, (width, height)))[None] > 0 for each in loaded]
    except ItemError as error:
        raise error.input_error("a mask") from None
    _check_some(masks, "masks")
    return torch.from_numpy(np.stack(masks).astype(np.float32))


def _class_levels(mask: PipelineImageInput, classes: MaskClasses) -> list[NDArray[np.uint8]]:
    """The levels [h, w] of masks of several classes."""
    values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
    if isinstance(values, np.ndarray) and values.ndim in (3, 4):
        values = values if isinstance(mask, Tensor) else np.moveaxis(values, -1, -3)
        values = values[None] if values.ndim == 3 else values
        if values.shape[1] != len(classes) or not np.isin(values, (0, 1)).all():
            raise ItemError("array_shape", f"shape {np.shape(mask)} for {len(classes)} classes of 0 and 1")
        return [join_classes(each > 0, classes) for each in values]
    levels = [np.asarray(item) for item in mask_items(mask)]
    if any(each.dtype != np.uint8 or each.ndim != 2 for each in levels):
        raise ItemError("colour_mode", f"no grey levels of 8 bits; masks of {len(classes)} classes have them")
    return levels


def _check_some(items: Sequence[object], name: str) -> None:
    if not items:
        raise InputError(f"an empty list of {name}", "at least one", f"leave the {name} out, or give some")
