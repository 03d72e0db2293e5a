"""Mask scores against fractions worked out by hand on 4 x 4 drawings, and shapes with known statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import affine_transform
from skimage.draw import disk
from skimage.measure import regionprops

from skindualgen.contracts import InputError
from skindualgen.metrics import masks


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
    assert math.isnan(empty.border_irregularity)
    assert math.isnan(empty.asymmetry)


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
    assert list(ellipse.as_dict()) == [
        "area_fraction",
        "eccentricity",
        "compactness",
        "border_irregularity",
        "asymmetry",
        "components",
        "touches_border",
    ]
    assert ellipse.as_dict()["touches_border"] == 0.0


def test_ragged_border_is_less_compact():
    y, x = np.mgrid[:128, :128] - 64
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    smooth, ragged = radius <= 40, radius <= 40 + 6 * np.sin(12 * angle)
    assert masks.shape_statistics(ragged).compactness < 0.7 * masks.shape_statistics(smooth).compactness


def test_lesion_that_fills_the_picture_has_a_closed_perimeter():
    assert masks.shape_statistics(np.ones((64, 64), bool)).compactness == pytest.approx(math.pi / 4, rel=0.15)


# an L of 3 x 3 pixels without its upper right 2 x 2: centroid (1.4, 0.6), principal axes the two diagonals
LETTER = drawn("#..", "#..", "###")


def test_asymmetry_is_the_share_without_counterpart_counted_by_hand():
    # across the diagonal through (2, 0) the two arms match: 0. Across the other axis, through the centroid, pixel
    # (y, x) goes to (y - d, x + d) with d = y - x - 0.8: (0, 0) to (0.8, -0.8), off; (1, 0) to (0.8, 0.2), lesion;
    # (2, 0) to (0.8, 1.2), skin; (2, 1) to (1.8, 1.2), lesion; (2, 2) to (2.8, 1.2), off
    assert masks.asymmetry(LETTER) == pytest.approx((0 + 3 / 5) / 2)
    for turned in (np.rot90(LETTER), LETTER[::-1], LETTER.T):
        assert masks.asymmetry(turned) == pytest.approx(3 / 10)


def ellipse_and_coordinates(angle: float, side_px: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:side_px, :side_px] - (side_px - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / 50) ** 2 + (across / 25) ** 2 <= 1, along, across


@pytest.mark.parametrize("angle", [0, 0.3, 0.8, 1.4])
def test_ellipse_is_symmetric_however_it_lies_and_a_part_of_it_is_not(angle):
    ellipse, along, _ = ellipse_and_coordinates(angle)
    assert masks.asymmetry(ellipse) < 0.01
    # half an ellipse still mirrors across its long axis; across the other one it does as a half disc does
    assert 0.05 < masks.asymmetry(ellipse & (along > 0)) < 0.12


def test_asymmetry_agrees_with_rotating_and_flipping_the_picture():
    y, x = np.mgrid[:256, :256] - 127.5
    lesion = ((x / 90) ** 2 + (y / 50) ** 2 <= 1) & ~((x > 20) & (y > 0))
    upright = Image.fromarray(lesion.astype(np.uint8) * 255)
    expected = flipped_difference(np.asarray(upright) > 0)
    for degrees in (25, 70):
        turned = np.asarray(upright.rotate(degrees, Image.Resampling.BICUBIC)) > 127
        assert masks.asymmetry(turned) == pytest.approx(expected, abs=0.01)


def flipped_difference(lesion: np.ndarray) -> float:
    """The same by scipy: turn the principal axes upright about the centroid, flip, count half of the xor."""
    region = regionprops(lesion.astype(np.uint8))[0]
    angle = region.orientation
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(lesion.shape) - 1) / 2
    upright = affine_transform(lesion.astype(float), turn, np.array(region.centroid) - turn @ middle, order=1) > 0.5
    return np.mean([(upright ^ flip).sum() / 2 / upright.sum() for flip in (upright[::-1], upright[:, ::-1])])


def test_convex_shapes_have_a_regular_border_and_an_indented_one_has_the_ratio_of_its_perimeters():
    for angle in (0, 0.5):
        assert masks.border_irregularity(ellipse_and_coordinates(angle)[0]) == pytest.approx(1, abs=0.005)
    plus = np.zeros((120, 120), bool)
    plus[10:110, 40:80] = plus[40:80, 10:110] = True
    # 12 sides of 40, 30 and 30; its hull is an octagon of 4 sides of 40 and 4 of 30 sqrt 2
    expected = (4 * 40 + 8 * 30) / (4 * 40 + 4 * 30 * math.sqrt(2))
    assert masks.border_irregularity(plus) == pytest.approx(expected, rel=0.06)


def test_border_irregularity_reads_the_largest_piece_and_fills_its_holes():
    ellipse, _, _ = ellipse_and_coordinates(0)
    spoilt = ellipse.copy()
    spoilt[60:68, 60:68] = False
    spoilt[0:3, 0:3] = True
    clean, read = masks.shape_statistics(ellipse), masks.shape_statistics(spoilt)
    assert read.border_irregularity == clean.border_irregularity
    assert (read.components, clean.components) == (2, 1)
    assert read.compactness < 0.8 * clean.compactness


def test_ragged_border_is_irregular_and_a_long_smooth_one_is_not():
    y, x = np.mgrid[:128, :128] - 64
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ragged = masks.shape_statistics(radius <= 40 + 6 * np.sin(12 * angle))
    long = masks.shape_statistics((x / 60) ** 2 + (y / 15) ** 2 <= 1)
    assert ragged.border_irregularity > 1.2
    assert long.border_irregularity < 1.01
    assert long.compactness < 0.6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lines_of_pixels_have_a_shape(count):
    line = np.zeros((9, 9), bool)
    line[4, 2 : 2 + count] = True
    shape = masks.shape_statistics(line)
    assert (shape.border_irregularity, shape.asymmetry) == pytest.approx((1, 0))
