"""A data set folder whose pairs are files of their own, as verification looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from skindualgen.contracts import (
    DATASET_FILE,
    METADATA_FILE,
    SHEET_FILE,
    THUMBNAILS_DIR,
    InputError,
    PairRecord,
    first_problem,
)
from skindualgen.data.images import SUFFIXES
from skindualgen.data.manifest import read_dataset_info
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, read_mask_classes
from skindualgen.verify.deviations import Deviation, Tally
from skindualgen.verify.pair import PairFindings, check_pair
from skindualgen.verify.register import Register
from skindualgen.verify.totals import check_totals


class PairFiles:
    """A data set folder whose pairs are files of their own.

    Args:
        root: the folder.

    Raises:
        InputError: it has no ``metadata.jsonl``.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._metadata = root, root / METADATA_FILE
        if not self._metadata.is_file():
            raise InputError(
                f"{root} without {METADATA_FILE}",
                "a data set folder as `skindualgen prepare` and `skindualgen generate` write it",
                "check the path",
            )

    def check_records(self, register: Register, tally: Tally) -> Iterator[Deviation]:
        """Take up all names, and count; say which lines of the metadata are no records, or name something again."""
        for line, record in _lines(self._metadata):
            if isinstance(record, Deviation):
                yield record
                continue
            tally.records += 1
            tally.synthetic += record.origin == "synthetic"
            yield from register.add(record, line, METADATA_FILE)

    def check_description(self) -> Iterator[Deviation]:
        """Compare ``dataset.json`` with the records."""
        if not (self._root / DATASET_FILE).is_file():
            yield Deviation("dataset", DATASET_FILE, "no file", "the counts and the hash of the records")
            return
        try:
            info = read_dataset_info(self._root)
        except InputError as error:
            yield Deviation("dataset", DATASET_FILE, error.got, error.expected)
            return
        yield from check_totals(info, self._records)

    def checks(self, anchors: bytes | None) -> Iterator[Callable[[], PairFindings]]:
        """The check of each pair, in the order of the records."""
        classes = known_classes(self._root)
        return (partial(check_pair, self._root, record, anchors, classes) for record in self._records())

    def check_unnamed(self, register: Register) -> Iterator[Deviation]:
        """Say which files no record names."""
        return self._unnamed(self._root, register)

    def _unnamed(self, folder: Path, register: Register) -> Iterator[Deviation]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if folder == self._root and _not_of_pairs(entry):
                    continue
                name = Path(entry.path).relative_to(self._root).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    yield from self._unnamed(Path(entry.path), register)
                elif not register.names(name):
                    yield Deviation("unnamed_file", name, "a file that no record names", "the files of records alone")

    def _records(self) -> Iterator[PairRecord]:
        return (record for _, record in _lines(self._metadata) if isinstance(record, PairRecord))


def known_classes(root: Path) -> MaskClasses:
    """The classes of a folder's masks; what is wrong with ``dataset.json`` is a deviation of its own."""
    try:
        return read_mask_classes(root)
    except InputError:
        return LESION_ONLY


def _not_of_pairs(entry: os.DirEntry[str]) -> bool:
    """Whether something at the top belongs to a data set without being part of its pairs: texts, and hidden work."""
    if entry.name.startswith(".") or entry.name == SHEET_FILE:
        return True
    if entry.is_dir(follow_symlinks=False):
        return entry.name == THUMBNAILS_DIR
    return Path(entry.name).suffix.lower() not in SUFFIXES


def bad_record(file: str, place: str, error: ValidationError) -> Deviation:
    """What is wrong with a record, first; ``place`` says where in the file it is, if there are others in it."""
    field, problem = first_problem(error)
    where = ", ".join(filter(None, (place, field)))
    return Deviation("bad_record", file, f"{where}{where and ': '}{problem}", "a record of a pair")


def _lines(metadata: Path) -> Iterator[tuple[int, PairRecord | Deviation]]:
    """Yield each line's number with its record, or with what is wrong with it."""
    with metadata.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, _record(text, metadata.name, f"line {number}")


def _record(text: bytes, file: str, place: str) -> PairRecord | Deviation:
    try:
        record = PairRecord.model_validate_json(text)
    except ValidationError as error:
        return bad_record(file, place, error)
    if record.stray_path is not None:
        found = f"{place}: the path {record.stray_path!r}"
        return Deviation("bad_record", file, found, "a path inside the folder, with /")
    return record
