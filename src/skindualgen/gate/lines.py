"""Verdicts as a table: one line per pair."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from skindualgen.contracts import InputError, PairRecord
from skindualgen.gate.gate import Verdict
from skindualgen.gate.scores import LESION_AREA

REASON_SEPARATOR = "; "


def score_lines(
    records: Sequence[PairRecord],
    diagnoses: Sequence[str | None],
    verdicts: Sequence[Verdict],
    names: Sequence[str],
) -> str:
    """Return CSV text: id, diagnosis, whether accepted (1 or 0), every score (blank where it has none), reasons."""
    text = io.StringIO()
    columns = ["isic_id", "diagnosis", "accepted", LESION_AREA, *names, "reasons"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for record, diagnosis, verdict in zip(records, diagnoses, verdicts, strict=True):
        row = {"isic_id": record.isic_id, "diagnosis": diagnosis or "", "accepted": int(verdict.accepted)}
        writer.writerow(row | verdict.scores | {"reasons": REASON_SEPARATOR.join(verdict.reasons)})
    return text.getvalue()


def read_score_lines(path: Path) -> tuple[list[str | None], list[Verdict]]:
    """Read diagnoses and verdicts back.

    Raises:
        InputError: it is not such a table.
    """
    diagnoses: list[str | None] = []
    verdicts = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                given = row.pop("reasons")
                row.pop("accepted")
                row.pop("isic_id")
                diagnoses.append(row.pop("diagnosis") or None)
                scores = {name: float(value) for name, value in row.items() if value}
                verdicts.append(Verdict(scores, tuple(given.split(REASON_SEPARATOR)) if given else ()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} ({error})", "scores of a gate", "calibrate the gate again") from error
    return diagnoses, verdicts
