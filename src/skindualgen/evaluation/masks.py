"""Masks: their shapes next to experts' masks, and how well they fit their photographs."""

from __future__ import annotations

from skindualgen.evaluation.evidence import Distribution, Evidence
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Section
from skindualgen.judges.matching import Positions, class_matched
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.trained import Judges, judge_name
from skindualgen.metrics.mask_tables import LEAST_SHAPES, agreement_measures, agreement_values, compare_shapes
from skindualgen.metrics.measures import Measure

LEAST_OF_GROUP = 2
"""Pairs of a diagnosis, in each set, from which on it has a row of its own."""


def masks_section(inputs: Inputs, judges: Judges, evidence: Evidence, *, seed: int) -> Section:
    """Compare shapes, and the agreement with a segmenter, of generated and of held-out real pairs."""
    held_out, generated = inputs.held_out.with_masks(), inputs.generated.with_masks()
    lesions = [int(part.masks.any((1, 2)).sum()) for part in (held_out, generated)]
    if min(lesions) < LEAST_SHAPES:
        return Section(
            left_out=f"{lesions[1]} generated and {lesions[0]} held-out real masks with a lesion; {LEAST_SHAPES} or "
            "more of each are needed."
        )
    *matched, note = class_matched(held_out, generated, seed=seed)
    shapes = compare_shapes(real=held_out.masks[matched[0]], generated=generated.masks[matched[1]], seed=seed)
    for name, values in shapes.generated.items():
        evidence.distributions[name] = Distribution(values, shapes.real[name])
    measures, caveats, judged_by = shapes.measures, [], []
    missing = len(inputs.generated) - len(generated)
    if missing:
        caveats.append(f"{missing} generated photographs without a mask are left out.")
    empty = len(generated) - lesions[1]
    if empty:
        caveats.append(f"{empty} generated masks are empty: no lesion is drawn in them.")
    if inputs.train.has_mask.any():
        judged_by = [judge_name(judges.segmenter)]
        measures = [*_agreement(judges, held_out, generated, matched, evidence, seed), *measures]
    else:
        caveats.append("The real train split has no masks: there is no segmenter to ask whether masks fit.")
    return Section(judges=judged_by, notes=[note], caveats=caveats, measures=measures)


def _agreement(
    judges: Judges, held_out: PictureSet, generated: PictureSet, matched: list[Positions], evidence: Evidence, seed: int
) -> list[Measure]:
    """Ask the segmenter: overall on the class-matched parts, of each diagnosis on all of its photographs."""
    segmenter = judges.segmenter
    real, made = (
        agreement_values(segmenter.masks(part.images), part.masks, part.ignored) for part in (held_out, generated)
    )
    parts: dict[str | None, list[Positions]] = {None: matched}
    for diagnosis in generated.named_diagnoses:
        members = [part.of_diagnosis(diagnosis).nonzero()[0] for part in (held_out, generated)]
        if min(map(len, members)) >= LEAST_OF_GROUP:
            parts[diagnosis] = members
    measures = []
    for group, (of_real, of_made) in parts.items():
        measures += agreement_measures(
            real={name: values[of_real] for name, values in real.items()},
            generated={name: values[of_made] for name, values in made.items()},
            seed=seed,
            group=group,
            judge=judge_name(segmenter),
        )
    evidence.distributions["dice"] = Distribution(made["dice"], real["dice"])
    evidence.add_column("segmenter_dice", generated.ids, made["dice"])
    evidence.add_column("mask_area_fraction", generated.ids, generated.masks.mean((1, 2)))
    return measures
