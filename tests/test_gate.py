"""A gate is calibrated, shipped and loaded; it accepts unseen pairs of the real kind and refuses planted faults."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gate_data import SIDE_PX, TRAIN, VAL, darkness, judge, phantom_pairs, refused, write_pairs, write_real
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.phantom import CLASSES
from skindualgen.data.training_items import read_training_items, write_training_items
from skindualgen.gate.calibration import calibrate
from skindualgen.gate.gate import Verdict, load_gate
from skindualgen.gate.lines import read_score_lines
from skindualgen.gate.real_pairs import CalibrateOptions
from skindualgen.judges.pictures import in_terms
from skindualgen.judges.trained import JudgeRecipe, trained_judge

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

PLAIN = ("self_agreement", "mask_typicality", "novelty", "sharpness", "saturation", "exposure")
ACCEPT = 0.9
ADAPTER = {"adapter_sha256": "a" * 64, "base_id": "phantoms"}
TINY = "test_efficientnet"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return write_real(tmp_path_factory.mktemp("gate") / "real")


@pytest.fixture(scope="module")
def folder(real, tmp_path_factory):
    out = tmp_path_factory.mktemp("gate") / "gate"
    calibrate(CalibrateOptions(real, SIDE_PX, ACCEPT), out, read_masks=darkness, adapter=ADAPTER)
    return out


@pytest.fixture(scope="module")
def gate(folder):
    return load_gate(folder / "gate.json", darkness)


@pytest.fixture(scope="module")
def unseen():
    return phantom_pairs(30)


def test_the_file_says_what_was_done(folder, gate):
    assert {path.name for path in folder.iterdir()} == {"gate.json", "reference.safetensors", "real_scores.csv"}
    file = gate.file
    assert tuple(rule.score for rule in file.rules) == PLAIN
    assert (file.size_px, file.accept, file.split, file.adapter) == (SIDE_PX, ACCEPT, "val", ADAPTER)
    assert file.real.n == file.held_back.n == VAL
    assert ACCEPT <= file.real.value < ACCEPT + 1 / VAL
    assert file.real.low < file.real.value < file.real.high
    assert sum(share.n for share in file.by_diagnosis.values()) == VAL
    assert file.files["reference"].what == f"reference of {TRAIN} training photographs"
    assert any("thresholds rest on single pairs" in caveat for caveat in file.caveats)


def test_the_pairs_that_set_the_thresholds_are_judged_alike_from_their_files(real, folder, gate):
    _, kept = read_score_lines(folder / "real_scores.csv")
    records = read_metadata(real, "val")
    images, masks = zip(
        *([np.asarray(Image.open(real / name)) for name in (r.file_name, r.mask_file_name)] for r in records),
        strict=True,
    )
    verdicts = judge(gate, images, masks, [record.diagnosis for record in records])
    assert verdicts == kept
    assert sum(verdict.accepted for verdict in verdicts) == round(gate.file.real.value * VAL)


def test_unseen_pairs_of_the_same_kind_are_accepted(gate, unseen):
    assert refused(judge(gate, *unseen)) <= 0.25


def test_a_verdict_does_not_depend_on_the_other_pairs(gate, unseen):
    images, masks, diagnoses = (each[:5] for each in unseen)
    together = judge(gate, images, masks, diagnoses)
    assert together == [judge(gate, [i], [m], [d])[0] for i, m, d in zip(images, masks, diagnoses, strict=True)]
    assert together[::-1] == judge(gate, images[::-1], masks[::-1], diagnoses[::-1])


def test_swapped_and_shifted_masks_are_refused(gate, unseen):
    images, masks, diagnoses = unseen
    assert refused(judge(gate, images, masks[1:] + masks[:1], diagnoses), "self_agreement") >= 0.6
    shifted = [np.roll(mask, (SIDE_PX // 4, SIDE_PX // 4), (0, 1)) for mask in masks]
    assert refused(judge(gate, images, shifted, diagnoses), "self_agreement") >= 0.8


def test_empty_and_full_masks_are_refused(gate, unseen):
    images, masks, diagnoses = (each[:4] for each in unseen)
    for value, reason in ((0, "lesion_area 0 <= 0"), (255, "lesion_area 1 >= 1")):
        verdicts = judge(gate, images, [np.full_like(mask, value) for mask in masks], diagnoses)
        assert all(reason in verdict.reasons for verdict in verdicts)


def test_ragged_masks_are_refused(gate, unseen):
    images, masks, diagnoses = unseen
    noise = np.random.default_rng(0).random((len(masks), SIDE_PX, SIDE_PX)) < 0.15
    ragged = [np.where(flip, 255 - mask, mask).astype(np.uint8) for mask, flip in zip(masks, noise, strict=True)]
    assert refused(judge(gate, images, ragged, diagnoses), "mask_typicality") == 1


def test_blurred_grey_and_burnt_out_pictures_are_refused(gate, unseen):
    images, masks, diagnoses = unseen
    blurred = [ndimage.gaussian_filter(image.astype(float), (2, 2, 0)).round().astype(np.uint8) for image in images]
    grey = [image.mean(-1, keepdims=True).round().astype(np.uint8).repeat(3, -1) for image in images]
    burnt = [np.clip(image.astype(int) * 2 + 60, 0, 255).astype(np.uint8) for image in images]
    assert refused(judge(gate, blurred, masks, diagnoses), "sharpness") >= 0.9
    assert refused(judge(gate, grey, masks, diagnoses), "saturation") == 1
    assert refused(judge(gate, burnt, masks, diagnoses), "exposure") >= 0.9


def test_copies_of_training_photographs_are_refused_flipped_ones_too(real, gate):
    records = read_metadata(real, "train")[:12]
    images = [np.asarray(Image.open(real / record.file_name)) for record in records]
    masks = [np.asarray(Image.open(real / record.mask_file_name)) for record in records]
    diagnoses = [record.diagnosis for record in records]
    assert refused(judge(gate, images, masks, diagnoses), "novelty") == 1
    turned = [[np.ascontiguousarray(np.rot90(each[:, ::-1])) for each in pictures] for pictures in (images, masks)]
    assert refused(judge(gate, *turned, diagnoses), "novelty") == 1


def test_larger_pairs_are_reduced_and_smaller_or_oblong_ones_refused(gate, unseen):
    image, mask = Image.fromarray(unseen[0][0]), Image.fromarray(unseen[1][0])
    record = PairRecord(file_name="a.png", isic_id="a", diagnosis=unseen[2][0])
    twice = [each.resize((2 * SIDE_PX, 2 * SIDE_PX), Image.Resampling.NEAREST) for each in (image, mask)]
    assert gate.judge([twice[0]], [twice[1]], [record])[0].accepted
    for size in ((32, 32), (SIDE_PX, 2 * SIDE_PX)):
        with pytest.raises(InputError, match="square pair of 64 px or more"):
            gate.judge([image.resize(size)], [mask.resize(size)], [record])


def test_a_folder_that_was_shipped_in_part_or_altered_is_refused(folder, tmp_path):
    shipped = tmp_path / "shipped"
    shutil.copytree(folder, shipped)
    assert load_gate(shipped, darkness).file == load_gate(folder, darkness).file
    with (shipped / "reference.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=r"another file reference\.safetensors"):
        load_gate(shipped, darkness)
    (shipped / "reference.safetensors").unlink()
    with pytest.raises(InputError, match=r"no file reference\.safetensors"):
        load_gate(shipped, darkness)
    content = json.loads((shipped / "gate.json").read_text())
    (shipped / "gate.json").write_text(json.dumps(content | {"schema_version": 99}))
    with pytest.raises(InputError, match="schema version 99"):
        load_gate(shipped, darkness)
    (shipped / "gate.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_gate(shipped, darkness)
    with pytest.raises(InputError, match="no file"):
        load_gate(tmp_path / "nowhere.json", darkness)


def test_the_adapter_must_be_the_gates_own(folder):
    assert load_gate(folder, darkness, adapter_sha256="a" * 64)
    with pytest.raises(InputError, match="adapter bbbbbbbbbbbb with a gate of the adapter aaaaaaaaaaaa"):
        load_gate(folder, darkness, adapter_sha256="b" * 64)
    with pytest.raises(InputError, match="self_agreement without the adapter's reading"):
        load_gate(folder)


def test_scores_can_be_left_out(real, tmp_path):
    without = ("self_agreement", "novelty")
    file = calibrate(CalibrateOptions(real, SIDE_PX, without=without), tmp_path / "gate", read_masks=darkness)
    assert tuple(rule.score for rule in file.rules) == tuple(name for name in PLAIN if name not in without)
    assert file.adapter is None
    assert load_gate(tmp_path / "gate").judge


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "train"}, "the split 'train'"),
        ({"split": "test"}, "the test split"),
        ({"accept": 0.0}, "an acceptance of 0.0"),
        ({"accept": 1.5}, "an acceptance of 1.5"),
        ({"without": ("beauty",)}, "score 'beauty'"),
    ],
)
def test_what_may_not_be_asked_for(real, fields, message):
    with pytest.raises(InputError, match=message):
        CalibrateOptions(real, SIDE_PX, **fields)


def test_the_test_split_is_taken_with_a_warning_if_it_is_asked_for_twice(real, tmp_path):
    options = CalibrateOptions(real, SIDE_PX, split="test", use_test=True)
    file = calibrate(options, tmp_path / "gate", read_masks=None)
    assert any("no result on it may be reported" in caveat for caveat in file.caveats)


def test_real_pairs_that_cannot_calibrate_are_refused(real, tmp_path):
    def tried(root, size_px=SIDE_PX, **more):
        return calibrate(CalibrateOptions(root, size_px), tmp_path / "gate", read_masks=darkness, **more)

    with pytest.raises(InputError, match="64 px for a gate of 128 px"):
        tried(real, 128)
    with pytest.raises(InputError, match="19 real pairs in the split 'val'"):
        tried(write_pairs(tmp_path / "few", range(49), ["train"] * 30 + ["val"] * 19))
    with pytest.raises(InputError, match="50 synthetic records"):
        tried(write_pairs(tmp_path / "made", range(50), ["train"] * 25 + ["val"] * 25, origin="synthetic"))
    (tmp_path / "adapter").mkdir()
    write_training_items(tmp_path / "adapter", read_metadata(real, "val")[:2], root=real)
    with pytest.raises(InputError, match="2 held-out photographs have the same isic_id"):
        tried(real, trained_on=read_training_items(tmp_path / "adapter"))
    assert not (tmp_path / "gate").exists()
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt'"):
        tried(real)
    assert [path.name for path in (tmp_path / "gate").iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def judges(real, tmp_path_factory):
    cache = tmp_path_factory.mktemp("judges")
    done = []
    train, recipe = in_terms(Dataset.open(real, "train")), JudgeRecipe(40, TINY, SIDE_PX)
    segmenter = trained_judge("segmenter", train, recipe, cache, lambda *steps: done.append(steps))
    assert done[-1] == (40, 40)
    classifier = trained_judge("classifier", train, replace(recipe, steps=160), cache, lambda *steps: None)
    assert trained_judge("segmenter", train, recipe, cache, lambda *_: pytest.fail("trained")) == segmenter
    return segmenter, classifier


def test_with_judges_of_its_own_the_gate_sees_wrong_diagnoses_and_wrong_masks(real, judges, unseen, tmp_path):
    segmenter, classifier = judges
    without = ("mask_typicality", "novelty", "sharpness", "saturation", "exposure")
    options = CalibrateOptions(real, SIDE_PX, 0.9, without=without, segmenter=segmenter, classifier=classifier)
    file = calibrate(options, tmp_path / "gate", read_masks=None)
    assert {"segmenter", "classifier"} < set(file.files)
    for judge_file in judges:
        judge_file.rename(judge_file.with_suffix(".away"))
    try:
        gate = load_gate(tmp_path / "gate")
    finally:
        for judge_file in judges:
            judge_file.with_suffix(".away").rename(judge_file)
    images, masks, diagnoses = unseen
    honest = judge(gate, images, masks, diagnoses)
    assert refused(honest) <= 0.3
    wrong = [CLASSES[(CLASSES.index(name) + 1) % len(CLASSES)] for name in diagnoses]
    of_wrong = judge(gate, images, masks, wrong)
    assert refused(of_wrong, "class_probability") >= 0.25 > 2 * refused(honest, "class_probability")
    swapped = judge(gate, images, masks[1:] + masks[:1], diagnoses)
    assert refused(swapped, "segmenter_agreement") >= 0.8 > 2 * refused(honest, "segmenter_agreement")
    unknown = judge(gate, images[:1], masks[:1], ["lichen planus"])[0]
    assert "class_probability" not in unknown.scores


def test_a_judge_that_has_seen_the_held_out_pairs_is_refused(real, judges, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(real, other)
    records = [
        record.model_copy(update={"split": "train" if record.split == "val" else "val"})
        for record in read_metadata(real)
    ]
    write_dataset(other, records, made_by={})
    for name, path in zip(("segmenter", "classifier"), judges, strict=True):
        with pytest.raises(InputError, match=f"a {name} that was trained on {TRAIN} held-out photographs"):
            calibrate(CalibrateOptions(other, SIDE_PX, **{name: path}), tmp_path / "gate", read_masks=None)


def test_a_verdict_without_reasons_accepts():
    assert Verdict({"novelty": 0.5}).accepted
    assert not Verdict({"novelty": 0.1}, ("novelty 0.1 <= 0.2",)).accepted
