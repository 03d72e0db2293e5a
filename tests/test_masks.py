"""Mask scores against fractions worked out by hand on 4 x 4 drawings, and shapes with known statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest
from skimage.draw import disk

from skindualgen.contracts import InputError
from skindualgen.quality import masks


def drawn(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


LEFT = drawn("##..", "##..", "....", "....")
SHIFTED = drawn(".##.", ".##.", "....", "....")
LARGER = drawn("###.", "###.", "###.", "....")
CORNER = drawn("....", "....", "....", "...#")
EMPTY = drawn("....", "....", "....", "....")


@pytest.mark.parametrize(
    ("predicted", "truth", "dice", "iou"),
    [
        (LEFT, LEFT, Fraction(1), Fraction(1)),
        (LEFT, SHIFTED, Fraction(4, 8), Fraction(2, 6)),
        (LEFT, LARGER, Fraction(8, 13), Fraction(4, 9)),
        (LEFT, CORNER, Fraction(0), Fraction(0)),
        (EMPTY, EMPTY, Fraction(1), Fraction(1)),
        (EMPTY, LEFT, Fraction(0), Fraction(0)),
        (LEFT, EMPTY, Fraction(0), Fraction(0)),
    ],
)
def test_overlap_is_the_fraction_counted_by_hand(predicted, truth, dice, iou):
    assert masks.dice(predicted, truth) == pytest.approx(float(dice))
    assert masks.iou(predicted, truth) == pytest.approx(float(iou))


@pytest.mark.parametrize(
    ("predicted", "truth", "hd95", "boundary_f"),
    [
        (LEFT, LEFT, 0, 1),
        # every pixel of a 2 x 2 square is boundary; the left column is 1 px away, the right one 0: 95th percentile 1
        (LEFT, SHIFTED, 1, Fraction(1, 2)),
        # from (3, 3) sqrt(8); back sqrt 8, sqrt 13 twice, sqrt 18: the 95th percentile lies between the last two
        (LEFT, CORNER, math.sqrt(13) + 0.85 * (math.sqrt(18) - math.sqrt(13)), 0),
        (EMPTY, EMPTY, 0, 1),
        (EMPTY, LEFT, math.sqrt(32), 0),
    ],
)
def test_boundary_scores_are_those_worked_out_by_hand(predicted, truth, hd95, boundary_f):
    assert masks.hd95(predicted, truth) == pytest.approx(hd95)
    assert masks.hd95(truth, predicted) == pytest.approx(hd95)
    assert masks.boundary_f(predicted, truth, tolerance_px=0) == pytest.approx(float(boundary_f))


def test_boundary_f_counts_what_lies_within_the_tolerance():
    assert masks.boundary_f(LEFT, SHIFTED, tolerance_px=1) == 1.0
    # LARGER's 8 boundary pixels: 4 touch LEFT's 4 within 0 px except (1, 1), which is inside LARGER
    assert masks.boundary_f(LEFT, LARGER, tolerance_px=0) == pytest.approx(2 * (3 / 4) * (3 / 8) / (3 / 4 + 3 / 8))


def test_default_tolerance_is_two_pixels_at_128():
    a, b = np.zeros((2, 128, 128), bool)
    a[40:80, 40:80] = True
    b[42:82, 40:80] = True
    assert masks.boundary_f(a, b) == 1.0
    assert masks.boundary_f(a, np.roll(b, 1, axis=0)) < 1.0


def test_boundary_includes_pixels_at_the_edge_of_the_picture():
    full = np.ones((4, 4), bool)
    assert (masks.boundary(full) == drawn("####", "#..#", "#..#", "####")).all()


def test_agreement_holds_all_scores_and_reads_0_255_masks():
    scores = masks.agreement(LEFT.astype(np.uint8) * 255, SHIFTED)
    assert scores == {"dice": 0.5, "iou": pytest.approx(1 / 3), "hd95_px": 1.0, "boundary_f": 1.0}


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="resize"):
        masks.dice(LEFT, np.zeros((4, 5), bool))


def test_shape_of_drawn_masks():
    two = masks.shape_statistics(drawn("....", ".#..", "....", "...#"))
    assert (two.area_fraction, two.components, two.touches_border) == (2 / 16, 2, True)
    diagonal = masks.shape_statistics(drawn("....", ".#..", "..#.", "...."))
    assert (diagonal.components, diagonal.touches_border) == (1, False)
    empty = masks.shape_statistics(EMPTY)
    assert (empty.area_fraction, empty.components, empty.touches_border) == (0.0, 0, False)
    assert math.isnan(empty.eccentricity)
    assert math.isnan(empty.compactness)


def test_disc_is_compact_and_round_and_an_ellipse_has_its_own_eccentricity():
    disc = np.zeros((128, 128), bool)
    disc[disk((64, 64), 40)] = True
    round_shape = masks.shape_statistics(disc)
    assert round_shape.compactness == pytest.approx(1, abs=0.03)
    assert round_shape.eccentricity < 0.1
    y, x = np.mgrid[:128, :128] - 64
    ellipse = masks.shape_statistics((x / 50) ** 2 + (y / 30) ** 2 <= 1)
    assert ellipse.eccentricity == pytest.approx(math.sqrt(1 - (30 / 50) ** 2), abs=0.01)
    assert ellipse.compactness < 0.95
    assert set(ellipse.as_dict()) == {"area_fraction", "eccentricity", "compactness", "components", "touches_border"}


def test_ragged_border_is_less_compact():
    y, x = np.mgrid[:128, :128] - 64
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    smooth, ragged = radius <= 40, radius <= 40 + 6 * np.sin(12 * angle)
    assert masks.shape_statistics(ragged).compactness < 0.7 * masks.shape_statistics(smooth).compactness


def test_lesion_that_fills_the_picture_has_a_closed_perimeter():
    assert masks.shape_statistics(np.ones((64, 64), bool)).compactness == pytest.approx(math.pi / 4, rel=0.15)
