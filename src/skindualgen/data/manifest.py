"""The data set folder: reading and writing ``metadata.jsonl`` and ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from skindualgen.contracts import (
    DATASET_FILE,
    METADATA_FILE,
    SCHEMA_VERSION,
    InputError,
    PairRecord,
    each_name_once,
    first_problem,
)
from skindualgen.data.sorting import sorted_lines
from skindualgen.files import atomic_path, atomic_write_json

ALWAYS_WRITTEN = ("file_name", "mask_file_name", "isic_id", "split", "origin")
"""Columns that are in every ``metadata.jsonl``, whether or not any record has a value."""

REVIEW = "review"
"""Field of a record that holds a decision, ``{"decision": "accepted", "date": "2030-01-31T09:30:00+00:00"}``; what
follows from it is said in `skindualgen.data.review`."""


def read_metadata(root: Path, split: str | None = None) -> list[PairRecord]:
    """Read the records of a data set folder, those that a reviewer has rejected included, ordered by ``file_name``.

    What learns from pairs, measures them or passes them on reads with `skindualgen.data.review.read_used` instead.

    Args:
        root: the folder that holds ``metadata.jsonl``.
        split: return only this split's records; ``None`` returns all.

    Raises:
        InputError: no such file, a line that is no valid record, the same file or ``isic_id`` twice, a path that leaves
            the folder, or no record in the asked split.
    """
    path = root / METADATA_FILE
    if not path.is_file():
        raise InputError(
            f"{root} without {METADATA_FILE}",
            "a data set folder as `skindualgen prepare` and `skindualgen generate` write it",
            f"run `skindualgen prepare {root} OUT` and give OUT",
        )
    records = [_record(path, number, line) for number, line in _lines(path)]
    _refuse_repeats(path, records)
    chosen = records if split is None else records_of_split(root, records, split)
    return sorted(chosen, key=lambda record: record.file_name)


def records_of_split(root: Path, records: Sequence[PairRecord], split: str) -> list[PairRecord]:
    """Return those of a folder's records that are in a split.

    Raises:
        InputError: there are none.
    """
    chosen = [record for record in records if record.split == split]
    if not chosen:
        present = sorted({record.split for record in records})
        raise InputError(
            f"no record of the split {split!r} in {root / METADATA_FILE}",
            f"one of {', '.join(present) or '(the file is empty)'}",
            "choose one of these, or split anew with `skindualgen prepare`",
        )
    return chosen


def write_dataset(
    root: Path,
    records: Iterable[PairRecord],
    *,
    made_by: Mapping[str, Any],
    mask_classes: Mapping[str, int] | None = None,
) -> None:
    """Write ``metadata.jsonl`` and then ``dataset.json``, each entirely or not at all, ordered by ``file_name``.

    A column is in every line if any record has a value for it: a loader that infers types then sees one schema.

    Args:
        root: the data set folder; images and masks must already be there.
        records: the records; their paths are relative to ``root``.
        made_by: how the data set was made (command, options, versions); written as it is.
        mask_classes: levels of the masks' classes (`skindualgen.data.mask_classes`); None: the lesion alone.

    Raises:
        InputError: the same ``file_name`` or ``isic_id`` twice, or a path that leaves the folder.
    """
    ordered = sorted(records, key=lambda record: record.file_name)
    _refuse_repeats(root / METADATA_FILE, ordered)
    _write(root, lambda: ordered, made_by, mask_classes)


def write_dataset_stream(
    root: Path,
    iterate: Callable[[], Iterable[PairRecord]],
    *,
    made_by: Mapping[str, Any],
    mask_classes: Mapping[str, int] | None = None,
    metadata: bool = True,
) -> dict[str, Any]:
    """As `write_dataset`, of any number of records in the same memory; return their counts.

    Args:
        root: the data set folder.
        iterate: gives the records anew at each call, ascending by ``file_name`` and by ``isic_id``.
        made_by, mask_classes: as `write_dataset` takes them.
        metadata: also write ``metadata.jsonl``; a data set whose records are in shards has none.

    Raises:
        InputError: records that do not ascend, or a path that leaves the folder.
    """
    return _write(root, lambda: _ascending(root / METADATA_FILE, iterate()), made_by, mask_classes, metadata=metadata)


def read_dataset_info(root: Path) -> dict[str, Any]:
    """Read ``dataset.json``.

    Raises:
        InputError: no such file, not JSON, or written by a newer version of the schema.
    """
    path = root / DATASET_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=each_name_once)
    except FileNotFoundError:
        raise InputError(f"{root} without {DATASET_FILE}", "a finished data set folder", "finish it first") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}", "JSON", "write the data set again") from None
    if not isinstance(info, dict) or info.get("schema_version") != SCHEMA_VERSION:
        version = info.get("schema_version") if isinstance(info, dict) else None
        raise InputError(
            f"schema version {version!r} in {path}", f"version {SCHEMA_VERSION}", "update skindualgen or write it again"
        )
    return info


def manifest_sha256(records: Iterable[PairRecord], *, spill: Path | None = None) -> str:
    """Return a hash of the records alone: independent of their order, of absent optional fields and of the disk.

    A reviewer's decision (field ``review``) is not hashed: it says something about a pair and changes nothing in it, so
    to accept a pair, to note who did or to take a decision back must not make another data set of it, stop a training
    from going on or retrain a judge. To reject a pair does change what is learnt, by taking the pair away. That shows
    where it counts: a run hashes the records that it uses (`skindualgen.data.review.used`), and these are then others.
    ``dataset.json`` holds the hash of all records. Records without the field have the hash that they always had.

    Args:
        records: of any number: memory does not grow with it.
        spill: folder whose disk takes what does not fit in memory (`skindualgen.data.sorting`); the system's folder for
            temporary files if not given.
    """
    digest = hashlib.sha256()
    lines = (_canonical(record.model_dump(exclude_none=True, exclude={REVIEW})) for record in records)
    with ExitStack() as files:
        for number, line in enumerate(sorted_lines(lines, files, spill)):
            digest.update((b"\n" if number else b"") + line.encode("utf-8"))
    return digest.hexdigest()


def counts(records: Iterable[PairRecord]) -> dict[str, Any]:
    """Count records: total, with a mask, and by split, diagnosis within split, and origin."""
    tally = _Tally()
    for record in records:
        tally.add(record)
    return tally.told()


class _Tally:
    """Counts of records that pass by."""

    def __init__(self) -> None:
        self.total = self.with_mask = 0
        self.split: Counter[str] = Counter()
        self.origin: Counter[str] = Counter()
        self.by_diagnosis: dict[str, Counter[str]] = {}

    def add(self, record: PairRecord) -> None:
        self.total += 1
        self.with_mask += record.mask_file_name is not None
        self.split[record.split] += 1
        self.origin[record.origin] += 1
        self.by_diagnosis.setdefault(record.split, Counter())[record.diagnosis or "unknown"] += 1

    def told(self) -> dict[str, Any]:
        return {
            "records": self.total,
            "with_mask": self.with_mask,
            "split": dict(sorted(self.split.items())),
            "origin": dict(sorted(self.origin.items())),
            "diagnosis": {name: dict(sorted(counter.items())) for name, counter in sorted(self.by_diagnosis.items())},
        }


def _write(
    root: Path,
    iterate: Callable[[], Iterable[PairRecord]],
    made_by: Mapping[str, Any],
    mask_classes: Mapping[str, int] | None,
    *,
    metadata: bool = True,
) -> dict[str, Any]:
    present, tally = set(ALWAYS_WRITTEN), _Tally()

    def watched() -> Iterator[PairRecord]:
        for record in iterate():
            _refuse_escape(root / METADATA_FILE, record)
            present.update(record.model_dump(exclude_none=True))
            tally.add(record)
            yield record

    sha256 = manifest_sha256(watched(), spill=root)
    if metadata:
        with atomic_path(root / METADATA_FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(line + "\n" for line in _json_lines(iterate(), present))
    counted = tally.told()
    info = {"schema_version": SCHEMA_VERSION, "manifest_sha256": sha256, "counts": counted, "made_by": dict(made_by)}
    if mask_classes is not None and len(mask_classes) > 1:
        info["mask_classes"] = dict(mask_classes)
    atomic_write_json(root / DATASET_FILE, info)
    return counted


def _ascending(path: Path, records: Iterable[PairRecord]) -> Iterator[PairRecord]:
    file_name = isic_id = ""
    for record in records:
        if record.file_name <= file_name or record.isic_id <= isic_id:
            raise InputError(
                f"{record.file_name!r} after {file_name!r} in {path}",
                "each file_name and isic_id once, ascending",
                "sort the records and remove repeats",
            )
        file_name, isic_id = record.file_name, record.isic_id
        yield record


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: {error}", "UTF-8 text", "write the file as UTF-8") from None


def _record(path: Path, number: int, line: str) -> PairRecord:
    try:
        record = PairRecord.model_validate_json(line)
        json.loads(line, object_pairs_hook=each_name_once)
    except ValueError as error:  # of pydantic, or of a name twice, of which it would take the last
        where, problem = first_problem(error) if isinstance(error, ValidationError) else ("", str(error))
        raise InputError(
            f"{path}, line {number}, {where or 'line'}: {problem}",
            "one JSON record per line with file_name and isic_id",
            "fix the line, or write the data set again with `skindualgen prepare`",
        ) from None
    _refuse_escape(path, record)
    return record


def _refuse_escape(path: Path, record: PairRecord) -> None:
    if record.stray_path is not None:
        got = f"path {record.stray_path!r} in {path}"
        raise InputError(got, "a path inside the data set folder, with /", "fix or remove the record")


def _refuse_repeats(path: Path, records: Sequence[PairRecord]) -> None:
    for field in ("file_name", "mask_file_name", "ignore_file_name", "isic_id"):
        counter = Counter(name for record in records if (name := getattr(record, field)) is not None)
        repeated = sorted(value for value, count in counter.items() if count > 1)
        if repeated:
            raise InputError(
                f"{len(repeated)} repeated {field} in {path}, first {repeated[0]!r}",
                f"each {field} once",
                "remove the repeats",
            )


def _json_lines(records: Iterable[PairRecord], present: set[str]) -> Iterator[str]:
    for record in records:
        fields = record.model_dump()
        known = {key: value for key, value in fields.items() if key in present}
        missing = dict.fromkeys(sorted(present - set(known)))
        yield json.dumps(known | missing, ensure_ascii=False, allow_nan=False)


def _canonical(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, ensure_ascii=True, allow_nan=False)
