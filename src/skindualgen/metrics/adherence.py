"""Whether generated photographs show what their prompts say, for what pixels or a classifier can tell.

Prompts that are made from metadata state diagnosis, behaviour, site, sex and age (:mod:`skindualgen.data.prompts`):
none of these can be measured by a formula, and for age and sex no reading of a dermoscopic photograph is established.
A site can be scored with a classifier of sites (:func:`attribute_hits`), next to what that classifier reaches on
held-out real photographs.

Users' own prompts may hold words of size, shape and skin tone (:data:`skindualgen.data.terms.ATTRIBUTE_WORDS`). Those
order photographs along a number that can be measured (:func:`word_adherence`). Words of colour and structure have no
accepted measure and are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.data.terms import parse_terms
from skindualgen.metrics.intervals import Estimate, bootstrap, mean_of_means

LEAST_PHOTOGRAPHS = 10
"""Photographs of a class or word below which it is not scored."""


@dataclass(frozen=True)
class OrderedWords:
    """Words that order photographs by a measure.

    Attributes:
        measure: a field of :class:`skindualgen.metrics.masks.ShapeStatistics`, or ``ita_degrees``.
        words: from the lowest to the highest value of the measure.
    """

    measure: str
    words: tuple[str, ...]


ORDERED_WORDS: Mapping[str, OrderedWords] = {
    "lesion size": OrderedWords("area_fraction", ("small", "large")),
    "lesion shape": OrderedWords("eccentricity", ("round", "oval")),
    "symmetry": OrderedWords("asymmetry", ("symmetric", "asymmetric")),
    "border": OrderedWords("border_irregularity", ("regular border", "irregular border")),
    "skin tone": OrderedWords("ita_degrees", ("dark skin", "medium skin", "light skin")),
}
"""What prompts can say that pixels can answer."""


@dataclass(frozen=True)
class WordAdherence:
    """How far a measure follows the words of the prompts.

    Attributes:
        counts: photographs by the word that their prompt states, of those whose measure is defined.
        concordance: chance that of two photographs with different words the measure orders them as the words do, ties
            counting one half, mean over the couples of words: 0.5 is chance, 1 perfect. None if fewer than two words
            have :data:`LEAST_PHOTOGRAPHS`.
    """

    counts: Mapping[str, int]
    concordance: Estimate | None


def stated_word(prompt: str | None, words: Sequence[str]) -> str | None:
    """Return which of some words a prompt states; None if none, several, or a prompt with a negation or a doubt."""
    if prompt is None or parse_terms(prompt)["hedge"]:
        return None
    found = [word for word in words if re.search(rf"\b{re.escape(word)}\b", prompt.lower())]
    return found[0] if len(found) == 1 else None


def word_adherence(
    prompts: Sequence[str | None], values: NDArray[np.floating], words: Sequence[str], *, seed: int = 0
) -> WordAdherence:
    """Score how a measure of photographs follows the words of their prompts.

    Args:
        prompts: one for each photograph.
        values: the measure of each [n]; NaN where it is not defined.
        words: from the lowest to the highest value, as in :data:`ORDERED_WORDS`.

    Raises:
        InputError: not one value for each prompt.
    """
    if len(prompts) != len(values):
        raise InputError(f"{len(prompts)} prompts, {len(values)} values", "as many of each", "match them")
    stated = np.array([stated_word(prompt, words) or "" for prompt in prompts])
    groups = [values[(stated == word) & np.isfinite(values)] for word in words]
    scored = [group for group in groups if len(group) >= LEAST_PHOTOGRAPHS]
    return WordAdherence(
        counts={word: len(group) for word, group in zip(words, groups, strict=True)},
        concordance=bootstrap(scored, _concordance, seed=seed) if len(scored) > 1 else None,
    )


def _concordance(*groups: NDArray[np.floating], axis: int = -1) -> NDArray[np.floating]:
    """Mann-Whitney's U over the number of couples of values, mean over the couples of groups; values along the axis."""
    shares = []
    for lower, higher in combinations(groups, 2):
        low, high = lower.shape[axis], higher.shape[axis]
        ranks = stats.rankdata(np.concatenate([lower, higher], axis), axis=axis).take(range(low, low + high), axis)
        shares.append((ranks.sum(axis) - high * (high + 1) / 2) / (low * high))
    return np.asarray(np.mean(shares, axis=0))


Hits = Mapping[str, NDArray[np.bool_]]
"""For each scored class, of each of its photographs whether it was read right."""


def attribute_hits(
    *, truth: Sequence[str | None], predicted_scores: NDArray[np.floating], names: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Score any attribute classifier's outputs on photographs whose records (or prompts) state the attribute.

    To be read next to the same of held-out real photographs (:func:`compare_adherence`): a classifier that cannot read
    an attribute of real photographs says nothing of generated ones.

    Args:
        truth: the stated class of each photograph, None where none is stated.
        predicted_scores: [n, k], the highest wins.
        names: the classes of the k columns.

    Returns:
        :data:`Hits`; photographs of classes that the classifier does not know, or that are fewer than
        :data:`LEAST_PHOTOGRAPHS`, are left out.

    Raises:
        InputError: shapes that do not match, or fewer than two classes to score.
    """
    if predicted_scores.shape != (len(truth), len(names)):
        raise InputError(
            f"scores {predicted_scores.shape} for {len(truth)} photographs and {len(names)} classes",
            "[photographs, classes]",
            "pass the classifier's own classes",
        )
    counts = Counter(name for name in truth if name is not None)
    classes = [name for name in names if counts[name] >= LEAST_PHOTOGRAPHS]
    if len(classes) < 2:
        raise InputError(
            f"{dict(counts)} photographs by class",
            f"two classes or more of {LEAST_PHOTOGRAPHS}",
            "add photographs, or leave this attribute out",
        )
    stated = np.array(["" if name is None else name for name in truth])
    right = np.asarray(names)[predicted_scores.argmax(1)] == stated
    return {name: right[stated == name] for name in classes}


def balanced_rate(hits: Hits, *, seed: int = 0) -> Estimate:
    """Return the mean over the classes of their shares of hits; a reading without looking reaches 1 / classes."""
    return bootstrap([row.astype(float) for row in hits.values()], mean_of_means, seed=seed)


def compare_adherence(*, real: Hits, generated: Hits, seed: int = 0) -> Estimate:
    """Return generated - real of the balanced rate over the classes that are scored in both sets.

    Raises:
        InputError: fewer than two such classes.
    """
    shared = [name for name in real if name in generated]
    if len(shared) < 2:
        raise InputError(f"{len(shared)} classes in both sets", "two or more", "generate the classes of the real set")
    samples = [side[name].astype(float) for side in (generated, real) for name in shared]

    def difference(*rows: NDArray[np.floating], axis: int = -1) -> NDArray[np.floating]:
        of_generated, of_real = rows[: len(shared)], rows[len(shared) :]
        return mean_of_means(*of_generated, axis=axis) - mean_of_means(*of_real, axis=axis)

    return bootstrap(samples, difference, seed=seed)
