"""How near generated photographs come to real ones: every measure, overall and per diagnosis, beside its floor.

The floor of a measure is what real photographs reach in the generated ones' place: two disjoint random parts of all
real photographs, with the same numbers of each diagnosis. All measures depend on those numbers; a value means
something only beside the floor at its own. Photographs of one lesion may fall into both parts, which lowers the
distances of the floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError
from skindualgen.data.terms import diagnosis_term
from skindualgen.judges.extractors import frechet_name
from skindualgen.judges.feature_space import MANIFOLD, MEASURES, FeatureSpace, Positions, interval
from skindualgen.judges.features import FeatureExtractor
from skindualgen.metrics.fidelity import NEIGHBOURS
from skindualgen.metrics.intervals import Estimate

ALL, UNKNOWN = "all", "no diagnosis"
"""Names of the groups that are not a diagnosis."""

MIN_SAMPLES = {"frechet": 100, "kernel": 20} | dict.fromkeys(MANIFOLD, 10 * NEIGHBOURS)
"""Photographs in the smaller set below which a measure is left out.

frechet: the covariance of n vectors has rank n - 1. Features of dermoscopy have 10 to 30 directions that matter (trace
squared over the sum of squared eigenvalues); 100 vectors determine those, fewer give mostly the bias of small samples.
kernel: unbiased at any size, but a standard error from 20 is itself uncertain by a sixth (1 / sqrt(2 n - 2)).
the others: a ball that reaches the k-th neighbour holds k / n of the set; above a tenth it no longer means "near".
"""

ENOUGH_SAMPLES = {"kernel": 100} | dict.fromkeys(MANIFOLD, 200)
"""Photographs in the smaller set below which a measure carries a caveat; for frechet that is the number of features."""

FLOOR_REPEATS = 20
"""Draws of the floor's parts. A further real set of the same size falls within their range 19 times in 21."""

ROUNDING = 1e-9
"""Keeps a whole number whole that a product of fractions has made a little smaller."""

MOST_PICTURES = 2000
"""Photographs used of each set. Memory grows with the square (0.3 GB at 3 x 2000), time with the cube."""


@dataclass(frozen=True)
class PictureSet:
    """Photographs [n, s, s, 3] uint8 and the diagnosis of each, in any of its usual spellings; None where not known."""

    images: NDArray[np.uint8]
    diagnoses: list[str | None]

    def __post_init__(self) -> None:
        """Refuse an empty set and a list of another length."""
        if not len(self.images) or len(self.images) != len(self.diagnoses):
            raise InputError(
                f"{len(self.images)} photographs and {len(self.diagnoses)} diagnoses",
                "one or more photographs and a diagnosis (or None) for each",
                "check the folder's metadata",
            )


@dataclass(frozen=True)
class FidelityRow:
    """One measure of one group against one real set.

    Attributes:
        group: "all" (the reference's class proportions), or a diagnosis.
        measure: a name of :data:`MEASURES`; frechet and kernel are distances, where 0 is best; the
            others are shares (density: a ratio), where the floor is the best that can be expected.
        reference: the real set compared with, "held_out" or "train".
        value: None where a set is too small; ``caveat`` then says so.
        interval: of :data:`~skindualgen.metrics.intervals.CONFIDENCE`.
        standard_error: from subsamples; by the exact jackknife for kernel.
        floor_mean, floor_low, floor_high: mean and range of :data:`FLOOR_REPEATS` draws of real against real.
        n_generated, n_real: photographs compared; the floor's parts have the same sizes.
        caveat: what to bear in mind, if anything.
    """

    group: str
    measure: str
    reference: str
    value: float | None
    interval: Estimate | None
    standard_error: float | None
    floor_mean: float | None
    floor_low: float | None
    floor_high: float | None
    n_generated: int
    n_real: int
    caveat: str | None


@dataclass(frozen=True)
class FidelityTable:
    """All rows of a comparison and what they rest on; plain values, ready for JSON."""

    extractor: str
    preprocessing: str
    frechet_name: str
    dim: int
    neighbours: int
    floor_repeats: int
    seed: int
    n_train: int
    n_held_out: int
    n_generated: int
    notes: tuple[str, ...]
    rows: tuple[FidelityRow, ...]

    def row(self, group: str, measure: str, reference: str) -> FidelityRow:
        """Return one row.

        Raises:
            InputError: there is none of these names.
        """
        for row in self.rows:
            if (row.group, row.measure, row.reference) == (group, measure, reference):
                return row
        raise InputError(f"{measure} of {group} against {reference}", "a row of the table", "see table.rows")


def compare_sets(
    extractor: FeatureExtractor,
    *,
    train: PictureSet,
    held_out: PictureSet,
    generated: PictureSet,
    seed: int = 0,
    most: int = MOST_PICTURES,
) -> FidelityTable:
    """Compare generated photographs with the held-out and with the training photographs, overall and per diagnosis.

    Generated photographs are compared in the class proportions of the reference, and both sides are random parts where
    the real photographs would not suffice for a floor of the same numbers; each row says how many were used.

    Args:
        extractor: the feature space; see :func:`~skindualgen.judges.extractors.extractor_named`.
        most: photographs used of each set, at random.

    Raises:
        InputError: no diagnosis is in all three sets, though each of them names some.
    """
    whole = {"train": train, "held_out": held_out, "generated": generated}
    sets, notes = {}, []
    for position, (name, pictures) in enumerate(whole.items()):
        sets[name] = _random_part(pictures, most, np.random.default_rng([seed, position]))
        if len(pictures.images) > most:
            notes.append(f"{most} of {len(pictures.images)} {name} photographs were used")
    groups, left_out = _groups(sets)
    space = FeatureSpace({name: extractor(pictures.images) for name, pictures in sets.items()})
    comparisons = _comparisons(space, sets, groups, seed)
    rows = [row for comparison in comparisons for row in _rows(space, comparison, seed)]
    return FidelityTable(
        extractor=extractor.name,
        preprocessing=extractor.preprocessing,
        frechet_name=frechet_name(extractor),
        dim=extractor.dim,
        neighbours=NEIGHBOURS,
        floor_repeats=FLOOR_REPEATS,
        seed=seed,
        n_train=len(train.images),
        n_held_out=len(held_out.images),
        n_generated=len(generated.images),
        notes=(*notes, *left_out, *(c.note for c in comparisons if c.group == ALL)),
        rows=tuple(rows),
    )


def _random_part(pictures: PictureSet, most: int, random: np.random.Generator) -> PictureSet:
    if len(pictures.images) <= most:
        return pictures
    chosen = np.sort(random.permutation(len(pictures.images))[:most])
    return PictureSet(pictures.images[chosen], [pictures.diagnoses[i] for i in chosen])


def _terms(pictures: PictureSet) -> list[str]:
    return [diagnosis_term(label) or UNKNOWN for label in pictures.diagnoses]


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
        pools: of each class, all real photographs, and how many of them play "generated" and "real" in the floor.
    """

    group: str
    reference: str
    real: Positions
    generated: Positions
    pools: list[tuple[Positions, int, int]]
    note: str


def _comparisons(
    space: FeatureSpace, sets: Mapping[str, PictureSet], groups: Sequence[str], seed: int
) -> list[_Comparison]:
    labels = {name: np.asarray(_terms(pictures)) for name, pictures in sets.items()}
    found: list[_Comparison] = []
    for group in (ALL, *groups):
        for reference in ("held_out", "train"):
            classes = [group] if group != ALL else list(groups)
            members = [
                {name: space.members[name][labels[name] == a_class] for name in sets} for a_class in classes
            ] or [space.members]
            found.append(_matched(group, reference, members, np.random.default_rng([seed, len(found)])))
    return found


def _matched(
    group: str, reference: str, members: Sequence[Mapping[str, Positions]], random: np.random.Generator
) -> _Comparison:
    """Choose what is compared; ``members`` holds a mapping for each class, from the set's name to its positions.

    Generated photographs at most to half of the real ones of a class, and both sides in the class proportions of the
    reference: so the real ones suffice for two disjoint parts of the same numbers.
    """
    known = np.array([len(m[reference]) for m in members])
    real = np.array([len(m["train"]) + len(m["held_out"]) for m in members])
    available = np.array([len(m["generated"]) for m in members])
    played = np.rint(known * (np.minimum(available, real // 2) / known).min()).astype(int)
    rest = np.floor(known * min(1.0, ((real - played) / known).min()) + ROUNDING).astype(int)

    def some(name: str, counts: NDArray[np.int64]) -> Positions:
        return np.concatenate([random.permutation(m[name])[:count] for m, count in zip(members, counts, strict=True)])

    return _Comparison(
        group=group,
        reference=reference,
        real=some(reference, rest),
        generated=some("generated", played),
        pools=[
            (np.concatenate([m["train"], m["held_out"]]), *counts)
            for m, counts in zip(members, zip(played, rest, strict=True), strict=True)
        ],
        note=f"{group} against {reference}: {played.sum()} of {available.sum()} generated and {rest.sum()} of "
        f"{known.sum()} {reference} photographs, chosen at random in its class proportions",
    )


def _rows(space: FeatureSpace, comparison: _Comparison, seed: int) -> list[FidelityRow]:
    both = {"real": comparison.real, "generated": comparison.generated}
    sizes = {f"n_{name}": len(members) for name, members in both.items()}
    smaller = min(sizes.values())
    wanted = [measure for measure in MEASURES if smaller >= MIN_SAMPLES[measure]]
    values = space.values(wanted, **both)
    errors = space.standard_errors(wanted, seed=seed, **both)
    floors = _floors(space, wanted, comparison, seed)
    rows = []
    for measure in MEASURES:
        floor = floors.get(measure)
        known = measure in wanted
        rows.append(
            FidelityRow(
                group=comparison.group,
                measure=measure,
                reference=comparison.reference,
                value=values[measure] if known else None,
                interval=interval(measure, values[measure], errors[measure], **sizes) if known else None,
                standard_error=errors.get(measure),
                floor_mean=None if floor is None else float(floor.mean()),
                floor_low=None if floor is None else float(floor.min()),
                floor_high=None if floor is None else float(floor.max()),
                **sizes,
                caveat=_caveat(measure, smaller, space.vectors.shape[1]),
            )
        )
    return rows


def _floors(
    space: FeatureSpace, wanted: Sequence[str], comparison: _Comparison, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return each measure between disjoint random parts of the real photographs [FLOOR_REPEATS]."""
    draws = []
    for repeat in range(FLOOR_REPEATS if wanted else 0):
        random = np.random.default_rng([seed, repeat])
        orders = [(random.permutation(pool), played, rest) for pool, played, rest in comparison.pools]
        generated = np.concatenate([order[:played] for order, played, _ in orders])
        real = np.concatenate([order[played : played + rest] for order, played, rest in orders])
        draws.append(space.values(wanted, real=real, generated=generated))
    return {measure: np.array([draw[measure] for draw in draws]) for measure in wanted}


def _caveat(measure: str, smaller: int, dim: int) -> str | None:
    least, enough = MIN_SAMPLES[measure], ENOUGH_SAMPLES.get(measure, dim)
    if smaller < least:
        return f"{smaller} photographs in the smaller set: {least} or more are needed"
    if smaller >= enough:
        return None
    if measure == "frechet":
        return f"{smaller} photographs for {dim} features: much of the value is bias of few samples, as is its floor"
    return f"{smaller} photographs in the smaller set: uncertain below {enough}"
