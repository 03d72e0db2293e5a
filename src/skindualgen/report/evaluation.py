"""An evaluation as a report: what was found in words, plots, tables, pictures, and what every number means."""

from __future__ import annotations

from skindualgen.evaluation.evidence import Sample
from skindualgen.evaluation.results import EvaluationReport
from skindualgen.evaluation.run import Evaluation
from skindualgen.report.evaluation_sections import CHAPTERS, TITLES
from skindualgen.report.evaluation_tables import conditions_table, number
from skindualgen.report.page import Group, Headline, Outline, Report, Section, Tile


def build_report(evaluation: Evaluation) -> Report:
    """Arrange an evaluation for reading."""
    report = evaluation.report
    sections = [_samples(evaluation)]
    for name, page in CHAPTERS.items():
        reason = report.section(name).left_out
        sections.append(page(evaluation) if reason is None else Section(name, TITLES[name], f"Left out: {reason}"))
    if report.conditions:
        sections.append(_conditions(report))
    run, present = report.run, {measure.name for measure in report.measures()}
    return Report(
        title=f"{run.n_generated} generated photographs, compared with real ones",
        subtitle=(
            f"“{report.generated.name}” next to “{report.real.name}”: {run.n_train} real photographs that a generator "
            f"may have seen (train), {run.n_held_out} that it has not ({run.held_out}). All at {run.size_px} × "
            f"{run.size_px} px, so that neither side shows more detail."
        ),
        hero=[],
        headlines=_headlines(report),
        sections=sections,
        definitions={name: (each.title, each.text) for name, each in report.definitions.items() if name in present},
        next_steps=[],
        record=_record(report),
        eyebrow="Evaluation of generated dermoscopy",
    )


HEADLINES = (
    ("near_copy_rate", "near-copies of training photographs", False),
    ("frechet_ratio_to_floor", "times the Fréchet distance of real from real", False),
    ("recall", "of real variety reached (recall)", True),
    ("agreement_dice", "agreement of the masks (Dice)", True),
    ("class_balanced_accuracy", "prompted diagnoses read back", True),
    ("taught_share", "of what real photographs teach a classifier", False),
)
"""Measure, what the large figure is called, and whether its reference is shown with it."""


def _headlines(report: EvaluationReport) -> list[Headline]:
    measures = {measure.key: measure for measure in report.measures()}
    headlines = []
    for key, label, with_reference in HEADLINES:
        measure = measures.get(key)
        if measure is None or measure.value is None:
            continue
        shown = f"{measure.value:.1%}" if key == "near_copy_rate" else number(measure.value)
        of_real = f"; real {number(measure.reference.value)}" if with_reference and measure.reference else ""
        headlines.append(Headline(shown, label + of_real, key))
    return headlines


def _samples(evaluation: Evaluation) -> Section:
    groups = [Group(name, [_sample(each) for each in row]) for name, row in evaluation.evidence.samples.items()]
    return Section(
        "samples",
        "Generated pairs",
        "The first photographs of each diagnosis in the folder, not chosen.",
        groups=groups,
        caveats=evaluation.report.caveats,
    )


def _sample(sample: Sample) -> Tile:
    outlines = [] if sample.mask is None else [Outline(sample.mask, "mask that came with the photograph")]
    return Tile(sample.image, f"generated {sample.isic_id}", outlines, facts={"Photograph": sample.isic_id})


def _conditions(report: EvaluationReport) -> Section:
    failed = sum(outcome.failed for outcome in report.conditions)
    lead = f"{failed} of {len(report.conditions)} failed." if failed else "All kept."
    return Section("conditions", "Conditions", lead, tables=[conditions_table(report.conditions)])


def _record(report: EvaluationReport) -> dict[str, str]:
    run = report.run
    record = {
        "Command": " ".join(run.command),
        "Date": run.date_utc,
        "Seed": str(run.seed),
        "Compared at": f"{run.size_px} × {run.size_px} px",
        "Real records": report.real.manifest_sha256,
        "Generated records": report.generated.manifest_sha256,
    }
    for name, recipe in run.judge_recipes.items():
        budget = recipe["budget"]
        record[name.replace("_", " ").capitalize()] = (
            f"{'bundled: ' if recipe['bundled'] else ''}{recipe.get('encoder') or recipe.get('architecture')}, "
            f"{budget['steps']} steps of "
            f"{budget['batch_size']}, on {recipe['train_photographs']} photographs"
        )
    return record | run.versions | {"platform": run.platform}
