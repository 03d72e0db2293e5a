"""A reviewer's decisions on pairs, and the one rule that follows from them: a rejected pair is not used.

`skindualgen.data.manifest.read_metadata` reads all records, whatever was decided of them: who writes a folder's records
again, shows them or verifies them needs every one. Who learns from pairs, measures them or passes them on asks for
those in use, with `read_used` or `used`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import REVIEW, read_metadata, records_of_split

Decision = Literal["accepted", "rejected"]
REJECTED: Decision = "rejected"
UNDECIDED = "undecided"


def decision_of(record: PairRecord) -> str:
    """Return "accepted", "rejected" or "undecided"; anything else that a record holds counts as undecided."""
    review = (record.model_extra or {}).get(REVIEW)
    decision = review.get("decision") if isinstance(review, dict) else None
    return str(decision) if decision in get_args(Decision) else UNDECIDED


def used(records: Iterable[PairRecord]) -> list[PairRecord]:
    """The records that no reviewer has rejected, in their order."""
    return [record for record in records if decision_of(record) != REJECTED]


def read_used(root: Path, split: str | None = None) -> list[PairRecord]:
    """Read the records of a data set folder that no reviewer has rejected, ordered by ``file_name``.

    Args:
        root: the folder that holds ``metadata.jsonl``.
        split: return only this split's records; ``None`` returns those of all, which may be none.

    Raises:
        InputError: see `read_metadata`; or every record of the asked split was rejected.
    """
    return used_of_split(root, read_metadata(root), split)


def used_of_split(root: Path, records: Sequence[PairRecord], split: str | None) -> list[PairRecord]:
    """The records of a split that no reviewer has rejected, as `read_used` chooses them, of records that were read.

    Raises:
        InputError: no record of the split, or all of them rejected.
    """
    if split is None:
        return used(records)
    of_split = records_of_split(root, records, split)
    kept = used(of_split)
    if not kept:
        raise InputError(
            f"{len(of_split)} pairs of the split {split!r} in {root}, all of them rejected in review",
            "a pair that was not rejected",
            "look at the decisions in `skindualgen ui`, or add pairs",
        )
    return kept


def count_rejected(records: Iterable[PairRecord]) -> int:
    """How many of the records a reviewer has rejected."""
    return sum(decision_of(record) == REJECTED for record in records)


def left_out_line(rejected: Mapping[str, int]) -> str | None:
    """The line in which a command says what it has left out; None if that is nothing.

    Args:
        rejected: what is read (a folder, a split) -> its rejected pairs.
    """
    told = [f"{count} {'pair' if count == 1 else 'pairs'} of {name}" for name, count in rejected.items() if count]
    return f"Left out, as rejected in review: {', '.join(told)}" if told else None
