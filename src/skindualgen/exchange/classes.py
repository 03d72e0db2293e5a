"""One folder a diagnosis, as torchvision's ImageFolder loads it, and the masks in a tree of the same shape.

Source: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from skindualgen.contracts import MASKS_DIR, InputError, PairRecord, Split
from skindualgen.data.sources.base import key
from skindualgen.exchange.diagnoses import class_fields, class_name, stated_class
from skindualgen.exchange.formats import ExchangeOptions, Renamed
from skindualgen.exchange.pairs import PairWriter, other_fields, put, read_pairs
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.source import Source, picture_ids, split_word

DESCRIPTION = "torchvision ImageFolder: train/<diagnosis>/*.png, masks/train/<diagnosis>/*.png"
LOSES = "all of the record but id, split and diagnosis"
HOLDS_ALL = False
PARTS_OF_PATH = 3
"""SPLIT/CLASS/FILE"""


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


def read(source: Source, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    pictures = [file for file in source.images() if _place(file) is not None]
    if not pictures:
        raise InputError(
            f"{source.root} without pictures in SPLIT/CLASS/", "folders such as train/melanoma/", "choose its format"
        )
    masks = {
        key(str(PurePosixPath(*PurePosixPath(file).parts[1:]).with_suffix(""))): file
        for file in source.images()
        if PurePosixPath(file).parts[0].lower() == MASKS_DIR
    }
    ids = picture_ids(source, pictures)
    writer, records = PairWriter(out), []
    for done, file in enumerate(pictures):
        options.report(done, len(pictures))
        split, folder = _place(file) or (None, "")
        fields = {"isic_id": ids[file], "split": split, **stated_class(source, unquote(folder), file)}
        mask = masks.get(key(str(PurePosixPath(file).with_suffix(""))))
        mask_bytes = plain_mask(source.read(mask), mask) if mask is not None else None
        suffix = PurePosixPath(file).suffix.lower()
        records.append(writer.add(fields, source.read(file), mask_bytes, suffix=suffix, where=file))
    options.report(len(pictures), len(pictures))
    return records


def _place(file: str) -> tuple[Split, str] | None:
    """Return split and class folder of a picture, None where it lies elsewhere."""
    parts = PurePosixPath(file).parts
    split = split_word(parts[0]) if len(parts) == PARTS_OF_PATH else None
    return (split, parts[1]) if split is not None else None
