"""What is written of a folder when production ends: its records, its rejects, a sheet of some of its pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from skindualgen.contracts import REJECTS_FILE, SHEET_FILE, PairRecord
from skindualgen.data.manifest import write_dataset_stream
from skindualgen.files import atomic_path, run_record
from skindualgen.gate.scores import CLASS_PROBABILITY
from skindualgen.production.chunk import AREA_SCORE
from skindualgen.production.journal import Journal

SHEET_PAIRS = 48


@dataclass(frozen=True)
class Outcome:
    """What a folder holds.

    Args:
        pairs: accepted ones.
        refused: attempts that the gate refused.
        reasons: name of a score -> attempts that were refused for it; one may be refused for several.
        unmet: pairs that no attempt met.
        without_lesion: pairs whose mask is empty.
        first_without_lesion: ``file_name`` of the first of them.
        unchosen: pairs that were drawn once, where others were chosen among candidates.
    """

    pairs: int
    refused: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    unmet: int = 0
    without_lesion: int = 0
    first_without_lesion: str | None = None
    unchosen: int = 0


def finish_folder(
    out: Path, journal: Journal, *, settings: Mapping[str, Any], more: Mapping[str, Any], pictures: bool
) -> Outcome:
    """Write ``metadata.jsonl``, ``dataset.json``, ``rejected.jsonl`` and the contact sheet of what is finished.

    The records are streamed: memory does not grow with their number.

    Args:
        out: the data set folder.
        journal: of its chunks.
        settings: of the run, for ``dataset.json``.
        more: what else is to be written there.
        pictures: whether pairs are files of their own; in shards they are not, and there is neither ``metadata.jsonl``
            nor a sheet.
    """
    outcome = _tell_refused(out, journal)
    if not outcome.pairs:
        return outcome
    gate = {"gate": {"refused": outcome.refused, "reasons": outcome.reasons, "unmet": outcome.unmet}}
    made_by = run_record(settings=dict(settings), **(gate if outcome.refused else {}), **more)
    classes = settings.get("mask_classes")
    write_dataset_stream(out, journal.records, made_by=made_by, mask_classes=classes, metadata=pictures)
    if pictures:
        step = max(1, outcome.pairs // SHEET_PAIRS)
        _write_sheet(out, list(islice(journal.records(), 0, step * SHEET_PAIRS, step)))
    return outcome


def has_lesion(scores: Mapping[str, float] | None) -> bool:
    """Whether a generated pair's mask is not empty; if it is, its diagnosis would teach a wrong one."""
    return bool((scores or {}).get(AREA_SCORE, 0.0))


def _tell_refused(out: Path, journal: Journal) -> Outcome:
    """Write the refused attempts, if there are any, and count everything."""
    counted: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    first = None
    with atomic_path(out / REJECTS_FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for line in journal.lines():
            counted.update(line.keys() & {"pair", "reject", "unmet"})
            if (reject := line.get("reject")) is not None:
                reasons.update({reason.partition(" ")[0] for reason in reject["reasons"]})
                file.write(json.dumps(reject, ensure_ascii=False, allow_nan=False) + "\n")
            elif (pair := line.get("pair")) is not None:
                if not has_lesion(pair.get("scores")):
                    counted["empty"] += 1
                    first = first or pair["file_name"]
                counted["unchosen"] += "best_of" in pair and CLASS_PROBABILITY not in pair["scores"]
    if not counted["reject"]:
        (out / REJECTS_FILE).unlink()
    return Outcome(
        counted["pair"],
        counted["reject"],
        dict(sorted(reasons.items())),
        counted["unmet"],
        counted["empty"],
        first,
        counted["unchosen"],
    )


def _write_sheet(out: Path, shown: list[PairRecord]) -> None:
    from skindualgen.sample.sheet import pair_sheet

    images = [Image.open(out / record.file_name).convert("RGB") for record in shown]
    masks = [Image.open(out / str(record.mask_file_name)) for record in shown]
    sheet = pair_sheet(images, masks, labels=[record.diagnosis or record.prompt or "" for record in shown])
    with atomic_path(out / SHEET_FILE) as temporary:
        sheet.save(temporary, format="PNG")
