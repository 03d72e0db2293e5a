"""Skin tone: patches of known CIELAB colour, what lies over skin in dermoscopy, and sets counted by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab
from skimage.draw import disk, line

from skindualgen.contracts import InputError
from skindualgen.metrics.skin_tone import (
    CATEGORIES,
    LEAST_SKIN,
    THIN,
    category,
    category_counts,
    skin_tone,
    thin_categories,
    tone_measures,
    tone_share_name,
    typology_angle,
    typology_angles,
)

SIDE_PX = 128
LESION = np.zeros((SIDE_PX, SIDE_PX), bool)
LESION[disk((64, 60), 26)] = True
SKINS = [(75, 10, 15), (65, 12, 18), (55, 12, 20), (45, 12, 18), (35, 10, 14)]
"""L*, a*, b* with an ITA of 59 (very light), 40 (intermediate), 14 (tan), -16 (brown) and -47 degrees (dark)."""


def photograph(skin: tuple[float, float, float], *, texture: float = 1.5) -> np.ndarray:
    """Skin of one colour with a fine texture, and a dark lesion; RGB in 0..1."""
    lab = np.array(skin) + texture * np.random.default_rng(0).normal(size=(SIDE_PX, SIDE_PX, 3))
    picture = lab2rgb(lab)
    picture[LESION] = 0.3, 0.17, 0.1
    return picture


def as_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def with_hair(picture: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(1)
    for _ in range(30):
        rows, columns = line(*random.integers(0, SIDE_PX, 4))
        for shift in (0, 1):
            picture[rows, np.minimum(columns + shift, SIDE_PX - 1)] = 0.12, 0.08, 0.06
    return picture


def with_vignette(picture: np.ndarray) -> np.ndarray:
    """A round aperture with a soft edge: 1 - pi / 4 x 1.05^2 = 13 % of the picture is black."""
    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5) / SIDE_PX * 2 - 1
    return picture * gaussian_filter((np.hypot(x, y) < 1.05).astype(float), 3)[..., None]


def with_ruler(picture: np.ndarray) -> np.ndarray:
    picture[112:114, 10:118] = 0.1
    for tick, column in enumerate(range(10, 118, 6)):
        picture[112 - (10 if tick % 5 == 0 else 5) : 112, column : column + 2] = 0.1
    return picture


def with_ink(picture: np.ndarray) -> np.ndarray:
    picture[4:22, 4:40] = 0.35, 0.15, 0.55
    picture[100:120, 100:124] = 0.15, 0.5, 0.4
    return picture


def with_bubbles(picture: np.ndarray) -> np.ndarray:
    for centre in ((15, 100), (30, 112), (100, 20), (110, 60)):
        picture[disk(centre, 5)] = 0.9, 0.88, 0.87
        picture[disk(centre, 2)] = 1.0
    return picture


@pytest.mark.parametrize("skin", SKINS)
def test_plain_skin_has_the_angle_of_its_colour(skin):
    expected = np.degrees(np.arctan((skin[0] - 50) / skin[2]))
    found = skin_tone(as_bytes(photograph(skin, texture=0)), LESION)
    assert found.ita_degrees == pytest.approx(expected, abs=0.7)  # 8 bits a channel
    assert 0.3 < found.skin_share < 1 - LESION.mean()


@pytest.mark.parametrize("skin", SKINS)
@pytest.mark.parametrize("add", [with_hair, with_vignette, with_ruler, with_ink, with_bubbles])
def test_what_lies_over_the_skin_moves_the_angle_by_less_than_two_degrees(skin, add):
    clean = skin_tone(as_bytes(photograph(skin)), LESION).ita_degrees
    covered = skin_tone(as_bytes(add(photograph(skin))), LESION).ita_degrees
    assert covered == pytest.approx(clean, abs=2)


def test_all_of_it_together_moves_the_angle_by_less_than_two_degrees():
    picture = photograph(SKINS[1])
    clean = skin_tone(as_bytes(picture), LESION).ita_degrees
    for add in (with_ink, with_bubbles, with_hair, with_ruler, with_vignette):
        picture = add(picture)
    assert skin_tone(as_bytes(picture), LESION).ita_degrees == pytest.approx(clean, abs=2)
    # the same picture read without any care
    rough = np.rint(picture * 255).astype(np.uint8)
    lightness, _, yellowness = np.mean(rgb2lab(rough)[~LESION], axis=0)
    assert abs(typology_angle(lightness, yellowness) - clean) > 10


def test_redness_at_the_edge_of_the_lesion_is_not_measured():
    picture = photograph(SKINS[1])
    ring = np.zeros_like(LESION)
    ring[disk((64, 60), 31)] = True
    picture[ring & ~LESION] = 0.75, 0.3, 0.3
    clean = skin_tone(as_bytes(photograph(SKINS[1])), LESION).ita_degrees
    assert skin_tone(as_bytes(picture), LESION).ita_degrees == pytest.approx(clean, abs=0.5)


def test_lesion_that_leaves_too_little_skin_has_no_tone():
    lesion = np.ones_like(LESION)
    lesion[:12] = False
    found = skin_tone(as_bytes(photograph(SKINS[0])), lesion)
    assert found.ita_degrees is None
    assert 0 < found.skin_share < LEAST_SKIN
    black = skin_tone(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), LESION)
    assert (black.ita_degrees, black.skin_share) == (None, 0.0)


def test_angle_goes_on_where_the_light_is_blue():
    assert typology_angle(70, 20) == pytest.approx(45)
    assert typology_angle(70, 1e-9) == pytest.approx(90)
    assert typology_angle(70, -20) == pytest.approx(135)
    assert typology_angle(30, 20) == pytest.approx(-45)


@pytest.mark.parametrize(
    ("angle", "name"),
    [
        (-80, "dark"),
        (-30, "dark"),
        (-29.9, "brown"),
        (10, "brown"),
        (10.1, "tan"),
        (28, "tan"),
        (28.1, "intermediate"),
        (41, "intermediate"),
        (41.1, "light"),
        (55, "light"),
        (55.1, "very light"),
        (120, "very light"),
    ],
)
def test_boundaries_belong_to_the_darker_category(angle, name):
    assert category(angle) == name


def test_photograph_and_mask_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="one size"):
        skin_tone(as_bytes(photograph(SKINS[0])), LESION[:-1])


REAL = np.array([60.0] * 40 + [45.0] * 30 + [0.0, 0.0, np.nan, 100.0])
GENERATED = np.array([60.0] * 10 + [0.0] * 9 + [-45.0])


@pytest.fixture(scope="module")
def measures():
    return {measure.name: measure for measure in tone_measures(real=REAL, generated=GENERATED, seed=0)}


def test_categories_are_counted(measures):
    real, generated = (category_counts(angles[np.isfinite(angles)]) for angles in (REAL, GENERATED))
    assert list(real.values()) == [0, 2, 0, 0, 30, 41] and list(real) == list(CATEGORIES)
    assert list(generated.values()) == [1, 9, 0, 0, 0, 10]
    light = measures[tone_share_name("light")]
    assert (light.value, light.reference.value) == (0, pytest.approx(30 / 73))
    assert light.reference.low < 30 / 73 < light.reference.high
    unmeasured = measures["skin_unmeasured"]
    assert (unmeasured.value, unmeasured.reference.value) == (0, 1 / 74)
    assert (unmeasured.n_generated, unmeasured.n_real) == (20, 74)


def test_distance_is_in_degrees_and_above_real_against_real_for_darker_skin(measures):
    # both sorted and laid over each other, in shares of 73 and of 20
    real, generated = np.sort(REAL[np.isfinite(REAL)]), np.sort(GENERATED)
    expected = np.mean(np.abs(np.repeat(real, 20) - np.repeat(generated, 73)))
    distance = measures["ita_distance"]
    assert distance.value == pytest.approx(expected, rel=0.1)  # of parts of the sets
    assert distance.value > distance.reference.high
    assert measures["ita_mean"].value == pytest.approx(GENERATED.mean())


def test_a_class_has_distance_and_mean_alone_and_neither_without_real_photographs():
    nevi = tone_measures(real=REAL[:70], generated=GENERATED[:19], seed=0, group="nevus")
    assert [measure.key for measure in nevi] == ["ita_distance[nevus]", "ita_mean[nevus]"]
    assert (nevi[1].n_real, nevi[1].n_generated) == (70, 19)
    assert tone_measures(real=REAL[70:73], generated=GENERATED, seed=0, group="melanoma") == []
    with pytest.raises(InputError, match="add photographs"):
        tone_measures(real=REAL[:0], generated=GENERATED, seed=0)


def test_thin_data_are_pointed_out(measures):
    assert thin_categories(REAL[np.isfinite(REAL)]) == ["dark", "brown", "tan", "intermediate"]
    assert measures[tone_share_name("brown")].caveat == "2 real photographs: too thin to judge by"
    assert measures[tone_share_name("light")].caveat is None
    assert THIN == 30 and thin_categories(np.array([])) == list(CATEGORIES)


def test_a_set_is_measured_photograph_by_photograph():
    images = [as_bytes(photograph(skin)) for skin in SKINS[:2]]
    found = typology_angles([*images, np.zeros_like(images[0])], [LESION] * 3)
    assert found[:2].tolist() == [skin_tone(image, LESION).ita_degrees for image in images]
    assert np.isnan(found[2])
