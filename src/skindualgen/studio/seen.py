"""What an adapter's training photographs show, and what that says of a request: plenty, thin, or never seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.review import read_used as read_metadata
from skindualgen.planning.labels import TONE, TONES, label_value
from skindualgen.studio.workspace import Workspace

COLUMNS = ("diagnosis", "anatom_site_general", "sex", "age_approx", TONE)
RECORDED_FILE = Path(__file__).with_name("builtin_training.json")
"""Counts of the bundled adapter's training photographs, which do not come with it."""
THIN = 30
"""Training photographs below which a request counts as thinly seen: a share of 30 is known to 17 points at best."""
AGE_YEARS = 5
"""Ages this near count as the one that is asked for; the archives round to five years."""
DARKER = ("dark", "brown", "tan")
"""Tones that dermoscopy archives hardly hold."""

Depth = Literal["seen", "thin", "never", "unknown"]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Hint:
    """One sentence on how well the training photographs cover a request."""

    depth: Depth
    text: str


@dataclass(frozen=True)
class Seen:
    """Training photographs, counted by what is known of them.

    Attributes:
        rows: one of ``COLUMNS`` values each, None where not known -> photographs.
        measured_tones: photographs of each tone, as measured on the skin around the lesion; empty if not measured.
    """

    rows: Mapping[Row, int]
    measured_tones: Mapping[str, int]

    @property
    def photographs(self) -> int:
        """All of them."""
        return sum(self.rows.values())

    def count(self, labels: Mapping[str, Any]) -> int:
        """Photographs of which all these labels are recorded; keys out of ``COLUMNS``."""
        return sum(count for row, count in self.rows.items() if _matches(dict(zip(COLUMNS, row, strict=True)), labels))

    def states(self, column: str) -> bool:
        """Whether any photograph's record has a value of this column."""
        place = COLUMNS.index(column)
        return any(row[place] is not None for row in self.rows)


def seen_in(records: Iterable[PairRecord], measured_tones: Mapping[str, int] | None = None) -> Seen:
    """Count records, in the terms of prompts."""
    rows = Counter(tuple(label_value(name, getattr(record, name)) for name in COLUMNS) for record in records)
    return Seen(rows, measured_tones or {})


def find_seen(train_manifest_sha256: str | None, workspace: Workspace) -> Seen | None:
    """Counts of the training records with this hash: those shipped, or of a data set in the workspace."""
    if train_manifest_sha256 is None:
        return None
    recorded = json.loads(RECORDED_FILE.read_text(encoding="utf-8"))
    if recorded["train_manifest_sha256"] == train_manifest_sha256:
        rows = {tuple(row[:-1]): row[-1] for row in recorded["rows"]}
        return Seen(rows, recorded["measured_tones"])
    for name in workspace.datasets():
        path = workspace.path(name)
        stamp = (path / "metadata.jsonl").stat().st_mtime_ns
        digest, seen = _counted(path, stamp)
        if digest == train_manifest_sha256:
            return seen
    return None


@lru_cache(64)
def _counted(path: Path, _stamp: int) -> tuple[str, Seen | None]:
    records = [record for record in read_metadata(path) if record.split == "train"]
    return manifest_sha256(records), seen_in(records)


def hints(labels: Mapping[str, Any], seen: Seen | None) -> list[Hint]:
    """Sentences on what is asked for: each label by itself, and diagnosis with site where both are stated."""
    asked = {name: labels[name] for name in COLUMNS if labels.get(name) is not None}
    if seen is None:
        return [Hint("unknown", "This adapter does not say what its training photographs show.")]
    found = [_hint(name, value, seen) for name, value in asked.items()]
    pair = ("diagnosis", "anatom_site_general")
    both: dict[str, Any] = {name: asked[name] for name in pair if name in asked}
    if len(both) == 2 and all(hint.depth in ("seen", "thin") for hint in found[:2]):
        count = seen.count(both)
        if count < THIN:
            together = f"{both['diagnosis']} on {both['anatom_site_general']}"
            depth: Depth = "thin" if count else "never"
            found.append(Hint(depth, f"{_photographs(count)} of both together: {together}."))
    return found


def _hint(name: str, value: Any, seen: Seen) -> Hint:
    if name == TONE:
        return _tone_hint(str(value), seen)
    count = seen.count({name: value})
    shown = f"about {value} years" if name == "age_approx" else str(value)
    if not count:
        return Hint("never", f"No training photograph is recorded as {shown}: the model extrapolates.")
    depth: Depth = "thin" if count < THIN else "seen"
    return Hint(
        depth, f"{_photographs(count)} of {seen.photographs:,}: {shown}{', thin data' if depth == 'thin' else ''}."
    )


def _tone_hint(tone: str, seen: Seen) -> Hint:
    """Words on skin tone mean little where no training prompt had them; how many photographs look so is said too."""
    told = "" if seen.states(TONE) else "No training prompt named a skin tone, so these words steer little. "
    if not seen.measured_tones:
        depth: Depth = "never" if told or tone in DARKER else "unknown"
        return Hint(depth, f"{told}Any result is an extrapolation.")
    total = sum(seen.measured_tones.values())
    darker = (
        sum(seen.measured_tones.get(name, 0) for name in TONES[: TONES.index(tone) + 1]) if tone in DARKER else None
    )
    if darker is not None:
        text = f"{darker:,} of {total:,} training photographs measure as {tone} or darker: an extrapolation."
        return Hint("never", told + text)
    count = seen.measured_tones.get(tone, 0)
    return Hint(
        "thin" if told or count < THIN else "seen", f"{told}{count:,} of {total:,} photographs measure as {tone}."
    )


def _matches(row: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    for name, value in labels.items():
        if row[name] is None:
            return False
        if name == "age_approx":
            if abs(row[name] - int(value)) > AGE_YEARS:
                return False
        elif row[name] != value:
            return False
    return True


def _photographs(count: int) -> str:
    return f"{count:,} training photograph{'' if count == 1 else 's'}" if count else "No training photograph"
