"""Masks: their shapes beside experts' masks, and how well they fit their photographs."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from skindualgen.evaluation.evidence import Distribution, Evidence
from skindualgen.evaluation.inputs import ClassMatch, Inputs, Part, class_matched
from skindualgen.evaluation.judges import Judges, judge_name
from skindualgen.evaluation.measures import HELD_OUT, floored_distance, held_out_reference, measured
from skindualgen.evaluation.results import Measure, Reference, Section
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.mask_tables import (
    AGREEMENT_SCORES,
    LEAST_SHAPES,
    ShapeTable,
    compare_agreement,
    compare_shapes,
    summarise_agreement,
)
from skindualgen.metrics.masks import ShapeStatistics, dice

SHAPES = tuple(field.name for field in fields(ShapeStatistics))
LEAST_OF_GROUP = 2
"""Pairs of a diagnosis, in each set, from which on it has a row of its own."""
Masks = NDArray[np.bool_]
DISTANCE, SHIFT = "_distance", "_shift"
"""What the names of a statistic's Kolmogorov-Smirnov and Wasserstein distances end in."""


def masks_section(inputs: Inputs, judges: Judges, evidence: Evidence, *, seed: int) -> Section:
    """Compare shapes, and the agreement with a segmenter, of generated and of held-out real pairs."""
    held_out, generated = (part[part.has_mask] for part in (inputs.held_out, inputs.generated))
    lesions = [int(part.masks.any((1, 2)).sum()) for part in (held_out, generated)]
    if min(lesions) < LEAST_SHAPES:
        return Section(
            left_out=f"{lesions[1]} generated and {lesions[0]} held-out real masks with a lesion; {LEAST_SHAPES} or "
            "more of each are needed."
        )
    matched = class_matched(held_out, generated, seed=seed)
    table = compare_shapes(real=held_out.masks[matched.real], generated=generated.masks[matched.generated], seed=seed)
    for name, row in table.rows.items():
        evidence.distributions[name] = Distribution(np.array(row.generated_values), np.array(row.real_values))
    measures, caveats, judged_by = _shape_measures(table), [], []
    missing = len(inputs.generated) - len(generated)
    if missing:
        caveats.append(f"{missing} generated photographs without a mask are left out.")
    empty = len(generated) - lesions[1]
    if empty:
        caveats.append(f"{empty} generated masks are empty: no lesion is drawn in them.")
    if inputs.train.has_mask.any():
        judge, found = _agreement(judges, held_out, generated, matched, evidence, seed)
        measures, judged_by = [*found, *measures], [judge]
    else:
        caveats.append("The real train split has no masks: there is no segmenter to ask whether masks fit.")
    return Section(judges=judged_by, notes=[matched.note], caveats=caveats, measures=measures)


def _shape_measures(table: ShapeTable) -> list[Measure]:
    measures = []
    for name, row in table.rows.items():
        sizes = len(row.generated_values), len(row.real_values)
        measures.append(measured(name, row.generated, held_out_reference(row.real), sizes))
        measures.append(floored_distance(name + DISTANCE, row.kolmogorov_smirnov))
        if row.wasserstein is not None:
            measures.append(floored_distance(name + SHIFT, row.wasserstein))
    return measures


def _agreement(
    judges: Judges, held_out: Part, generated: Part, matched: ClassMatch, evidence: Evidence, seed: int
) -> tuple[str, list[Measure]]:
    """Ask the segmenter: overall on the class-matched parts, of each diagnosis on all of its photographs."""
    segmenter = judges.segmenter
    judge = judge_name(segmenter)
    of_made, of_real = segmenter.masks(generated.images), segmenter.masks(held_out.images)
    measures = _agreement_measures(
        (of_made[matched.generated], generated.masks[matched.generated]),
        (of_real[matched.real], held_out.masks[matched.real]),
        judge,
        None,
        seed,
    )
    for group in sorted({name for name in generated.diagnoses if name is not None}):
        made, real = (np.array([name == group for name in part.diagnoses], bool) for part in (generated, held_out))
        if min(made.sum(), real.sum()) >= LEAST_OF_GROUP:
            both = (of_made[made], generated.masks[made]), (of_real[real], held_out.masks[real])
            measures += _agreement_measures(*both, judge, group, seed)
    dices = [
        np.array([dice(*pair) for pair in zip(predicted, part.masks, strict=True)])
        for predicted, part in ((of_made, generated), (of_real, held_out))
    ]
    evidence.distributions["dice"] = Distribution(dices[0], dices[1])
    evidence.add_column("segmenter_dice", generated.ids, dices[0])
    evidence.add_column("mask_area_fraction", generated.ids, generated.masks.mean((1, 2)))
    return judge, measures


def _agreement_measures(
    generated: tuple[Masks, Masks], held_out: tuple[Masks, Masks], judge: str, group: str | None, seed: int
) -> list[Measure]:
    """All scores of one group; each side is the segmenter's masks and the given ones, [n, s, s]."""
    made, real = (summarise_agreement(*pair, seed=seed) for pair in (generated, held_out))
    sizes = made.n, real.n
    measures = [
        measured(
            f"agreement_{name}",
            made.scores[name].mean,
            held_out_reference(real.scores[name].mean),
            sizes,
            group=group,
            judge=judge,
        )
        for name in AGREEMENT_SCORES
    ]
    difference = compare_agreement(real_scores=real, generated_scores=made, seed=seed)["dice"]
    gap = Estimate(-difference.value, -difference.high, -difference.low)
    none = Reference(kind=HELD_OUT, value=0.0)
    return [*measures, measured("agreement_gap", gap, none, sizes, group=group, judge=judge)]
