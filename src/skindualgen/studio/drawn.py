"""What a visitor draws: data set folders, made by the same factory as those of the commands, and their downloads."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from PIL import Image, ImageOps

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.files import sha256_bytes
from skindualgen.studio.workspace import DATASETS_DIR, Workspace

if TYPE_CHECKING:
    from skindualgen.planning.requests import PairRequest
    from skindualgen.production.chunk import Decode
    from skindualgen.sample.blending import BlendedLatents
    from skindualgen.sample.pipeline import SkinDualGenPipeline
    from skindualgen.studio.state import Studio
    from skindualgen.studio.watched import WatchedPipeline

BATCH_PAIRS = 8
"""Pairs drawn together, as `skindualgen generate` does: its files are then the same."""
SEED_LIMIT = 2**31

Keep = Literal["lesion", "skin"]


@dataclass(frozen=True)
class Drawn:
    """A finished folder of drawn pairs.

    Attributes:
        folder: in the standard layout.
        agreements: Dice of each pair's mask and of what the adapter reads from its picture, in the records' order.
        asked: pairs that were asked for; fewer are there if it was stopped.
    """

    folder: Path
    agreements: Sequence[float]
    asked: int

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


@dataclass(frozen=True)
class GenerationRequest:
    """What is asked for.

    Attributes:
        prompts: one or more, taken in turn.
        count: pairs.
        seed: of the run; each pair's own is a function of it.
        steps, guidance: of the sampling.
    """

    prompts: Sequence[str]
    count: int
    seed: int
    steps: int
    guidance: float


@dataclass(frozen=True)
class Given:
    """What pairs are drawn around.

    Attributes:
        mask: L, 0 / 255.
        image: RGB; None: the mask alone is given.
        strength: of image and mask, as the pipeline's call takes it; None without an image.
        keep: region of the image that stays as it is while the rest is drawn anew.
    """

    mask: Image.Image
    image: Image.Image | None = None
    strength: tuple[float, float] | None = None
    keep: Keep | None = None

    def record(self) -> dict[str, Any]:
        """What a data set says of it: hashes of pixels, not the pictures."""
        told: dict[str, Any] = {"given_mask_sha256": sha256_bytes(self.mask.tobytes())}
        if self.image is not None and self.strength is not None:
            told |= {"given_image_sha256": sha256_bytes(self.image.tobytes()), "strength": list(self.strength)}
        return told | ({"keep": self.keep} if self.keep else {})


def drawn_size(studio: Studio, adapter: str, given: Given) -> tuple[int, int]:
    """Width and height in px of what is drawn: of about the model's own area and the given aspect."""
    from skindualgen.sample.segmentation import working_size

    return working_size((given.image or given.mask).size, studio.model.facts(adapter).native_px)


class GivenSampler:
    """Draws pairs around what is given; a `skindualgen.production.chunk.Sampler`.

    Args:
        pipeline: draws.
        wanted: its steps and guidance count.
        size: width and height in px.
        given: mask, or image and mask.
    """

    def __init__(
        self, pipeline: WatchedPipeline, wanted: GenerationRequest, size: tuple[int, int], given: Given
    ) -> None:
        self._pipeline, self._wanted, self._size, self._given = pipeline, wanted, size, given

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Draw pictures and masks of the requests, in their order."""
        import torch

        width, height = self._size
        images, masks = self._pipeline(
            [request.prompt for request in requests], mask_image=self._given.mask, image=self._given.image,
            strength=self._given.strength, height=height, width=width, return_dict=False,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            num_inference_steps=self._wanted.steps, guidance_scale=self._wanted.guidance,
            callback_on_step_end=self._keeper([request.seed for request in requests]),
        )  # fmt: skip
        return lambda: (images, masks)

    def _keeper(self, seeds: Sequence[int]) -> BlendedLatents | None:
        from skindualgen.sample.blending import BlendedLatents

        given = self._given
        if given.keep is None or given.image is None:
            return None
        region = given.mask if given.keep == "lesion" else ImageOps.invert(given.mask)
        width, height = self._size
        return BlendedLatents(
            self._pipeline.pipeline, given.image, region, seeds=seeds, steps=self._wanted.steps, height=height,
            width=width,
        )  # fmt: skip


def draw_pairs(pipeline: WatchedPipeline, wanted: GenerationRequest, folder: Path) -> Drawn | None:
    """Draw pairs from prompts, file by file as `skindualgen generate`; stopped, keep the batches that are complete."""
    from skindualgen.planning.requests import requests_from_prompts
    from skindualgen.production.generate import generate_pairs
    from skindualgen.production.stopping import ProductionStopped

    requests = requests_from_prompts([(prompt, {}) for prompt in wanted.prompts], wanted.count, wanted.seed)

    def generate(drawing: Any, some: Sequence[PairRequest]) -> None:
        generate_pairs(
            cast("SkinDualGenPipeline", drawing), some, folder,
            num_inference_steps=wanted.steps, guidance_scale=wanted.guidance, batch_size=BATCH_PAIRS,
        )  # fmt: skip

    try:
        generate(pipeline, requests)
    except ProductionStopped:
        complete = BATCH_PAIRS * len(pipeline.batches)
        if not complete:
            return None
        shutil.rmtree(folder)
        generate(_Replay(pipeline), requests[:complete])
    return Drawn(folder, _agreements(pipeline, folder), wanted.count)


def draw_given(pipeline: WatchedPipeline, wanted: GenerationRequest, folder: Path, given: Given) -> Drawn | None:
    """Draw pairs around what is given, into a folder; stopped, keep the chunks that are complete."""
    from skindualgen.planning.requests import requests_from_prompts
    from skindualgen.production.generate import GenerateOptions, generate_dataset
    from skindualgen.production.sampler import PipelineFactory
    from skindualgen.production.source import RequestList
    from skindualgen.production.stopping import ProductionStopped
    from skindualgen.sample.segmentation import working_size

    size = working_size((given.image or given.mask).size, pipeline.native_px)
    requests = requests_from_prompts([(prompt, {}) for prompt in wanted.prompts], wanted.count, wanted.seed)
    options = GenerateOptions(PipelineFactory(steps=wanted.steps, guidance=wanted.guidance), BATCH_PAIRS)
    try:
        generate_dataset(
            options, partial(RequestList, requests), folder, pipeline=pipeline.pipeline,
            sampler=GivenSampler(pipeline, wanted, size, given), given={"size": list(size), **given.record()},
        )  # fmt: skip
    except ProductionStopped as stopped:
        if not stopped.pairs:
            return None
    return Drawn(folder, _agreements(pipeline, folder), wanted.count)


def read_mask_of(pipeline: WatchedPipeline, photograph: Image.Image, *, ensemble: int, seed: int = 0) -> Image.Image:
    """The mask (0 / 255) of a photograph at its own size, as `skindualgen segment` writes it."""
    import torch

    from skindualgen.codec import code_to_sdf
    from skindualgen.sample.segmentation import field_to_mask, working_size

    width, height = working_size(photograph.size, pipeline.native_px)
    _, codes = pipeline(
        image=[photograph.resize((width, height), Image.Resampling.LANCZOS)],
        generator=[torch.Generator().manual_seed(seed)],
        ensemble_size=ensemble, height=height, width=width, output_type="latent", return_dict=False,
    )  # fmt: skip
    return field_to_mask(code_to_sdf(codes)[0], photograph.size, clean=True)


def write_zip(folder: Path, path: Path) -> Path:
    """Pack a data set folder, without what the factory keeps for itself, under the name of the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # its pictures are compressed already
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder)
            if file.is_file() and not inside.parts[0].startswith("."):
                archive.write(file, f"{path.stem}/{inside.as_posix()}")
    return path


def save_dataset(folder: Path, workspace: Workspace, name: str) -> str:
    """Copy a folder of drawn pairs into the workspace, entirely or not at all; return its name there.

    Raises:
        InputError: a name that is none, or one that is taken.
    """
    place = workspace.new_folder(DATASETS_DIR, name)
    if not folder.is_dir():
        raise InputError("pairs that are gone", "pairs that were just drawn", "draw them again")
    partial = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns(".*"))
    partial.rename(place)
    return workspace.name(place)


class _Replay:
    """A pipeline that gives the batches that it has drawn, once more."""

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

    read = mask_predictor(pipeline.pipeline)
    agreements = []
    for record in read_metadata(folder):
        with Image.open(folder / record.file_name) as image, Image.open(folder / str(record.mask_file_name)) as mask:
            field = read(np.asarray(image.convert("RGB"))[None])[0]
            agreements.append(float(dice(np.asarray(mask) > 127, clean_mask(field > 0))))
    return agreements
