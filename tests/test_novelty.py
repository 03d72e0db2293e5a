"""Planted copies are found, turned ones too; fresh pictures are not called copies."""

import numpy as np
import pytest
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.phantom import draw_phantom
from skindualgen.quality.features import ImageNetFeatures, dihedral_views
from skindualgen.quality.novelty import (
    closest_pairs_sheet,
    nearest,
    nearest_within,
    novelty,
    perceptual_hashes,
    picture_grid,
)

SIDE_PX = 64


def phantoms(first: int, count: int) -> np.ndarray:
    return np.stack([draw_phantom(first + i, size=SIDE_PX).image for i in range(count)])


@pytest.fixture(scope="module")
def extractor():
    return ImageNetFeatures()


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
    found = nearest_within(np.array([[0.0], [1.0], [1.5]]))
    assert found.index.tolist() == [1, 2, 1]
    assert found.distance.tolist() == pytest.approx([1.0, 0.5, 0.5])


def test_hash_distance_is_counted_in_bits():
    images = phantoms(0, 2)
    bits = perceptual_hashes(images)
    assert bits.shape == (2, 64)
    found = nearest([bits[:1]], bits[1:])
    assert found.distance[0] ** 2 == pytest.approx((bits[0] != bits[1]).sum())


def test_planted_copies_are_flagged_even_when_turned_and_mirrored_and_fresh_pictures_are_not(extractor):
    train, fresh = phantoms(0, 12), phantoms(500, 8)
    turned = np.concatenate([dihedral_views(train[i : i + 1])[i] for i in range(8)])
    result = novelty(
        generated=np.concatenate([turned, fresh]), held_out=phantoms(900, 10), train=train, extractor=extractor
    )
    assert result.generated.index[:8].tolist() == list(range(8))
    assert result.generated.distance[:8] == pytest.approx(0, abs=0.05)
    assert (result.generated_bits.distance[:8] <= 2).all()
    assert (result.generated.distance[:8] < result.threshold).all()
    assert (result.generated.distance[8:] < result.threshold).sum() <= 2
    assert result.near_copy_rate.low <= 8 / 16 <= result.near_copy_rate.value < result.near_copy_rate.high
    assert result.generated_bits.distance[8:].min() > 2
    # of the couples with a held-out picture all 8 x 10 copies win, and about half of the fresh ones
    assert 0.55 < result.closer_than_held_out < 0.95


def test_repeats_within_the_generated_set_are_counted(extractor):
    generated = phantoms(500, 3)
    doubled = np.concatenate([generated, generated])
    result = novelty(generated=doubled, held_out=phantoms(900, 4), train=phantoms(0, 4), extractor=extractor)
    assert result.duplicate_rate.value == 1.0


def test_sheet_shows_the_closest_couple_first():
    generated, train = phantoms(0, 3), phantoms(10, 2)
    found = nearest([np.array([[5.0], [1.0], [3.0]])], np.array([[0.0], [100.0]]))
    sheet = closest_pairs_sheet(generated=generated, train=train, neighbours=found, pairs=2, columns=1)
    assert sheet.size == (2 * SIDE_PX + 4, 2 * SIDE_PX + 4)
    pixels = np.asarray(sheet)
    assert (pixels[:SIDE_PX, :SIDE_PX] == generated[1]).all()
    assert (pixels[:SIDE_PX, SIDE_PX + 4 :] == train[0]).all()
    assert (pixels[SIDE_PX + 4 :, :SIDE_PX] == generated[2]).all()


def test_grid_shows_masks_in_white_and_refuses_mixed_sizes():
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    grid = picture_grid([[np.zeros((8, 8, 3), np.uint8), mask]], gap_px=1)
    assert isinstance(grid, Image.Image)
    pixels = np.asarray(grid)
    assert pixels.shape == (8, 17, 3)
    assert (pixels[2:4, 9:] == 255).all()
    assert (pixels[4:, 9:] == 0).all()
    assert (pixels[:, 8] == 255).all()
    with pytest.raises(InputError, match="one size"):
        picture_grid([[mask, mask[:4]]])
