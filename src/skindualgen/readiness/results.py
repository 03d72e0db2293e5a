"""What a check of a data set says: problems, each with what fixes it, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from skindualgen.contracts import PairRecord

Purpose = Literal["train", "benchmark"]
Level = Literal["fix", "stop"]
"""``stop``: it cannot be used, or what comes of it means nothing; ``fix``: it can be used, and would do better."""
Verdict = Literal["go", "fix", "stop"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        kind: a short name, such as "crossing" or "mask_empty".
        level: what it means for the verdict.
        found: what is wrong, in words.
        remedy: what to do about it, with the command.
        ids: of the records that it is about; none where it is about the whole.
    """

    kind: str
    level: Level
    found: str
    remedy: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskLook:
    """A mask: its record, which share of the picture is lesion, and why it is in doubt (a name of `DOUBTS`) or None."""

    record: PairRecord
    area: float
    doubt: str | None


@dataclass(frozen=True)
class Readiness:
    """The result of a check.

    Attributes:
        folder: the data set folder.
        purpose: what it was checked for.
        counts: of the records in use, as `skindualgen.data.dataset.Dataset.counts`.
        problems: those that stop first.
        notes: what is worth knowing and no problem.
        masks: what the masks look like, in the order of the records.
        hours: that a training of the defaults is expected to take on this machine; None if that was not measured.
    """

    folder: Path
    purpose: Purpose
    counts: Mapping[str, Any]
    problems: Sequence[Problem]
    notes: Sequence[str]
    masks: Sequence[MaskLook] = field(repr=False)
    hours: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What the problems come to."""
        return verdict_of(self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return all but the masks as JSON holds it."""
        problems = [asdict(problem) for problem in self.problems]
        known = {"folder": str(self.folder), "purpose": self.purpose, "verdict": self.verdict}
        return known | {
            "counts": dict(self.counts),
            "problems": problems,
            "notes": list(self.notes),
            "hours": self.hours,
        }


def verdict_of(problems: Sequence[Problem]) -> Verdict:
    """Return ``stop`` if a problem stops, ``fix`` if there are others, ``go`` without any."""
    levels = {problem.level for problem in problems}
    return "stop" if "stop" in levels else "fix" if levels else "go"


def some(kind: str, what: str, ids: Sequence[str], total: int, remedy: str, level: Level = "fix") -> list[Problem]:
    """Return the problem that ``what`` is so of these records of ``total``; nothing if there are none."""
    return [Problem(kind, level, f"{what}: {len(ids)} of {total}", remedy, tuple(ids))] if ids else []
