"""Class fidelity: does an independent classifier read in a generated photograph the diagnosis it was prompted with?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import CHOOSER_FIELD, InputError
from skindualgen.evaluation.evidence import Evidence
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Confusion, DiagnosisSection
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.pictures import PictureSet, at_side
from skindualgen.judges.trained import Judges, judge_name
from skindualgen.metrics.intervals import CONFIDENCE, Estimate, cluster_resamples, rate
from skindualgen.metrics.measures import HELD_OUT, Measure, Reference
from skindualgen.metrics.outcomes import ClassificationOutcome
from skindualgen.metrics.scores import CLASSIFICATION_METRICS, value
from skindualgen.metrics.teaching import teaching

FEW_OF_CLASS = 20
"""Fewer held-out photographs of a class make its reference no more than a hint."""
AS_MANY_REAL = "as many real photographs"
MOST_UNDEFINED = 0.5
"""Share of resamples without a photograph of some class above which a score has no interval."""


@dataclass(frozen=True)
class Readings:
    """What the classifier read in one part: its outcome, the photographs' ids and lesions."""

    outcome: ClassificationOutcome
    ids: list[str]
    lesions: list[str]

    @property
    def truth(self) -> list[str]:
        """The prompted or true diagnosis of each photograph."""
        return [self.outcome.classes[index] for index in self.outcome.truth]

    @property
    def predicted(self) -> list[str]:
        """The most probable diagnosis of each photograph."""
        return [self.outcome.classes[index] for index in self.outcome.probabilities.argmax(1)]

    @property
    def probability_of_truth(self) -> NDArray[np.float64]:
        """The probability of the prompted or true diagnosis, [n]."""
        return self.outcome.probabilities[np.arange(len(self.ids)), self.outcome.truth]


def read_diagnoses(classifier: Classifier, pictures: PictureSet) -> Readings | None:
    """Let a classifier read the photographs whose diagnosis it knows; None if there are none."""
    classes = classifier.terms
    chosen = pictures.take(np.array([name in classes for name in pictures.diagnoses], bool))
    if not len(chosen):
        return None
    images = at_side(chosen.images, classifier.header["image_size_px"])
    probabilities = classifier.probabilities(images).astype(np.float64)
    truth = np.array([classes.index(str(name)) for name in chosen.diagnoses], np.int64)
    outcome = ClassificationOutcome(classes, truth, probabilities / probabilities.sum(1, keepdims=True))
    return Readings(outcome, chosen.ids, chosen.groups)


def diagnosis_section(
    inputs: Inputs, judges: Judges, evidence: Evidence, extractor: FeatureExtractor, *, seed: int
) -> DiagnosisSection:
    """Let the classifier read generated and held-out real photographs, and measure what the former teach.

    Args:
        extractor: features that a plain classifier is trained on, see :mod:`skindualgen.metrics.teaching`.
    """
    labelled = [name for name in inputs.train.diagnoses if name is not None]
    if len(set(labelled)) < 2:
        return DiagnosisSection(left_out="The real train split states fewer than two diagnoses: nothing to tell apart.")
    if not any(name in labelled for name in inputs.generated.diagnoses):
        return DiagnosisSection(left_out="No generated photograph states a diagnosis that the train split has.")
    classifier = judges.classifier
    held_out, generated = (read_diagnoses(classifier, part) for part in (inputs.held_out, inputs.generated))
    if held_out is None or generated is None:
        return DiagnosisSection(left_out="The classifier knows none of the diagnoses of one of the sets.")
    evidence.add_column("read_diagnosis", generated.ids, generated.predicted)
    evidence.add_column("diagnosis_probability", generated.ids, generated.probability_of_truth)
    judge = judge_name(classifier)
    section = measure_diagnoses(held_out=held_out, generated=generated, judge=judge, seed=seed)
    section = section.model_copy(update={"measures": [*section.measures, *taught(inputs, extractor, seed=seed)]})
    caveats = []
    if unread := len(inputs.generated) - len(generated.ids):
        caveats.append(f"{unread} generated photographs without a diagnosis that the classifier knows are left out.")
    if own := sum((r.model_extra or {}).get(CHOOSER_FIELD) == classifier.sha256 for r in inputs.generated.data):
        caveats.append(
            f"{own} generated photographs were chosen among candidates by this very classifier (--best-of): it reads "
            "them better than another would: judges of your own (--train-judges) or --classifier are independent."
        )
    return section.model_copy(update={"caveats": [*caveats, *section.caveats]})


def measure_diagnoses(*, held_out: Readings, generated: Readings, judge: str, seed: int) -> DiagnosisSection:
    """Measure accuracy, confusion and AUROC of generated photographs, next to held-out real ones.

    Args:
        held_out, generated: readings of one classifier.
        judge: its name, for the report.
        seed: of the resampling.
    """
    shared = sorted(set(held_out.truth) & set(generated.truth))
    caveats = []
    if set(held_out.truth) != set(generated.truth):
        caveats.append(
            f"Generated photographs are of {', '.join(sorted(set(generated.truth)))}; held-out real ones of "
            f"{', '.join(sorted(set(held_out.truth)))}: means over the classes are not means over the same ones."
        )
    measures: list[Measure] = []

    def measure(name: str, score: Callable[[Readings], Estimate], group: str | None = None) -> None:
        made, real = score(generated), score(held_out)
        sizes = [len(each.truth) if group is None else each.truth.count(group) for each in (generated, held_out)]
        caveat = None if np.isfinite(made.value) else "all generated photographs are of one diagnosis"
        reference = Reference.of(HELD_OUT, real)
        measures.append(
            Measure.of(name, made, reference, (sizes[0], sizes[1]), group=group, judge=judge, caveat=caveat)
        )

    measure("class_balanced_accuracy", lambda each: _score("balanced_accuracy", each, seed))
    measure("class_auroc", lambda each: _score("macro_auroc", each, seed))
    for name in sorted(set(generated.truth)):
        measure("class_accuracy", partial(_recall, name), name)
        measure("class_auroc", partial(_one_against_rest, name, seed=seed), name)
    thin = [name for name in shared if held_out.truth.count(name) < FEW_OF_CLASS]
    if thin:
        caveats.append(
            f"Fewer than {FEW_OF_CLASS} held-out real photographs of {', '.join(thin)}: its reference is a hint only."
        )
    return DiagnosisSection(
        judges=[judge],
        caveats=caveats,
        measures=measures,
        generated=confusion(generated.outcome),
        held_out=confusion(held_out.outcome),
    )


def taught(inputs: Inputs, extractor: FeatureExtractor, *, seed: int) -> list[Measure]:
    """Measure what a plain classifier learns from generated photographs, next to as many real ones."""

    def measure(
        name: str, made: Estimate, real: Estimate, sizes: tuple[int, int], caveat: str | None = None
    ) -> Measure:
        return Measure.of(name, made, Reference.of(AS_MANY_REAL, real), sizes, judge=extractor.name, caveat=caveat)

    try:
        found = teaching(
            generated=(inputs.generated.features(extractor), inputs.generated.diagnoses),
            train=(inputs.train.features(extractor), inputs.train.diagnoses),
            held_out=(inputs.held_out.features(extractor), inputs.held_out.diagnoses),
            seed=seed,
        )
    except InputError as error:
        sizes, nothing = (len(inputs.generated), len(inputs.held_out)), Estimate(float("nan"))
        caveat = f"not measured: {error.got}"
        return [measure(name, nothing, nothing, sizes, caveat) for name in ("taught_accuracy", "taught_share")]
    sizes = found.per_class * len(found.classes), found.n_test
    weak = None if found.gain > 0 else "real photographs teach nothing either, so there is no share of it"
    return [
        measure("taught_accuracy", found.generated, found.real, sizes),
        measure("taught_share", found.share, Estimate(1.0), sizes, weak),
    ]


def confusion(outcome: ClassificationOutcome) -> Confusion:
    """Count the photographs of each true class (rows) by the class that was read (columns)."""
    size = len(outcome.classes)
    counts = np.bincount(outcome.truth * size + outcome.probabilities.argmax(1), minlength=size**2)
    return Confusion(classes=outcome.classes, counts=counts.reshape(size, size).tolist())


def _score(name: str, readings: Readings, seed: int) -> Estimate:
    """Score with a percentile interval over lesions; NaN where the score or its interval is undefined."""
    metric = CLASSIFICATION_METRICS[name]
    score = value(metric, readings.outcome)
    if not np.isfinite(score) or len(set(readings.lesions)) < 2:
        return Estimate(score)
    resampled = metric.score(readings.outcome, cluster_resamples(tuple(readings.lesions), seed))
    if np.isnan(resampled).mean() > MOST_UNDEFINED:
        return Estimate(score)
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(score, float(low), float(high))


def _recall(name: str, readings: Readings) -> Estimate:
    hits = [read == name for read, truth in zip(readings.predicted, readings.truth, strict=True) if truth == name]
    return rate(sum(hits), len(hits)) if hits else Estimate(float("nan"))


def _one_against_rest(name: str, readings: Readings, seed: int) -> Estimate:
    index = readings.outcome.classes.index(name)
    truth = (readings.outcome.truth == index).astype(np.int64)
    share = readings.outcome.probabilities[:, index].clip(0, 1)
    outcome = ClassificationOutcome(["rest", name], truth, np.stack([1 - share, share], 1))
    return _score("macro_auroc", Readings(outcome, readings.ids, readings.lesions), seed)
