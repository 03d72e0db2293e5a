"""The table of the sweep over guidance and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study_text import interval, table

METRICS = {"segment": "dice", "classify": "balanced_accuracy"}
FIDELITY = ("kid", "frechet", "precision", "recall", "coverage")


def _arms(result: Mapping[str, Any]) -> dict[str, Any]:
    (regime,) = result["tasks"][0]["regimes"]
    return {arm["name"]: arm for arm in regime["arms"]}


def sweep_table(settings: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return the numbers and the Markdown page of the settings measured so far.

    Args:
        settings: steps, guidance, the benchmark results "segment" and "classify", the report "fidelity" of each.
        record: of the run.
    """
    rows, lines = [], []
    for setting in settings:
        row: dict[str, Any] = {"steps": setting["steps"], "guidance": setting["guidance"]}
        cells = [str(setting["steps"]), f"{setting['guidance']:g}"]
        for task, metric in METRICS.items():
            arms = _arms(setting[task])
            hybrid = next(arm for name, arm in arms.items() if name.startswith("hybrid-"))
            row[task] = {
                "synthetic_only": arms["synthetic"]["scores"][metric],
                "hybrid_minus_augment": hybrid["differences"]["augment"][metric],
            }
            cells.append(interval(row[task]["hybrid_minus_augment"], sign=True))
            cells.append(interval(row[task]["synthetic_only"]))
        measures = {measure["key"]: measure for measure in setting["fidelity"]["fidelity"]["measures"]}
        for name in FIDELITY:
            row[name] = measures[name]["value"] if name in measures else None
            cells.append("-" if row[name] is None else f"{row[name]:.3f}")
        rows.append(row)
        lines.append(cells)
    heads = ["steps", "guidance", "Dice, hybrid - augmentation", "Dice, synthetic only"]
    heads += ["balanced accuracy, hybrid - augmentation", "balanced accuracy, synthetic only", *FIDELITY]
    text = [
        "# Guidance and steps: use against fidelity",
        "",
        "The bundled adapter, the same captions and seeds for every setting; networks trained "
        f"{record['steps']} steps on {record['pairs']} real pairs with augmentation, and with twice as many generated "
        f"ones (hybrid), {record['seeds']} seeds; judged on other lesions of the TRAIN split, which the generator has "
        "seen: for choosing a setting, not for saying what generated pairs are worth. Hybrids to classify fill the "
        "rare classes up. Intervals of 95 % over seeds and photographs. "
        f"Written by `studies/downstream.py sweep` on {record['date_utc'][:10]}, {record['platform']}.",
        "",
        *table(heads, lines),
        "",
    ]
    return rows, "\n".join(text)
