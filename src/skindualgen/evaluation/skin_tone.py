"""Skin tone: the typology angle of the skin around lesions, generated beside held-out real."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skindualgen.evaluation.evidence import Distribution, Evidence
from skindualgen.evaluation.inputs import Inputs, class_matched
from skindualgen.evaluation.measures import floored_distance, held_out_reference, measured
from skindualgen.evaluation.results import Measure, Section
from skindualgen.metrics.intervals import Estimate, bootstrap, mean_of_means, rate
from skindualgen.metrics.skin_tone import CALIBRATION_NOTE, CATEGORIES, THIN, ToneGroup, compare_tones, skin_tones

LEAST_TONES = 4
"""Photographs with measurable skin, in each set, from which on sets are compared."""


def tone_share_name(category: str) -> str:
    """Return the name of the measure that is the share of a category."""
    return f"skin_{category.replace(' ', '_')}"


def skin_tone_section(inputs: Inputs, evidence: Evidence, *, seed: int) -> Section:
    """Measure the skin of all photographs with a mask; overall at the class proportions of the held-out ones."""
    held_out, generated = (part[part.has_mask] for part in (inputs.held_out, inputs.generated))
    if min(len(held_out), len(generated)) < LEAST_TONES:
        return Section(left_out="Skin is measured outside the lesion: both sets need photographs with masks.")
    real_tones, made_tones = (skin_tones(list(part.images), list(part.masks)) for part in (held_out, generated))
    measured = [sum(tone.ita_degrees is not None for tone in tones) for tones in (real_tones, made_tones)]
    if min(measured) < LEAST_TONES:
        return Section(
            left_out=f"{measured[1]} generated and {measured[0]} held-out real photographs show enough skin."
        )
    matched = class_matched(held_out, generated, seed=seed)
    overall = compare_tones(
        real=[tone for tone, chosen in zip(real_tones, matched.real, strict=True) if chosen],
        generated=[tone for tone, chosen in zip(made_tones, matched.generated, strict=True) if chosen],
        real_diagnoses=[None] * int(matched.real.sum()),
        generated_diagnoses=[None] * int(matched.generated.sum()),
        seed=seed,
    )
    table = compare_tones(
        real=real_tones,
        generated=made_tones,
        real_diagnoses=held_out.diagnoses,
        generated_diagnoses=generated.diagnoses,
        seed=seed,
    )
    measures = _measures(overall.overall, None, seed)
    for name, group in table.by_diagnosis.items():
        measures += _measures(group, name, seed)
    whole = overall.overall
    evidence.distributions["ita"] = Distribution(
        np.array(whole.generated_degrees), np.array(whole.real_degrees), unit="degrees"
    )
    evidence.add_column("ita_degrees", generated.ids, [tone.ita_degrees for tone in made_tones])
    return Section(
        notes=[matched.note, CALIBRATION_NOTE], caveats=_thin_caveats(whole, table.by_diagnosis), measures=measures
    )


def _thin_caveats(whole: ToneGroup, by_diagnosis: Mapping[str, ToneGroup]) -> list[str]:
    """Where real photographs are too few, in one line over all and one by diagnosis."""
    found = []
    if whole.thin:
        counts = ", ".join(
            f"{name} ({whole.categories[name].real} real, {whole.categories[name].generated} generated)"
            for name in whole.thin
        )
        found.append(
            f"Fewer than {THIN} real photographs, too thin to judge by: {counts}. There, generated skin extrapolates."
        )
    groups = [f"{name}: {', '.join(group.thin)}" for name, group in by_diagnosis.items() if group.thin]
    if groups:
        found.append(f"Too thin by diagnosis: {'; '.join(groups)}.")
    return found


def _measures(group: ToneGroup, name: str | None, seed: int) -> list[Measure]:
    made, real = np.array(group.generated_degrees), np.array(group.real_degrees)
    sizes = len(made), len(real)
    measures = []
    if group.wasserstein_degrees is not None:
        found = group.wasserstein_degrees
        measures.append(floored_distance("ita_distance", found, group=name, caveat=_thin(len(real))))
        measures.append(
            measured("ita_mean", _mean(made, seed), held_out_reference(_mean(real, seed)), sizes, group=name)
        )
    if name is None:
        for category in CATEGORIES:
            counts = group.categories[category]
            if counts.generated_share is not None and counts.real_share is not None:
                share, beside = counts.generated_share, held_out_reference(counts.real_share)
                measures.append(measured(tone_share_name(category), share, beside, sizes, caveat=_thin(counts.real)))
        totals = group.generated_unmeasured + len(made), group.real_unmeasured + len(real)
        unmeasured = rate(group.generated_unmeasured, totals[0]), rate(group.real_unmeasured, totals[1])
        measures.append(measured("skin_unmeasured", unmeasured[0], held_out_reference(unmeasured[1]), totals))
    return measures


def _thin(count: int) -> str | None:
    return f"{count} real photographs: too thin to judge by" if count < THIN else None


def _mean(values: np.ndarray, seed: int) -> Estimate:
    return bootstrap([values], mean_of_means, seed=seed)
