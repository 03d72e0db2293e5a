"""Runs the model for the show: pairs from prompts, masks from photographs, photographs from masks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image

from skindualgen.contracts import MASKS_DIR, PairRecord, Report
from skindualgen.demo.results import DrawnPair, Filling, Reading, Show
from skindualgen.planning.requests import pair_seed, requests_from_prompts
from skindualgen.production.generate import generate_pairs
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.segmentation import segment_folder

DIAGNOSES = ("nevus", "melanoma", "seborrheic keratosis")
PROMPT = "a dermoscopic image of a {diagnosis}"
BATCH = 4
"""Pictures drawn at once: few enough for a moving progress bar, many enough to use the processor well."""

PHOTOGRAPHS_DIR = "photographs"


def draw_pairs(pipe: SkinDualGenPipeline, show: Show, out: Path, *, per_diagnosis: int, report: Report) -> None:
    """Draw pairs of each diagnosis into a data set folder with the ordinary ``generate``; fills in ``show``."""
    prompts = [(PROMPT.format(diagnosis=diagnosis), {"diagnosis": diagnosis}) for diagnosis in DIAGNOSES]
    in_rows = [prompt for prompt in prompts for _ in range(per_diagnosis)]
    requests = requests_from_prompts(in_rows, len(in_rows), show.seed)
    start = time.perf_counter()
    records = generate_pairs(
        pipe,
        requests,
        out,
        num_inference_steps=show.num_inference_steps,
        guidance_scale=show.guidance_scale,
        batch_size=BATCH,
        report=report,
    )
    show.seconds_per_pair = (time.perf_counter() - start) / len(requests)
    show.candidates = int((records[0].model_extra or {}).get("best_of", 1))
    images = [opened(out / record.file_name, "RGB") for record in records]
    masks = [opened(out / str(record.mask_file_name), "L") for record in records]
    reread = read_masks(pipe, images, seed=show.seed)
    show.pairs = [
        DrawnPair(image, mask, again, str(record.prompt), str(record.diagnosis), cast("int", record.seed))
        for image, mask, again, record in zip(images, masks, reread, records, strict=True)
    ]


def read_photographs(
    pipe: SkinDualGenPipeline, root: Path, records: Sequence[PairRecord], out: Path, *, seed: int, report: Report
) -> list[Reading]:
    """Read masks of photographs of a data set folder with the ordinary ``segment``, next to the masks they come with.

    Args:
        root: the data set folder.
        records: which of its photographs.
        out: new folder for copies of the photographs and for the masks.
    """
    photographs = out / PHOTOGRAPHS_DIR
    photographs.mkdir(parents=True)
    for record in records:
        shutil.copyfile(root / record.file_name, photographs / Path(record.file_name).name)
    masks = out / "read"
    segment_folder(pipe, photographs, masks, ensemble_size=ENSEMBLE_SIZE, batch_size=BATCH, seed=seed, report=report)
    readings = []
    for record in records:
        mask = opened(masks / MASKS_DIR / f"{Path(record.file_name).stem}.png", "L")
        given = opened(root / record.mask_file_name, "L") if record.mask_file_name else None
        image = opened(root / record.file_name, "RGB")
        readings.append(Reading(record.isic_id, image, mask, given, record.diagnosis or ""))
    return readings


def fill_masks(pipe: SkinDualGenPipeline, masks: Sequence[Image.Image], show: Show, *, report: Report) -> None:
    """Draw a photograph of each diagnosis into each mask, and read its mask back; fills in ``show``."""
    total = len(masks) * len(DIAGNOSES)
    for index, given in enumerate(masks):
        first = index * len(DIAGNOSES)
        report(first, total)
        images, _ = _drawn(
            pipe,
            prompt=[PROMPT.format(diagnosis=diagnosis) for diagnosis in DIAGNOSES],
            mask_image=[given] * len(DIAGNOSES),
            num_inference_steps=show.num_inference_steps,
            guidance_scale=show.guidance_scale,
            generator=_generators(show.seed, first, len(DIAGNOSES)),
        )
        reread = read_masks(pipe, images, seed=show.seed)
        named = zip(images, reread, DIAGNOSES, strict=True)
        show.fillings += [Filling(given, image, again, diagnosis) for image, again, diagnosis in named]
    report(total, total)


def read_masks(pipe: SkinDualGenPipeline, images: Sequence[Image.Image], *, seed: int) -> list[Image.Image]:
    """Return the masks that the model reads from photographs, at the model's own size."""
    masks: list[Image.Image] = []
    for first in range(0, len(images), BATCH):
        batch = list(images[first : first + BATCH])
        masks += _drawn(pipe, image=batch, ensemble_size=ENSEMBLE_SIZE, generator=_generators(seed, first, len(batch)))[
            1
        ]
    return masks


def opened(path: Path, mode: str) -> Image.Image:
    """Return a picture file in a PIL mode, read completely."""
    with Image.open(path) as image:
        return image.convert(mode)


def _drawn(pipe: SkinDualGenPipeline, **arguments: Any) -> tuple[list[Image.Image], list[Image.Image]]:
    """Call the pipeline and return images and masks, as PIL pictures."""
    return cast("tuple[list[Image.Image], list[Image.Image]]", pipe(**arguments, return_dict=False))


def _generators(seed: int, first: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(pair_seed(seed, first + index)) for index in range(count)]
