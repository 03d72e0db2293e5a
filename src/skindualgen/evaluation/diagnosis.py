"""Class fidelity: does an independent classifier read in a generated photograph the diagnosis it was prompted with?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skindualgen.benchmarking.statistics import ArmOutcomes, resampled_scores
from skindualgen.contracts import InputError
from skindualgen.data.terms import diagnosis_term
from skindualgen.evaluation.evidence import Evidence
from skindualgen.evaluation.inputs import Inputs, Part
from skindualgen.evaluation.judges import Judges, at_side, judge_name
from skindualgen.evaluation.measures import held_out_reference, measured
from skindualgen.evaluation.results import Confusion, DiagnosisSection, Measure, Reference
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.features import FeatureExtractor
from skindualgen.metrics.intervals import CONFIDENCE, Estimate, rate
from skindualgen.metrics.outcomes import CLASSIFICATION_METRICS, ClassificationOutcome, Metric, value
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


def read_labels(classifier: Classifier, part: Part, labels: Sequence[str | None]) -> Readings | None:
    """Let the classifier read the photographs whose label it knows; None if there are none.

    Args:
        classifier: trained on the real train split.
        part: the photographs, brought to the classifier's own side here.
        labels: of the photographs, in the ISIC Archive's terms.
    """
    classes = [diagnosis_term(name) or name for name in classifier.classes]
    known = np.array([label in classes for label in labels], bool)
    if not known.any():
        return None
    chosen = part[known]
    images = at_side(chosen.images, classifier.header["image_size_px"])
    probabilities = classifier.probabilities(images).astype(np.float64)
    truth = np.array([classes.index(str(label)) for label in labels if label in classes], np.int64)
    outcome = ClassificationOutcome(classes, truth, probabilities / probabilities.sum(1, keepdims=True))
    return Readings(outcome, chosen.ids, chosen.pictures.groups)


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
    held_out, generated = (
        read_labels(classifier, part, part.diagnoses) for part in (inputs.held_out, inputs.generated)
    )
    if held_out is None or generated is None:
        return DiagnosisSection(left_out="The classifier knows none of the diagnoses of one of the sets.")
    evidence.add_column("read_diagnosis", generated.ids, generated.predicted)
    evidence.add_column("diagnosis_probability", generated.ids, generated.probability_of_truth)
    judge = judge_name(classifier)
    section = measure_diagnoses(held_out=held_out, generated=generated, judge=judge, seed=seed)
    section = section.model_copy(update={"measures": [*section.measures, *taught(inputs, extractor, seed=seed)]})
    unread = len(inputs.generated) - len(generated.ids)
    if not unread:
        return section
    caveat = f"{unread} generated photographs without a diagnosis that the classifier knows are left out."
    return section.model_copy(update={"caveats": [caveat, *section.caveats]})


def measure_diagnoses(*, held_out: Readings, generated: Readings, judge: str, seed: int) -> DiagnosisSection:
    """Measure accuracy, confusion and AUROC of generated photographs, beside held-out real ones.

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
    measures = [
        _of_all("class_balanced_accuracy", "balanced_accuracy", held_out, generated, judge, seed),
        _of_all("class_auroc", "macro_auroc", held_out, generated, judge, seed),
    ]
    for name in sorted(set(generated.truth)):
        measures.append(_recall(name, held_out, generated, judge))
        measures.append(_one_against_rest(name, held_out, generated, judge, seed))
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
    """Measure what a plain classifier learns from generated photographs, beside as many real ones."""
    sizes = len(inputs.generated), len(inputs.held_out)
    try:
        found = teaching(
            generated=(extractor(inputs.generated.images), inputs.generated.diagnoses),
            train=(extractor(inputs.train.images), inputs.train.diagnoses),
            held_out=(extractor(inputs.held_out.images), inputs.held_out.diagnoses),
            seed=seed,
        )
    except InputError as error:
        caveat = f"not measured: {error.got}"
        none = Estimate(float("nan"), float("nan"), float("nan"))
        reference = Reference(kind=AS_MANY_REAL, value=None)
        return [
            measured(name, none, reference, sizes, judge=extractor.name, caveat=caveat)
            for name in ("taught_accuracy", "taught_share")
        ]
    sizes = found.per_class * len(found.classes), found.n_test
    real, chance = found.real, found.chance
    gain = real.value - chance
    share = Estimate(
        found.share,
        (found.generated.low - chance) / gain if gain > 0 else float("nan"),
        (found.generated.high - chance) / gain if gain > 0 else float("nan"),
    )
    weak = None if gain > 0 else "real photographs teach nothing either, so there is no share of it"
    accuracy_reference = Reference(kind=AS_MANY_REAL, value=real.value, low=real.low, high=real.high)
    return [
        measured("taught_accuracy", found.generated, accuracy_reference, sizes, judge=extractor.name),
        measured(
            "taught_share", share, Reference(kind=AS_MANY_REAL, value=1.0), sizes, judge=extractor.name, caveat=weak
        ),
    ]


def confusion(outcome: ClassificationOutcome) -> Confusion:
    """Count the photographs of each true class (rows) by the class that was read (columns)."""
    size = len(outcome.classes)
    counts = np.bincount(outcome.truth * size + outcome.probabilities.argmax(1), minlength=size**2)
    return Confusion(classes=outcome.classes, counts=counts.reshape(size, size).tolist())


def _estimate(metric: Metric, readings: Readings, seed: int) -> Estimate:
    """Score with a percentile interval over lesions; NaN where the score or its interval is undefined."""
    score = value(metric, readings.outcome)
    if not np.isfinite(score) or len(set(readings.lesions)) < 2:
        return Estimate(score, float("nan"), float("nan"))
    resampled = resampled_scores(metric, ArmOutcomes({seed: readings.outcome}), groups=readings.lesions, seed=seed)
    if np.isnan(resampled).mean() > MOST_UNDEFINED:
        return Estimate(score, float("nan"), float("nan"))
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(score, float(low), float(high))


def _of_all(name: str, metric: str, held_out: Readings, generated: Readings, judge: str, seed: int) -> Measure:
    made, real = (_estimate(CLASSIFICATION_METRICS[metric], part, seed) for part in (generated, held_out))
    sizes = len(generated.outcome), len(held_out.outcome)
    return measured(name, made, held_out_reference(real), sizes, judge=judge, caveat=_why_undefined(made))


def _recall(name: str, held_out: Readings, generated: Readings, judge: str) -> Measure:
    estimates, sizes = [], []
    for part in (generated, held_out):
        right = [read == name for read, truth in zip(part.predicted, part.truth, strict=True) if truth == name]
        sizes.append(len(right))
        nan = float("nan")
        estimates.append(rate(sum(right), len(right)) if right else Estimate(nan, nan, nan))
    made, real = estimates
    reference = held_out_reference(real)
    return measured("class_accuracy", made, reference, (sizes[0], sizes[1]), group=name, judge=judge)


def _one_against_rest(name: str, held_out: Readings, generated: Readings, judge: str, seed: int) -> Measure:
    estimates = []
    for part in (generated, held_out):
        index = part.outcome.classes.index(name)
        truth = (part.outcome.truth == index).astype(np.int64)
        share = part.outcome.probabilities[:, index].clip(0, 1)
        outcome = ClassificationOutcome(["rest", name], truth, np.stack([1 - share, share], 1))
        estimates.append(
            _estimate(CLASSIFICATION_METRICS["macro_auroc"], Readings(outcome, part.ids, part.lesions), seed)
        )
    sizes = generated.truth.count(name), held_out.truth.count(name)
    made, real = estimates
    reference, caveat = held_out_reference(real), _why_undefined(made)
    return measured("class_auroc", made, reference, sizes, group=name, judge=judge, caveat=caveat)


def _why_undefined(made: Estimate) -> str | None:
    return None if np.isfinite(made.value) else "all generated photographs are of one diagnosis"
