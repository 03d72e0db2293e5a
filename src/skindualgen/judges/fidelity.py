"""How near generated photographs come to real ones, overall and for each diagnosis, next to real against real.

Real against real is what real photographs reach in the generated ones' place: two disjoint random parts of all real
photographs, with the same numbers of each diagnosis. All measures depend on those numbers; a value means something only
next to the reference at its own. Photographs of one lesion may fall into both parts, which lowers the distances of the
reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.judges.feature_space import MANIFOLD, MEASURES, FeatureSpace
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.matching import Positions, at_most, matched_counts, random_part
from skindualgen.judges.pictures import PictureSet
from skindualgen.metrics.fidelity import NEIGHBOURS
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.measures import REAL_VS_REAL, Measure, Reference, measure_key

UNKNOWN = "no diagnosis"

MIN_SAMPLES = {"frechet": 100, "kid": 20} | dict.fromkeys(MANIFOLD, 10 * NEIGHBOURS)
"""Photographs in the smaller set below which a measure is left out.

frechet: the covariance of n vectors has rank n - 1. Features of dermoscopy have 10 to 30 directions that matter (trace
squared over the sum of squared eigenvalues); 100 vectors determine those, fewer give mostly the bias of small samples.
kid: unbiased at any size, but a standard error from 20 is itself uncertain by a sixth (1 / sqrt(2 n - 2)).
the others: a ball that reaches the k-th neighbour holds k / n of the set; above a tenth it no longer means "near".
"""

ENOUGH_SAMPLES = {"kid": 100} | dict.fromkeys(MANIFOLD, 200)
"""Photographs in the smaller set below which a measure carries a caveat; for frechet that is the number of features."""

ROUNDING = 1e-9
"""Keeps a whole number whole that a product of fractions has made a little smaller."""

MOST_PICTURES = 2000
"""Photographs used of each set. Memory grows with the square (0.3 GB at 3 x 2000), time with the cube."""

AGAINST = {"held_out": "", "train": "_against_train"}
"""What a measure's name ends in, by the real set that it compares with."""


def compare_sets(
    extractor: FeatureExtractor,
    *,
    train: PictureSet,
    held_out: PictureSet,
    generated: PictureSet,
    seed: int = 0,
    most: int = MOST_PICTURES,
    judge_suffix: str | None = None,
) -> tuple[list[Measure], list[str]]:
    """Compare generated photographs with the held-out and with the training photographs, overall and per diagnosis.

    Generated photographs are compared in the class proportions of the reference, and both sides are random parts where
    the real photographs would not suffice for real against real at the same numbers; each measure says how many were
    used.

    Args:
        extractor: the feature space; see :func:`~skindualgen.judges.extractors.extractor_named`.
        most: photographs used of each set, at random.
        judge_suffix: ends the keys of the measures; for all extractors but the first.

    Returns:
        The measures, with the Frechet distance also in multiples of real against real; and notes on what was compared.

    Raises:
        InputError: a set is empty, or no diagnosis is in all three sets, though each of them names some.
    """
    whole = {"train": train, "held_out": held_out, "generated": generated}
    sets, notes = {}, []
    for position, (name, pictures) in enumerate(whole.items()):
        if not len(pictures):
            raise InputError(f"no {name} photographs", "one or more in each set", "check the folder's metadata")
        sets[name] = at_most(pictures, most, np.random.default_rng([seed, position]))
        if len(pictures) > most:
            notes.append(f"{most} of {len(pictures)} {name} photographs were used")
    groups, left_out = _groups(sets)
    space = FeatureSpace({name: pictures.features(extractor) for name, pictures in sets.items()})
    comparisons = list(_comparisons(space, sets, groups, seed))
    measures = [
        measure
        for comparison in comparisons
        for measure in _measures(space, comparison, extractor.name, judge_suffix, seed)
    ]
    measures += [ratio for measure in measures if (ratio := _ratio_to_real(measure, judge_suffix)) is not None]
    return measures, [*notes, *left_out, *(each.note for each in comparisons if each.group is None)]


def _terms(pictures: PictureSet) -> NDArray[np.object_]:
    return np.array([name or UNKNOWN for name in pictures.diagnoses], dtype=object)


def _groups(sets: Mapping[str, PictureSet]) -> tuple[list[str], list[str]]:
    """Return the diagnoses that all sets have, and notes on the others; none where a set has no diagnosis at all."""
    counts = {name: Counter(_terms(pictures)) for name, pictures in sets.items()}
    bare = [name for name, count in counts.items() if set(count) == {UNKNOWN}]
    if bare:
        return [], [f"{' and '.join(bare)} without diagnoses: class proportions are not matched"]
    common = sorted(set.intersection(*(set(count) for count in counts.values())))
    if not common:
        named = "; ".join(f"{name} {sorted(count)}" for name, count in counts.items())
        raise InputError(f"diagnoses {named}", "one that all three sets have", "name the diagnoses alike")
    others = sorted(set.union(*(set(count) for count in counts.values())) - set(common))
    notes = []
    for other in others:
        there = ", ".join(f"{count[other]} {name}" for name, count in counts.items() if count[other])
        notes.append(f"{other} is not in all three sets and was left out ({there})")
    return common, notes


@dataclass(frozen=True)
class _Comparison:
    """Positions in a :class:`FeatureSpace` of what is compared.

    Attributes:
        group: a diagnosis; None for all, in the class proportions of the reference.
        reference: "held_out" or "train".
        real, generated: what is compared.
        pools: of each class, all real photographs.
        played, rest: how many of each pool play "generated" and "real" in real against real.
    """

    group: str | None
    reference: str
    real: Positions
    generated: Positions
    pools: list[Positions]
    played: NDArray[np.int64]
    rest: NDArray[np.int64]
    note: str

    def real_parts(self, random: np.random.Generator) -> dict[str, Positions]:
        """Draw disjoint random parts of the real photographs, of the sizes that are compared."""
        orders = [random.permutation(pool) for pool in self.pools]
        ends = list(zip(orders, self.played, self.played + self.rest, strict=True))
        return {
            "generated": np.concatenate([order[:played] for order, played, _ in ends]),
            "real": np.concatenate([order[played:end] for order, played, end in ends]),
        }


def _comparisons(
    space: FeatureSpace, sets: Mapping[str, PictureSet], groups: Sequence[str], seed: int
) -> Iterator[_Comparison]:
    labels = {name: _terms(pictures) for name, pictures in sets.items()}
    for position, group in enumerate((None, *groups)):
        classes = [group] if group is not None else list(groups)
        members = [{name: space.members[name][labels[name] == each] for name in sets} for each in classes]
        for further, reference in enumerate(("held_out", "train")):
            random = np.random.default_rng([seed, 2 * position + further])
            yield _matched(group, reference, members or [space.members], random)


def _matched(
    group: str | None, reference: str, members: Sequence[Mapping[str, Positions]], random: np.random.Generator
) -> _Comparison:
    """Choose what is compared; ``members`` holds a mapping for each class, from the set's name to its positions.

    Generated photographs at most to half of the real ones of a class, and both sides in the class proportions of the
    reference: so the real ones suffice for two disjoint parts of the same numbers.
    """
    known = np.array([len(each[reference]) for each in members])
    real = np.array([len(each["train"]) + len(each["held_out"]) for each in members])
    available = np.array([len(each["generated"]) for each in members])
    played = matched_counts(known, np.minimum(available, real // 2))
    rest = np.floor(known * min(1.0, ((real - played) / known).min()) + ROUNDING).astype(np.int64)
    return _Comparison(
        group=group,
        reference=reference,
        real=random_part([each[reference] for each in members], rest, random),
        generated=random_part([each["generated"] for each in members], played, random),
        pools=[np.concatenate([each["train"], each["held_out"]]) for each in members],
        played=played,
        rest=rest,
        note=f"{group or 'all'} against {reference}: {played.sum()} of {available.sum()} generated and {rest.sum()} of "
        f"{known.sum()} {reference} photographs, chosen at random in its class proportions",
    )


def _measures(
    space: FeatureSpace, comparison: _Comparison, judge: str, judge_suffix: str | None, seed: int
) -> Iterator[Measure]:
    sizes = len(comparison.generated), len(comparison.real)
    wanted = [measure for measure in MEASURES if min(sizes) >= MIN_SAMPLES[measure]]
    estimates = space.estimates(wanted, real=comparison.real, generated=comparison.generated, seed=seed)
    references = space.over_draws(wanted, comparison.real_parts, seed=seed)
    nothing = Estimate(float("nan"))
    for measure in MEASURES:
        yield Measure.of(
            measure + AGAINST[comparison.reference],
            estimates.get(measure, nothing),
            Reference.of(REAL_VS_REAL, references.get(measure, nothing)),
            sizes,
            group=comparison.group,
            judge=judge,
            judge_suffix=judge_suffix,
            caveat=_caveat(measure, min(sizes), space.vectors.shape[1]),
        )


def _ratio_to_real(frechet: Measure, judge_suffix: str | None) -> Measure | None:
    """The Frechet distance in multiples of what real photographs reach; the kernel distance's own is about 0."""
    real = frechet.reference
    if frechet.name != "frechet" or frechet.value is None or real is None or not real.value:
        return None
    name, scale = "frechet_ratio_to_floor", real.value

    def scaled(of: Measure | Reference) -> dict[str, float | None]:
        return {key: None if (end := getattr(of, key)) is None else end / scale for key in ("value", "low", "high")}

    update = {"key": measure_key(name, frechet.group, judge_suffix), "name": name} | scaled(frechet)
    return frechet.model_copy(update=update | {"reference": real.model_copy(update=scaled(real))})


def _caveat(measure: str, smaller: int, dim: int) -> str | None:
    least, enough = MIN_SAMPLES[measure], ENOUGH_SAMPLES.get(measure, dim)
    if smaller < least:
        return f"{smaller} photographs in the smaller set: {least} or more are needed"
    if smaller >= enough:
        return None
    if measure == "frechet":
        return (
            f"{smaller} photographs for {dim} features: much of the value, and of real against real, is bias of few "
            "samples"
        )
    return f"{smaller} photographs in the smaller set: uncertain below {enough}"
