"""Makes pairs from real ones: redrawn, drawn for their masks, in a region of their photographs; or reads masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import fit
from skindualgen.data.mask_classes import LESION_ONLY, read_mask_classes
from skindualgen.data.masks import resize_mask
from skindualgen.data.pairs import load_pair
from skindualgen.data.reading import read_mask, read_photograph
from skindualgen.planning.anchors import Anchoring
from skindualgen.planning.requests import Anchor, PairRequest
from skindualgen.production.chunk import Decode, Images
from skindualgen.production.jitter import jittered
from skindualgen.production.reading import draw_readings
from skindualgen.production.sampler import PipelineSampler
from skindualgen.sample.blending import BlendedLatents
from skindualgen.sample.guidance import Guidance
from skindualgen.sample.pipeline import SkinDualGenPipeline

MARGIN = 0.06
"""Of the side: how far around a lesion skin is drawn anew when another lesion takes its place."""
EDGE = 0.02
"""Of the side: width of the seam, inside of what is drawn anew, where it passes into the photograph's own pixels."""
REGION_STRENGTH = 1.0
"""of a region that is drawn anew: from noise, led by what is kept around it"""


class AnchoredSampler(PipelineSampler):
    """Makes pairs from real ones or from photographs, each from a generator of its own.

    Args:
        pipeline: of one class of masks.
        anchoring: how.
        steps: denoising steps.
        guidance: of the pairs.
        size: side in px, a multiple of 8; the model's own if not given.

    Raises:
        InputError: pipeline or pairs have masks of several classes.
    """

    def __init__(
        self,
        pipeline: SkinDualGenPipeline,
        anchoring: Anchoring,
        *,
        steps: int,
        guidance: Guidance,
        size: int | None,
    ) -> None:
        classes = {tuple(pipeline.mask_classes)}
        if anchoring.way != "read":  # whose photographs have no masks
            classes.add(tuple(read_mask_classes(anchoring.root)))
        if classes != {tuple(LESION_ONLY)}:
            raise InputError(
                f"masks of the classes {' and of '.join(', '.join(each) for each in sorted(classes))}",
                "masks of the lesion alone, in the adapter and in the pairs to start from",
                "generate from prompts, or use another adapter",
            )
        super().__init__(pipeline, steps=steps, guidance=guidance, size=size)
        self._anchoring = anchoring
        self._side = pipeline.native_px if size is None else size

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Draw the latents of the requests, in their order; what is returned decodes them."""
        way = self._anchoring.way
        if way == "masks":
            masks = [jittered(self._load_mask(r), self._anchoring.jitter, r.seed) for r in requests]
            return self._decoder(self._latents(requests, mask_image=masks), masks)
        if way == "read":
            return draw_readings(
                self._pipeline,
                [self._load_photograph(request) for request in requests],
                seeds=[request.seed for request in requests],
                steps=self._steps,
                draws=self._anchoring.draws,
                agree=self._anchoring.agree,
            ).decode
        pairs = [self._load(request) for request in requests]
        images, masks = [image for image, _ in pairs], [mask for _, mask in pairs]
        if way == "redraw":
            strength = self._anchoring.strength
            given = None if not self._anchoring.keep_mask else masks
            latents = self._latents(
                requests, image=images, mask_image=masks, strength=(strength, 0.0 if given else strength)
            )
            return self._decoder(latents, given)
        return self._inpaint(requests, images, masks)

    def _load(self, request: PairRequest) -> tuple[Image.Image, Image.Image]:
        anchor = _anchor_of(request)
        record = PairRecord(file_name=anchor.file_name, mask_file_name=anchor.mask_file_name, isic_id=anchor.isic_id)
        image, mask = load_pair(self._anchoring.root, record, self._side)  # as in training
        assert mask is not None  # requests start from records with masks
        photograph = self._pipeline.image_processor.postprocess(image[None], output_type="pil")[0]
        return photograph, Image.fromarray((mask[0].numpy() > 0).astype(np.uint8) * 255)

    def _load_mask(self, request: PairRequest) -> Image.Image:
        mask = read_mask(self._anchoring.root / str(_anchor_of(request).mask_file_name))
        side = min(mask.size)
        left, top = (mask.width - side) // 2, (mask.height - side) // 2
        return resize_mask(mask.crop((left, top, left + side, top + side)), (self._side, self._side))

    def _load_photograph(self, request: PairRequest) -> Image.Image:
        """The photograph alone, squared as `skindualgen prepare` does."""
        photograph = read_photograph(self._anchoring.root / _anchor_of(request).file_name).image
        return fit(photograph, None, size=self._side, crop="centre")[0]

    def _decoder(self, drawn: tuple[torch.Tensor, torch.Tensor], given: Images | None) -> Decode:
        """Decodes pictures, and masks where these are not given: a given mask comes back as it is."""
        if given is None:
            return partial(self._pipeline.decode, *drawn)
        return lambda: (self._pipeline.decode(*drawn)[0], given)

    def _inpaint(self, requests: Sequence[PairRequest], images: Images, masks: Images) -> Decode:
        lesions = [np.asarray(mask) > 0 for mask in masks]
        new_lesion = self._anchoring.region == "lesion"
        regions = [_grown(lesion, MARGIN * self._side) if new_lesion else ~lesion for lesion in lesions]
        kept = [Image.fromarray((~region).astype(np.uint8) * 255) for region in regions]
        blend = BlendedLatents(
            self._pipeline,
            list(images),
            kept,
            seeds=[request.seed for request in requests],
            steps=self._steps,
            height=self._side,
            width=self._side,
        )
        strength = (REGION_STRENGTH, REGION_STRENGTH if new_lesion else 0.0)
        drawn = self._latents(
            requests, image=list(images), mask_image=list(masks), strength=strength, callback_on_step_end=blend
        )

        def decode() -> tuple[Images, Images]:
            made, outlines = self._pipeline.decode(*drawn)
            pictures = [pasted(own, new, region) for own, new, region in zip(images, made, regions, strict=True)]
            if not new_lesion:
                return pictures, masks
            inside = [
                Image.fromarray(((np.asarray(outline) > 127) & region).astype(np.uint8) * 255)
                for outline, region in zip(outlines, regions, strict=True)
            ]
            return pictures, inside

        return decode


def pasted(own: Image.Image, new: Image.Image, region: NDArray[np.bool_]) -> Image.Image:
    """The photograph with ``new`` in a region: outside of it every pixel is the photograph's own.

    Args:
        own, new: RGB, of one size.
        region: [h, w], what is drawn anew; along its edge, inside, the two pass into each other.
    """
    depth = ndimage.distance_transform_edt(region)
    share = np.clip(depth / max(1.0, EDGE * own.width), 0, 1)[..., None]
    mixed = share * np.asarray(new, np.float64) + (1 - share) * np.asarray(own, np.float64)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _grown(lesion: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    return ndimage.distance_transform_edt(~lesion) <= by_px if lesion.any() else lesion


def _anchor_of(request: PairRequest) -> Anchor:
    if request.anchor is None:
        raise InputError(f"request {request.index} without a real pair", "one to start from", "name its folder")
    return request.anchor
