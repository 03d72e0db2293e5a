"""The chapters of an evaluation's report, one a section that was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from skindualgen.evaluation.definitions import SHAPES
from skindualgen.evaluation.evidence import Couple
from skindualgen.evaluation.results import EvaluationReport, SectionName
from skindualgen.evaluation.run import Evaluation
from skindualgen.metrics.measures import Measure
from skindualgen.report import evaluation_figures as figures
from skindualgen.report.evaluation_tables import caveats_of, found, groups_table, measures_table, number, shapes_table
from skindualgen.report.figures import Values, figure_svg, histograms
from skindualgen.report.page import Group, Plot, Section, Tile

FIDELITY = ("kid", "frechet", "precision", "recall", "density", "coverage")
AGREEMENT = ("agreement_dice", "agreement_iou", "agreement_hd95_px", "agreement_boundary_f")
TITLES: Mapping[SectionName, str] = {
    "fidelity": "Fidelity and variety",
    "masks": "Masks",
    "diagnosis": "Prompted diagnosis",
    "adherence": "Other prompted attributes",
    "memorisation": "Copies",
    "skin_tone": "Skin tone",
}
MASK_PANELS = {name: title for name, (title, _) in SHAPES.items()} | {"dice": "Dice with the segmenter"}
TONE = ("ita_mean", "ita_distance")
FOREST_CAPTION = "Dots: generated, with 95 % intervals. Bands: real against real, over random draws."


def fidelity_page(evaluation: Evaluation) -> Section:
    """How near the sets are, with the map of features."""
    report = evaluation.report
    section = report.fidelity
    plots, tables = [], []
    for position, judge in enumerate(dict.fromkeys(measure.judge for measure in section.measures)):
        of_judge = [measure for measure in section.measures if measure.judge == judge]
        names = [name for name in FIDELITY if found(of_judge, name)]
        if any(measure.value is not None for measure in of_judge if measure.name in names):
            svg = figure_svg(figures.measures_forest(of_judge, names, report.definitions), f"fidelity-{position}")
            plots.append(Plot(svg, f"fidelity measures on {judge}", f"Features of {judge}. {FOREST_CAPTION}"))
        tables.append(groups_table(of_judge, names, report.definitions, f"Against held-out real, {judge}"))
        against = [f"{name}_against_train" for name in names]
        tables.append(groups_table(of_judge, against, report.definitions, f"Against the train split, {judge}"))
    points = evaluation.evidence.feature_map
    if points is not None:
        caption = (
            f"The plane in which the features of real photographs vary most ({points.explained:.0%} of their "
            "variance). Where real points stand alone, nothing is generated."
        )
        plots.append(Plot(figure_svg(figures.feature_map(points), "map"), "map of features", caption))
    return _chapter(
        evaluation,
        "fidelity",
        f"How near generated photographs come to held-out real ones as a set. {_in_range(section.measures, report)}",
        plots=plots,
        tables=tables,
    )


def _in_range(measures: Sequence[Measure], report: EvaluationReport) -> str:
    """Say which measures of all photographs lie within what real photographs reach in the generated ones' place."""
    first = [each for name in FIDELITY for each in found(measures, name)[:1] if each.group is None]
    inside: dict[bool, list[str]] = {True: [], False: []}
    for each in first:
        reference = each.reference
        if each.value is None or reference is None or reference.low is None or reference.high is None:
            continue
        inside[reference.low <= each.value <= reference.high].append(report.definitions[each.name].title)
    said = []
    if inside[True]:
        said.append(f"Within the range of real against real: {', '.join(inside[True])}.")
    if inside[False]:
        said.append(f"Outside it: {', '.join(inside[False])}.")
    return " ".join(said)


def masks_page(evaluation: Evaluation) -> Section:
    """Shapes, and agreement with the segmenter."""
    report, evidence = evaluation.report, evaluation.evidence
    section = report.masks
    samples = {MASK_PANELS[name]: _samples(evaluation, name) for name in MASK_PANELS if name in evidence.distributions}
    svg = figure_svg(histograms(samples), "shapes")
    caption = (
        "Generated masks (filled) and experts' masks of held-out photographs (line): their shapes, and the Dice of "
        "each with the mask that the segmenter draws."
    )
    tables = [
        groups_table(
            section.measures, [*AGREEMENT, "agreement_gap"], report.definitions, "Agreement with the segmenter"
        ),
        shapes_table(section.measures, report.definitions),
    ]
    return _chapter(
        evaluation,
        "masks",
        "Do masks have the shapes of experts' masks, and do they fit their photographs? An independent segmenter, "
        "trained on the real train split, draws the mask that it sees; how well it agrees with experts on held-out "
        "real photographs is the mark to reach.",
        plots=[Plot(svg, "shapes of masks and their agreement with the segmenter", caption, "agreement_dice")],
        tables=[table for table in tables if table.rows],
    )


def diagnosis_page(evaluation: Evaluation) -> Section:
    """Confusions, and how often the prompted diagnosis is read."""
    report = evaluation.report
    section = report.diagnosis
    plots = []
    if section.generated is not None and section.held_out is not None:
        tables = {"Generated": section.generated, "Held-out real": section.held_out}
        figure = figures.confusion_matrices(tables, {"Generated": "prompted", "Held-out real": "true"})
        caption = "Counts of photographs; the darker, the larger the share of its row."
        plots.append(Plot(figure_svg(figure, "confusion"), "confusion of diagnoses", caption, "class_accuracy"))
    # over all diagnoses, the balanced accuracy is the mean of their hits: one column
    measures = [
        measure.model_copy(update={"name": "class_accuracy"}) if measure.name == "class_balanced_accuracy" else measure
        for measure in section.measures
    ]
    table = groups_table(measures, ["class_accuracy", "class_auroc"], report.definitions, "Prompted diagnosis")
    taught = groups_table(measures, ["taught_accuracy", "taught_share"], report.definitions, "Trained on generated")
    return _chapter(
        evaluation,
        "diagnosis",
        "Does an independent classifier, trained on the real train split, read the diagnosis that was prompted? It "
        "errs on real photographs too: read every number next to theirs. Far above them is no praise: such pictures "
        "are caricatures of their class.",
        plots=plots,
        tables=[each for each in (table, taught) if each.rows],
    )


def adherence_page(evaluation: Evaluation) -> Section:
    """Other prompted attributes."""
    report = evaluation.report
    section = report.adherence
    return _chapter(
        evaluation,
        "adherence",
        "Do attributes that the prompt states, other than the diagnosis, show in the photograph?",
        tables=[measures_table(section.measures, report.definitions, "")],
    )


def memorisation_page(evaluation: Evaluation) -> Section:
    """Copies, with the closest couples."""
    report, evidence = evaluation.report, evaluation.evidence
    section = report.memorisation
    copies = len(section.near_copies)
    duplicates = found(section.measures, "duplicate_rate")[0].value or 0.0
    return _chapter(
        evaluation,
        "memorisation",
        f"{copies} of {report.run.n_generated} generated photographs count as near-copies of training photographs, "
        f"{number(100 * duplicates, 1)} % as near-copies of another generated one. The closest couples: above the "
        "generated photograph, below the training photograph that it is nearest to. Numbers can miss what an eye sees: "
        "look at them.",
        groups=[Group("Near-copies, then the nearest in feature space", [_couple(each) for each in evidence.couples])],
        badge_label="feature distance of the couple",
        plots=_memorisation_plots(evaluation),
        tables=[measures_table(section.measures, report.definitions, "")],
    )


def _memorisation_plots(evaluation: Evaluation) -> list[Plot]:
    evidence = evaluation.evidence
    return [
        Plot(
            figure_svg(figures.cumulative(evidence.distributions[name], label, evidence.thresholds[name]), name),
            label,
            caption,
            term,
            wide=False,
        )
        for name, label, caption, term in (
            (
                "train_distance",
                "feature distance to the nearest training photograph",
                "Left of the real line: nearer to training photographs than unseen real ones are.",
                "closer_than_held_out",
            ),
            (
                "train_fit",
                "misfit over the best-fitting training photograph",
                "A copy has a misfit near 0; 1 is that of any two photographs.",
                "fits_better_than_held_out",
            ),
        )
    ]


def _couple(couple: Couple) -> Tile:
    """Both photographs as one picture, the generated one above."""
    width, height = couple.generated.size
    pair = Image.new("RGB", (width, 2 * height))
    pair.paste(couple.generated, (0, 0))
    pair.paste(couple.train, (0, height))
    facts = {
        "Generated": couple.generated_id,
        "Training": couple.train_id,
        "Distance": f"{couple.distance:.3g}",
        "Near-copy": "yes" if couple.near_copy else "no",
    }
    caption = "near-copy" if couple.near_copy else ""
    alt = f"generated {couple.generated_id} above training photograph {couple.train_id}"
    return Tile(pair, alt, caption=caption, badge=f"{couple.distance:.2f}", facts=facts)


def skin_tone_page(evaluation: Evaluation) -> Section:
    """The typology angle and its categories."""
    report = evaluation.report
    section = report.skin_tone
    samples = {"Typology angle (ITA): dark left, light right": _samples(evaluation, "ita")}
    svg = figure_svg(histograms(samples, unit="degrees"), "ita")
    tone = [measure for measure in section.measures if measure.name in TONE]
    shares = [measure for measure in section.measures if measure.name not in TONE]
    return _chapter(
        evaluation,
        "skin_tone",
        "Is the skin around generated lesions that of the real photographs? Where real photographs are too few, "
        "nothing can be said, and what is generated there is extrapolated.",
        plots=[
            Plot(svg, "skin tones", "Skin around the lesion: generated (filled), held-out real (line).", "ita_mean")
        ],
        tables=[
            groups_table(tone, TONE, report.definitions, "Tone of the skin"),
            measures_table(shares, report.definitions, "Shares of the categories"),
        ],
        with_caveats_of_measures=False,
    )


def _samples(evaluation: Evaluation, name: str) -> tuple[Values, Values]:
    values = evaluation.evidence.distributions[name]
    return values.generated, values.real


def _chapter(
    evaluation: Evaluation, name: SectionName, lead: str, *, with_caveats_of_measures: bool = True, **parts: Any
) -> Section:
    """Arrange a section with its caveats and, as the note, who judged and what was compared."""
    report = evaluation.report
    section = report.section(name)
    of_measures = caveats_of(section.measures, report.definitions) if with_caveats_of_measures else []
    judged_by = [f"Judged by {'; '.join(section.judges)}."] if section.judges else []
    return Section(
        name,
        TITLES[name],
        lead,
        caveats=[*section.caveats, *of_measures],
        note=" ".join([*judged_by, *section.notes]),
        **parts,
    )


CHAPTERS: Mapping[SectionName, Callable[[Evaluation], Section]] = {
    "fidelity": fidelity_page,
    "masks": masks_page,
    "diagnosis": diagnosis_page,
    "adherence": adherence_page,
    "memorisation": memorisation_page,
    "skin_tone": skin_tone_page,
}
"""What arranges each section."""
