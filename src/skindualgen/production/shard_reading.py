"""Shards read back pair by pair, damage included: what cannot be read is named, and the rest is read all the same."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, PairRecord
from skindualgen.credentials.deviations import Deviation
from skindualgen.production.shard_formats import (
    IMAGE_KEY,
    MASK_KEY,
    PARQUET_COLUMNS,
    RECORD_KEY,
    WRITERS,
    optional_package,
)

SHARD_SUFFIXES = tuple(suffix for suffix, _ in WRITERS.values())
SHOWN_IDS = 3

Entry = tuple[str, str, bytes | Deviation | None]
"""Key, ending and content of a tar's entry: None where it was not asked for, a deviation where it cannot be used."""


@dataclass(frozen=True)
class StoredPair:
    """What a shard holds of a pair.

    Attributes:
        place: of the pair: shard and id, as findings name it.
        record: None if there is none that can be read.
        image, mask: content of the files; None if they are not there, or were not asked for.
    """

    place: str
    record: PairRecord | None
    image: bytes | None = None
    mask: bytes | None = None


def read_shard(path: Path, name: str, *, pictures: bool) -> Iterator[StoredPair | Deviation]:
    """Yield the pairs of a shard in their order, and between them what is wrong with it; few are held at a time.

    Args:
        path: a file of `skindualgen.production.shards`.
        name: how findings call it.
        pictures: read images and masks too; else they are passed over, which takes a fraction of the time.
    """
    read = _read_tar if path.suffix == ".tar" else _read_parquet
    return read(path, name, pictures)


def _read_tar(path: Path, name: str, pictures: bool) -> Iterator[StoredPair | Deviation]:
    for key, group in groupby(_entries(path, name, pictures), key=lambda entry: entry[0]):
        place, contents = f"{name}/{key}", dict[str, bytes | None]()
        for _, ending, content in group:
            if isinstance(content, Deviation):
                yield content
            elif ending not in (IMAGE_KEY, MASK_KEY, RECORD_KEY):
                yield Deviation(
                    "unnamed_file", f"{place}.{ending}", "an entry that no pair has", "the entries of pairs"
                )
            elif ending in contents:
                yield Deviation("repeated", f"{place}.{ending}", "two entries of one name", "each entry once")
            else:
                contents[ending] = content
        if not contents:
            continue
        record = _record_of_text(contents.get(RECORD_KEY), key, place)
        if isinstance(record, Deviation):
            yield record
        kept = None if isinstance(record, Deviation) else record
        yield StoredPair(place, kept, contents.get(IMAGE_KEY), contents.get(MASK_KEY))


def _entries(path: Path, name: str, pictures: bool) -> Iterator[Entry]:
    """Yield the entries of a tar. Of one with a damaged header nothing is told; those behind it are found again."""
    size = path.stat().st_size
    last, start, broken = "its beginning", 0, "an empty file"
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            try:
                for entry, content in _from_here(file, size, pictures):
                    last = entry.name
                    key, _, ending = last.partition(".")
                    if content is None and (pictures or ending == RECORD_KEY):
                        stray = Deviation("unnamed_file", f"{name}/{last}", "an entry that is no file", "files alone")
                        yield key, ending, stray
                    else:
                        yield key, ending, content
                return
            # Damaged archives raise more than TarError: OSError, ValueError, EOFError, ...
            except Exception as error:
                start = max(start + 1, file.tell())
                start += -start % tarfile.BLOCKSIZE
                broken = f"a tar that cannot be read behind {last} ({type(error).__name__}: {error})"
        yield last.partition(".")[0], "", Deviation("unreadable", name, broken, "a whole tar")


def _from_here(file: BinaryIO, size: int, pictures: bool) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Yield the entries of a tar from the file's position on, with their content if it is asked for.

    A content is None where it was passed over, or where the entry is no file, or says that it is larger than the tar.
    """
    # ignore_zeros: without it a header whose check sum is wrong would end the archive as if nothing followed.
    with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep each entry
            content = None
            if (pictures or entry.name.endswith(f".{RECORD_KEY}")) and entry.isfile() and entry.size <= size:
                stream = archive.extractfile(entry)
                content = stream.read() if stream is not None else None
            yield entry, content


def _record_of_text(text: bytes | None, key: str, place: str) -> PairRecord | Deviation:
    """The record of a pair, or what is wrong with it."""
    file = f"{place}.{RECORD_KEY}"
    if text is None:
        return Deviation("missing_file", file, "no entry that can be read", "the record of a pair")
    try:
        record = PairRecord.model_validate_json(text)
    except ValidationError as error:
        return _bad_record(file, error)
    if record.isic_id != key:
        return Deviation("bad_record", file, f"the record of {record.isic_id}", f"that of {key}")
    return record


def _read_parquet(path: Path, name: str, pictures: bool) -> Iterator[StoredPair | Deviation]:
    parquet = optional_package("pyarrow.parquet")
    wanted = [*PARQUET_COLUMNS, *(("image", "mask") if pictures else ())]
    try:
        file = parquet.ParquetFile(path)
    # Here and below: a damaged file raises ArrowException, OSError, ValueError, ...
    except Exception as error:
        yield Deviation("unreadable", name, f"a file that cannot be read ({_first_line(error)})", "a Parquet file")
        return
    with file:
        if missing := sorted({*PARQUET_COLUMNS, "image", "mask"} - set(file.schema_arrow.names)):
            yield Deviation("unreadable", name, f"no column {', '.join(missing)}", "the columns of pairs")
            return
        for group in range(file.num_row_groups):  # each is a chunk of the production
            try:
                rows = file.read_row_group(group, columns=wanted).to_pylist()
            except Exception as error:
                held = f"{_ids_of(file, group)} cannot be read ({_first_line(error)})"
                yield Deviation("unreadable", name, held, "pairs that can be decoded")
                continue
            yield from (part for row in rows for part in _pair_of_row(row, name))


def _pair_of_row(row: dict[str, Any], name: str) -> Iterator[StoredPair | Deviation]:
    isic_id = str(row["isic_id"])
    place = f"{name}/{isic_id}"
    image, mask = ((row.get(column) or {}).get("bytes") for column in ("image", "mask"))
    fields = {column: row[column] for column in PARQUET_COLUMNS if row[column] is not None}
    try:
        scores = json.loads(fields.pop("scores_json", "null"))
        names = {"file_name": f"{IMAGES_DIR}/{isic_id}.png", "mask_file_name": f"{MASKS_DIR}/{isic_id}.png"}
        yield StoredPair(place, PairRecord.model_validate({**fields, **names, "scores": scores}), image, mask)
    except ValueError as error:  # pydantic's is one
        yield _bad_record(place, error)
        yield StoredPair(place, None, image, mask)


def _ids_of(file: Any, group: int) -> str:
    """The pairs of a row group that cannot be read, by the one column that may still be."""
    count = file.metadata.row_group(group).num_rows
    try:
        ids = file.read_row_group(group, columns=["isic_id"]).column("isic_id").to_pylist()
    except Exception:
        return f"{count} pairs of the row group {group}"
    return f"{count} pairs, {ids[0]} to {ids[-1]}," if count > SHOWN_IDS else ", ".join(ids)


def _bad_record(file: str, error: ValueError) -> Deviation:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Deviation("bad_record", file, f"{where}{': ' if where else ''}{first['msg']}", "a record of a pair")
    return Deviation("bad_record", file, f"scores that are not JSON: {error}", "a record of a pair")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
