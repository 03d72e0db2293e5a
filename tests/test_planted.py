"""Faults that are planted in generated sets are found, and real photographs passed off as generated are not accused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.phantom import CLASSES, draw_phantom
from skindualgen.evaluation.diagnosis import diagnosis_section
from skindualgen.evaluation.evidence import Evidence
from skindualgen.evaluation.fidelity import fidelity_section
from skindualgen.evaluation.inputs import Inputs
from skindualgen.evaluation.masks import masks_section
from skindualgen.evaluation.memorisation import memorisation_section
from skindualgen.evaluation.results import SetInfo
from skindualgen.judges.pictures import PictureSet, read_pictures
from skindualgen.judges.trained import JudgeRecipe, Judges

pytestmark = pytest.mark.slow

SIDE_PX = 64
TRAIN, HELD_OUT, FURTHER = 120, 54, 54
COPIES = 24
INFO = SetInfo(name="phantoms", manifest_sha256="0" * 64, side_px=SIDE_PX, counts={})


class Thumbnails:
    """Features that are quick: the photograph at 12 x 12 px."""

    name, preprocessing, dim = "thumbnails", "antialiased resize to 12 x 12 px", 3 * 12 * 12

    def __call__(self, images):
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        return F.interpolate(pixels, (12, 12), mode="bicubic", antialias=True).flatten(1).numpy()


def write_pairs(root: Path, numbers: range) -> PictureSet:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    records = []
    for i in numbers:
        phantom = draw_phantom(i, size=SIDE_PX, diagnosis=CLASSES[i % len(CLASSES)])
        record = PairRecord(
            file_name=f"images/{i}.png", mask_file_name=f"masks/{i}.png", isic_id=f"P{i}", diagnosis=phantom.diagnosis
        )
        Image.fromarray(phantom.image).save(root / record.file_name)
        Image.fromarray(phantom.mask).save(root / record.mask_file_name)
        records.append(record)
    return read_pictures(Dataset(root, records), SIDE_PX)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Phantoms that play the real photographs: train, held-out, and further ones that nobody has seen."""
    root = tmp_path_factory.mktemp("real")
    ends = np.cumsum([0, TRAIN, HELD_OUT, FURTHER])
    return [write_pairs(root, range(first, last)) for first, last in pairwise(ends)]


@pytest.fixture(scope="module")
def judges(real, tmp_path_factory):
    recipe = JudgeRecipe(steps=50, size_px=SIDE_PX)
    return Judges(real[0].data, real[1].ids, recipe, SIDE_PX, tmp_path_factory.mktemp("judges"), lambda *_: None)


def compare(real, generated: PictureSet) -> Inputs:
    return Inputs(real[0], real[1], generated, "val", SIDE_PX, INFO, INFO)


def passed_off(part: PictureSet, chosen, *, diagnoses=None, **changed) -> PictureSet:
    """A generated set of these photographs under ids of its own, with its images, masks or diagnoses changed."""
    taken = part.take(np.asarray(chosen))
    records = [
        record.model_copy(update={"isic_id": f"G{i}", "diagnosis": diagnosis, "origin": "synthetic"})
        for i, (record, diagnosis) in enumerate(zip(taken.data, diagnoses or taken.diagnoses, strict=True))
    ]
    return PictureSet(Dataset(part.data.root, records), **{"images": taken.images, "masks": taken.masks} | changed)


def numbers(section) -> dict[str, float]:
    return {measure.key: measure.value for measure in section.measures}


def test_copies_of_the_training_set_are_flagged_by_name(real):
    evidence = Evidence()
    section = memorisation_section(compare(real, passed_off(real[0], range(COPIES))), Thumbnails(), evidence)
    found = numbers(section)
    assert found["near_copy_rate"] == 1
    assert found["closer_than_held_out"] == found["fits_better_than_held_out"] == 1
    assert {copy.generated: copy.other for copy in section.near_copies} == {f"G{i}": f"P{i}" for i in range(COPIES)}
    assert all(couple.near_copy for couple in evidence.couples)


def test_flipped_and_turned_copies_are_flagged_too(real):
    chosen = range(COPIES)
    turned = np.ascontiguousarray(np.rot90(real[0].images[:COPIES], axes=(1, 2))[:, :, ::-1])
    section = memorisation_section(compare(real, passed_off(real[0], chosen, images=turned)), Thumbnails(), Evidence())
    assert numbers(section)["near_copy_rate"] == 1


def test_unseen_real_photographs_are_not_accused_of_copying(real):
    section = memorisation_section(compare(real, passed_off(real[2], range(FURTHER))), Thumbnails(), Evidence())
    found = numbers(section)
    assert found["near_copy_rate"] < 0.1
    assert abs(found["closer_than_held_out"] - 0.5) < 0.12
    assert found["duplicate_rate"] < 0.1


def test_mode_collapse_shows_high_precision_and_low_recall(real):
    """Slight variations of three photographs, as many as there are others."""
    random = np.random.default_rng(0)
    chosen = np.arange(FURTHER) % 3
    images = real[2].images[chosen].astype(float) + random.normal(0, 2, (FURTHER, SIDE_PX, SIDE_PX, 3))
    collapsed = passed_off(real[2], chosen, images=np.clip(images, 0, 255).astype(np.uint8))
    section = fidelity_section(compare(real, collapsed), {"thumbnails": Thumbnails()}, Evidence(), seed=0)
    found = {measure.key: measure for measure in section.measures}
    assert found["precision"].value > 0.9
    assert found["recall"].value < 0.2
    for key in ("recall", "coverage"):
        assert found[key].value < found[key].reference.low - 0.3
    copies = numbers(memorisation_section(compare(real, collapsed), Thumbnails(), Evidence()))
    assert copies["duplicate_rate"] > 0.9


def test_unseen_real_photographs_passed_off_as_generated_stay_within_real_against_real(real):
    section = fidelity_section(
        compare(real, passed_off(real[2], range(FURTHER))), {"thumbnails": Thumbnails()}, Evidence(), seed=0
    )
    judged = [m for m in section.measures if m.group is None and m.value is not None and m.reference is not None]
    inside = {m.key: m.reference.low <= m.value <= m.reference.high for m in judged}
    assert len(inside) >= 8
    # each lies within the range of 20 draws 19 times in 21: one of these correlated measures may be outside
    assert sum(inside.values()) >= len(inside) - 1, inside


def test_shuffled_masks_drop_agreement_to_chance_and_true_ones_do_not(real, judges):
    honest = passed_off(real[2], range(FURTHER))
    order = np.roll(np.arange(FURTHER), 1)
    shuffled = passed_off(real[2], range(FURTHER), masks=real[2].masks[order])
    found = {
        name: {m.key: m for m in masks_section(compare(real, part), judges, Evidence(), seed=0).measures}
        for name, part in {"honest": honest, "shuffled": shuffled}.items()
    }
    experts = found["honest"]["agreement_dice"].reference.value
    assert experts > 0.8
    gap = found["honest"]["agreement_gap"]
    assert gap.low <= 0 <= gap.high
    overlaps = [
        2 * (a & b).sum() / (a.sum() + b.sum())
        for i, a in enumerate(real[2].masks)
        for b in np.delete(real[2].masks, i, 0)
    ]
    chance = float(np.mean(overlaps))
    assert abs(found["shuffled"]["agreement_dice"].value - chance) < 0.1
    assert found["shuffled"]["agreement_gap"].low > 0.1


def test_shuffled_labels_drop_class_fidelity_to_chance_and_true_ones_do_not(real, judges):
    honest = passed_off(real[2], range(FURTHER))
    labels = list(np.random.default_rng(0).permutation(np.array(real[2].diagnoses, dtype=object)))
    shuffled = passed_off(real[2], range(FURTHER), diagnoses=labels)
    true, false = (
        {m.key: m for m in diagnosis_section(compare(real, part), judges, Evidence(), Thumbnails(), seed=0).measures}
        for part in (honest, shuffled)
    )
    key = "class_balanced_accuracy"
    assert true[key].reference.value > 0.6
    assert true[key].low <= true[key].reference.value <= true[key].high
    assert false[key].low <= 1 / len(CLASSES) <= false[key].high
    assert false[key].high < true[key].low
    assert false["class_auroc"].low <= 0.5 <= false["class_auroc"].high
