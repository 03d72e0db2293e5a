"""Scores of single pairs: hand-worked values, invariances, and what each is meant to see."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import f1_score

from skindualgen.contracts import InputError
from skindualgen.data.phantom import draw_phantom
from skindualgen.gate.reference import LEAST_PAIRS, Reference, build_reference
from skindualgen.gate.scorer import Scorer
from skindualgen.gate.scores import best_dice, exposure, fit_shapes, saturation, shape_vector, sharpness
from skindualgen.metrics.masks import dice

SIDE_PX = 64


@pytest.fixture(scope="module")
def phantoms() -> tuple[np.ndarray, np.ndarray]:
    drawn = [draw_phantom(seed, size=SIDE_PX) for seed in range(60)]
    return np.stack([each.image for each in drawn]), np.stack([each.mask for each in drawn]) > 0


@pytest.fixture(scope="module")
def reference(phantoms) -> Reference:
    return build_reference(phantoms[0][:40], phantoms[1][:40])


def test_best_dice_by_hand():
    """Level sets {3}, {3, 2}, {3, 2, 1}, all: 2/3, 1, 4/5, 2/3 of Dice with the two highest pixels."""
    field = np.array([[3.0, 2.0], [1.0, 0.0]])
    assert best_dice(field, np.array([[True, True], [False, False]])) == 1
    assert best_dice(field, np.array([[True, False], [True, False]])) == 4 / 5
    assert best_dice(field, np.array([[False, False], [False, True]])) == 2 / 5
    assert best_dice(field, np.zeros((2, 2), bool)) == 0


def test_best_dice_takes_equal_values_together_and_is_plain_dice_of_a_mask():
    random = np.random.default_rng(0)
    mask = random.random((9, 9)) < 0.5
    for _ in range(20):
        other = random.random((9, 9)) < 0.4
        assert best_dice(other.astype(float), mask) == pytest.approx(max(dice(other, mask), dice(other | True, mask)))
    assert best_dice(np.zeros((9, 9)), mask) == dice(np.ones((9, 9)), mask)


def test_best_dice_is_the_largest_f1_over_all_levels():
    random = np.random.default_rng(1)
    field, mask = random.integers(0, 12, (8, 8)) / 3, random.random((8, 8)) < 0.3
    largest = max(f1_score(mask.ravel(), (field >= level).ravel()) for level in np.unique(field))
    assert best_dice(field, mask) == pytest.approx(largest)


def test_sharpness_falls_with_blur_and_ignores_contrast(phantoms):
    image = phantoms[0][0]
    values = [
        sharpness(np.rint(ndimage.gaussian_filter(image.astype(float), (s, s, 0))).astype(np.uint8))
        for s in (0, 1, 2, 3)
    ]
    assert values == sorted(values, reverse=True) and values[0] > 1.5 * values[2]
    noise = np.random.default_rng(0).normal(128, 30, (SIDE_PX, SIDE_PX, 1)).clip(0, 255).repeat(3, -1)
    faint = 128 + (noise - 128) / 3
    assert sharpness(noise.round().astype(np.uint8)) == pytest.approx(
        sharpness(faint.round().astype(np.uint8)), rel=0.02
    )
    assert sharpness(np.full((32, 32, 3), 90, np.uint8)) == 0


def test_saturation_and_exposure_by_hand():
    image = np.array([[[255, 0, 0], [10, 10, 10]], [[0, 0, 0], [100, 151, 100]]], np.uint8)
    assert saturation(image) == pytest.approx((1 + 0 + 0 + 0.2) / 4)
    assert exposure(image) == 0.5


def test_ordinary_shapes_are_more_typical_than_odd_ones(phantoms):
    masks = phantoms[1]
    shapes = fit_shapes(masks[:40])
    ordinary = np.array([shapes.typicality(mask) for mask in masks[40:]])
    ragged = [mask ^ (np.random.default_rng(i).random(mask.shape) < 0.2) for i, mask in enumerate(masks[40:])]
    frame = np.ones((SIDE_PX, SIDE_PX), bool)
    frame[4:-4, 4:-4] = False
    assert np.array([shapes.typicality(mask) for mask in ragged]).max() < ordinary.min()
    assert shapes.typicality(frame) < 3 * ordinary.min()
    assert ordinary.max() <= 0


def test_typicality_is_minus_the_mahalanobis_distance(phantoms):
    masks = phantoms[1]
    shapes = fit_shapes(masks)
    vectors = np.stack([shape_vector(mask) for mask in masks])
    whitened = (vectors - vectors.mean(0)) @ np.linalg.cholesky(np.linalg.inv(np.cov(vectors.T)))
    assert -shapes.typicality(masks[7]) == pytest.approx(np.linalg.norm(whitened[7]))


def test_no_lesion_shape_is_beyond_the_scales():
    for area in (1, SIDE_PX**2 - 1, SIDE_PX**2):
        mask = np.zeros(SIDE_PX**2, bool)
        mask[:area] = True
        assert np.isfinite(shape_vector(mask.reshape(SIDE_PX, SIDE_PX))).all()


def compressed(image: np.ndarray, folder) -> np.ndarray:
    Image.fromarray(image).save(folder / "copy.jpg", quality=60)
    return np.array(Image.open(folder / "copy.jpg"))


def test_copies_have_no_novelty_however_they_are_disguised(phantoms, reference, tmp_path):
    image = phantoms[0][3]
    brighter = np.clip(image * np.array([0.9, 1.0, 1.05]) + 6, 0, 255).astype(np.uint8)
    turned = np.ascontiguousarray(np.rot90(image[:, ::-1]))
    copies = [reference.novelty(each) for each in (image, turned, brighter, compressed(image, tmp_path))]
    new = [reference.novelty(each) for each in phantoms[0][40:]]
    assert max(copies) < 0.25 < min(new)


def test_the_reference_survives_its_file(reference, phantoms, tmp_path):
    reference.save(tmp_path / "r.safetensors")
    again = Reference.load(tmp_path / "r.safetensors")
    assert again.novelty(phantoms[0][50]) == reference.novelty(phantoms[0][50])
    assert again.shapes.typicality(phantoms[1][50]) == reference.shapes.typicality(phantoms[1][50])
    (tmp_path / "r.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="reference of a gate"):
        Reference.load(tmp_path / "r.safetensors")


def test_too_few_training_pairs_are_no_reference(phantoms):
    images, masks = phantoms[0][:LEAST_PAIRS], phantoms[1][:LEAST_PAIRS].copy()
    masks[0] = False
    with pytest.raises(InputError, match="19 masks"):
        build_reference(images, masks)


def test_scores_do_not_depend_on_the_other_pairs(phantoms, reference):
    names = ("mask_typicality", "novelty", "sharpness", "saturation", "exposure")
    scorer = Scorer(names, reference, SIDE_PX)
    images, masks = phantoms[0][40:46], phantoms[1][40:46]
    together = scorer(images, masks, [None] * 6)
    alone = [scorer(images[i : i + 1], masks[i : i + 1], [None])[0] for i in range(6)]
    assert together == alone
    assert set(together[0]) == {"lesion_area", *names}
    assert all(value == round(value, 4) for scores in together for value in scores.values())


def test_a_score_without_its_judge_is_refused(reference):
    for name, judge in (
        ("self_agreement", "adapter"),
        ("segmenter_agreement", "segmenter"),
        ("class_probability", "classifier"),
    ):
        with pytest.raises(InputError, match=judge):
            Scorer((name,), reference, SIDE_PX)
    with pytest.raises(InputError, match="'beauty'"):
        Scorer(("beauty",), reference, SIDE_PX)
