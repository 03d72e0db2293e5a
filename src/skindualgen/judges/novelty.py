"""Are generated photographs new, or copies of training photographs? Measured against what unseen real ones show.

A copy may be flipped, turned, compressed, cropped or recoloured. So two rules look for it, each over the 8 flips and
quarter turns: distance in a network's feature space, which knows what a photograph looks like, and the fit after laying
the two over each other (:mod:`skindualgen.judges.alignment`), which survives compression and crops. Each rule may flag
half of :data:`NEAR_COPY_QUANTILE` of unseen real photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from skindualgen.judges.alignment import nearest_aligned
from skindualgen.judges.features import FeatureExtractor, dihedral_views
from skindualgen.judges.neighbours import Neighbours, distance_to, nearest
from skindualgen.judges.pictures import PictureSet
from skindualgen.metrics.intervals import Estimate, rate

NEAR_COPY_QUANTILE = 0.01
"""Share of unseen real photographs that may be flagged as near-copies."""

HASH_SIDE = 8
"""Perceptual hashes have 8 x 8 = 64 bits."""


def perceptual_hashes(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the 64 bits of imagehash's pHash of each photograph [n, h, w, 3] as [n, 64] zeros and ones.

    The SQUARED euclidean distance of two of them is their Hamming distance in bits.
    """
    hashes = [imagehash.phash(Image.fromarray(image), hash_size=HASH_SIDE).hash.ravel() for image in images]
    return np.array(hashes, np.float64).reshape(len(images), HASH_SIDE**2)


@dataclass(frozen=True)
class Match:
    """A photograph that is a near-copy of another one.

    Attributes:
        index: position of the photograph.
        other: position of what it is a copy of, among the training (or for duplicates the generated) photographs.
        feature_distance: between the two, over flips and turns.
        hash_bits: the same by perceptual hash, of 64.
        misfit_ratio: see :func:`skindualgen.judges.alignment.nearest_aligned`; 0 is a copy.
        by_features, by_alignment: which rules found it.
    """

    index: int
    other: int
    feature_distance: float
    hash_bits: int
    misfit_ratio: float
    by_features: bool
    by_alignment: bool


@dataclass(frozen=True)
class Nearest:
    """For each photograph of a set its nearest one in another set.

    Attributes:
        features: in feature space.
        bits: by perceptual hash, distance in bits of 64.
        fit: by alignment, distance as misfit ratio.
    """

    features: Neighbours
    bits: Neighbours
    fit: Neighbours


@dataclass(frozen=True)
class Novelty:
    """How far generated photographs are from the training photographs, next to unseen real ones; see :func:`novelty`.

    Attributes:
        generated, held_out: nearest training photograph of each.
        threshold: feature distance below which a photograph counts as a near-copy.
        fit_threshold: misfit ratio below which it does.
        is_near_copy: [n] by either rule.
        near_copies: them, the clearest copies first.
        near_copy_rate: their share.
        expected_rate: upper bound of the share that unseen real photographs are expected to have. It is
            :data:`NEAR_COPY_QUANTILE` or less from 199 held-out photographs on, and 2 / (n + 1) for fewer.
        closer_than_held_out: chance that a generated photograph is nearer to its training neighbour in feature space
            than an unseen real one is to its own: 0.5 if as new as real ones, 1 if all are copies.
        fits_better_than_held_out: the same by misfit ratio.
        duplicates: generated photographs with another generated one nearer than a threshold, each couple once.
        duplicate_rate: share of generated photographs in such a couple.
        held_out_duplicate_rate: the same among the held-out photographs, which are often fewer.
    """

    generated: Nearest
    held_out: Nearest
    threshold: float
    fit_threshold: float
    is_near_copy: NDArray[np.bool_]
    near_copies: tuple[Match, ...]
    near_copy_rate: Estimate
    expected_rate: float
    closer_than_held_out: float
    fits_better_than_held_out: float
    duplicates: tuple[Match, ...]
    duplicate_rate: Estimate
    held_out_duplicate_rate: Estimate


def novelty(*, generated: PictureSet, held_out: PictureSet, train: PictureSet, extractor: FeatureExtractor) -> Novelty:
    """Compare generated photographs with the training photographs, against held-out real ones.

    Args:
        generated: 3 photographs or more.
        held_out: 3 or more real photographs that the generator has not seen.
        train: 2 or more that it has.
        extractor: the feature space.

    Raises:
        InputError: too few photographs.
    """
    known = _Searched(train.images, [train.features(extractor)], [perceptual_hashes(train.images)])
    made, unseen = (
        _Searched(
            pictures.images,
            pictures.view_features(extractor),
            [perceptual_hashes(view) for view in dihedral_views(pictures.images)],
        )
        for pictures in (generated, held_out)
    )
    of_made, of_unseen = _nearest(made, known), _nearest(unseen, known)
    thresholds = (_least(of_unseen.features), _least(of_unseen.fit))
    near_copies = _matches(made, known, of_made, thresholds)
    flagged = np.zeros(len(generated), bool)
    flagged[[match.index for match in near_copies]] = True
    duplicates = _matches(made, made, _nearest(made, made), thresholds)
    real_duplicates = _matches(unseen, unseen, _nearest(unseen, unseen), thresholds)
    return Novelty(
        generated=of_made,
        held_out=of_unseen,
        threshold=thresholds[0],
        fit_threshold=thresholds[1],
        is_near_copy=flagged,
        near_copies=near_copies,
        near_copy_rate=rate(len(near_copies), len(generated)),
        expected_rate=2 * (_rank(len(held_out)) + 1) / (len(held_out) + 1),
        closer_than_held_out=_share_nearer(of_made.features, of_unseen.features),
        fits_better_than_held_out=_share_nearer(of_made.fit, of_unseen.fit),
        duplicates=_each_couple_once(duplicates),
        duplicate_rate=rate(len(duplicates), len(generated)),
        held_out_duplicate_rate=rate(len(real_duplicates), len(held_out)),
    )


@dataclass(frozen=True)
class _Searched:
    """Photographs [n, s, s, 3] with the features [n, d] and hash bits [n, 64] of each of their views."""

    images: NDArray[np.uint8]
    features: Sequence[NDArray[np.float32]]
    bits: Sequence[NDArray[np.float64]]


def _nearest(asked: _Searched, reference: _Searched) -> Nearest:
    within = asked is reference
    by_bits = nearest(asked.bits, reference.bits[0], within=within)
    return Nearest(
        features=nearest(asked.features, reference.features[0], within=within),
        bits=Neighbours(by_bits.index, np.rint(by_bits.distance**2)),
        fit=nearest_aligned(asked.images, reference.images, within=within),
    )


def _rank(held_out: int) -> int:
    """Position of the threshold among the sorted distances of the held-out photographs.

    A further photograph of the same kind is nearer than the k-th nearest of n (from 0) with probability (k + 1) /
    (n + 1), whatever the distribution (Vovk et al., Algorithmic learning in a random world, 2005); half of the allowed
    share is for each of the two rules.
    """
    return max(0, int(NEAR_COPY_QUANTILE / 2 * (held_out + 1)) - 1)


def _least(held_out: Neighbours) -> float:
    return float(np.sort(held_out.distance)[_rank(len(held_out.distance))])


def _matches(
    asked: _Searched, reference: _Searched, found: Nearest, thresholds: tuple[float, float]
) -> tuple[Match, ...]:
    """The photographs nearer than a threshold; one that both rules flag is matched as alignment does."""
    by_features, by_fit = found.features.distance < thresholds[0], found.fit.distance < thresholds[1]
    index = np.flatnonzero(by_features | by_fit)
    other = np.where(by_fit, found.fit.index, found.features.index)[index]
    distances = distance_to([view[index] for view in asked.features], reference.features[0][other])
    bits = np.rint(distance_to([view[index] for view in asked.bits], reference.bits[0][other]) ** 2)
    matches = [
        Match(
            index=int(i),
            other=int(j),
            feature_distance=float(distance),
            hash_bits=int(bit),
            misfit_ratio=float(found.fit.distance[i]),
            by_features=bool(by_features[i]),
            by_alignment=bool(by_fit[i]),
        )
        for i, j, distance, bit in zip(index, other, distances, bits, strict=True)
    ]
    return tuple(sorted(matches, key=lambda match: (match.misfit_ratio, match.feature_distance)))


def _each_couple_once(matches: Sequence[Match]) -> tuple[Match, ...]:
    couples: dict[frozenset[int], Match] = {}
    for match in matches:
        couples.setdefault(frozenset((match.index, match.other)), match)
    return tuple(couples.values())


def _share_nearer(generated: Neighbours, held_out: Neighbours) -> float:
    """Mann-Whitney's U over the number of couples; a tie counts one half."""
    wins = stats.mannwhitneyu(held_out.distance, generated.distance).statistic
    return float(wins / (len(generated.distance) * len(held_out.distance)))
