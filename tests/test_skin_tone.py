"""Skin tone: patches of known CIELAB colour, what lies over skin in dermoscopy, and tables counted by hand."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab
from skimage.draw import disk, line

from skindualgen.contracts import InputError
from skindualgen.metrics.skin_tone import (
    CALIBRATION_NOTE,
    CATEGORIES,
    LEAST_SKIN,
    THIN,
    SkinTone,
    category,
    compare_tones,
    skin_tone,
    skin_tones,
    typology_angle,
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


def tones(*angles: float | None) -> list[SkinTone]:
    return [SkinTone(angle, 0.0 if angle is None else 0.5) for angle in angles]


@pytest.fixture(scope="module")
def table():
    real = tones(*[60.0] * 40, *[45.0] * 30, 0.0, 0.0, None, 100.0)
    generated = tones(*[60.0] * 10, *[0.0] * 9, -45.0)
    return compare_tones(
        real=real,
        generated=generated,
        real_diagnoses=["nevus"] * 70 + ["melanoma"] * 3 + [None],
        generated_diagnoses=["nevus"] * 19 + ["angioma"],
        seed=0,
    )


def test_categories_are_counted(table):
    counts = {name: (share.real, share.generated) for name, share in table.overall.categories.items()}
    assert counts == {
        "dark": (0, 1),
        "brown": (2, 9),
        "tan": (0, 0),
        "intermediate": (0, 0),
        "light": (30, 0),
        "very light": (41, 10),
    }
    light = table.overall.categories["light"]
    assert light.real_share.value == pytest.approx(30 / 73)
    assert light.real_share.low < 30 / 73 < light.real_share.high
    assert (table.overall.real_unmeasured, table.overall.real_bluish, table.overall.generated_bluish) == (1, 1, 0)


def test_distance_is_in_degrees_and_above_its_floor_for_darker_skin(table):
    distance = table.overall.wasserstein_degrees
    # both sorted and laid over each other, in shares of 73 and of 20
    real, generated = np.sort(table.overall.real_degrees), np.sort(table.overall.generated_degrees)
    expected = np.mean(np.abs(np.repeat(real, 20) - np.repeat(generated, 73)))
    assert distance.value == pytest.approx(expected)
    assert distance.matched > distance.floor_high


def test_a_class_is_compared_by_itself_and_one_without_real_photographs_has_no_distance(table):
    assert list(table.by_diagnosis) == ["angioma", "melanoma", "nevus"]
    nevus, angioma = table.by_diagnosis["nevus"], table.by_diagnosis["angioma"]
    assert (len(nevus.real_degrees), len(nevus.generated_degrees)) == (70, 19)
    assert angioma.wasserstein_degrees is None
    assert angioma.categories["dark"].real_share is None
    assert angioma.thin == CATEGORIES


def test_thin_data_are_stated_in_words(table):
    assert table.overall.thin == ("dark", "brown", "tan", "intermediate")
    assert table.statements[0] == CALIBRATION_NOTE
    dark, brown = table.statements[1:3]
    assert dark.startswith(f"Dark skin (ITA -30 degrees or less): 0 of 73 real photographs, fewer than {THIN}")
    assert "the 1 generated ones extrapolate" in dark
    assert brown.startswith("Brown skin (ITA above -30 to 10 degrees): 2 of 73")
    assert not any(line.startswith(("Light skin", "Very light")) for line in table.statements[1:])
    assert any(line.startswith("melanoma: too thin in dark (0), brown (2)") for line in table.statements)


def test_table_is_plain_numbers_and_unmatched_lengths_are_refused(table):
    assert json.loads(json.dumps(asdict(table), allow_nan=False))["overall"]["real_bluish"] == 1
    with pytest.raises(InputError, match="match them"):
        compare_tones(real=tones(1.0), generated=tones(1.0), real_diagnoses=[], generated_diagnoses=[None], seed=0)


def test_a_set_is_measured_photograph_by_photograph():
    images = [as_bytes(photograph(skin)) for skin in SKINS[:2]]
    assert skin_tones(images, [LESION, LESION]) == [skin_tone(image, LESION) for image in images]
