"""What a gate does to fidelity and variety: accepted pairs beside as many drawn at random from all pairs.

Every measure depends on the number of pictures and on the share of each diagnosis. So accepted pairs are compared not
with all pairs, but with random parts of them that have as many of each diagnosis: what is left is the gate's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skindualgen.data.terms import diagnosis_term
from skindualgen.judges.feature_space import MANIFOLD, FeatureSpace, Positions, interval
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.fidelity_tables import ALL, MIN_SAMPLES, MOST_PICTURES, UNKNOWN, PictureSet

MEASURED = ("kernel", *MANIFOLD)
"""Precision, recall, density, coverage, and the kernel distance, which does not need many pictures."""

RANDOM_PARTS = 20
"""Parts of all pairs that are drawn at random. A further one would lie within their range 19 times in 21."""


class DiversityRow(BaseModel):
    """One measure of one group.

    Attributes:
        group: "all", or a diagnosis.
        measure: ``kernel`` is a distance, where 0 is best; the others are shares (density: a ratio).
        n: accepted pairs, and pairs of each random part.
        n_drawn: all pairs of the group.
        n_real: real photographs compared with.
        before, before_low, before_high: mean and range over the random parts.
        after, after_low, after_high: of the accepted pairs, with their 95 % interval.
        caveat: why there is no number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    measure: str
    n: int
    n_drawn: int
    n_real: int
    before: float | None = None
    before_low: float | None = None
    before_high: float | None = None
    after: float | None = None
    after_low: float | None = None
    after_high: float | None = None
    caveat: str | None = None


def diversity(
    extractor: FeatureExtractor, *, real: PictureSet, pairs: PictureSet, kept: NDArray[np.bool_], seed: int = 0
) -> list[DiversityRow]:
    """Compare accepted pairs, and as many random ones, with real photographs, overall and for each diagnosis.

    Args:
        extractor: the feature space.
        real: photographs; at most 2,000 of them, at random, are used.
        pairs: all pairs.
        kept: which of them are accepted [n].
    """
    random = np.random.default_rng(seed)
    if len(real.images) > MOST_PICTURES:
        chosen = np.sort(random.permutation(len(real.images))[:MOST_PICTURES])
        real = PictureSet(real.images[chosen], [real.diagnoses[i] for i in chosen])
    space = FeatureSpace({"real": extractor(real.images), "pairs": extractor(pairs.images)})
    terms = {name: _terms(pictures) for name, pictures in (("real", real), ("pairs", pairs))}
    rows = []
    for group in (ALL, *sorted(set(terms["real"]) & set(terms["pairs"]) - {UNKNOWN})):
        inside = {
            name: np.ones(len(labels), bool) if group == ALL else labels == group for name, labels in terms.items()
        }
        rows += _rows(space, group, inside, terms["pairs"], kept, seed)
    return rows


def _terms(pictures: PictureSet) -> NDArray[np.object_]:
    return np.array([diagnosis_term(label) or UNKNOWN for label in pictures.diagnoses], dtype=object)


def _rows(
    space: FeatureSpace,
    group: str,
    inside: dict[str, NDArray[np.bool_]],
    terms: NDArray[np.object_],
    kept: NDArray[np.bool_],
    seed: int,
) -> list[DiversityRow]:
    real = space.members["real"][inside["real"]]
    accepted = space.members["pairs"][inside["pairs"] & kept]
    sizes = {"n": len(accepted), "n_drawn": int(inside["pairs"].sum()), "n_real": len(real)}
    smaller = min(len(accepted), len(real))
    wanted = [measure for measure in MEASURED if smaller >= MIN_SAMPLES[measure]]
    values = space.values(wanted, real=real, generated=accepted)
    errors = space.standard_errors(wanted, real=real, generated=accepted, seed=seed)
    random = _random_parts(space, wanted, real, _alike(space.members["pairs"], terms, inside["pairs"], kept), seed)
    rows = []
    for measure in MEASURED:
        if measure not in wanted:
            caveat = f"{smaller} pictures in the smaller set: {MIN_SAMPLES[measure]} or more are needed"
            rows.append(DiversityRow(group=group, measure=measure, caveat=caveat, **sizes))
            continue
        after = interval(measure, values[measure], errors[measure], n_real=len(real), n_generated=len(accepted))
        rows.append(
            DiversityRow(
                group=group,
                measure=measure,
                **sizes,
                before=float(random[measure].mean()),
                before_low=float(random[measure].min()),
                before_high=float(random[measure].max()),
                after=after.value,
                after_low=after.low,
                after_high=after.high,
            )
        )
    return rows


def _alike(
    positions: Positions, terms: NDArray[np.object_], inside: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> list[tuple[Positions, int]]:
    """Of each diagnosis in the group all pairs, and how many of them are accepted."""
    counts = Counter(terms[inside & kept])
    return [(positions[inside & (terms == term)], count) for term, count in sorted(counts.items())]


def _random_parts(
    space: FeatureSpace, wanted: Sequence[str], real: Positions, pools: Sequence[tuple[Positions, int]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return each measure of random parts [RANDOM_PARTS]."""
    draws = []
    for part in range(RANDOM_PARTS if wanted else 0):
        random = np.random.default_rng([seed, part])
        chosen = np.concatenate([random.permutation(pool)[:count] for pool, count in pools])
        draws.append(space.values(wanted, real=real, generated=chosen))
    return {measure: np.array([draw[measure] for draw in draws]) for measure in wanted}
