"""Prompted attributes other than the diagnosis, as far as pixels or a classifier can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skindualgen.data.terms import known
from skindualgen.evaluation.evidence import Evidence
from skindualgen.evaluation.inputs import Inputs, Part
from skindualgen.evaluation.judges import Judges, at_side, judge_name
from skindualgen.evaluation.measures import HELD_OUT, held_out_reference, measured
from skindualgen.evaluation.results import Measure, Reference, Section
from skindualgen.judges.classifier import Classifier
from skindualgen.metrics.adherence import (
    LEAST_PHOTOGRAPHS,
    ORDERED_WORDS,
    AttributeAdherence,
    OrderedWords,
    attribute_adherence,
    compare_adherence,
    stated_word,
    word_adherence,
)
from skindualgen.metrics.intervals import Estimate, rate
from skindualgen.metrics.masks import shape_statistics
from skindualgen.metrics.skin_tone import skin_tones

NO_WORDS = (
    "No prompt states a word of size, shape, symmetry, border or skin tone. Body sites are judged with "
    "--site-classifier. Age and sex cannot be read from dermoscopy."
)


def word_measure_name(attribute: str) -> str:
    """Return the name of the measure that says whether an attribute's words are followed."""
    return f"adherence_{attribute.replace(' ', '_')}"


def adherence_section(inputs: Inputs, judges: Judges, evidence: Evidence, *, seed: int, sites: bool) -> Section:
    """Score words of the prompts by measures of the photograph, and body sites by a classifier if asked."""
    generated = inputs.generated[inputs.generated.has_mask]
    prompts = [record.prompt for record in generated.records]
    measures, caveats, judged_by = [], [], []
    for attribute, words in ORDERED_WORDS.items():
        if any(stated_word(prompt, words.words) for prompt in prompts):
            measures.append(_words_followed(attribute, words, generated, prompts, seed))
    if sites:
        reason = _why_no_sites(inputs)
        if reason:
            caveats.append(reason)
        else:
            judged_by = [judge_name(judges.site_classifier)]
            measures += _sites_followed(inputs, judges.site_classifier, judged_by[0], evidence, seed)
    if not measures:
        return Section(left_out=" ".join(caveats) or NO_WORDS)
    return Section(judges=judged_by, caveats=caveats, measures=measures)


def _words_followed(
    attribute: str, words: OrderedWords, generated: Part, prompts: Sequence[str | None], seed: int
) -> Measure:
    found = word_adherence(prompts, _values(words.measure, generated), words.words, seed=seed)
    counts = ", ".join(f"{count} {word}" for word, count in found.counts.items())
    estimate = found.concordance
    return Measure(
        key=word_measure_name(attribute),
        name=word_measure_name(attribute),
        value=estimate and estimate.value,
        low=estimate and estimate.low,
        high=estimate and estimate.high,
        n_generated=sum(found.counts.values()),
        reference=Reference(kind="chance", value=0.5),
        caveat=None if estimate else f"{counts}: two words of {LEAST_PHOTOGRAPHS} photographs or more are needed",
    )


def _values(measure: str, part: Part) -> NDArray[np.float64]:
    if measure == "ita_degrees":
        angles = [tone.ita_degrees for tone in skin_tones(list(part.images), list(part.masks))]
        return np.array([np.nan if angle is None else angle for angle in angles])
    return np.array([getattr(shape_statistics(mask), measure) for mask in part.masks], np.float64)


def _sites(part: Part) -> list[str | None]:
    return [known(record.anatom_site_general) for record in part.records]


def _why_no_sites(inputs: Inputs) -> str | None:
    """Return why body sites cannot be judged, None if they can."""
    shared = None
    for part in (inputs.train, inputs.held_out, inputs.generated):
        counts = Counter(site for site in _sites(part) if site is not None)
        enough = {site for site, count in counts.items() if count >= LEAST_PHOTOGRAPHS}
        shared = enough if shared is None else shared & enough
    if shared is not None and len(shared) >= 2:
        return None
    return (
        f"Body sites were not judged: two or more with {LEAST_PHOTOGRAPHS} photographs each are needed in the train "
        "split, the held-out split and the generated set."
    )


def _sites_followed(inputs: Inputs, classifier: Classifier, judge: str, evidence: Evidence, seed: int) -> list[Measure]:
    held_out, generated = (_site_readings(classifier, part, seed) for part in (inputs.held_out, inputs.generated))
    evidence.add_column("read_site", inputs.generated.ids, generated[1])
    made, real = generated[0], held_out[0]
    gap = compare_adherence(real=real, generated=made, seed=seed)
    sizes, beside = (_count(made), _count(real)), held_out_reference(real.balanced_accuracy)
    none, lack = Reference(kind=HELD_OUT, value=0.0), Estimate(-gap.value, -gap.high, -gap.low)
    measures = [
        measured("site_balanced_accuracy", made.balanced_accuracy, beside, sizes, judge=judge),
        measured("site_gap", lack, none, sizes, judge=judge),
    ]
    for site, hits in made.hits.items():
        if site in real.hits:
            both = [rate(sum(row), len(row)) for row in (hits, real.hits[site])]
            sizes, beside = (len(hits), len(real.hits[site])), held_out_reference(both[1])
            measures.append(measured("site_accuracy", both[0], beside, sizes, group=site, judge=judge))
    return measures


def _site_readings(classifier: Classifier, part: Part, seed: int) -> tuple[AttributeAdherence, list[str]]:
    scores = classifier.probabilities(at_side(part.images, classifier.header["image_size_px"]))
    found = attribute_adherence(truth=_sites(part), predicted_scores=scores, names=classifier.classes, seed=seed)
    return found, [classifier.classes[index] for index in scores.argmax(1)]


def _count(found: AttributeAdherence) -> int:
    return sum(map(len, found.hits.values()))
