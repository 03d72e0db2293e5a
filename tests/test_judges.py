"""The judges learn, are saved and loaded whole, treat every orientation alike, and refuse what they cannot use."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.judges.classifier import Classifier, ClassifierConfig, train_classifier
from skindualgen.judges.segmenter import Segmenter, SegmenterConfig, train_segmenter
from skindualgen.judges.training import Augmentation, Budget, fit
from skindualgen.metrics.masks import dice

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SIDE_PX = 64
SEGMENTER = SegmenterConfig(size_px=SIDE_PX, budget=Budget(steps=40, batch_size=8))
CLASSIFIER = ClassifierConfig(
    image_size_px=SIDE_PX, size_px=SIDE_PX, budget=Budget(steps=50, batch_size=8, learning_rate=1e-3)
)
DIAGNOSES = ("nevus", "melanoma")


def write_pairs(root: Path, count: int, *, first: int = 0) -> list[PairRecord]:
    records = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        phantom = draw_phantom(i, size=SIDE_PX)
        diagnosis = DIAGNOSES[int(i % 5 == 0)]  # one in five
        image = phantom.image if diagnosis == "nevus" else phantom.image[..., ::-1]  # blue skin
        Image.fromarray(np.ascontiguousarray(image)).save(root / f"images/{i}.png")
        Image.fromarray(phantom.mask).save(root / f"masks/{i}.png")
        records.append(
            PairRecord(
                file_name=f"images/{i}.png", mask_file_name=f"masks/{i}.png", isic_id=f"P{i}", diagnosis=diagnosis
            )
        )
    return records


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    return root, write_pairs(root, 60), write_pairs(root, 20, first=100)


@pytest.fixture(scope="module")
def segmenter(pairs, tmp_path_factory):
    root, train, _ = pairs
    return Segmenter(
        train_segmenter(Dataset(root, train), tmp_path_factory.mktemp("judge") / "s.safetensors", SEGMENTER)
    )


@pytest.fixture(scope="module")
def classifier(pairs, tmp_path_factory):
    root, train, _ = pairs
    return Classifier(
        train_classifier(Dataset(root, train), tmp_path_factory.mktemp("judge") / "c.safetensors", CLASSIFIER)
    )


def test_segmenter_learns_to_outline_unseen_lesions(pairs, segmenter):
    root, _, unseen = pairs
    predicted = segmenter.masks(Dataset(root, unseen).images(SIDE_PX))
    truth = Dataset(root, unseen).masks(SIDE_PX)
    assert np.mean([dice(p, t) for p, t in zip(predicted, truth, strict=True)]) > 0.85


def test_segmenter_file_says_how_it_was_made(pairs, segmenter):
    assert segmenter.header["train_ids"] == sorted(record.isic_id for record in pairs[1])
    assert segmenter.header["budget"]["steps"] == 40
    assert segmenter.header["run"]["seconds"] > 0
    assert not segmenter.network.training


def test_segmenter_treats_every_orientation_alike(pairs, segmenter):
    """Guards against a view that is turned forth but not back before averaging."""
    root, _, unseen = pairs
    images = Dataset(root, unseen[:2]).images(SIDE_PX)
    upright = segmenter.probabilities(images)
    turned = segmenter.probabilities(np.ascontiguousarray(np.rot90(images, axes=(1, 2))))
    np.testing.assert_allclose(np.rot90(upright, axes=(1, 2)), turned, atol=1e-3)
    np.testing.assert_allclose(segmenter.probabilities(images[:, :, ::-1].copy())[:, :, ::-1], upright, atol=1e-3)


def test_segmenter_takes_photographs_of_another_size(pairs, segmenter):
    root, _, unseen = pairs
    small, large = (Dataset(root, unseen[:1]).images(side) for side in (SIDE_PX, 2 * SIDE_PX))
    mask = segmenter.masks(large)
    assert mask.shape == (1, 2 * SIDE_PX, 2 * SIDE_PX)
    assert dice(mask[0, ::2, ::2], segmenter.masks(small)[0]) > 0.9
    assert segmenter.probabilities(small[:0]).shape == (0, SIDE_PX, SIDE_PX)


def test_classifier_learns_the_rare_class_too(pairs, classifier):
    root, _, unseen = pairs
    truth = [record.diagnosis for record in unseen]
    images = Dataset(root, unseen).images(SIDE_PX)
    assert classifier.classes == sorted(DIAGNOSES)
    assert balanced_accuracy_score(truth, classifier.diagnoses(images)) > 0.9
    np.testing.assert_allclose(classifier.probabilities(images).sum(1), 1, atol=1e-5)
    with pytest.raises(InputError, match="load them at that size"):
        classifier.probabilities(images[:, :32, :32])


def test_model_files_are_not_mixed_up(pairs, tmp_path):
    root, train, _ = pairs
    config = replace(SEGMENTER, pretrained=False, budget=Budget(steps=1, batch_size=2))
    file = train_segmenter(Dataset(root, train[:2]), tmp_path / "s.safetensors", config)
    with pytest.raises(InputError, match="a segmenter model"):
        Classifier(file)
    with pytest.raises(InputError, match="train one first"):
        Segmenter(tmp_path / "none.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_training_repeats_for_a_seed_and_leaves_the_global_generator_alone():
    def train(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(12, 1))

        def draw(random: np.random.Generator, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            inputs = torch.from_numpy(random.normal(size=(4, 3, 2, 2)).astype(np.float32))
            return inputs, inputs.mean((1, 2, 3))[:, None]

        run = fit(
            network, draw, torch.nn.functional.mse_loss, Budget(steps=20, batch_size=4, seed=seed), bfloat16=False
        )
        assert run["bfloat16"] is False
        return network[2].weight.detach()

    state = torch.random.get_rng_state()
    first = train(0)
    assert torch.equal(first, train(0))
    assert not torch.equal(first, train(1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_learning_rate_warms_up_and_falls_to_zero():
    budget = Budget(steps=100, learning_rate=1.0, warmup=0.1)
    rates = [budget.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert all(a >= b for a, b in pairwise(rates[10:]))
    with pytest.raises(InputError, match="raise them"):
        Budget(steps=0)


def test_augmentation_moves_the_mask_with_the_picture():
    """Guards against a mask that is flipped or turned apart from its image."""
    masks = torch.from_numpy(np.stack([draw_phantom(i, size=SIDE_PX).mask for i in range(16)]) > 127)[:, None].float()
    geometry_only = Augmentation(light=0, contrast=0, saturation=0, cast=0, blur=0)
    images, moved = geometry_only(masks.expand(-1, 3, -1, -1), masks, np.random.default_rng(0))
    assert moved is not None
    assert ((images[:, :1] > 0.5) == (moved > 0.5)).all()
    assert ((moved == 0) | (moved == 1)).all()
    assert (moved != masks).any(dim=(1, 2, 3)).all()


def test_augmentation_of_zero_strength_only_turns_and_mirrors():
    disc = torch.from_numpy(np.hypot(*(np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2 + 0.5)) < 20).float()
    nothing = Augmentation(zoom=0, shift=0, light=0, contrast=0, saturation=0, cast=0, blur=0)
    _, turned = nothing(disc.expand(4, 3, -1, -1), disc.expand(4, 1, -1, -1), np.random.default_rng(0))
    assert turned is not None
    assert (turned != disc).float().mean() < 0.02


def test_augmentation_changes_colour_within_range_and_repeats_for_a_seed():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first, none = Augmentation()(images, None, np.random.default_rng(1))
    again, _ = Augmentation()(images, None, np.random.default_rng(1))
    assert none is None
    assert torch.equal(first, again)
    assert 0 <= first.min() <= first.max() <= 1
    assert (first - images).abs().mean() > 0.02


def test_folder_is_read_at_one_size_and_bad_files_are_refused(tmp_path):
    record = write_pairs(tmp_path, 1)[0]
    data = Dataset(tmp_path, [record])
    assert data.images(32).shape == (1, 32, 32, 3)
    full, half = data.masks(SIDE_PX), data.masks(32)
    assert abs(full.mean() - half.mean()) < 0.02
    assert not Dataset(tmp_path, [record.model_copy(update={"mask_file_name": None})]).masks(32).any()
    with pytest.raises(InputError, match="no file"):
        Dataset(tmp_path, [record.model_copy(update={"file_name": "images/x.png"})]).images(32)
    Image.new("RGB", (8, 9)).save(tmp_path / "images/wide.png")
    with pytest.raises(InputError, match="square"):
        Dataset(tmp_path, [record.model_copy(update={"file_name": "images/wide.png"})]).images(32)


def test_content_hash_sees_every_byte_and_no_order(tmp_path):
    records = write_pairs(tmp_path, 3)
    before = Dataset(tmp_path, records).content_sha256()
    assert Dataset(tmp_path, records[::-1]).content_sha256() == before
    assert Dataset(tmp_path, records[:2]).content_sha256() != before
    relabelled = [records[0].model_copy(update={"diagnosis": "x"}), *records[1:]]
    assert Dataset(tmp_path, relabelled).content_sha256() != before
    mask = tmp_path / "masks/0.png"
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert Dataset(tmp_path, records).content_sha256() != before


def test_training_refuses_unusable_records(pairs, tmp_path):
    root, train, _ = pairs
    with pytest.raises(InputError, match="check the split"):
        train_segmenter(Dataset(root, []), tmp_path / "s.safetensors", SEGMENTER)
    unmasked = [train[0].model_copy(update={"mask_file_name": None}), *train[1:]]
    with pytest.raises(InputError, match="leave this record out"):
        train_segmenter(Dataset(root, unmasked), tmp_path / "s.safetensors", SEGMENTER)
    with pytest.raises(InputError, match="unlabelled"):
        train_classifier(Dataset(root, train[1:2]), tmp_path / "c.safetensors", CLASSIFIER)
    unlabelled = [train[0].model_copy(update={"diagnosis": None}), *train[1:]]
    with pytest.raises(InputError, match="unlabelled"):
        train_classifier(Dataset(root, unlabelled), tmp_path / "c.safetensors", CLASSIFIER)
    assert not list(tmp_path.iterdir())
