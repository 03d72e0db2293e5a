"""The data set folder: reading and writing ``metadata.jsonl`` and ``dataset.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, SCHEMA_VERSION, InputError, PairRecord
from skindualgen.provenance import atomic_write_json, atomic_write_text, sha256_bytes

ALWAYS_WRITTEN = ("file_name", "mask_file_name", "isic_id", "split", "origin")
"""Columns that stand in every ``metadata.jsonl``, whether or not any record has a value."""


def read_metadata(root: Path, split: str | None = None) -> list[PairRecord]:
    """Read the records of a data set folder, ordered by ``file_name``.

    Args:
        root: the folder that holds ``metadata.jsonl``.
        split: return only this split's records; ``None`` returns all.

    Raises:
        InputError: no such file, a line that is no valid record, the same ``file_name`` or ``isic_id`` twice, a path
            that leaves the folder, or no record in the asked split.
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
    if split is not None:
        present = sorted({record.split for record in records})
        records = [record for record in records if record.split == split]
        if not records:
            raise InputError(
                f"no record of the split {split!r} in {path}",
                f"one of {', '.join(present) or '(the file is empty)'}",
                "choose one of these, or split anew with `skindualgen prepare`",
            )
    return sorted(records, key=lambda record: record.file_name)


def write_dataset(root: Path, records: Iterable[PairRecord], *, made_by: Mapping[str, Any]) -> None:
    """Write ``metadata.jsonl`` and then ``dataset.json``, each entirely or not at all, ordered by ``file_name``.

    A column stands in every line if any record has a value for it: a loader that infers types then sees one schema.

    Args:
        root: the data set folder; images and masks must already be there.
        records: the records; their paths are relative to ``root``.
        made_by: how the data set was made (command, options, versions); written as it is.

    Raises:
        InputError: the same ``file_name`` or ``isic_id`` twice, or a path that leaves the folder.
    """
    ordered = sorted(records, key=lambda record: record.file_name)
    for record in ordered:
        _refuse_escape(root / METADATA_FILE, record)
    _refuse_repeats(root / METADATA_FILE, ordered)
    atomic_write_text(root / METADATA_FILE, "".join(line + "\n" for line in _json_lines(ordered)))
    atomic_write_json(
        root / DATASET_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "manifest_sha256": manifest_sha256(ordered),
            "counts": counts(ordered),
            "made_by": dict(made_by),
        },
    )


def read_dataset_info(root: Path) -> dict[str, Any]:
    """Read ``dataset.json``.

    Raises:
        InputError: no such file, not JSON, or written by a newer version of the schema.
    """
    path = root / DATASET_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
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


def manifest_sha256(records: Iterable[PairRecord]) -> str:
    """Return a hash of the records alone: independent of their order, of absent optional fields and of the disk."""
    lines = sorted(_canonical(record.model_dump(exclude_none=True)) for record in records)
    return sha256_bytes("\n".join(lines).encode("utf-8"))


def counts(records: Sequence[PairRecord]) -> dict[str, Any]:
    """Count records: total, with a mask, and by split, diagnosis within split, and origin."""
    by_diagnosis: dict[str, Counter[str]] = {}
    for record in records:
        by_diagnosis.setdefault(record.split, Counter())[record.diagnosis or "unknown"] += 1
    return {
        "records": len(records),
        "with_mask": sum(record.mask_file_name is not None for record in records),
        "split": dict(sorted(Counter(record.split for record in records).items())),
        "origin": dict(sorted(Counter(record.origin for record in records).items())),
        "diagnosis": {split: dict(sorted(counter.items())) for split, counter in sorted(by_diagnosis.items())},
    }


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
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "line"
        raise InputError(
            f"{path}, line {number}, {where}: {first['msg']}",
            "one JSON record a line with file_name and isic_id",
            "mend the line, or write the data set again with `skindualgen prepare`",
        ) from None
    _refuse_escape(path, record)
    return record


def _refuse_escape(path: Path, record: PairRecord) -> None:
    for name in (record.file_name, record.mask_file_name):
        if name is None:
            continue
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise InputError(
                f"path {name!r} in {path}", "a path inside the data set folder, with /", "mend or remove the record"
            )


def _refuse_repeats(path: Path, records: Sequence[PairRecord]) -> None:
    for field in ("file_name", "isic_id"):
        counter = Counter(getattr(record, field) for record in records)
        repeated = sorted(value for value, count in counter.items() if count > 1)
        if repeated:
            raise InputError(
                f"{len(repeated)} repeated {field} in {path}, first {repeated[0]!r}",
                f"each {field} once",
                "remove the repeats",
            )


def _json_lines(records: Sequence[PairRecord]) -> Iterable[str]:
    present = {key for record in records for key in record.model_dump(exclude_none=True)} | set(ALWAYS_WRITTEN)
    for record in records:
        fields = record.model_dump()
        known = {key: value for key, value in fields.items() if key in present}
        missing = dict.fromkeys(sorted(present - set(known)))
        yield json.dumps(known | missing, ensure_ascii=False, allow_nan=False)


def _canonical(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, ensure_ascii=True, allow_nan=False)
