"""Verification of a data set folder: every record, every file, and what the folder says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, InputError, PairRecord
from skindualgen.credentials.c2pa import check_anchors
from skindualgen.credentials.checks import Report, check_pairs, check_totals, check_training_items
from skindualgen.credentials.deviations import Deviation, Tally
from skindualgen.credentials.pair_check import check_pair
from skindualgen.credentials.register import Register
from skindualgen.data.images import SUFFIXES
from skindualgen.data.manifest import read_dataset_info

SHEET_FILE = "contact_sheet.png"
"""Overview of a generated folder: the only picture at its top that no record names."""

THUMBNAILS_DIR = "rejected"
"""Folder of small pictures of refused pairs, which ``rejected.jsonl`` names."""


def verify_folder(
    root: Path,
    *,
    workers: int = 1,
    anchors: Path | None = None,
    tally: Tally | None = None,
    report: Report = lambda done, total: None,
) -> Iterator[Deviation]:
    """Yield everything in a data set folder that is not as its records, ``dataset.json`` and the files say.

    Memory hardly grows with the number of pairs: their names stand on disk. Nothing outside the folder is opened
    because a record names it.

    Args:
        root: a folder with ``metadata.jsonl``.
        workers: threads that read files.
        anchors: PEM file of root certificates that content credentials are trusted by; none are otherwise.
        tally: takes the numbers.
        report: progress.

    Raises:
        InputError: ``root`` is no data set folder, or ``anchors`` cannot be read.
    """
    metadata = root / METADATA_FILE
    if not metadata.is_file():
        raise InputError(
            f"{root} without {METADATA_FILE}",
            "a data set folder as `skindualgen prepare` and `skindualgen generate` write it",
            "check the path",
        )
    trusted = None if anchors is None else check_anchors(anchors)
    tally = Tally() if tally is None else tally
    with Register() as register:
        for deviation in chain(
            _check_metadata(metadata, register, tally),
            _check_dataset_file(root, metadata),
            check_training_items(root),
            _check_pairs(root, metadata, register, tally, workers, trusted, report),
            _check_unnamed(root, root, register),
        ):
            tally.deviations[deviation.kind] += 1
            yield deviation


def _check_metadata(metadata: Path, register: Register, tally: Tally) -> Iterator[Deviation]:
    for line, record in _lines(metadata):
        if isinstance(record, Deviation):
            yield record
            continue
        tally.records += 1
        tally.synthetic += record.origin == "synthetic"
        yield from register.add(record, line, metadata.name)


def _check_dataset_file(root: Path, metadata: Path) -> Iterator[Deviation]:
    if not (root / DATASET_FILE).is_file():
        yield Deviation("dataset", DATASET_FILE, "no file", "the counts and the hash of the records")
        return
    try:
        info = read_dataset_info(root)
    except InputError as error:
        yield Deviation("dataset", DATASET_FILE, error.got, error.expected)
        return
    yield from check_totals(info, lambda: _records(metadata))


def _check_pairs(
    root: Path,
    metadata: Path,
    register: Register,
    tally: Tally,
    workers: int,
    anchors: bytes | None,
    report: Report,
) -> Iterator[Deviation]:
    """Look at the files of all records, several at a time; what is found comes in the order of the records."""
    checks = (partial(check_pair, root, record, anchors) for record in _records(metadata))
    yield from check_pairs(checks, workers, register, tally, report)


def _check_unnamed(root: Path, folder: Path, register: Register) -> Iterator[Deviation]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = Path(entry.path).relative_to(root).as_posix()
            if folder == root and _beside_the_pairs(entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _check_unnamed(root, Path(entry.path), register)
            elif not register.names(name):
                yield Deviation("unnamed_file", name, "a file that no record names", "the files of the records alone")


def _beside_the_pairs(entry: os.DirEntry[str]) -> bool:
    """Whether something at the top belongs to a data set without being part of its pairs: texts, and hidden work."""
    if entry.name.startswith(".") or entry.name == SHEET_FILE:
        return True
    if entry.is_dir(follow_symlinks=False):
        return entry.name == THUMBNAILS_DIR
    return Path(entry.name).suffix.lower() not in SUFFIXES


def _records(metadata: Path) -> Iterator[PairRecord]:
    return (record for _, record in _lines(metadata) if isinstance(record, PairRecord))


def _lines(metadata: Path) -> Iterator[tuple[int, PairRecord | Deviation]]:
    """Yield each line's number with its record, or with what is wrong with it."""
    with metadata.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            place = f"line {number}"
            try:
                record = PairRecord.model_validate_json(text)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                yield (
                    number,
                    Deviation(
                        "bad_record",
                        metadata.name,
                        f"{place}{where and ', '}{where}: {first['msg']}",
                        "a record of a pair",
                    ),
                )
                continue
            outside = next(_outside((record.file_name, record.mask_file_name)), None)
            if outside is not None:
                yield (
                    number,
                    Deviation(
                        "bad_record",
                        metadata.name,
                        f"{place}: the path {outside!r}",
                        "a path inside the folder, with /",
                    ),
                )
                continue
            yield number, record


def _outside(names: Iterable[str | None]) -> Iterator[str]:
    for name in names:
        if name is None:
            continue
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
            yield name
