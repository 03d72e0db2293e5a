"""One table of all downstream studies: mixtures of real and generated pairs against real pairs alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downstream_few import MASKS_GUIDANCE
from downstream_sweep import METRICS
from study_text import fill_block, interval, table

PAGE_MARK = "<!-- table of docs/results/downstream_*.json -->"
OVERVIEW_RATIOS = (0.25, 0.5, 1.0, 2.0, 5.0, 12.0)
PAGE_RATIOS = (1.0, 5.0, 12.0)
ADDED = {
    "segment": "generated pairs",
    "segment_low": f"generated pairs, guidance {MASKS_GUIDANCE:g}",
    "few": "generated pairs",
    "chosen": "generated pairs, the fifth that agrees best with its own predicted mask",
    "read": "photographs with predicted masks",
    "classify_even": "generated pairs, as many for each real one in every class",
    "classify": "generated pairs, rare classes first",
}
"""What is added to the real pairs in each study, in the order of the table."""
NAME = re.compile(r"downstream_(?P<study>[a-z]+(?:_[a-z]+)??)(?:_\d+_steps)?(?:_\d+)?")


@dataclass(frozen=True)
class Mixtures:
    """What one study found of its mixtures.

    Attributes:
        study: a key of ``ADDED``.
        name: of its files.
        task: segment or classify.
        real_pairs: trained on in every arm.
        steps: of every training.
        gains: by ratio: value, low, high of the difference to repeating the real pairs, in Dice or balanced accuracy.
        helped: metrics in which a mixture beats real replay and augmentation after Holm's correction.
    """

    study: str
    name: str
    task: str
    real_pairs: int
    steps: int
    gains: Mapping[float, Mapping[str, float]]
    helped: Sequence[str]


def read_mixtures(results: Path) -> list[Mixtures]:
    """Read what all studies in a folder of results found, in the order of the table."""
    found = []
    for path in results.glob("downstream_*.json"):
        matched = NAME.fullmatch(path.stem)
        if matched and matched["study"] in ADDED:
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(_mixtures(matched["study"], path.stem, content["tasks"][0]))
    order = list(ADDED)
    return sorted(found, key=lambda each: (order.index(each.study), each.steps, each.real_pairs))


def overview_table(studies: Sequence[Mixtures], ratios: Sequence[float]) -> str:
    """Return the table: a line for each study, a column for each ratio; bold where the interval excludes 0.

    Args:
        studies: the lines.
        ratios: the columns; a study without any of them has no line.
    """
    heads = ["real pairs", "added", "steps", *(f"{ratio:g} x" for ratio in ratios)]
    lines = []
    for study in studies:
        gains = [_gain(study.gains[ratio]) if ratio in study.gains else "" for ratio in ratios]
        if any(gains):
            metric = "" if study.task == "segment" else " (diagnosis)"
            linked = f"[{ADDED[study.study]}]({study.name}.md){metric}"
            lines.append([f"{study.real_pairs:,}", linked, study.steps, *gains])
    return "\n".join(table(heads, lines))


def longest(studies: Sequence[Mixtures]) -> list[Mixtures]:
    """Return, of studies of the same kind on as many real pairs, the one of the longest trainings."""
    most = {(each.study, each.real_pairs): each for each in sorted(studies, key=lambda each: each.steps)}
    return [each for each in studies if most[each.study, each.real_pairs] is each]


def overview_page(studies: Sequence[Mixtures]) -> str:
    """Return the page of all studies."""
    winners = [f"* {each.name}: {', '.join(each.helped)}" for each in studies if each.helped]
    lines = [
        "# What generated pairs are worth: all studies",
        "",
        "Written by `python studies/downstream.py overview` from the results of the other commands in this folder.",
        "Real and generated pairs, that many generated ones for a real one, minus the real pairs alone, repeated as",
        "often and augmented alike: Dice of lesion masks, or balanced accuracy where the diagnosis is read. As many",
        "steps in both, five seeds, 95 % intervals over seeds and lesions; bold: the interval excludes 0.",
        "",
        overview_table(studies, OVERVIEW_RATIOS),
        "",
        "Metrics in which a mixture beats both augmentation and repetition after Holm's correction within its table:",
        "",
        *(winners or ["* none"]),
        "",
    ]
    return "\n".join(lines)


def fill_overview(page: Path, studies: Sequence[Mixtures]) -> None:
    """Put the table of the longest trainings between the two marks of docs/results/overview.md."""
    fill_block(page, PAGE_MARK, overview_table(longest(studies), PAGE_RATIOS))


def _mixtures(study: str, name: str, task: Mapping[str, Any]) -> Mixtures:
    (regime,) = task["regimes"]
    gains = {
        arm["ratio"]: arm["differences"]["replay"][METRICS[task["task"]]]
        for arm in regime["arms"]
        if arm["name"].startswith("hybrid-")
    }
    titles = {metric["name"]: metric["title"] for metric in task["metrics"]}
    helped = [titles[verdict["metric"]] for verdict in regime["verdicts"] if verdict["winners_holm"]]
    return Mixtures(study, name, task["task"], regime["real_pairs"], task["steps"], gains, helped)


def _gain(gain: Mapping[str, float]) -> str:
    text = interval(gain, sign=True)
    return f"**{text}**" if gain["low"] > 0 or gain["high"] < 0 else text
