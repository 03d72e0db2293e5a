"""Skin tone: the typology angle of the skin around lesions, generated next to held-out real."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skindualgen.evaluation.evidence import Distribution, Evidence
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Section
from skindualgen.judges.matching import class_matched
from skindualgen.metrics.skin_tone import (
    CALIBRATION_NOTE,
    LEAST_TONES,
    THIN,
    Floats,
    category_counts,
    thin_categories,
    tone_measures,
    typology_angles,
)


def skin_tone_section(inputs: Inputs, evidence: Evidence, *, seed: int) -> Section:
    """Measure the skin of all photographs with a mask; overall at the class proportions of the held-out ones."""
    held_out, generated = inputs.held_out.with_masks(), inputs.generated.with_masks()
    if min(len(held_out), len(generated)) < LEAST_TONES:
        return Section(left_out="Skin is measured outside the lesion: both sets need photographs with masks.")
    real, made = (typology_angles(list(part.images), list(part.masks)) for part in (held_out, generated))
    measured = [int(np.isfinite(angles).sum()) for angles in (real, made)]
    if min(measured) < LEAST_TONES:
        return Section(
            left_out=f"{measured[1]} generated and {measured[0]} held-out real photographs show enough skin."
        )
    kept, chosen, note = class_matched(held_out, generated, seed=seed)
    whole = real[kept], made[chosen]
    measures = tone_measures(real=whole[0], generated=whole[1], seed=seed)
    by_diagnosis = {}
    for name in sorted({*held_out.named_diagnoses, *generated.named_diagnoses}):
        of_real, of_made = real[held_out.of_diagnosis(name)], made[generated.of_diagnosis(name)]
        by_diagnosis[name] = _measured(of_real)
        if len(of_real) and len(of_made):
            measures += tone_measures(real=of_real, generated=of_made, seed=seed, group=name)
    evidence.distributions["ita"] = Distribution(_measured(whole[1]), _measured(whole[0]))
    evidence.add_column("ita_degrees", generated.ids, made)
    caveats = _thin_caveats(real=_measured(whole[0]), generated=_measured(whole[1]), by_diagnosis=by_diagnosis)
    return Section(notes=[note, CALIBRATION_NOTE], caveats=caveats, measures=measures)


def _measured(angles: Floats) -> Floats:
    return angles[np.isfinite(angles)]


def _thin_caveats(*, real: Floats, generated: Floats, by_diagnosis: Mapping[str, Floats]) -> list[str]:
    """Where real photographs are too few, in one line over all and one by diagnosis."""
    found = []
    of_real, of_generated = category_counts(real), category_counts(generated)
    thin = ", ".join(f"{name} ({of_real[name]} real, {of_generated[name]} generated)" for name in thin_categories(real))
    if thin:
        found.append(
            f"Fewer than {THIN} real photographs, too thin to judge by: {thin}. There, generated skin extrapolates."
        )
    groups = [f"{name}: {', '.join(few)}" for name, angles in by_diagnosis.items() if (few := thin_categories(angles))]
    if groups:
        found.append(f"Too thin by diagnosis: {'; '.join(groups)}.")
    return found
