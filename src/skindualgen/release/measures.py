"""Numbers of an evaluation as a card shows them: each with its interval, its reference and its judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub import EvalResult

from skindualgen.evaluation.results import SECTIONS, EvaluationReport
from skindualgen.metrics.measures import Measure, Reference
from skindualgen.metrics.skin_tone import CATEGORIES, tone_share_name

HEADLINES = (
    "frechet",
    "frechet_ratio_to_floor",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "agreement_dice",
    "agreement_hd95_px",
    "agreement_gap",
    "class_balanced_accuracy",
    "class_auroc",
    "taught_accuracy",
    "taught_share",
    "ita_distance",
)
"""measures over all diagnoses that a card shows, in this order; the others are in the report"""
COPIES = ("near_copy_rate", "closer_than_held_out", "fits_better_than_held_out", "duplicate_rate")
TONES = tuple(tone_share_name(category) for category in CATEGORIES)
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """One measure in words; ``generated`` and ``real`` are numbers of photographs."""

    title: str
    value: str
    reference: str
    generated: int
    real: str
    judge: str
    caveat: str


def measure_rows(report: EvaluationReport, names: tuple[str, ...]) -> list[Row]:
    """The named measures over all diagnoses, in that order; those that the report lacks are left out."""
    return [_row(report, measure) for measure in _overall(report, names)]


def eval_results(report: EvaluationReport) -> list[EvalResult]:
    """The measured ones of the headlines and copies, for a model card's ``model-index``."""
    run = report.run
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type="imagefolder",
            dataset_name=f"{report.real.name}, {run.n_held_out} held-out photographs",
            dataset_split=run.held_out,
            metric_type=measure.key,
            metric_name=report.definitions[measure.name].title,
            metric_value=measure.value,
            metric_args={
                "low": measure.low,
                "high": measure.high,
                "judge": measure.judge,
                "n_generated": measure.n_generated,
            },
        )
        for measure in _overall(report, (*COPIES, *HEADLINES))
        if measure.value is not None
    ]


def left_out(report: EvaluationReport) -> list[str]:
    """What was not measured, and why."""
    sections = ((name.replace("_", " "), report.section(name).left_out) for name in SECTIONS)
    return [f"{name}: {reason}" for name, reason in sections if reason]


def caveats(report: EvaluationReport) -> list[str]:
    """What its reader must know before believing a number."""
    return [*report.caveats, *(caveat for name in SECTIONS for caveat in report.section(name).caveats)]


def _overall(report: EvaluationReport, names: tuple[str, ...]) -> Iterator[Measure]:
    seen = set()
    for name in names:
        for measure in report.measures():
            if measure.name == name and measure.group is None and measure.key not in seen:
                seen.add(measure.key)
                yield measure


def _row(report: EvaluationReport, measure: Measure) -> Row:
    definition = report.definitions[measure.name]
    return Row(
        title=definition.title,
        value=_interval(measure, definition.unit),
        reference=_reference(measure.reference, definition.unit),
        generated=measure.n_generated,
        real="–" if measure.n_real is None else str(measure.n_real),
        judge=measure.judge or "–",
        caveat=measure.caveat or "",
    )


def _reference(reference: Reference | None, unit: str) -> str:
    if reference is None or reference.value is None:
        return "–"
    return f"{_interval(reference, unit)}, {reference.kind}"


def _interval(of: Measure | Reference, unit: str) -> str:
    if of.value is None:
        return NOT_MEASURED
    text = f"{of.value:.3g}{unit and ' ' + unit}"
    return text if of.low is None or of.high is None else f"{text} ({of.low:.3g} to {of.high:.3g})"
