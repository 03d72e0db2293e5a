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
from skindualgen.data.labels import TONE, TONES, label_value
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.review import read_used
from skindualgen.studio.workspace import Workspace

COLUMNS = ("diagnosis", "anatom_site_general", "sex", "age_approx", TONE)
RECORDED_FILE = Path(__file__).with_name("builtin_training.json")
"""Counts of the bundled adapter's training photographs, which do not come with it."""
THIN = 30
"""Training photographs below which a request counts as thinly covered: a share of 30 is known to 17 points at best."""
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
class TrainingCoverage:
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
        return sum(
            count
            for row, count in self.rows.items()
            if all(_covers(name, row[COLUMNS.index(name)], value) for name, value in labels.items())
        )

    def states(self, column: str) -> bool:
        """Whether any photograph's record has a value of this column."""
        place = COLUMNS.index(column)
        return any(row[place] is not None for row in self.rows)


def _covers(name: str, known: Any, asked: Any) -> bool:
    if known is None:
        return False
    return abs(known - int(asked)) <= AGE_YEARS if name == "age_approx" else bool(known == asked)


def coverage_of(records: Iterable[PairRecord]) -> TrainingCoverage:
    """Count records, in the terms of prompts."""
    rows = Counter(tuple(label_value(name, getattr(record, name)) for name in COLUMNS) for record in records)
    return TrainingCoverage(rows, {})


def find_coverage(train_manifest_sha256: str | None, workspace: Workspace) -> TrainingCoverage | None:
    """Counts of the training records with this hash: those shipped, or of a data set in the workspace."""
    if train_manifest_sha256 is None:
        return None
    recorded = json.loads(RECORDED_FILE.read_text(encoding="utf-8"))
    if recorded["train_manifest_sha256"] == train_manifest_sha256:
        return TrainingCoverage({tuple(row[:-1]): row[-1] for row in recorded["rows"]}, recorded["measured_tones"])
    for name in workspace.datasets():
        path = workspace.path(name)
        digest, coverage = _counted(path, (path / "metadata.jsonl").stat().st_mtime_ns)
        if digest == train_manifest_sha256:
            return coverage
    return None


@lru_cache(64)
def _counted(path: Path, _modified_ns: int) -> tuple[str, TrainingCoverage]:
    records = [record for record in read_used(path) if record.split == "train"]
    return manifest_sha256(records), coverage_of(records)


def hints(labels: Mapping[str, Any], coverage: TrainingCoverage | None) -> list[Hint]:
    """Sentences on what is asked for: each label by itself, and diagnosis with site where both are stated."""
    asked = {name: labels[name] for name in COLUMNS if labels.get(name) is not None}
    if coverage is None:
        return [Hint("unknown", "This adapter does not say what its training photographs show.")]
    found = [_hint(name, value, coverage) for name, value in asked.items()]
    both: dict[str, Any] = {name: asked[name] for name in ("diagnosis", "anatom_site_general") if name in asked}
    if len(both) == 2 and all(hint.depth in ("seen", "thin") for hint in found[:2]):
        count = coverage.count(both)
        if count < THIN:
            together = " on ".join(map(str, both.values()))
            found.append(Hint("thin" if count else "never", f"{_photographs(count)} of both together: {together}."))
    return found


def _hint(name: str, value: Any, coverage: TrainingCoverage) -> Hint:
    if name == TONE:
        return _tone_hint(str(value), coverage)
    count = coverage.count({name: value})
    shown = f"about {value} years" if name == "age_approx" else str(value)
    if not count:
        return Hint("never", f"No training photograph is recorded as {shown}: the model extrapolates.")
    counted = f"{_photographs(count)} of {coverage.photographs:,}: {shown}"
    return Hint("thin", f"{counted}, thin data.") if count < THIN else Hint("seen", f"{counted}.")


def _tone_hint(tone: str, coverage: TrainingCoverage) -> Hint:
    """Words on skin tone mean little where no training prompt had them; how many photographs look so is said too."""
    caution = "" if coverage.states(TONE) else "No training prompt named a skin tone, so these words steer little. "
    tones = coverage.measured_tones
    if not tones:
        depth: Depth = "never" if caution or tone in DARKER else "unknown"
        return Hint(depth, f"{caution}Any result is an extrapolation.")
    total = sum(tones.values())
    if tone in DARKER:
        darker = sum(tones.get(name, 0) for name in TONES[: TONES.index(tone) + 1])
        text = f"{darker:,} of {total:,} training photographs measure as {tone} or darker: an extrapolation."
        return Hint("never", caution + text)
    count = tones.get(tone, 0)
    depth = "thin" if caution or count < THIN else "seen"
    return Hint(depth, f"{caution}{count:,} of {total:,} photographs measure as {tone}.")


def _photographs(count: int) -> str:
    return f"{count:,} training photograph{'' if count == 1 else 's'}" if count else "No training photograph"
