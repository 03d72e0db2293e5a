"""Folders of masks for photographs, which resume where they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from skindualgen.codec import CELL_PX
from skindualgen.contracts import MASKS_DIR, Report
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, join_classes
from skindualgen.data.plain_folder import plain_files
from skindualgen.files import atomic_path
from skindualgen.folders import claim, remove_leftovers
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.sample.outputs import fields_to_classes
from skindualgen.sample.pipeline import SkinDualGenPipeline

SEGMENT_FILE = "segment.json"


@dataclass
class SegmentSummary:
    """What ``segment_folder`` did.

    Attributes:
        written: masks written now.
        kept: masks that were there before.
        refused: photograph that could not be read -> the reason.
        not_used: file or folder next to the photographs that is none -> the reason.
    """

    written: int = 0
    kept: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    not_used: dict[str, str] = field(default_factory=dict)


def segment_folder(
    pipeline: SkinDualGenPipeline,
    images: Path,
    out: Path,
    *,
    num_inference_steps: int | None = None,
    ensemble_size: int = ENSEMBLE_SIZE,
    batch_size: int = 8,
    clean: bool = True,
    seed: int = 0,
    report: Report = lambda done, total: None,
) -> SegmentSummary:
    """Write ``masks/<stem>.png`` for every photograph of a folder, at the photograph's own size.

    A photograph of any size is read at the model's own area, its aspect kept to the nearest 8 px; the field is then
    brought back to the photograph's size and cut at 0, so outlines are smooth. Masks that are there already stay.

    Args:
        pipeline: image -> mask.
        images: folder of photographs, not searched deeper.
        out: folder of ``masks``; may hold those of an interrupted run of the same settings.
        num_inference_steps: the pipeline's default if not given.
        ensemble_size: draws, over flips of the photograph, whose fields are averaged.
        batch_size: photographs read together.
        clean: keep the largest region and fill its holes.
        seed: of the run.
        report: progress.

    Raises:
        InputError: no photograph there, two of one stem, or ``out`` holds masks of other settings.
    """
    paths, not_used = plain_files(images, "--images")
    steps = pipeline.steps(num_inference_steps, reads_mask=True)
    settings = {"steps": steps, "ensemble_size": ensemble_size, "clean": clean, "seed": seed}
    claim(out, SEGMENT_FILE, settings | dict(pipeline.config.provenance or {}))
    (out / MASKS_DIR).mkdir(exist_ok=True)
    remove_leftovers(out / MASKS_DIR)
    summary = SegmentSummary(not_used=not_used)

    def size_of(item: tuple[Path, Image.Image]) -> tuple[int, int]:
        return working_size(item[1].size, pipeline.native_px)

    for start, batch in _readable(paths, out, batch_size, summary):
        report(start, len(paths))
        by_size = groupby(sorted(batch, key=size_of), key=size_of)
        for _, group in by_size:
            items = list(group)
            masks = read_masks(
                pipeline,
                [photograph for _, photograph in items],
                num_inference_steps=steps,
                ensemble_size=ensemble_size,
                clean=clean,
                seed=seed,
            )
            for (path, _), mask in zip(items, masks, strict=True):
                with atomic_path(out / MASKS_DIR / f"{path.stem}.png", durable=False) as temporary:
                    mask.save(temporary, format="PNG")
                summary.written += 1
    report(len(paths), len(paths))
    return summary


def read_masks(
    pipeline: SkinDualGenPipeline,
    photographs: Sequence[Image.Image],
    *,
    num_inference_steps: int,
    ensemble_size: int = ENSEMBLE_SIZE,
    clean: bool = True,
    seed: int = 0,
) -> Iterator[Image.Image]:
    """Yield the mask of each photograph, of its own size; all must have one `working_size`. See `segment_folder`."""
    width, height = working_size(photographs[0].size, pipeline.native_px)
    _, codes = pipeline(
        image=[photograph.resize((width, height), Image.Resampling.LANCZOS) for photograph in photographs],
        generator=[torch.Generator().manual_seed(seed) for _ in photographs],
        num_inference_steps=num_inference_steps,
        ensemble_size=ensemble_size,
        height=height,
        width=width,
        output_type="latent",
        return_dict=False,
    )
    for photograph, fields in zip(photographs, pipeline.codec.decode(codes), strict=True):
        yield field_to_mask(fields, photograph.size, clean=clean, classes=pipeline.mask_classes)


def working_size(size: tuple[int, int], native: int) -> tuple[int, int]:
    """Width and height in px, multiples of 8, of about native^2 px and about the aspect of ``size``.

    No side is shorter than half the native one: beyond an aspect of 4 the picture is squeezed.
    """
    ratio = min(4.0, max(0.25, size[0] / size[1]))
    width, height = native * ratio**0.5, native / ratio**0.5
    return max(1, round(width / CELL_PX)) * CELL_PX, max(1, round(height / CELL_PX)) * CELL_PX


def field_to_mask(
    fields: torch.Tensor, size: tuple[int, int], *, clean: bool, classes: MaskClasses = LESION_ONLY
) -> Image.Image:
    """Fields [k, h, w] to a PIL mask (0 / 255, or the levels of k classes) of ``size`` (width, height)."""
    large = F.interpolate(fields[None].float(), (size[1], size[0]), mode="bilinear", align_corners=False)[0]
    return Image.fromarray(join_classes(fields_to_classes(large, clean=clean), classes))


def _readable(
    paths: Sequence[Path], out: Path, batch_size: int, summary: SegmentSummary
) -> Iterator[tuple[int, list[tuple[Path, Image.Image]]]]:
    """Batches of photographs without a mask yet, decoded; counts what is skipped."""
    for start in range(0, len(paths), batch_size):
        batch = []
        for path in paths[start : start + batch_size]:
            if (out / MASKS_DIR / f"{path.stem}.png").is_file():
                summary.kept += 1
                continue
            try:
                batch.append((path, load_photograph(path).image))
            except ItemError as error:
                summary.refused[path.name] = str(error)
        yield start, batch
