"""What a visitor generates: data set folders, made by the same production as those of the commands; their downloads."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.data.masks import lesion_pixels
from skindualgen.studio.requests import GenerationRequest, Given
from skindualgen.studio.workspace import DATASETS_DIR, Workspace

if TYPE_CHECKING:
    from skindualgen.planning.requests import PairRequest
    from skindualgen.production.chunk import Decode
    from skindualgen.sample.blending import BlendedLatents
    from skindualgen.studio.watched import WatchedPipeline

BATCH_PAIRS = 8
"""Pairs generated together, as `skindualgen generate` does: its files are then the same."""
MAX_ENSEMBLE = 8
"""Draws that are averaged where a mask is read, at most."""


@dataclass(frozen=True)
class Generated:
    """A finished folder of generated pairs.

    Attributes:
        folder: in the standard layout.
        request: what was asked for; fewer pairs are there if it was stopped.
        agreements: Dice of each pair's mask and of what the adapter reads from its picture, in the records' order.
    """

    folder: Path
    request: GenerationRequest
    agreements: Sequence[float]

    @cached_property
    def records(self) -> list[PairRecord]:
        """Of the pairs, in their order."""
        return read_metadata(self.folder)

    def image(self, index: int) -> Path:
        """Picture of a pair."""
        return self.folder / self.records[index].file_name

    def mask(self, index: int) -> Path:
        """Mask of a pair."""
        return self.folder / str(self.records[index].mask_file_name)

    def remove(self) -> None:
        """Remove the folder."""
        remove_drawn(self.folder, self.request)


def remove_drawn(folder: Path, request: GenerationRequest) -> None:
    """Remove what was drawn, and an uploaded pair that it was drawn from, which lies beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    if request.anchoring is not None and request.anchoring.root.parent == folder.parent:
        shutil.rmtree(request.anchoring.root, ignore_errors=True)


class GivenSampler:
    """Generates pairs around what is given; a `skindualgen.production.chunk.Sampler`."""

    def __init__(self, pipeline: Any, request: GenerationRequest, given: Given, size: tuple[int, int]) -> None:
        self._pipeline, self._request, self._given = pipeline, request, given
        self._size = {"width": size[0], "height": size[1]}

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Generate pictures and masks of the requests, in their order."""
        import torch

        images, masks = self._pipeline(
            [request.prompt for request in requests],
            mask_image=self._given.mask,
            image=self._given.image,
            strength=self._given.strength,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            num_inference_steps=self._request.steps,
            guidance_scale=self._request.guidance,
            callback_on_step_end=self._kept_region([request.seed for request in requests]),
            return_dict=False,
            **self._size,
        )
        return lambda: (images, masks)

    def _kept_region(self, seeds: Sequence[int]) -> BlendedLatents | None:
        from skindualgen.sample.blending import BlendedLatents

        given = self._given
        if given.keep is None or given.image is None:
            return None
        region = given.mask if given.keep == "lesion" else ImageOps.invert(given.mask)
        steps = self._request.steps
        return BlendedLatents(self._pipeline.pipeline, given.image, region, seeds=seeds, steps=steps, **self._size)


def generate(pipeline: WatchedPipeline, request: GenerationRequest, folder: Path) -> Generated | None:
    """Generate pairs, file by file as `skindualgen generate`; stopped, keep the batches that are complete."""
    from skindualgen.planning.requests import requests_from_prompts
    from skindualgen.production.generate import GenerateOptions, generate_dataset
    from skindualgen.production.run import ProductionStopped
    from skindualgen.production.sampler import PipelineFactory
    from skindualgen.production.source import RequestList

    anchoring = request.anchoring
    if anchoring is None:
        requests = requests_from_prompts([(prompt, {}) for prompt in request.prompts], request.count, request.seed)
    else:
        requests = anchoring.requests(request.seed, count=request.count)
    factory = PipelineFactory(steps=request.steps, guidance=request.guidance, anchoring=anchoring, best_of=1)
    options = GenerateOptions(factory, BATCH_PAIRS)

    def produce(working: Any, some: Sequence[PairRequest]) -> None:
        source = partial(RequestList, some)
        if (given := request.given) is None:
            generate_dataset(options, source, folder, pipeline=working)
            return
        size = given.size(pipeline.native_px)
        sampler, recorded = GivenSampler(working, request, given, size), {"size": list(size), **given.record()}
        generate_dataset(options, source, folder, pipeline=working, sampler=sampler, given=recorded)

    try:
        produce(pipeline, requests)
    except ProductionStopped:
        complete = BATCH_PAIRS * len(pipeline.batches)
        if not complete:
            return None
        shutil.rmtree(folder)
        produce(_Replay(pipeline), requests[:complete])
    return Generated(folder, request, _agreements(pipeline, folder))


class _Replay:
    """A pipeline that gives the batches that it has generated, once more."""

    def __init__(self, pipeline: WatchedPipeline) -> None:
        self._pipeline, self._batches = pipeline, iter(pipeline.batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def __call__(self, *_arguments: Any, **_options: Any) -> Any:
        return next(self._batches)


def _agreements(pipeline: WatchedPipeline, folder: Path) -> list[float]:
    import numpy as np

    from skindualgen.codec import clean_mask
    from skindualgen.metrics.masks import dice
    from skindualgen.sample.reading import mask_predictor

    predict = mask_predictor(pipeline.pipeline)
    agreements = []
    for record in read_metadata(folder):
        with Image.open(folder / record.file_name) as image, Image.open(folder / str(record.mask_file_name)) as mask:
            field = predict(np.asarray(image.convert("RGB"))[None])[0]
            agreements.append(float(dice(lesion_pixels(mask), clean_mask(field > 0))))
    return agreements


def predict_mask(pipeline: WatchedPipeline, photograph: Image.Image, *, ensemble: int, seed: int = 0) -> Image.Image:
    """The mask (0 / 255) of a photograph at its own size, as `skindualgen segment` writes it.

    Raises:
        InputError: an ensemble that is too small or too large.
    """
    import torch

    from skindualgen.sample.segmentation import field_to_mask, working_size

    if not 1 <= ensemble <= MAX_ENSEMBLE:
        raise InputError(f"an ensemble of {ensemble}", f"1 to {MAX_ENSEMBLE}", f"choose 1 to {MAX_ENSEMBLE}")
    width, height = working_size(photograph.size, pipeline.native_px)
    _, codes = pipeline(
        image=[photograph.resize((width, height), Image.Resampling.LANCZOS)],
        generator=[torch.Generator().manual_seed(seed)],
        ensemble_size=ensemble,
        height=height,
        width=width,
        output_type="latent",
        return_dict=False,
    )
    fields = pipeline.codec.decode(codes)[0]
    return field_to_mask(fields, photograph.size, clean=True, classes=pipeline.mask_classes)


def write_zip(folder: Path, path: Path) -> Path:
    """Pack a data set folder, without what production keeps for itself, under the name of the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # its pictures are compressed already
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder)
            if file.is_file() and not inside.parts[0].startswith("."):
                archive.write(file, f"{path.stem}/{inside.as_posix()}")
    return path


def save_dataset(folder: Path, workspace: Workspace, name: str) -> str:
    """Copy a folder of generated pairs into the workspace, entirely or not at all; return its name there.

    Raises:
        InputError: a name that is none, or one that is taken.
    """
    place = workspace.new_folder(DATASETS_DIR, name)
    if not folder.is_dir():
        raise InputError("pairs that are gone", "pairs that were just drawn", "draw them again")
    unfinished = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, unfinished, ignore=shutil.ignore_patterns(".*"))
    unfinished.rename(place)
    return workspace.name(place)
