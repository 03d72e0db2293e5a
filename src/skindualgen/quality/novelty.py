"""Are generated photographs new, or copies of training photographs? Measured against what unseen real ones show.

A generated picture may copy a flipped or turned training picture, so each nearest neighbour is the best over the 8
flips and quarter turns of the picture asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from sklearn.metrics.pairwise import euclidean_distances

from skindualgen.contracts import InputError
from skindualgen.quality.features import FeatureExtractor, dihedral_views
from skindualgen.quality.intervals import Estimate, rate

NEAR_COPY_QUANTILE = 0.01
"""A near-copy is nearer to a training photograph than this share of unseen real photographs is."""

HASH_SIDE = 8
"""Perceptual hashes have 8 x 8 = 64 bits."""


@dataclass(frozen=True)
class Neighbours:
    """For each of n pictures its nearest one among others.

    Attributes:
        index: [n] positions of the nearest.
        distance: [n] distances to them, in the unit of the space.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]


def nearest(views: Sequence[NDArray[np.floating]], reference: NDArray[np.floating]) -> Neighbours:
    """Find the nearest of ``reference`` [m, d] for n pictures, each given in one or more views [n, d].

    Raises:
        InputError: no views or no reference.
    """
    if not views or not len(reference):
        raise InputError("nothing to compare with", "one view and one reference picture or more", "check the folders")
    distances = np.full((len(views[0]), len(reference)), np.inf)  # [n, m]
    for view in views:
        np.minimum(distances, euclidean_distances(view.astype(np.float64), reference.astype(np.float64)), out=distances)
    index = distances.argmin(1)
    return Neighbours(index.astype(np.int64), distances[np.arange(len(index)), index])


def nearest_within(features: NDArray[np.floating]) -> Neighbours:
    """Find for each picture the nearest OTHER one of the same set [n, d], n of 2 or more."""
    if len(features) < 2:
        raise InputError(f"{len(features)} pictures", "2 or more", "add pictures")
    distances = euclidean_distances(features.astype(np.float64))
    np.fill_diagonal(distances, np.inf)
    index = distances.argmin(1)
    return Neighbours(index.astype(np.int64), distances[np.arange(len(index)), index])


def perceptual_hashes(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the 64 bits of imagehash's pHash of each photograph [n, h, w, 3] as [n, 64] zeros and ones.

    The SQUARED euclidean distance of two of them is their Hamming distance in bits.
    """
    hashes = [imagehash.phash(Image.fromarray(image), hash_size=HASH_SIDE).hash.ravel() for image in images]
    return np.array(hashes, np.float64).reshape(len(images), HASH_SIDE**2)


@dataclass(frozen=True)
class Novelty:
    """How far generated photographs are from the training photographs, beside unseen real ones; see :func:`novelty`.

    Attributes:
        generated, held_out: nearest training photograph of each, in feature space.
        generated_bits, held_out_bits: the same by perceptual hash, distance in bits of 64.
        threshold: feature distance below which a photograph counts as a near-copy.
        near_copy_rate: of the generated photographs; unseen real ones have :data:`NEAR_COPY_QUANTILE` by definition.
        closer_than_held_out: chance that a generated photograph is nearer to its training neighbour than an unseen real
            one is to its own: 0.5 if as new as real ones, 1 if all are copies.
        duplicate_rate: share of generated photographs with another generated one nearer than the threshold.
    """

    generated: Neighbours
    held_out: Neighbours
    generated_bits: Neighbours
    held_out_bits: Neighbours
    threshold: float
    near_copy_rate: Estimate
    closer_than_held_out: float
    duplicate_rate: Estimate


def novelty(
    *,
    generated: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    train: NDArray[np.uint8],
    extractor: FeatureExtractor,
) -> Novelty:
    """Compare generated photographs with the training photographs, against held-out real ones.

    Args:
        generated: [n, s, s, 3], 2 or more.
        held_out: [m, s, s, 3] real photographs that the generator has not seen.
        train: [k, s, s, 3] those that it has.
        extractor: the feature space.
    """
    train_features, train_bits = extractor(train), perceptual_hashes(train)

    def to_train(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Neighbours, Neighbours]:
        views = dihedral_views(images)
        features = [extractor(view) for view in views]
        by_bits = nearest([perceptual_hashes(view) for view in views], train_bits)
        return features[0], nearest(features, train_features), Neighbours(by_bits.index, np.rint(by_bits.distance**2))

    features, generated_near, generated_bits = to_train(generated)
    _, held_out_near, held_out_bits = to_train(held_out)
    threshold = float(np.quantile(held_out_near.distance, NEAR_COPY_QUANTILE))
    # Mann-Whitney's U over the number of couples; a tie counts one half
    wins = stats.mannwhitneyu(held_out_near.distance, generated_near.distance).statistic
    return Novelty(
        generated=generated_near,
        held_out=held_out_near,
        generated_bits=generated_bits,
        held_out_bits=held_out_bits,
        threshold=threshold,
        near_copy_rate=rate(int((generated_near.distance < threshold).sum()), len(generated)),
        closer_than_held_out=float(wins / (len(generated) * len(held_out))),
        duplicate_rate=rate(int((nearest_within(features).distance < threshold).sum()), len(generated)),
    )


def picture_grid(rows: Sequence[Sequence[NDArray[np.uint8] | NDArray[np.bool_]]], *, gap_px: int = 4) -> Image.Image:
    """Lay pictures out in rows on white: photographs [h, w, 3] uint8 and masks [h, w] bool, all of one size.

    Raises:
        InputError: no pictures, or of several sizes.
    """
    sizes = {picture.shape[:2] for row in rows for picture in row}
    if len(sizes) != 1:
        raise InputError(f"pictures of sizes {sorted(sizes)}", "one size", "resize them first")
    height, width = sizes.pop()
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap_px) - gap_px, len(rows) * (height + gap_px) - gap_px), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            pixels = picture if picture.dtype == np.uint8 else picture.astype(np.uint8) * 255
            sheet.paste(Image.fromarray(pixels), (x * (width + gap_px), y * (height + gap_px)))
    return sheet


def closest_pairs_sheet(
    *, generated: NDArray[np.uint8], train: NDArray[np.uint8], neighbours: Neighbours, pairs: int = 24, columns: int = 4
) -> Image.Image:
    """Show the closest couples, nearest first: each generated photograph with its training neighbour to its right."""
    closest = np.argsort(neighbours.distance, kind="stable")[:pairs]
    cells = [picture for i in closest for picture in (generated[i], train[neighbours.index[i]])]
    return picture_grid([cells[start : start + 2 * columns] for start in range(0, len(cells), 2 * columns)])
