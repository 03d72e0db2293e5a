"""One folder a diagnosis, as torchvision's ImageFolder loads it, and the masks in a tree of the same shape.

Source: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from skindualgen.contracts import MASKS_DIR, InputError, PairRecord
from skindualgen.data.images import SUFFIXES
from skindualgen.data.sources.base import SPLIT_NAMES
from skindualgen.exchange.formats import ExchangeOptions, Renamed
from skindualgen.exchange.pairs import (
    PairWriter,
    class_fields,
    class_name,
    other_fields,
    plain_mask,
    put,
    read_pairs,
)

DESCRIPTION = "torchvision ImageFolder: train/<diagnosis>/*.png, masks/train/<diagnosis>/*.png"
LOSES = "all of the record but id, split and diagnosis"
HOLDS_ALL = False


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`."""
    renamed: Renamed = {}
    for pair in read_pairs(source, records, options.report):
        record, diagnosis = pair.record, class_name(pair.record)
        folder = f"{record.split}/{quote(diagnosis, safe=' ')}"  # a diagnosis may hold a slash
        image = source / record.file_name if options.link else None
        put(out / folder / f"{pair.name}{pair.suffix}", pair.image_bytes, image)
        if pair.mask_bytes is not None:
            mask = source / str(record.mask_file_name) if options.link else None
            put(out / MASKS_DIR / folder / f"{pair.name}.png", pair.mask_bytes, mask)
        renamed[record.isic_id] = other_fields(record, isic_id=pair.name, **class_fields(diagnosis))
    return renamed


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    splits = sorted(folder for folder in source.iterdir() if folder.is_dir() and folder.name.lower() in SPLIT_NAMES)
    paths = [path for split in splits for path in sorted(split.glob("*/*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise InputError(
            f"{source} without pictures in SPLIT/CLASS/", "folders such as train/melanoma/", "choose its format"
        )
    writer, records = PairWriter(out), []
    for done, path in enumerate(paths):
        options.report(done, len(paths))
        mask = source / MASKS_DIR / path.parent.relative_to(source) / f"{path.stem}.png"
        image_bytes = path.read_bytes()
        fields = {
            "isic_id": path.stem,
            "split": SPLIT_NAMES[path.parent.parent.name.lower()],
            **class_fields(unquote(path.parent.name)),
        }
        mask_bytes = plain_mask(mask.read_bytes(), str(mask)) if mask.is_file() else None
        records.append(writer.add(fields, image_bytes, mask_bytes, suffix=path.suffix.lower()))
    options.report(len(paths), len(paths))
    return records
