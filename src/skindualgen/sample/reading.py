"""The lesions that an adapter reads from pictures, its own or any others, for whoever compares masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.segmentation import working_size

READING_SEED = 0
"""Of the noise from which every picture is read: a picture then has one reading, whatever its file or place."""


def mask_predictor(pipeline: SkinDualGenPipeline) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from pictures, RGB uint8 [n, h, w, 3], to the lesion fields that the adapter reads [n, h, w].

    A field is the truncated signed distance that the mask's code holds: above 0 inside the outline, and further level
    sets are larger or smaller outlines. One step and one draw, from the same noise for every picture, and the pictures
    one by one: a reading is a function of its picture alone, to the last bit.

    The reader may run while another thread draws with ``pipeline``: a pipeline keeps the state of its running call, so
    this one is another object around the same networks.
    """
    masks = {"mask_codec": pipeline.config.mask_codec, "mask_classes": pipeline.config.mask_classes}
    reading = SkinDualGenPipeline(**pipeline.components, **masks)
    reading.set_progress_bar_config(disable=True)
    text = pipeline.encode_prompt([""])  # [1, 77, width], once

    def read(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        fields = np.zeros(images.shape[:3], np.float32)
        for field, pixels in zip(fields, images, strict=True):
            picture = Image.fromarray(pixels)
            width, height = working_size(picture.size, pipeline.native_px)
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.LANCZOS)
            _, codes = reading(
                image=picture,
                prompt_embeds=text,
                negative_prompt_embeds=text,
                num_inference_steps=1,
                generator=torch.Generator().manual_seed(READING_SEED),
                height=height,
                width=width,
                output_type="latent",
                return_dict=False,
            )
            sdf = pipeline.codec.decode(codes)[:, :1].float()  # [1, 1, height, width]
            if sdf.shape[-2:] != field.shape:
                sdf = F.interpolate(sdf, field.shape, mode="bilinear", align_corners=False)
            field[:] = sdf[0, 0].cpu().numpy()
        return fields

    return read
