"""The layout of the ISIC challenge of 2018: task 1 masks, task 3 diagnoses, lesion ids.

Source: https://challenge.isic-archive.com/data/#2018 (names); Codella et al., arXiv 1902.03368 and Tschandl et al.,
arXiv 1803.10417 (which diagnoses a column stands for). Read again by `skindualgen prepare` as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.data.sources import list_source
from skindualgen.data.sources.challenges import ONE_HOT_2018
from skindualgen.exchange.diagnoses import class_name
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted
from skindualgen.exchange.pairs import Pair, put, read_pairs
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.source import Source
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import PNG_KEY, atomic_write_text, csv_text

DESCRIPTION = "ISIC challenge 2018: ISIC_*.jpg, ISIC_*_segmentation.png, task 3 table"
LOSES = (
    "the exact pixels of images that are no JPEG (quality 100 is written), ids other than ISIC_ and seven digits, "
    "diagnoses beyond the seven columns, and all of the record but split, diagnosis and lesion id (train)"
)
HOLDS_ALL = False
HOLDS_IGNORED = False
PARTS: Mapping[Split, str] = {"train": "Training", "val": "Validation", "test": "Test"}
ISIC_ID = re.compile(r"ISIC_\d{7}")
"""isic-challenge-scoring takes these alone."""
FIRST_OWN_NUMBER = 9_000_000
"""Ids of other makers are numbered from here on, where the archive has not come yet."""
COLUMNS = tuple(column.upper() for column in ONE_HOT_2018)
COLUMN_OF = {diagnosis: column.upper() for column, diagnosis in ONE_HOT_2018.items()} | {
    "atypical nevus": "NV",
    "seborrheic keratosis": "BKL",
    "pigmented benign keratosis": "BKL",
    "lichenoid keratosis": "BKL",
    "solar lentigo": "BKL",
    "angioma": "VASC",
}
"""Diagnosis -> column; BKL holds solar lentigo, seborrheic and lichen planus-like keratosis (arXiv 1803.10417)."""
JPEG_QUALITY = 100
JPEG_COMMENT_BYTES = 65_533
"""Length of a JPEG comment at most (ITU-T T.81, B.2.4.5)."""


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    names = _challenge_names(records)
    given_back: GivenBack = {}
    for pair in read_pairs(source, records, options.report):
        record, name, part = pair.record, names[pair.record.isic_id], PARTS[pair.record.split]
        put(out / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg", _jpeg(pair))
        pair.put_lesion(out / f"ISIC2018_Task1_{part}_GroundTruth" / f"{name}_segmentation.png")
        column = COLUMN_OF.get(class_name(record))
        diagnosis = {"diagnosis": ONE_HOT_2018[column.lower()]} if column is not None else {}
        given_back[record.isic_id] = {"isic_id": name, **diagnosis}
    for split, part in PARTS.items():
        of_split = [record for record in records if record.split == split]
        _write_tables(out, part, of_split, names)
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`: as `skindualgen prepare` reads it, but files are taken as they are."""
    listing = list_source(source.root, layout="isic2018")
    if listing.rejections:
        first = listing.rejections[0]
        raise InputError(
            f"{len(listing.rejections)} items that cannot be used, first {first.file or first.isic_id}: {first.detail}",
            "a whole challenge folder",
            "fix it, or let `skindualgen prepare` leave them out",
        )
    for note in listing.notes:
        source.note(note)
    for table in source.named(r"ISIC2018_Task3_.*\.csv"):
        source.take(table)
    for candidate in counted(listing.candidates, options.report):
        mask = None
        if candidate.mask is not None:
            mask = plain_mask(source.read(candidate.mask), candidate.mask)
        stated = {name: value for name, value in candidate.fields.items() if name in ("diagnosis", "lesion_id")}
        fields = {"isic_id": candidate.isic_id, "split": candidate.split, **stated}
        yield FoundPair(fields, source.read(candidate.image), mask, candidate.image)


def _challenge_names(records: Sequence[PairRecord]) -> dict[str, str]:
    """Return the challenge's name of each id: its own, or a number from `FIRST_OWN_NUMBER` on."""
    names = {record.isic_id: record.isic_id for record in records if ISIC_ID.fullmatch(record.isic_id)}
    number = FIRST_OWN_NUMBER
    for record in records:
        if record.isic_id not in names:
            while f"ISIC_{number:07d}" in names:
                number += 1
            names[record.isic_id] = f"ISIC_{number:07d}"
            number += 1
    return names


def _jpeg(pair: Pair) -> bytes:
    """Return the image as JPEG, with the record and the XMP packet that a PNG of ours holds."""
    picture = pair.picture()
    if picture.format == "JPEG":
        return pair.image_bytes
    kept: dict[str, Any] = {}
    text = str(picture.info.get(PNG_KEY, "")).encode()
    if 0 < len(text) <= JPEG_COMMENT_BYTES:
        kept["comment"] = text
    if "xmp" in picture.info:
        kept["xmp"] = picture.info["xmp"]
    buffer = io.BytesIO()
    pair.photograph().image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0, **kept)
    return buffer.getvalue()


def _write_tables(out: Path, part: str, records: Sequence[PairRecord], names: Mapping[str, str]) -> None:
    """Write the task 3 table of the diagnoses that have a column, and the lesion ids of the training part."""
    columns = {names[record.isic_id]: COLUMN_OF.get(class_name(record)) for record in records}
    rows = [
        [name, *("1.0" if column == own else "0.0" for column in COLUMNS)]
        for name, own in sorted(columns.items())
        if own is not None
    ]
    if rows:
        path = out / f"ISIC2018_Task3_{part}_GroundTruth.csv"
        atomic_write_text(path, csv_text([["image", *COLUMNS], *rows]))
    lesions = sorted((names[record.isic_id], record.lesion_id) for record in records if record.lesion_id is not None)
    if lesions and part == PARTS["train"]:
        path = out / f"ISIC2018_Task3_{part}_LesionGroupings.csv"
        atomic_write_text(path, csv_text([["image", "lesion_id"], *lesions]))
