"""What a run folder says of the way so far: numbers of the steps, pictures of the validations, and its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skindualgen.files import atomic_write_json, atomic_write_text, run_record

METRICS_FILE, SAMPLES_DIR, PARTS_FILE = "metrics.jsonl", "samples", "parts.json"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``metrics.jsonl``; a line that is being written, or is none, is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def drop_rows_after(path: Path, step: int) -> None:
    """Remove what a killed run logged beyond its last checkpoint, a line cut short included: it is done again."""
    if not path.is_file():
        return
    lines, kept = path.read_text(encoding="utf-8").splitlines(keepends=True), []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    if kept != lines:
        atomic_write_text(path, "".join(kept))


def grids(folder: Path) -> list[Path]:
    """Pictures of a run's validations, the oldest first; links are passed over."""
    pictures = folder / SAMPLES_DIR
    if not pictures.is_dir() or pictures.is_symlink():
        return []
    return sorted(path for path in pictures.glob("step-*.png") if path.is_file() and not path.is_symlink())


def parts(folder: Path) -> list[dict[str, Any]]:
    """One record for each call that trained: ``from_step``, ``date_utc`` and what `begin_part` was given."""
    path = folder / PARTS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def begin_part(folder: Path, **facts: Any) -> None:
    """Record that a call begins to train: who resumes a run begins another part of it."""
    atomic_write_json(folder / PARTS_FILE, [*parts(folder), run_record(**facts)])
