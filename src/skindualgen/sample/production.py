"""Folders of generated pairs, which resume where they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from skindualgen import __version__
from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.planning.requests import PairRequest
from skindualgen.provenance import atomic_path, atomic_write_bytes, png_info, run_record, sha256_file
from skindualgen.sample.inputs import check_size
from skindualgen.sample.output_folder import Report, claim
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.sheet import pair_sheet

JOURNAL_FILE = ".generated.jsonl"
SETTINGS_FILE = "generate.json"
SHEET_FILE = "contact_sheet.png"
SHEET_PAIRS = 48
AREA_SCORE = "mask_area_fraction"
"""share of the picture that the mask calls lesion, in each record's ``scores``"""


def generate_pairs(
    pipeline: SkinDualGenPipeline,
    requests: Sequence[PairRequest],
    out: Path,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    batch_size: int = 8,
    size: int | None = None,
    report: Report = lambda done, total: None,
) -> list[PairRecord]:
    """Generate pairs into a data set folder: images, masks, ``metadata.jsonl``, ``dataset.json``, a contact sheet.

    What the adapter's folder records of its training items is copied there as well.

    Batches are cut by the requests' order, not by what is left, so an interrupted run that is called again with the
    same arguments ends with the same files. Whatever ends it, the folder loads with the pairs that are there.

    Args:
        pipeline: text -> pair.
        requests: what to draw; their order is part of the settings.
        out: new folder, or one of an interrupted run of the same settings.
        num_inference_steps, guidance_scale: the pipeline's defaults if not given.
        batch_size: pairs drawn together; results differ by at most one grey level between batch sizes.
        size: side in px, a multiple of 8; the model's own if not given.
        report: progress.

    Raises:
        InputError: ``out`` holds something else, or ``size`` is no multiple of 8.
    """
    if size is not None:
        check_size(size, size)  # before the folder is claimed with it
    steps = num_inference_steps or pipeline.config.default_steps
    guidance = pipeline.config.default_guidance if guidance_scale is None else guidance_scale
    made_with = dict(pipeline.config.provenance or {})
    settings = {"steps": steps, "guidance": guidance, "batch_size": batch_size, "size": size, **made_with}
    settings["requests"] = [asdict(request) for request in requests]
    claim(out, SETTINGS_FILE, settings, (IMAGES_DIR, MASKS_DIR))
    _copy_training_items(pipeline, out)
    done = {record.isic_id: record for record in _journalled(out)}
    try:
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            report(start, len(requests))
            if all(_pair_id(request) in done for request in batch):
                continue
            generators = [torch.Generator().manual_seed(request.seed) for request in batch]
            images, masks = pipeline(
                [request.prompt for request in batch], generator=generators,
                num_inference_steps=steps, guidance_scale=guidance, height=size, width=size,
                return_dict=False,
            )  # fmt: skip
            for request, image, mask in zip(batch, images, masks, strict=True):
                record = _write_pair(out, request, image, mask, steps, guidance, made_with)
                done[record.isic_id] = record
            _append(out / JOURNAL_FILE, [done[_pair_id(request)] for request in batch])
    finally:
        if done:
            write_dataset(out, done.values(), made_by=run_record(settings=_summary(settings)))
            _write_sheet(out, sorted(done.values(), key=lambda record: record.file_name))
    report(len(requests), len(requests))
    return [done[_pair_id(request)] for request in requests]


def without_lesion(records: Sequence[PairRecord]) -> list[PairRecord]:
    """Return the generated pairs whose mask is empty: labelled with a diagnosis, they would teach a wrong one."""
    return [record for record in records if not (record.scores or {}).get(AREA_SCORE, 0.0)]


def _copy_training_items(pipeline: SkinDualGenPipeline, out: Path) -> None:
    """Pass on what the generator was trained on, if that is recorded: a benchmark refuses to test on it."""
    source = pipeline.name_or_path  # None if it was put together by hand
    if source is not None and (recorded := Path(source) / TRAINING_ITEMS_FILE).is_file():
        atomic_write_bytes(out / TRAINING_ITEMS_FILE, recorded.read_bytes())


def _pair_id(request: PairRequest) -> str:
    return f"SDG_{request.index:07d}"


def _write_pair(
    out: Path,
    request: PairRequest,
    image: Image.Image,
    mask: Image.Image,
    steps: int,
    guidance: float,
    made_with: dict[str, Any],
) -> PairRecord:
    """Write both files, the image with its provenance inside, the mask with its id alone."""
    name = _pair_id(request)
    record = PairRecord(
        file_name=f"{IMAGES_DIR}/{name}.png", mask_file_name=f"{MASKS_DIR}/{name}.png", isic_id=name,
        prompt=request.prompt, **request.attributes, split="train", origin="synthetic",
        source=f"skindualgen {__version__}", seed=request.seed, num_inference_steps=steps, guidance_scale=guidance,
        adapter_sha256=made_with.get("adapter_sha256"), base_sha256=made_with.get("base_sha256"),
        scores={AREA_SCORE: round(float((np.asarray(mask) > 127).mean()), 4)},
    )  # fmt: skip
    with atomic_path(out / record.file_name, durable=False) as temporary:
        image.save(temporary, format="PNG", pnginfo=png_info(record.model_dump(exclude_none=True)))
        record.sha256 = sha256_file(temporary)
    with atomic_path(out / str(record.mask_file_name), durable=False) as temporary:
        mask.save(temporary, format="PNG", pnginfo=png_info({"isic_id": name}))
        record.mask_sha256 = sha256_file(temporary)
    return record


def _summary(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "requests"} | {"pairs": len(settings["requests"])}


def _journalled(out: Path) -> Iterator[PairRecord]:
    """Records of an earlier call whose files are still there; a line cut short is passed over, its pair drawn again."""
    path = out / JOURNAL_FILE
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").split("\n"):  # not splitlines: a prompt may hold U+2028
        try:
            record = PairRecord.model_validate_json(line)
        except ValueError:
            continue
        if (out / record.file_name).is_file() and (out / str(record.mask_file_name)).is_file():
            yield record


def _append(path: Path, records: Sequence[PairRecord]) -> None:
    with path.open("a", encoding="utf-8") as file:
        # A newline first, as a killed process may have left a line cut short.
        file.write("".join("\n" + record.model_dump_json(exclude_none=True) for record in records))


def _write_sheet(out: Path, records: Sequence[PairRecord]) -> None:
    shown = records[:: max(1, len(records) // SHEET_PAIRS)][:SHEET_PAIRS]
    images = [Image.open(out / record.file_name).convert("RGB") for record in shown]
    masks = [Image.open(out / str(record.mask_file_name)) for record in shown]
    sheet = pair_sheet(images, masks, labels=[record.diagnosis or record.prompt or "" for record in shown])
    with atomic_path(out / SHEET_FILE) as temporary:
        sheet.save(temporary, format="PNG")
