"""YOLO, nnU-Net and class folders as their tools lay them out: read, or refused with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exchange_foreign import (
    HEIGHT,
    LINE,
    SQUARE,
    WIDTH,
    coco,
    command,
    mask_of,
    picture,
    read,
    reasons,
    refused,
    yolo,
)
from skindualgen.exchange.source import Account

# --- YOLO ---


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_a_box_is_no_outline_unless_the_user_says_so(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    if name == "coco":
        coco(source, segmentation=[])
        refused(source, name, "annotation 5", "--boxes")
    else:
        yolo(source, "0 0.5 0.5 0.4 0.4\n")
        refused(source, name, "train/labels/a.txt, line 1", "--boxes")
    records, account = read(source, name, boxes=True)
    assert (records["a"].mask_file_name, records["a"].diagnosis) == (None, "melanoma")
    assert set(reasons(account).values()) == {"box_without_outline"}


@pytest.mark.parametrize(
    "text", [LINE, LINE + "\n\n", LINE + "\r\n \r\n", "\ufeff" + LINE + "\n", "0.0" + LINE[1:], LINE.replace(" ", "\t")]
)
def test_yolo_lines_as_editors_leave_them(text: str, tmp_path: Path) -> None:
    source = yolo(tmp_path / "yolo", text)
    records, account = read(source, "yolo")
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[8:29, 10:31] = True  # a loader fills the rim as well
    np.testing.assert_array_equal(mask_of(source, records["a"]), expected)
    assert (records["a"].diagnosis, records["a"].split) == ("melanoma", "train") and account == Account([], [])


@pytest.mark.parametrize(
    "line",
    [
        "0 nan 0.2 0.6 0.2 0.6 0.7",
        "0 inf 0.2 0.6 0.2 0.6 0.7",
        "nan 0.2 0.2 0.6 0.2 0.6 0.7",
        "0 1.5 0.2 0.6 0.2 0.6 0.7",
        "0 -0.5 0.2 0.6 0.2 0.6 0.7",
        "0 20 8 60 8 60 28",
        "0 0.2 0.2 0.6 0.2 0.6",
        "0 0.2 0.2",
        "0",
        "0.5 0.2 0.2 0.6 0.2 0.6 0.7",
        "3 0.2 0.2 0.6 0.2 0.6 0.7",
        "melanoma 0.2 0.2 0.6 0.2 0.6 0.7",
        "0 0.5 0.5 nan 0.1",
        "0 0.5 0.5 0 0.1",
        "0 0.9 0.5 0.8 0.1",
    ],
)
def test_yolo_lines_that_cannot_be_are_refused_by_number(line: str, tmp_path: Path) -> None:
    refused(yolo(tmp_path / "yolo", f"{LINE}\n\n{line}\n"), "yolo", "train/labels/a.txt, line 3")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("train: train/images\nnc: 2\nnames: [melanoma]\n", "nc 2"),
        ("train: train/images\n", "without names"),
        ("train: train/images\nnames: {0: melanoma, x: nevus}\n", "class number 'x'"),
        ("train: train/images\nnames: [no]\n", "class name False"),
        ("train: /data/train/images\nnames: [melanoma]\n", "'/data/train/images'"),
        ("train: ../../train/images\nnames: [melanoma]\n", "'../../train/images'"),
        ("train: train/images\nval: train/images\nnames: [melanoma]\n", "train/images/a.png in train and val"),
        ("train: train.txt\nnames: [melanoma]\n", "no file train.txt"),
        ("train: train/images\nkpt_shape: [17, 3]\nnames: [melanoma]\n", "kpt_shape"),
        ("names: [melanoma\n", "data.yaml"),
        ("- 1\n", "no mapping"),
        ("a: &a [*a, *a]\nnames: [melanoma]\nnc: *a\n", "nc"),
    ],
)
def test_yolo_descriptions_that_cannot_be_are_refused(data: str, word: str, tmp_path: Path) -> None:
    refused(yolo(tmp_path / "yolo", data=data), "yolo", "data.yaml", word)


def test_yolo_of_roboflow_with_parts_and_remains(tmp_path: Path) -> None:
    data = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames:\n  0: Melanoma\n"
    source = yolo(tmp_path / "yolo", data=data)
    for name in ("b", "c"):
        picture(source / "valid" / "images" / f"{name}.jpg", ord(name))
    (source / "valid" / "labels").mkdir()
    for name, text in (("b", ""), ("gone", LINE)):
        (source / "valid" / "labels" / f"{name}.txt").write_text(text)
    picture(source / "extra.png")
    records, account = read(source, "yolo")
    assert {name: record.split for name, record in records.items()} == {"a": "train", "b": "val", "c": "val"}
    assert not mask_of(source, records["b"]).any() and records["c"].mask_file_name is None
    assert reasons(account) == {
        "extra.png": "not_named",
        "valid/images/c.jpg": "image_without_annotation",
        "valid/labels/gone.txt": "labels_without_picture",
    }
    assert [note for note in account.notes if "../test/images" in note]
    assert [note for note in account.notes if "valid/labels/b.txt is empty" in note]


def test_yolo_of_cvat_names_its_pictures_in_a_file(tmp_path: Path) -> None:
    source = tmp_path / "cvat"
    for number, (part, name) in enumerate((("train", "a"), ("val", "b"))):
        picture(source / "images" / part / f"{name}.png", number)
        (source / "labels" / part).mkdir(parents=True)
        (source / "labels" / part / f"{name}.txt").write_text(LINE)
        (source / f"{part}.txt").write_text(f"images/{part}/{name}.png\r\n\r\n")
    (source / "data.yaml").write_text("path: ./\ntrain: train.txt\nval: val.txt\nnames:\n  0: nevus\n")
    records, account = read(source, "yolo")
    assert {name: (record.split, record.diagnosis) for name, record in records.items()} == {
        "a": ("train", "nevus"),
        "b": ("val", "nevus"),
    }
    assert account == Account([], [])
    (source / "val.txt").write_text("images/val/b.png\nimages/val/gone.png\n")
    refused(source, "yolo", "val.txt, line 2", "gone.png")


# --- nnU-Net ---


def nnunet(root: Path, ending: str = ".png", **changes: Any) -> Path:
    """Two training cases and a test case without a label."""
    folder = root / "Dataset501_X"
    description = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "lesion": 1}}
    description |= {"numTraining": 2, "file_ending": ending} | changes
    for name in ("a", "b"):
        picture(folder / "imagesTr" / f"{name}_0000{ending}", ord(name))
        (folder / "labelsTr").mkdir(exist_ok=True)
        Image.fromarray(SQUARE.astype(np.uint8)).save(folder / "labelsTr" / f"{name}{ending}")
    picture(folder / "imagesTs" / f"t_0000{ending}")
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_nnunet_with_test_images_alone_and_hidden_files(ending: str, tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "raw", ending)
    for name in ("imagesTr/.DS_Store", f"imagesTr/._a_0000{ending}", "labelsTr/.DS_Store"):
        (folder / name).write_bytes(b"x")
    records, account = read(tmp_path / "raw", "nnunet")
    assert {name: (record.split, record.mask_file_name) for name, record in records.items()} == {
        "a": ("train", "masks/a.png"),
        "b": ("train", "masks/b.png"),
        "t": ("test", None),
    }
    np.testing.assert_array_equal(mask_of(tmp_path / "raw", records["a"]), SQUARE)
    assert reasons(account) == {f"Dataset501_X/imagesTs/t_0000{ending}": "image_without_mask"} and account.notes == []


def test_nnunet_says_what_it_reads_otherwise(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "raw", labels={"background": 0, "hair": 1}, numTraining=7)
    shutil.copy(folder / "labelsTr" / "a.png", folder / "labelsTr" / "gone.png")
    folds = [{"train": ["a", "lost"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    records, account = read(tmp_path / "raw", "nnunet")
    assert {name: record.split for name, record in records.items()} == {"a": "train", "b": "val", "t": "test"}
    assert "'hair'" in account.notes[0] and "2 folds" in account.notes[1] and "numTraining is 7" in account.notes[2]
    assert [(item.file.removeprefix("Dataset501_X/"), item.isic_id) for item in account.left_out] == [
        ("imagesTs/t_0000.png", "t"),
        ("labelsTr/gone.png", ""),
        ("splits_final.json", "lost"),
    ]


@pytest.mark.parametrize(
    "fault", ["values", "palette", "size", "missing", "damaged", "ending", "labels", "both", "turned"]
)
def test_nnunet_faults_are_refused_by_name(fault: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "ending": {"file_ending": ".nii.gz"},
        "labels": {"labels": {"background": 0, "a": 1, "b": [1]}},
    }
    folder = nnunet(tmp_path / "raw", **changes.get(fault, {}))
    label, words = folder / "labelsTr" / "b.png", ["labelsTr/b.png"]
    if fault == "values":
        Image.fromarray(SQUARE.astype(np.uint8) * 255).save(label)
        words += ["255"]
    elif fault == "palette":
        Image.fromarray(SQUARE.astype(np.uint8) * 255).quantize(2).save(label)
    elif fault == "size":
        Image.fromarray(SQUARE.T.astype(np.uint8)).save(label)
        words = ["imagesTr/b_0000.png", "one size"]
    elif fault == "missing":
        label.unlink()
        words += ["without a label"]
    elif fault == "damaged":
        label.write_bytes(label.read_bytes()[:60])
    elif fault == "both":
        (folder / "splits_final.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["b"]}]))
        words = ["splits_final.json", "b in train and val"]
    elif fault == "turned":
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(SQUARE.astype(np.uint8)).save(label, exif=exif)
        words += ["orientation 3"]
    else:
        words = ["dataset.json"]
    refused(tmp_path / "raw", "nnunet", *words)


# --- class folders ---


def test_class_folders_that_mean_something_else(tmp_path: Path) -> None:
    source = tmp_path / "classes"
    picture(source / "Train" / "Malignant" / "a.png")
    picture(source / "train" / "a.png", 1)
    records, account = read(source, "classes")
    assert (records["a"].diagnosis, records["a"].benign_malignant, records["a"].split) == (None, "malignant", "train")
    assert reasons(account) == {"train/a.png": "not_named"}
    for name in ("images", "Masks", "10_nevus", "test"):
        picture(tmp_path / name / "train" / name / "a.png")
        refused(tmp_path / name, "classes", f"the class {name!r}", f"train/{name}/a.png")


def test_a_class_mask_of_another_format_is_not_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "classes"
    picture(source / "train" / "nevus" / "a.png")
    (source / "masks" / "train" / "nevus").mkdir(parents=True)
    Image.fromarray(SQUARE.astype(np.uint8) * 255).save(source / "masks" / "train" / "nevus" / "a.jpg")
    refused(source, "classes", "masks/train/nevus/a.jpg", "prepare")


def test_the_command_says_what_it_did_not_use(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco")
    for number in range(12):
        (source / f"extra{number:02d}.bin").write_bytes(b"x")
    done = command(source, tmp_path / "out", "coco")
    assert done.exit_code == 0
    assert "not used (rejected.csv): 12" in done.output and "extra00.bin: other_file" in done.output
    assert "and 2 more" in done.output
