"""Data set folders as a reviewer sees them: filtered, page by page, and with decisions that go into the manifest."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, InputError, PairRecord
from skindualgen.data.manifest import REVIEW, read_dataset_info, read_metadata, write_dataset
from skindualgen.data.review import Decision, decision_of
from skindualgen.files import run_record
from skindualgen.studio.workspace import Workspace

UNKNOWN = "unknown"
MAX_METADATA_BYTES = 256 << 20
"""Of ``metadata.jsonl``: about 300,000 records; they are all held in memory."""
MAX_COMPARED = 20_000
"""Pictures of a data set of which all are compared with all: 200 million couples."""
KEPT_FOLDERS = 4
"""Data sets whose records stay in memory."""


@dataclass(frozen=True)
class Filter:
    """Which records are shown, and in what order; None is no condition.

    Attributes:
        diagnosis: as the record has it; "unknown" is none.
        split, origin: of the record.
        decision: "accepted", "rejected" or "undecided".
        score: a name of ``scores``: records without it are left out, and the others ordered by it.
        low, high: of that score.
        descending: the largest score first.
    """

    diagnosis: str | None = None
    split: str | None = None
    origin: str | None = None
    decision: str | None = None
    score: str | None = None
    low: float | None = None
    high: float | None = None
    descending: bool = False

    def apply(self, records: Sequence[PairRecord]) -> list[PairRecord]:
        """The records that are kept."""
        kept = [record for record in records if self._keeps(record)]
        if self.score is not None:
            kept.sort(key=lambda record: (record.scores or {})[self.score or ""], reverse=self.descending)
        return kept

    def _keeps(self, record: PairRecord) -> bool:
        if self.diagnosis not in (None, record.diagnosis or UNKNOWN) or self.split not in (None, record.split):
            return False
        if self.origin not in (None, record.origin) or self.decision not in (None, decision_of(record)):
            return False
        if self.score is None:
            return True
        value = (record.scores or {}).get(self.score)
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True)
class Choices:
    """What the records of a data set can be filtered by; ``scores`` maps a score to its least and largest value."""

    diagnoses: list[str]
    splits: list[str]
    origins: list[str]
    scores: dict[str, tuple[float, float]]


def choices(records: Sequence[PairRecord]) -> Choices:
    """Look through the records for what they can be filtered by."""
    scores: dict[str, tuple[float, float]] = {}
    for record in records:
        for name, value in (record.scores or {}).items():
            low, high = scores.get(name, (value, value))
            scores[name] = (min(low, value), max(high, value))
    return Choices(
        sorted({record.diagnosis or UNKNOWN for record in records}),
        sorted({record.split for record in records}),
        sorted({record.origin for record in records}),
        dict(sorted(scores.items())),
    )


def balance(records: Sequence[PairRecord], split: str) -> dict[str, Counter[str]]:
    """Count one split by diagnosis: "real" and "synthetic", of which "rejected"; the most frequent diagnosis first."""
    found: dict[str, Counter[str]] = {}
    for record in records:
        if record.split == split:
            counter = found.setdefault(record.diagnosis or UNKNOWN, Counter())
            counter.update([record.origin, *(["rejected"] if decision_of(record) == "rejected" else [])])
    return dict(sorted(found.items(), key=lambda item: (-item[1]["real"] - item[1]["synthetic"], item[0])))


@dataclass
class Library:
    """The data sets of a workspace. Their records are read once, and again when the file has changed.

    Attributes:
        workspace: nothing outside it is read: neither a record's name nor a link leads out.
    """

    workspace: Workspace
    _kept: OrderedDict[str, tuple[tuple[int, int], list[PairRecord]]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def records(self, name: str) -> list[PairRecord]:
        """The records of a data set, ordered by ``file_name``; not to be changed.

        Raises:
            InputError: no such data set, one outside the workspace, too large a file, or see `read_metadata`.
        """
        path = self.workspace.path(f"{name}/{METADATA_FILE}")
        status = path.stat()
        if not path.is_file() or status.st_size > MAX_METADATA_BYTES:
            got = f"{METADATA_FILE} of {status.st_size / (1 << 20):.0f} MiB"
            raise InputError(got, f"a file of at most {MAX_METADATA_BYTES >> 20} MiB", "split the data set")
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            if name not in self._kept or self._kept[name][0] != stamp:
                self._kept[name] = (stamp, read_metadata(path.parent))
            self._kept.move_to_end(name)
            while len(self._kept) > KEPT_FOLDERS:
                self._kept.popitem(last=False)
            return self._kept[name][1]

    def refuse_many(self, name: str, remedy: str) -> None:
        """Refuse to compare all pictures of a data set with all, where they are too many.

        Raises:
            InputError: more than :data:`MAX_COMPARED` pairs, or as `records`.
        """
        if len(self.records(name)) > MAX_COMPARED:
            raise InputError(f"more than {MAX_COMPARED:,} pairs", "fewer", remedy)

    def record(self, name: str, isic_id: str) -> PairRecord:
        """One record.

        Raises:
            InputError: there is none with this id; or as `records`.
        """
        found = next((record for record in self.records(name) if record.isic_id == isic_id), None)
        if found is None:
            raise InputError(f"{isic_id[:80]!r}, which {name} does not hold", "the id of a pair", "refresh the page")
        return found

    def picture(self, name: str, file_name: str) -> Path:
        """Path of an image or a mask of a data set.

        Raises:
            InputError: it is missing, no file, or a link that leads out of the workspace.
        """
        path = self.workspace.path(f"{name}/{file_name}")
        if not path.is_file():
            raise InputError(f"{file_name[:80]!r}, which is no file", "a picture", "fix the data set")
        return path

    def checked(self, name: str, *, complete: bool = True) -> list[PairRecord]:
        """The records of a data set whose every picture is there and inside the workspace: one for a job to read.

        Args:
            name: the data set.
            complete: refuse it if a picture is missing.

        Raises:
            InputError: see `picture`, with the first one that is wrong.
        """
        records = self.records(name)
        root = self.workspace.path(name)
        folders: set[Path] = set()
        for file_name in _file_names(records):
            path = root / file_name
            if not (complete or path.exists() or path.is_symlink()):
                continue
            if path.parent not in folders or path.is_symlink() or not path.is_file():
                self.picture(name, file_name)
                folders.add(path.parent)
        return records

    def decide(self, name: str, decisions: Mapping[str, Decision | None], reviewer: str = "") -> None:
        """Write decisions into the manifest; ``dataset.json`` keeps what it says of the making.

        Args:
            name: the data set.
            decisions: id -> decision; None takes it back.
            reviewer: who decided, if that is to be kept.

        Raises:
            InputError: an id that is not there, no decision, or see `records`; then nothing is written.
        """
        with self._lock:
            records = {record.isic_id: record for record in self.records(name)}
            root = self.workspace.path(name)
            for isic_id, decision in decisions.items():
                if isic_id not in records or decision not in (*get_args(Decision), None):
                    got = f"{decision!r} for {isic_id[:80]!r}"
                    raise InputError(got, "'accepted', 'rejected' or nothing for a pair", "refresh the page")
                records[isic_id] = _decided(records[isic_id], decision, reviewer)
            info = read_dataset_info(root) if (root / DATASET_FILE).is_file() else {"made_by": run_record()}
            write_dataset(root, records.values(), made_by=info["made_by"], mask_classes=info.get("mask_classes"))
            status = (root / METADATA_FILE).stat()
            ordered = sorted(records.values(), key=lambda record: record.file_name)
            self._kept[name] = ((status.st_mtime_ns, status.st_size), ordered)


def _decided(record: PairRecord, decision: Decision | None, reviewer: str) -> PairRecord:
    fields = record.model_dump(exclude={REVIEW})
    if decision is not None:
        by = {"reviewer": reviewer} if reviewer else {}
        fields[REVIEW] = {"decision": decision, "date": datetime.now(UTC).isoformat(timespec="seconds"), **by}
    return PairRecord(**fields)


def _file_names(records: Sequence[PairRecord]) -> Iterator[str]:
    for record in records:
        yield from record.files
