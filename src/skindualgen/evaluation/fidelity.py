"""Fidelity and diversity: distances of generated from real photographs in one or more feature spaces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from skindualgen.evaluation.evidence import Evidence, FeatureMap
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.results import Section
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.fidelity import compare_sets

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
        found, of_extractor = compare_sets(
            extractor,
            train=inputs.train,
            held_out=inputs.held_out,
            generated=inputs.generated,
            seed=seed,
            judge_suffix=called if position else None,
        )
        measures += found
        notes += [f"{extractor.name}: {note.replace('held_out', 'held-out')}." for note in of_extractor]
        judges.append(f"{extractor.name} ({extractor.dim} features): {extractor.preprocessing}")
    evidence.feature_map = feature_map(inputs, next(iter(extractors.values())))
    return Section(judges=judges, notes=notes, measures=measures)


def feature_map(inputs: Inputs, extractor: FeatureExtractor) -> FeatureMap:
    """Project features to the two directions in which the real photographs vary most."""
    train, held_out, generated = (
        part.features(extractor) for part in (inputs.train, inputs.held_out, inputs.generated)
    )
    plane = PCA(n_components=2, svd_solver="full").fit(np.concatenate([train, held_out]))

    def project(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(plane.transform(features[:: -(-len(features) // MAPPED)]), np.float64)

    return FeatureMap(project(generated), project(held_out), float(plane.explained_variance_ratio_.sum()))
