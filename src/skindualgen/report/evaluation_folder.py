"""The folder of an evaluation: the report as HTML and JSON, and a line for each generated photograph."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

from skindualgen.evaluation.run import Evaluation
from skindualgen.files import atomic_write_json, atomic_write_text
from skindualgen.folders import own_folder
from skindualgen.report.evaluation import build_report
from skindualgen.report.render import render

HTML_FILE, JSON_FILE, PICTURES_FILE = "report.html", "report.json", "pictures.csv"
OWN_NAMES = frozenset({HTML_FILE, JSON_FILE, PICTURES_FILE})


def claim_folder(out: Path) -> AbstractContextManager[None]:
    """Hold the folder of an evaluation, new or of an earlier one, while it is made: see `own_folder`.

    Raises:
        InputError: it holds something else.
    """
    return own_folder(out, OWN_NAMES, "a new folder, or one of an earlier evaluation", _holds_report)


def write_evaluation(evaluation: Evaluation, out: Path) -> Path:
    """Write the three files, each entirely or not at all, and return the HTML's path.

    Everything is made before the first is written, so that a fault leaves an earlier report whole.
    """
    html = render(build_report(evaluation))
    lines = evaluation.evidence.pictures_csv(evaluation.inputs.generated)
    content = evaluation.report.model_dump(mode="json")
    atomic_write_text(out / PICTURES_FILE, lines)
    atomic_write_json(out / JSON_FILE, content)
    atomic_write_text(out / HTML_FILE, html)
    return out / HTML_FILE


def _holds_report(out: Path) -> bool:
    try:
        content = json.loads((out / JSON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"schema_version", "fidelity", "memorisation"} <= set(content)
