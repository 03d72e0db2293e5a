"""The one rule by which sets are compared at equal class proportions, and random parts of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skindualgen.judges.pictures import PictureSet

Positions = NDArray[np.int64]


def matched_counts(wanted: NDArray[np.integer], available: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return how many items of each class the largest part with the wanted class proportions has.

    Args:
        wanted: [k] items of each class in the set whose proportions count, 1 or more.
        available: [k] items of each class to choose from.

    Returns:
        [k], 1 or more of each class unless one is not available at all; then 0 of all.
    """
    scale = float((available / wanted).min())
    return np.maximum(np.rint(scale * wanted), scale > 0).astype(np.int64)


def random_part(
    members: Sequence[Positions], counts: Sequence[int] | NDArray[np.int64], random: np.random.Generator
) -> Positions:
    """Choose at random so many of the positions of each class."""
    return np.concatenate([random.permutation(each)[:count] for each, count in zip(members, counts, strict=True)])


def at_most(pictures: PictureSet, most: int, random: np.random.Generator) -> PictureSet:
    """Return the pictures, or ``most`` of them, chosen at random and in their order."""
    if len(pictures) <= most:
        return pictures
    return pictures.take(np.sort(random.permutation(len(pictures))[:most]))


def class_matched(real: PictureSet, generated: PictureSet, *, seed: int) -> tuple[Positions, Positions, str]:
    """Choose the largest generated part with the class proportions of the real set, so that like is compared with like.

    Diagnoses that one of them lacks are left out of both. Without any in common, all photographs are chosen.

    Returns:
        Positions of the real and of the generated photographs, ascending, and a note on the choice.
    """
    common = sorted(set(real.named_diagnoses) & set(generated.named_diagnoses))
    if not common:
        note = "No diagnosis is in both sets: class proportions are not matched."
        return np.arange(len(real)), np.arange(len(generated)), note
    of_real, of_generated = (
        [np.flatnonzero(pictures.of_diagnosis(name)) for name in common] for pictures in (real, generated)
    )
    counts = matched_counts(np.array(list(map(len, of_real))), np.array(list(map(len, of_generated))))
    kept = np.sort(np.concatenate(of_real))
    chosen = np.sort(random_part(of_generated, counts, np.random.default_rng(seed)))
    note = (
        f"Over all diagnoses, {len(chosen)} of {len(generated)} generated photographs are compared with {len(kept)} "
        "real ones: the largest part with their class proportions, chosen at random."
    )
    return kept, chosen, note
