"""Memorisation: are generated photographs copies of training photographs, or of each other?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from skindualgen.evaluation.evidence import Couple, Distribution, Evidence
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Copy, MemorisationSection
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.novelty import NEAR_COPY_QUANTILE, Match, Novelty, novelty
from skindualgen.metrics.intervals import Estimate, rate
from skindualgen.metrics.measures import HELD_OUT, Measure, Reference

SHOWN_COUPLES = 24
BY_DEFINITION = "unseen real, by definition"


def memorisation_section(inputs: Inputs, extractor: FeatureExtractor, evidence: Evidence) -> MemorisationSection:
    """Compare generated photographs with the train split, against held-out real ones; collect the closest couples."""
    train, held_out, generated = inputs.train, inputs.held_out, inputs.generated
    found = novelty(generated=generated, held_out=held_out, train=train, extractor=extractor)
    _collect(inputs, found, evidence)
    return MemorisationSection(
        judges=[
            f"{extractor.name}: {extractor.preprocessing}",
            "fit after laying photographs over each other",
            "perceptual hash of 64 bits (shown, not a rule)",
        ],
        caveats=_caveats(inputs, found),
        measures=_measures(inputs, found, extractor.name),
        feature_threshold=found.threshold,
        fit_threshold=found.fit_threshold,
        near_copies=[_copy(match, generated.ids, train.ids) for match in found.near_copies],
        duplicates=[_copy(match, generated.ids, generated.ids) for match in found.duplicates],
    )


def _copy(match: Match, ids: list[str], other_ids: list[str]) -> Copy:
    rules = [name for name, hit in (("features", match.by_features), ("alignment", match.by_alignment)) if hit]
    return Copy(
        generated=ids[match.index],
        other=other_ids[match.other],
        feature_distance=match.feature_distance,
        misfit_ratio=match.misfit_ratio,
        hash_bits=match.hash_bits,
        found_by=rules,
    )


def _measures(inputs: Inputs, found: Novelty, judge: str) -> list[Measure]:
    generated = inputs.generated

    def of(
        name: str, estimate: Estimate, reference: Reference, group: str | None = None, n: int | None = None
    ) -> Measure:
        sizes = len(generated) if n is None else n, len(inputs.held_out)
        return Measure.of(name, estimate, reference, sizes, group=group, judge=judge)

    expected = Reference(kind=BY_DEFINITION, value=found.expected_rate)
    even = Reference(kind=BY_DEFINITION, value=0.5)
    measures = [
        of("near_copy_rate", found.near_copy_rate, expected),
        of("closer_than_held_out", Estimate(found.closer_than_held_out), even),
        of("fits_better_than_held_out", Estimate(found.fits_better_than_held_out), even),
        of("duplicate_rate", found.duplicate_rate, Reference.of(HELD_OUT, found.held_out_duplicate_rate)),
    ]
    for group in generated.named_diagnoses:
        hits = found.is_near_copy[generated.of_diagnosis(group)]
        measures.append(of("near_copy_rate", rate(int(hits.sum()), len(hits)), expected, group, len(hits)))
    return measures


def _caveats(inputs: Inputs, found: Novelty) -> list[str]:
    if found.expected_rate <= NEAR_COPY_QUANTILE:
        return []
    return [
        f"With {len(inputs.held_out)} held-out photographs the thresholds are set by the very nearest of them: of "
        f"photographs that copy nothing, up to {found.expected_rate:.1%} may be flagged. Look at the couples."
    ]


def _collect(inputs: Inputs, found: Novelty, evidence: Evidence) -> None:
    train, generated = inputs.train, inputs.generated
    evidence.thresholds |= {"train_distance": found.threshold, "train_fit": found.fit_threshold}
    evidence.distributions |= {
        "train_distance": Distribution(found.generated.features.distance, found.held_out.features.distance),
        "train_fit": Distribution(found.generated.fit.distance, found.held_out.fit.distance),
    }
    evidence.add_column("near_copy", generated.ids, found.is_near_copy.astype(int))
    for name, near in (
        ("feature_distance", found.generated.features),
        ("hash_bits", found.generated.bits),
        ("misfit_ratio", found.generated.fit),
    ):
        evidence.add_column(f"nearest_by_{name}", generated.ids, [train.ids[i] for i in near.index])
        evidence.add_column(name, generated.ids, near.distance)
    shown = {match.index: (match.other, match.feature_distance) for match in found.near_copies}
    near = found.generated.features
    for i in np.argsort(near.distance, kind="stable"):
        shown.setdefault(int(i), (int(near.index[i]), float(near.distance[i])))
    evidence.couples = [
        Couple(
            generated=Image.fromarray(generated.images[i]),
            train=Image.fromarray(train.images[other]),
            generated_id=generated.ids[i],
            train_id=train.ids[other],
            distance=distance,
            near_copy=bool(found.is_near_copy[i]),
        )
        for i, (other, distance) in list(shown.items())[:SHOWN_COUPLES]
    ]
