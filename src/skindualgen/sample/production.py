"""Folders of generated pairs, and folders of masks for photographs; both resume where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from skindualgen import __version__
from skindualgen.codec import CELL_PX, clean_mask, code_to_sdf
from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, InputError, PairRecord
from skindualgen.data.images import SUFFIXES, ItemError, load_photograph
from skindualgen.data.manifest import write_dataset
from skindualgen.provenance import atomic_path, atomic_write_json, png_info, run_record, sha256_file
from skindualgen.sample.inputs import check_size
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.requests import PairRequest
from skindualgen.sample.sheet import pair_sheet

JOURNAL_FILE = ".generated.jsonl"
SETTINGS_FILE = "generate.json"
SHEET_FILE = "contact_sheet.png"
SHEET_PAIRS = 48
SEGMENT_FILE = "segment.json"
Report = Callable[[int, int], None]
"""called with the number of items done and the number of all"""


@dataclass
class SegmentSummary:
    """What ``segment_folder`` did: masks written now, masks there before, files refused with the reason."""

    written: int = 0
    kept: int = 0
    refused: dict[str, str] = field(default_factory=dict)


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
    _claim(out, SETTINGS_FILE, settings)
    for folder in (IMAGES_DIR, MASKS_DIR):
        (out / folder).mkdir(exist_ok=True)
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


def segment_folder(
    pipeline: SkinDualGenPipeline,
    images: Path,
    out: Path,
    *,
    num_inference_steps: int | None = None,
    ensemble_size: int = 4,
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
    paths = _photographs(images)
    steps = num_inference_steps or pipeline.config.default_segment_steps
    settings = {"steps": steps, "ensemble_size": ensemble_size, "clean": clean, "seed": seed}
    _claim(out, SEGMENT_FILE, settings | dict(pipeline.config.provenance or {}))
    (out / MASKS_DIR).mkdir(exist_ok=True)
    summary = SegmentSummary()
    for start, batch in _readable(paths, out, batch_size, summary):
        report(start, len(paths))
        native = int(pipeline.unet.config.sample_size) * pipeline.vae_scale_factor
        by_size = groupby(
            sorted(batch, key=lambda item: working_size(item[1].size, native)),
            key=lambda item: working_size(item[1].size, native),
        )
        for (width, height), group in by_size:
            items = list(group)
            _, codes = pipeline(
                image=[photograph.resize((width, height), Image.Resampling.LANCZOS) for _, photograph in items],
                generator=[torch.Generator().manual_seed(seed) for _ in items],
                num_inference_steps=steps, ensemble_size=ensemble_size, height=height, width=width,
                output_type="latent", return_dict=False,
            )  # fmt: skip
            for (path, photograph), field_of in zip(items, code_to_sdf(codes), strict=True):
                mask = field_to_mask(field_of, photograph.size, clean=clean)
                with atomic_path(out / MASKS_DIR / f"{path.stem}.png", durable=False) as temporary:
                    mask.save(temporary, format="PNG")
                summary.written += 1
    report(len(paths), len(paths))
    return summary


def working_size(size: tuple[int, int], native: int) -> tuple[int, int]:
    """Width and height in px, multiples of 8, of about native^2 px and about the aspect of ``size``.

    No side is shorter than half the native one: beyond an aspect of 4 the picture is squeezed.
    """
    ratio = min(4.0, max(0.25, size[0] / size[1]))
    width, height = native * ratio**0.5, native / ratio**0.5
    return max(1, round(width / CELL_PX)) * CELL_PX, max(1, round(height / CELL_PX)) * CELL_PX


def field_to_mask(sdf: torch.Tensor, size: tuple[int, int], *, clean: bool) -> Image.Image:
    """Field [1, h, w] to a PIL mask (0 / 255) of ``size`` (width, height)."""
    large = F.interpolate(sdf[None].float(), (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    inside = (large > 0).cpu().numpy()
    return Image.fromarray((clean_mask(inside) if clean else inside).astype(np.uint8) * 255)


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
    )  # fmt: skip
    with atomic_path(out / record.file_name, durable=False) as temporary:
        image.save(temporary, format="PNG", pnginfo=png_info(record.model_dump(exclude_none=True)))
        record.sha256 = sha256_file(temporary)
    with atomic_path(out / str(record.mask_file_name), durable=False) as temporary:
        mask.save(temporary, format="PNG", pnginfo=png_info({"isic_id": name}))
        record.mask_sha256 = sha256_file(temporary)
    return record


def _claim(out: Path, name: str, settings: dict[str, Any]) -> None:
    """Record the settings in a new folder, or refuse a folder of other settings."""
    path = out / name
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        before = json.loads(path.read_text())
        changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
        if changed:
            raise InputError(
                f"{out} with results of other settings ({', '.join(changed)})",
                "a new folder, or the same settings to go on",
                "choose another --out",
            )
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}, which is not empty", "a new or empty folder", "choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, settings)


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


def _photographs(images: Path) -> list[Path]:
    if not images.is_dir():
        raise InputError(f"--images {images}", "a folder of photographs", "check the path")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{images} without photographs", f"files of {', '.join(SUFFIXES)}", "check the path")
    stems: dict[str, Path] = {}
    for path in paths:
        if (other := stems.setdefault(path.stem, path)) != path:
            raise InputError(
                f"{other.name} and {path.name}, which would share masks/{path.stem}.png",
                "one photograph per stem",
                "rename one of them",
            )
    return paths


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
