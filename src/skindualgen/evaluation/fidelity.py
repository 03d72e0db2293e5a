"""Fidelity and diversity: distances of generated from real photographs in one or more feature spaces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from skindualgen.evaluation.evidence import Evidence, FeatureMap
from skindualgen.evaluation.inputs import Inputs, Part
from skindualgen.evaluation.measures import REAL_AGAINST_REAL
from skindualgen.evaluation.results import Measure, Reference, Section, measure_key
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.fidelity_tables import ALL, FidelityRow, FidelityTable, PictureSet, compare_sets

NAMES = {"kernel": "kid"}
"""Measures that are called otherwise here than in :mod:`skindualgen.judges.fidelity_tables`."""
AGAINST = {"held_out": "", "train": "_against_train"}
"""What a measure's name ends in, by the real set that it compares with."""
MAPPED = 400
"""Photographs of each set that a map of features shows, to keep it readable."""


def fidelity_section(
    inputs: Inputs, extractors: Mapping[str, FeatureExtractor], evidence: Evidence, *, seed: int
) -> Section:
    """Compare the three sets in each feature space; the first one's measures have the plain names.

    Args:
        extractors: by the name that ends the keys of the others' measures.
    """
    measures, notes, judges = [], [], []
    for position, (called, extractor) in enumerate(extractors.items()):
        table = compare_sets(
            extractor,
            train=_pictures(inputs.train),
            held_out=_pictures(inputs.held_out),
            generated=_pictures(inputs.generated),
            seed=seed,
        )
        judge = called if position else None
        measures += [_measure(row, table, judge) for row in table.rows]
        measures += [ratio for row in table.rows if (ratio := _ratio_to_floor(row, table, judge)) is not None]
        notes += [f"{extractor.name}: {note.replace('held_out', 'held-out')}." for note in table.notes]
        judges.append(f"{table.extractor} ({table.dim} features): {table.preprocessing}")
    evidence.feature_map = feature_map(inputs, next(iter(extractors.values())))
    return Section(judges=judges, notes=notes, measures=measures)


def feature_map(inputs: Inputs, extractor: FeatureExtractor) -> FeatureMap:
    """Project features to the two directions in which the real photographs vary most."""
    train, held_out, generated = (extractor(part.images) for part in (inputs.train, inputs.held_out, inputs.generated))
    plane = PCA(n_components=2, svd_solver="full").fit(np.concatenate([train, held_out]))

    def project(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(plane.transform(features[:: -(-len(features) // MAPPED)]), np.float64)

    return FeatureMap(project(generated), project(held_out), float(plane.explained_variance_ratio_.sum()))


def _pictures(part: Part) -> PictureSet:
    return PictureSet(part.images, part.diagnoses)


def _measure(row: FidelityRow, table: FidelityTable, judge: str | None) -> Measure:
    name = NAMES.get(row.measure, row.measure) + AGAINST[row.reference]
    group = None if row.group == ALL else row.group
    return Measure(
        key=measure_key(name, group, judge),
        name=name,
        group=group,
        judge=table.extractor,
        value=row.value,
        low=row.interval and row.interval.low,
        high=row.interval and row.interval.high,
        n_generated=row.n_generated,
        n_real=row.n_real,
        reference=Reference(kind=REAL_AGAINST_REAL, value=row.floor_mean, low=row.floor_low, high=row.floor_high),
        caveat=row.caveat,
    )


def _ratio_to_floor(row: FidelityRow, table: FidelityTable, judge: str | None) -> Measure | None:
    """The Frechet distance in multiples of what real photographs reach; the kernel distance's floor is 0."""
    if row.measure != "frechet" or row.reference != "held_out" or row.value is None or not row.floor_mean:
        return None
    group = None if row.group == ALL else row.group
    floor = row.floor_mean
    return Measure(
        key=measure_key("frechet_ratio_to_floor", group, judge),
        name="frechet_ratio_to_floor",
        group=group,
        judge=table.extractor,
        value=row.value / floor,
        low=row.interval and row.interval.low / floor,
        high=row.interval and row.interval.high / floor,
        n_generated=row.n_generated,
        n_real=row.n_real,
        reference=Reference(
            kind=REAL_AGAINST_REAL,
            value=1.0,
            low=None if row.floor_low is None else row.floor_low / floor,
            high=None if row.floor_high is None else row.floor_high / floor,
        ),
        caveat=row.caveat,
    )
