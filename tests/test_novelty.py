"""Planted copies are found, however they were altered; fresh pictures are not called copies."""

import io
import math
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.phantom import draw_phantom
from skindualgen.judges import novelty as novelty_module
from skindualgen.judges.alignment import nearest_aligned
from skindualgen.judges.features import ImageNetFeatures, dihedral_views
from skindualgen.judges.neighbours import Neighbours, distance_to, nearest
from skindualgen.judges.novelty import Novelty, novelty, perceptual_hashes
from skindualgen.judges.pictures import PictureSet

SIDE_PX = 64


@lru_cache
def phantom(seed: int) -> np.ndarray:
    return draw_phantom(seed, size=SIDE_PX).image


def phantoms(first: int, count: int) -> np.ndarray:
    return np.stack([phantom(first + i) for i in range(count)])


class GreyCells:
    """A small feature space, for what does not depend on which one: the mean grey of 8 x 8 cells."""

    name, preprocessing, dim = "grey-cells", "none", 64

    def __call__(self, images: np.ndarray) -> np.ndarray:
        cells = images.mean(3).reshape(len(images), 8, images.shape[1] // 8, 8, images.shape[2] // 8)
        return cells.mean((2, 4)).reshape(len(images), self.dim).astype(np.float32)


def searched(generated: np.ndarray, *, held_out: np.ndarray, train: np.ndarray, extractor=None) -> Novelty:
    sets = {"generated": generated, "held_out": held_out, "train": train}
    pictures = {name: PictureSet.of_arrays(images) for name, images in sets.items()}
    return novelty(**pictures, extractor=extractor or GreyCells())


@pytest.fixture(scope="module")
def extractor():
    return ImageNetFeatures()


def compressed(images: np.ndarray) -> np.ndarray:
    def recompressed(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=70)
        return np.asarray(Image.open(file).convert("RGB"))

    return np.stack([recompressed(image) for image in images])


def cropped(images: np.ndarray) -> np.ndarray:
    side = images.shape[1]
    cut = round(side * 0.05)
    parts = [Image.fromarray(image[cut:, : side - cut]) for image in images]
    return np.stack([np.asarray(part.resize((side, side), Image.Resampling.BICUBIC)) for part in parts])


def recoloured(images: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images * np.array([1.05, 0.95, 1.05])), 0, 255).astype(np.uint8)


ALTERATIONS = {
    "as it is": lambda images: images,
    "flipped": lambda images: images[:, :, ::-1].copy(),
    "turned": lambda images: np.rot90(images, axes=(1, 2)).copy(),
    "compressed": compressed,
    "cropped": cropped,
    "recoloured": recoloured,
    "all of it": lambda images: np.rot90(recoloured(cropped(compressed(images))), axes=(1, 2))[:, ::-1].copy(),
}


def test_nearest_is_the_smallest_distance_over_all_views():
    reference = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    first, second = np.array([[0.0, 1.0], [9.0, 0.0]]), np.array([[3.0, 4.0], [20.0, 0.0]])
    found = nearest([first, second], reference)
    assert found.index.tolist() == [1, 2]
    assert found.distance.tolist() == pytest.approx([0.0, 1.0])
    assert nearest([first], reference).index.tolist() == [0, 2]
    with pytest.raises(InputError, match="check the folders"):
        nearest([first], reference[:0])


def test_nearest_within_never_finds_the_picture_itself():
    points = np.array([[0.0], [1.0], [1.5]])
    found = nearest([points], points, within=True)
    assert found.index.tolist() == [1, 2, 1]
    assert found.distance.tolist() == pytest.approx([1.0, 0.5, 0.5])
    with pytest.raises(InputError, match="nothing to compare"):
        nearest([points[:1]], points[:1], within=True)


def test_distance_to_a_named_reference_is_that_of_the_best_view():
    views = [np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([[9.0, 9.0], [1.0, 1.0]])]
    assert distance_to(views, np.array([[3.0, 4.0], [1.0, 2.0]])).tolist() == pytest.approx([5.0, 1.0])


def test_hash_distance_is_counted_in_bits():
    images = phantoms(0, 2)
    bits = perceptual_hashes(images)
    assert bits.shape == (2, 64)
    found = nearest([bits[:1]], bits[1:])
    assert found.distance[0] ** 2 == pytest.approx((bits[0] != bits[1]).sum())


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_alignment_finds_the_original_of_an_altered_copy(alteration):
    train = phantoms(0, 30)
    fresh = nearest_aligned(phantoms(500, 20), train)
    found = nearest_aligned(ALTERATIONS[alteration](train[:10]), train)
    assert found.index.tolist() == list(range(10))
    # a ratio of 1 says that several references fit alike
    assert found.distance.max() < 0.5 * fresh.distance.min()


def test_alignment_within_a_set_leaves_the_photograph_itself_out():
    images = phantoms(0, 6)
    found = nearest_aligned(np.concatenate([images, images[:1]]), np.concatenate([images, images[:1]]), within=True)
    assert (found.index[0], found.index[6]) == (6, 0)
    assert found.distance[[0, 6]] == pytest.approx(0, abs=1e-3)
    assert (found.index != np.arange(7)).all()
    assert found.distance[1:6].min() > 0.1


def test_alignment_does_not_depend_on_what_else_is_asked_and_survives_blank_pictures(monkeypatch):
    images, train = phantoms(500, 5), phantoms(0, 12)
    whole = nearest_aligned(images, train)
    monkeypatch.setattr("skindualgen.judges.alignment.BLOCK", 2)
    parts = nearest_aligned(images, train)
    assert parts.index.tolist() == whole.index.tolist()
    assert parts.distance == pytest.approx(whole.distance, abs=1e-5)
    blank = nearest_aligned(np.full((1, SIDE_PX, SIDE_PX, 3), 90, np.uint8), train)
    assert blank.distance[0] == pytest.approx(1, abs=1e-3)
    with pytest.raises(InputError, match="add photographs"):
        nearest_aligned(images, train[:1])


def test_a_training_set_that_repeats_one_photograph_still_shows_its_copy():
    train = np.repeat(phantoms(0, 1), 12, axis=0)
    assert nearest_aligned(compressed(train[:1]), train).distance[0] < 0.5


def test_planted_copies_are_listed_with_their_originals_and_fresh_pictures_are_not():
    train, fresh = phantoms(0, 12), phantoms(500, 8)
    turned = np.concatenate([dihedral_views(train[i : i + 1])[i] for i in range(8)])
    result = searched(np.concatenate([turned, fresh]), held_out=phantoms(900, 10), train=train)
    assert result.generated.features.index[:8].tolist() == list(range(8))
    assert result.generated.features.distance[:8] == pytest.approx(0, abs=0.05)
    assert result.is_near_copy[:8].all()
    assert result.is_near_copy[8:].sum() <= 2
    listed = {match.index: match for match in result.near_copies}
    assert set(listed) == set(np.flatnonzero(result.is_near_copy))
    for i in range(8):
        match = listed[i]
        assert (match.other, match.by_features, match.by_alignment) == (i, True, True)
        assert (match.feature_distance, match.misfit_ratio) == pytest.approx((0, 0), abs=0.05)
        assert match.hash_bits <= 2
    assert result.near_copy_rate.value == result.is_near_copy.mean()
    assert result.generated.bits.distance[8:].min() > 2
    # of the couples with a held-out picture all 8 x 10 copies win, and about half of the fresh ones
    assert 0.55 < result.closer_than_held_out < 0.95
    assert 0.55 < result.fits_better_than_held_out < 0.95


def test_compressed_copies_are_found_though_the_feature_space_loses_them(extractor):
    train = phantoms(0, 12)
    copies = compressed(np.rot90(train[:3], axes=(1, 2)))
    result = searched(copies, held_out=phantoms(900, 6), train=train, extractor=extractor)
    assert result.is_near_copy.all()
    assert {match.index: match.other for match in result.near_copies} == {i: i for i in range(3)}
    assert all(match.by_alignment for match in result.near_copies)


def test_repeats_within_the_generated_set_are_listed_once_each():
    generated = phantoms(500, 3)
    doubled = np.concatenate([generated, generated[:, :, ::-1]])
    result = searched(doubled, held_out=phantoms(900, 4), train=phantoms(0, 4))
    assert result.duplicate_rate.value == 1.0
    assert {frozenset((match.index, match.other)) for match in result.duplicates} == {
        frozenset((i, i + 3)) for i in range(3)
    }
    assert len(result.duplicates) == 3
    assert result.held_out_duplicate_rate.value < 1.0


@pytest.mark.parametrize("held_out", [20, 199, 250, 399, 1000])
def test_unseen_real_photographs_are_flagged_as_rarely_as_stated(held_out):
    """The threshold is an order statistic: counted over all positions of a further photograph among the others."""
    rank = novelty_module._rank(held_out)
    distances = np.random.default_rng(held_out).permutation(np.arange(held_out + 1.0))
    flagged = [
        float(distance) < novelty_module._least(Neighbours(np.zeros(held_out), np.delete(distances, i)))
        for i, distance in enumerate(distances)
    ]
    assert np.mean(flagged) == pytest.approx((rank + 1) / (held_out + 1))
    assert 2 * np.mean(flagged) <= max(novelty_module.NEAR_COPY_QUANTILE, 2 / (held_out + 1)) + 1e-12


def test_the_stated_rate_is_that_of_both_rules():
    result = searched(phantoms(500, 3), held_out=phantoms(900, 9), train=phantoms(0, 4))
    assert result.expected_rate == pytest.approx(2 / 10)
    assert result.threshold == result.held_out.features.distance.min()
    assert result.fit_threshold == result.held_out.fit.distance.min()
    assert not math.isnan(result.near_copy_rate.high)
