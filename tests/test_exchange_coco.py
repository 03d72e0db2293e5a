"""COCO as its tools lay it out: read, or refused with file and annotation."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exchange_foreign import HEIGHT, POLYGON, SQUARE, WIDTH, coco, mask_of, picture, read, reasons, refused
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.exchange.source import Account
from skindualgen.exchange.transfer import export_data
from skindualgen.files import sha256_file

CODE = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH - 100, 100]}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"segmentation": POLYGON}, "flat list"),
        ({"segmentation": []}, "without an outline"),
        ({"segmentation": ...}, "without an outline"),
        ({"segmentation": [[10, 8, 30, 8]]}, "4 numbers"),
        ({"segmentation": [[10, 8, 30, 8, 30, 28, 10]]}, "7 numbers"),
        ({"segmentation": [[10, 8, float("nan"), 8, 30, 28]]}, "segmentation[0][2] is nan"),
        ({"segmentation": [[10, 8, float("inf"), 8, 30, 28]]}, "segmentation[0][2] is inf"),
        ({"segmentation": [[10, 8, 1e9, 8, 30, 28]]}, "the point 1e+09, 8"),
        ({"segmentation": [[10, 8, 10**400, 8, 30, 28]]}, "the coordinate 1000"),
        ({"segmentation": [[10, 8, "30", 8, 30, 28]]}, "the coordinate '30'"),
        ({"segmentation": [[10, 8, True, 8, 30, 28]]}, "the coordinate True"),
        ({"segmentation": [[10, 8, 10, 8, 10, 8]]}, "holds no pixel"),
        ({"segmentation": "outline"}, "the segmentation 'outline'"),
        ({"segmentation": CODE | {"size": [WIDTH, HEIGHT]}}, "the size [48, 40]"),
        ({"segmentation": CODE | {"size": [10**9, 10**9]}}, "the size [1000000000, 1000000000]"),
        ({"segmentation": CODE | {"counts": [10, 10**15]}}, "run-length code of"),
        ({"segmentation": CODE | {"counts": [0, -5, 1925]}}, "damaged run-length code"),
        ({"segmentation": CODE | {"counts": "\u20ac"}}, "damaged run-length code"),
        ({"segmentation": CODE | {"counts": "P"}}, "cut short"),
        ({"image_id": "1"}, "another type"),
        ({"image_id": 2}, "the image_id 2"),
        ({"image_id": [1]}, "the id [1]"),
        ({"category_id": 7}, "the category 7"),
        ({"category_id": "1"}, "the category '1'"),
        ({"bbox": [10, 8, float("nan"), 20]}, "bbox[2] is nan"),
        ({"bbox": [10, 8, 20]}, "the bbox"),
        ({"bbox": [10, 8, -20, 20]}, "the bbox"),
        ({"bbox": [10, 8, 200, 20]}, "the bbox"),
        ({"area": float("inf")}, "area is inf"),
        ({"area": "large"}, "area 'large'"),
        ({"score": 1.5}, "score 1.5"),
        ({"attributes": {"depth": float("nan")}}, "attributes.depth is nan"),
        ({"iscrowd": 3}, "iscrowd 3"),
    ],
)
def test_coco_annotations_that_cannot_be_are_refused_by_id(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    refused(coco(tmp_path / "coco", **changes), "coco", "annotation 5 of annotations/instances_train.json", word)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": {"height": ...}}, ("image 1", "a.png", "the height None")),
        ({"image": {"height": HEIGHT + 0.5}}, ("image 1", "the height 40.5")),
        ({"image": {"width": HEIGHT, "height": WIDTH}}, ("image 1", "40x48 px")),
        ({"image": {"file_name": "../../x.png"}}, ("image 1", "'..'")),
        ({"image": {"file_name": "/etc/hosts"}}, ("image 1", "absolute")),
        ({"image": {"file_name": "b.png"}}, ("no file b.png", "image 1")),
        ({"image": {"license": 1}, "document": {"licenses": [{"id": 1, "url": ""}]}}, ("licence 1", "without a name")),
        ({"image": {"license": 2}, "document": {"licenses": [{"id": 1, "name": "CC0"}]}}, ("image 1", "the licence 2")),
        ({"document": {"categories": [{"id": 1}]}}, ("category 1", "without a name")),
        ({"document": {"categories": [{"id": 1, "name": "train"}]}}, ("the class 'train'",)),
        ({"document": {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}}, ("category 1", "second time")),
        ({"document": {"annotations": {}}}, ("annotations of", "no list")),
    ],
)
def test_coco_files_that_contradict_themselves_are_refused(
    changes: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    refused(coco(tmp_path / "coco", **changes), "coco", "instances_train.json", *words)


def test_coco_ids_and_files_twice_are_refused(tmp_path: Path) -> None:
    image = {"file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    two = {"images": [{"id": 1, **image}, {"id": 1, **image}]}
    refused(coco(tmp_path / "ids", document=two), "coco", "image 1", "second time")
    two = {"images": [{"id": 1, **image}, {"id": 2, **image}]}
    refused(coco(tmp_path / "files", document=two), "coco", "train/a.png named by", "image 2")
    entry = {"id": 5, "image_id": 1, "category_id": 1, "segmentation": [POLYGON]}
    refused(coco(tmp_path / "again", document={"annotations": [entry, entry]}), "coco", "annotation 5", "second time")


def test_coco_damaged_files_are_named(tmp_path: Path) -> None:
    path = coco(tmp_path / "json") / "annotations" / "instances_train.json"
    path.write_bytes(path.read_bytes()[:-20])
    refused(tmp_path / "json", "coco", "annotations/instances_train.json")
    for name, content in (("cut", None), ("page", b"<html>"), ("empty", b"")):
        image = coco(tmp_path / name) / "train" / "a.png"
        image.write_bytes(image.read_bytes()[:-900] if content is None else content)
        refused(tmp_path / name, "coco", "train/a.png", "cannot be decoded")


def test_coco_codes_give_their_pixels(tmp_path: Path) -> None:
    """Compressed and plain codes, of pycocotools' own making."""
    coder = pytest.importorskip("pycocotools.mask")
    lesion = np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5
    code = coder.encode(np.asfortranarray(lesion.astype(np.uint8)))
    text = {"size": list(map(int, code["size"])), "counts": code["counts"].decode()}
    runs = np.flatnonzero(np.diff(np.concatenate([[False], lesion.T.ravel()])))
    plain = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *runs, lesion.size]).tolist()}
    for name, segmentation in (("text", text), ("plain", plain)):
        source = coco(tmp_path / name, segmentation=segmentation, bbox=...)
        np.testing.assert_array_equal(mask_of(source, read(source, "coco")[0]["a"]), lesion, err_msg=name)


def test_coco_ids_of_one_value_match_and_several_outlines_are_one_mask(tmp_path: Path) -> None:
    entry = {"image_id": 1.0, "category_id": 1}
    two = [[2, 2, 6, 2, 6, 6, 2, 6]]
    annotations = [{"id": 1, **entry, "segmentation": [POLYGON]}, {"id": 2, **entry, "segmentation": two}]
    source = coco(tmp_path / "coco", document={"annotations": annotations})
    records, account = read(source, "coco")
    expected = SQUARE.copy()
    expected[2:6, 2:6] = True
    np.testing.assert_array_equal(mask_of(source, records["a"]), expected)
    assert account.left_out == [] and account.notes == []


def test_coco_of_roboflow(tmp_path: Path) -> None:
    """Annotations beside the pictures, ``valid``, a category that stands for the project, words for people."""
    source = tmp_path / "roboflow"
    for number, part in enumerate(("train", "valid", "test")):
        picture(source / part / f"{part}_jpg.rf.0a1b.jpg", number)
        content = {
            "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
            "categories": [
                {"id": 0, "name": "lesions", "supercategory": "none"},
                {"id": 1, "name": "Melanoma", "supercategory": "lesions"},
            ],
            "images": [
                {"id": 0, "license": 1, "file_name": f"{part}_jpg.rf.0a1b.jpg", "height": HEIGHT, "width": WIDTH}
            ],
            "annotations": [
                {
                    "id": 0,
                    "image_id": 0,
                    "category_id": 1,
                    "bbox": [10, 8, 20, 20],
                    "area": 400,
                    "segmentation": [POLYGON],
                    "iscrowd": 0,
                }
            ],
        }
        (source / part / "_annotations.coco.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    (source / "README.roboflow.txt").write_text("exported")
    (source / "train" / ".DS_Store").write_bytes(b"x")
    records, account = read(source, "coco")
    assert {record.split: record.license for record in records.values()} == dict.fromkeys(
        ("train", "val", "test"), "CC BY 4.0"
    )
    assert {record.diagnosis for record in records.values()} == {"melanoma"}
    for record in records.values():
        np.testing.assert_array_equal(mask_of(source, record), SQUARE)
    assert account == Account([], [])


def test_coco_of_cvat(tmp_path: Path) -> None:
    """``instances_default.json`` without a split beside ``images/``, a blank licence, a subset in nested folders."""
    source = tmp_path / "cvat"
    picture(source / "images" / "default" / "b.png", 1)
    picture(source / "images" / "Validation" / "set 1" / "c.png", 2)
    for subset, name in (("default", "b.png"), ("Validation", "set 1/c.png")):
        content = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": ""},
            "categories": [{"id": 1, "name": "benign", "supercategory": ""}],
            "images": [
                {"id": 1, "width": WIDTH, "height": HEIGHT, "file_name": name, "license": 0, "date_captured": 0}
            ],
            "annotations": [
                {
                    "id": 1,
                    "image_id": 1,
                    "category_id": 1,
                    "segmentation": [POLYGON],
                    "area": 400.0,
                    "bbox": [10.0, 8.0, 20.0, 20.0],
                    "iscrowd": 0,
                    "attributes": {"occluded": False},
                }
            ],
        }
        (source / "annotations").mkdir(exist_ok=True)
        (source / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content))
    records, account = read(source, "coco")
    assert {record.isic_id: record.split for record in records.values()} == {"b": "train", "c": "val"}
    assert {(record.diagnosis, record.benign_malignant, record.license) for record in records.values()} == {
        (None, "benign", None)
    }
    assert account.left_out == [] and "instances_default.json states no split" in " ".join(account.notes)


def test_coco_pictures_that_nothing_says_anything_of(tmp_path: Path) -> None:
    """Without an annotation: no mask, as nobody has said that there is no lesion. Not named at all: listed."""
    image = {"width": WIDTH, "height": HEIGHT}
    source = coco(
        tmp_path / "coco",
        document={"images": [{"id": 1, "file_name": "a.png", **image}, {"id": 2, "file_name": "b.png", **image}]},
    )
    for name in ("b", "c"):
        picture(source / "train" / f"{name}.png", ord(name))
    (source / "annotations" / "captions_train.json").write_text("{}")
    records, account = read(source, "coco")
    assert {name: record.mask_file_name for name, record in records.items()} == {"a": "masks/a.png", "b": None}
    assert reasons(account) == {
        "annotations/captions_train.json": "other_file",
        "train/b.png": "image_without_annotation",
        "train/c.png": "not_named",
    }
    with (tmp_path / "coco_out" / "rejected.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == sorted(reasons(account))


def test_a_picture_that_is_turned_by_its_metadata_is_refused(tmp_path: Path) -> None:
    """Whether outlines follow the stored or the upright pixels cannot be told."""
    exif = Image.Exif()
    exif[0x0112] = 6
    source = coco(tmp_path / "coco")
    picture(source / "train" / "a.png", exif=exif)
    refused(source, "coco", "train/a.png", "orientation 6", "prepare")


def test_names_that_repeat_between_folders_get_their_folders(tmp_path: Path) -> None:
    source = tmp_path / "coco"
    coco(source)
    content = json.loads((source / "annotations" / "instances_train.json").read_text())
    picture(source / "val" / "a.png", 1)
    (source / "annotations" / "instances_val.json").write_text(json.dumps(content))
    records, account = read(source, "coco")
    assert {name: record.split for name, record in records.items()} == {"train_a": "train", "val_a": "val"}
    assert len(account.notes) == 1


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("MEL", {"diagnosis": "melanoma"}),
        ("Basal-Cell-Carcinoma", {"diagnosis": "basal cell carcinoma"}),
        ("Malignant", {"benign_malignant": "malignant"}),
        ("Skin-Lesion", {}),
        ("birth-mark", {"diagnosis": "birth-mark"}),
    ],
)
def test_what_classes_mean(name: str, fields: dict[str, str], tmp_path: Path) -> None:
    source = coco(tmp_path / "coco", document={"categories": [{"id": 1, "name": name}]})
    records, account = read(source, "coco")
    assert records["a"].model_dump(include={"diagnosis", "benign_malignant"}, exclude_none=True) == fields
    assert ["'birth-mark'" in note for note in account.notes] == ([True] if name == "birth-mark" else [])


@pytest.mark.parametrize("format_name", ["coco", "yolo"])
def test_outlines_are_not_written_beside_a_picture_that_its_metadata_turn(tmp_path: Path, format_name: str) -> None:
    """The outline is of the upright photograph; who ignores the orientation would lay it over other pixels."""
    folder = tmp_path / "data"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((24, 32, 3), 200, np.uint8)).save(folder / "images" / "a.jpg", exif=exif)
    mask = np.zeros((32, 24), np.uint8)
    mask[4:20, 6:12] = 255
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    record = PairRecord(
        file_name="images/a.jpg",
        mask_file_name="masks/a.png",
        isic_id="a",
        diagnosis="nevus",
        sha256=sha256_file(folder / "images" / "a.jpg"),
        mask_sha256=sha256_file(folder / "masks" / "a.png"),
    )
    write_dataset(folder, [record], made_by={})
    with pytest.raises(InputError, match="orientation 6"):
        export_data(folder, tmp_path / "out", format_name)
    assert not (tmp_path / "out").exists()
