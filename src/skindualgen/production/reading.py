"""Masks that an adapter reads from real photographs, in several draws whose disagreement says what is to be ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skindualgen.production.chunk import Images, Reading
from skindualgen.sample.denoising import FLIPS
from skindualgen.sample.outputs import fields_to_classes
from skindualgen.sample.pipeline import SkinDualGenPipeline

AGREEMENT_SCORE, IGNORED_SCORE = "reading_agreement", "ignored_area_fraction"
"""In the scores of a photograph's record: the mean over its pixels of the share of draws that agree with the mask, and
the share of pixels that are ignored; both in [0, 1]."""


@dataclass(frozen=True)
class DrawnReadings:
    """What the draws of photographs gave, still as codes.

    Attributes:
        pipeline: that drew, with masks of the lesion alone.
        photographs: RGB, square, of the side h.
        codes: of each draw [b, m, h/8, w/8], in the orientation that its photographs were flipped to.
        agree: share of the draws, in (0, 1], from which on a pixel counts.
    """

    pipeline: SkinDualGenPipeline
    photographs: Images
    codes: Sequence[Tensor]
    agree: float

    @torch.no_grad()
    def decode(self) -> tuple[Images, Images, list[Reading]]:
        """The photographs as they are, their masks, and what is ignored of these."""
        fields = torch.stack(
            [self.pipeline.codec.decode(drawn)[:, 0].float().flip(_flip(draw)) for draw, drawn in enumerate(self.codes)]
        ).cpu()  # [d, b, h, w]
        masks, readings = [], []
        for of_photograph in fields.unbind(1):  # [d, h, w]
            mask = fields_to_classes(of_photograph.mean(0)[None], clean=True)[0]  # [h, w]
            agreement = ((of_photograph.numpy() > 0) == mask).mean(0)  # [h, w], float64
            ignored = agreement < self.agree
            scores = {AGREEMENT_SCORE: float(agreement.mean()), IGNORED_SCORE: float(ignored.mean())}
            masks.append(_picture(mask))
            readings.append(Reading(_picture(ignored), {name: round(value, 4) for name, value in scores.items()}))
        return self.photographs, masks, readings


def draw_readings(
    pipeline: SkinDualGenPipeline,
    photographs: Images,
    *,
    seeds: Sequence[int],
    steps: int,
    draws: int,
    agree: float,
) -> DrawnReadings:
    """Read photographs several times, each time flipped otherwise and from other noise.

    As ``ensemble_size`` of the pipeline does, but that the draws stay apart: unguided, from the empty prompt, each
    photograph with a generator of its own that goes on from draw to draw.

    Args:
        pipeline: image -> mask.
        photographs: RGB, square, all of one side, a multiple of 8.
        seeds: of the photographs' generators.
        steps: denoising steps of a draw.
        draws: of each photograph.
        agree: see `DrawnReadings`.
    """
    pixels = torch.from_numpy(np.stack([np.asarray(photograph) for photograph in photographs])).permute(0, 3, 1, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    text = pipeline.encode_prompt([""])  # [1, 77, width], once
    codes = []
    for draw in range(draws):
        _, drawn = pipeline(
            image=pixels.flip(_flip(draw)),  # [b, 3, h, w] uint8
            prompt_embeds=text,
            negative_prompt_embeds=text,
            generator=generators,
            num_inference_steps=steps,
            height=pixels.shape[2],
            width=pixels.shape[3],
            output_type="latent",
            return_dict=False,
        )
        codes.append(drawn)
    return DrawnReadings(pipeline, photographs, codes, agree)


def _flip(draw: int) -> list[int]:
    return FLIPS[draw % len(FLIPS)]


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8) * 255)
