"""Prompted attributes other than the diagnosis, as far as pixels or a classifier can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from skindualgen.data.terms import known
from skindualgen.evaluation.evidence import Evidence
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Section
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.pictures import PictureSet, at_side
from skindualgen.judges.trained import Judges, judge_name
from skindualgen.metrics.adherence import (
    LEAST_PHOTOGRAPHS,
    ORDERED_WORDS,
    OrderedWords,
    attribute_hits,
    balanced_rate,
    compare_adherence,
    stated_word,
    word_adherence,
)
from skindualgen.metrics.intervals import Estimate, rate
from skindualgen.metrics.masks import shape_statistics
from skindualgen.metrics.measures import HELD_OUT, Measure, Reference
from skindualgen.metrics.skin_tone import typology_angles

NO_WORDS = (
    "No prompt states a word of size, shape, symmetry, border or skin tone. Body sites are judged with "
    "--site-classifier. Age and sex cannot be read from dermoscopy."
)


def word_measure_name(attribute: str) -> str:
    """Return the name of the measure that says whether an attribute's words are followed."""
    return f"adherence_{attribute.replace(' ', '_')}"


def adherence_section(inputs: Inputs, judges: Judges, evidence: Evidence, *, seed: int, sites: bool) -> Section:
    """Score words of the prompts by measures of the photograph, and body sites by a classifier if asked."""
    generated = inputs.generated.with_masks()
    prompts = [record.prompt for record in generated.data]
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
            measures += _sites_followed(inputs, judges.site_classifier, evidence, seed)
    if not measures:
        return Section(left_out=" ".join(caveats) or NO_WORDS)
    return Section(judges=judged_by, caveats=caveats, measures=measures)


def _words_followed(
    attribute: str, words: OrderedWords, generated: PictureSet, prompts: Sequence[str | None], seed: int
) -> Measure:
    found = word_adherence(prompts, _values(words.measure, generated), words.words, seed=seed)
    counts = ", ".join(f"{count} {word}" for word, count in found.counts.items())
    return Measure(
        key=word_measure_name(attribute),
        name=word_measure_name(attribute),
        **asdict(found.concordance or Estimate(float("nan"))),
        n_generated=sum(found.counts.values()),
        reference=Reference(kind="chance", value=0.5),
        caveat=None
        if found.concordance
        else f"{counts}: two words of {LEAST_PHOTOGRAPHS} photographs or more are needed",
    )


def _values(measure: str, pictures: PictureSet) -> NDArray[np.float64]:
    if measure == "ita_degrees":
        return typology_angles(list(pictures.images), list(pictures.masks))
    return np.array([getattr(shape_statistics(mask), measure) for mask in pictures.masks], np.float64)


def _sites(pictures: PictureSet) -> list[str | None]:
    return [known(record.anatom_site_general) for record in pictures.data]


def _why_no_sites(inputs: Inputs) -> str | None:
    """Return why body sites cannot be judged, None if they can."""
    enough = []
    for pictures in (inputs.train, inputs.held_out, inputs.generated):
        counts = Counter(site for site in _sites(pictures) if site is not None)
        enough.append({site for site, count in counts.items() if count >= LEAST_PHOTOGRAPHS})
    if len(set.intersection(*enough)) >= 2:
        return None
    return (
        f"Body sites were not judged: two or more with {LEAST_PHOTOGRAPHS} photographs each are needed in the train "
        "split, the held-out split and the generated set."
    )


def _sites_followed(inputs: Inputs, classifier: Classifier, evidence: Evidence, seed: int) -> list[Measure]:
    made_scores, real_scores = (
        classifier.probabilities(at_side(pictures.images, classifier.header["image_size_px"]))
        for pictures in (inputs.generated, inputs.held_out)
    )
    made = attribute_hits(truth=_sites(inputs.generated), predicted_scores=made_scores, names=classifier.classes)
    real = attribute_hits(truth=_sites(inputs.held_out), predicted_scores=real_scores, names=classifier.classes)
    read = [classifier.classes[index] for index in made_scores.argmax(1)]
    evidence.add_column("read_site", inputs.generated.ids, read)

    def measure(name: str, found: Estimate, real: Estimate, sizes: tuple[int, int], site: str | None = None) -> Measure:
        reference = Reference.of(HELD_OUT, real)
        return Measure.of(name, found, reference, sizes, group=site, judge=judge_name(classifier))

    sizes = sum(map(len, made.values())), sum(map(len, real.values()))
    rates = balanced_rate(made, seed=seed), balanced_rate(real, seed=seed)
    gap = -compare_adherence(real=real, generated=made, seed=seed)
    measures = [
        measure("site_balanced_accuracy", rates[0], rates[1], sizes),
        measure("site_gap", gap, Estimate(0.0), sizes),
    ]
    for site in made:
        if site in real:
            shares = [rate(int(hits[site].sum()), len(hits[site])) for hits in (made, real)]
            sizes = len(made[site]), len(real[site])
            measures.append(measure("site_accuracy", shares[0], shares[1], sizes, site))
    return measures
