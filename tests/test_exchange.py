"""Formats of other tools: read back by ourselves without a loss, and by the tools' own libraries."""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from exchange_data import EMPTY, HEIGHT, HOLED, JPEG, PARTED, WIDTH, image_of, lesion_of, write_exchange_data
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.terms import diagnosis_term
from skindualgen.exchange.formats import FORMATS, ExchangeOptions, load_format
from skindualgen.exchange.pairs import described
from skindualgen.exchange.transfer import SIDECAR_FILE, export_data, import_data
from skindualgen.files import PNG_KEY

OWN_TESTS = {"dicom"}
NAMES = [name for name in FORMATS if name not in OWN_TESTS]
HOLDS_ALL = {"imagefolder", "parquet", "webdataset"}
RECOMPRESSED_GREY_LEVELS = 6
"""What JPEG at quality 100 may move a value by."""
STATED = {
    "nnunet": {"isic_id", "split", "origin"},
    "coco": {"isic_id", "split", "origin", "diagnosis", "license"},
    "yolo": {"isic_id", "split", "origin", "diagnosis"},
    "isic": {"isic_id", "split", "origin", "diagnosis", "lesion_id"},
    "classes": {"isic_id", "split", "origin", "diagnosis"},
    "fiftyone": {
        *("isic_id", "split", "origin", "diagnosis", "license", "lesion_id", "patient_id", "sex", "age_approx"),
        *("anatom_site_general", "source", "split_group"),
    },
}
"""Fields of real pairs that survive without the records beside a format, as docs/formats.md says."""

Folders = tuple[Path, Path, list[PairRecord]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PairRecord]]:
    root = tmp_path_factory.mktemp("exchange") / "data"
    return root, write_exchange_data(root)


@pytest.fixture(scope="module", params=NAMES)
def written(
    request: pytest.FixtureRequest, data: tuple[Path, list[PairRecord]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Each format in turn, and the folder that was written in it."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    export_data(data[0], out, request.param, options=ExchangeOptions(shard_size=4))
    return request.param, out


def export(data: tuple[Path, list[PairRecord]], out: Path, name: str, **options: int) -> Path:
    export_data(data[0], out, name, options=ExchangeOptions(**options))
    return out


def by_id(records: list[PairRecord]) -> dict[str, PairRecord]:
    return {record.isic_id: record for record in records}


def expected_lesion(name: str, root: Path, record: PairRecord) -> np.ndarray:
    """The mask that must come back: as it is, but polygons cannot hold holes."""
    lesion = lesion_of(root, record)
    return ndimage.binary_fill_holes(lesion) if name == "yolo" else lesion


# --- all formats: nothing is lost on the way there and back ---


def test_every_format_says_what_it_is() -> None:
    for name in NAMES:
        module = load_format(name)
        assert module.DESCRIPTION and module.LOSES and (name in HOLDS_ALL) == module.HOLDS_ALL, name


def test_records_and_pictures_come_back(
    written: tuple[str, Path], data: tuple[Path, list[PairRecord]], tmp_path: Path
) -> None:
    name, out = written
    root, records = data
    back = by_id(import_data(out, tmp_path / "back", name))
    assert [described(record) for record in records] == [described(back[record.isic_id]) for record in records]
    for record in records:
        other = back[record.isic_id]
        np.testing.assert_array_equal(
            lesion_of(tmp_path / "back", other), expected_lesion(name, root, record), err_msg=record.isic_id
        )
        difference = np.abs(image_of(tmp_path / "back", other) - image_of(root, record)).max()
        assert difference <= (RECOMPRESSED_GREY_LEVELS if name == "isic" else 0)
        if name != "isic" and not (name == "nnunet" and record.isic_id == JPEG):
            assert other.sha256 == record.sha256, "a file that the format takes as it is was changed"
    in_folder = by_id(read_metadata(tmp_path / "back"))
    assert {key: value.model_dump(exclude_none=True) for key, value in in_folder.items()} == {
        key: value.model_dump(exclude_none=True) for key, value in back.items()
    }
    assert (tmp_path / "back" / "trained_on.json").read_bytes() == (root / "trained_on.json").read_bytes()


def test_what_survives_without_the_records_beside_it(
    written: tuple[str, Path], data: tuple[Path, list[PairRecord]], tmp_path: Path
) -> None:
    name, out = written
    if name in HOLDS_ALL:
        assert not (out / SIDECAR_FILE).exists()
        return
    hidden = (out / SIDECAR_FILE).rename(tmp_path / SIDECAR_FILE)
    try:
        back = import_data(out, tmp_path / "back", name)
    finally:
        hidden.rename(out / SIDECAR_FILE)
    real = [record for record in back if record.origin == "real"]
    assert {field for record in real for field in described(record)} == STATED[name]
    assert sorted(record.split for record in back) == sorted(record.split for record in data[1])
    # What was generated is known from the image alone: no synthetic pair becomes a real one.
    synthetic = [record for record in back if record.origin == "synthetic"]
    assert [record.seed for record in synthetic] == [(1 << 62) + row for row in range(3)]


def test_a_label_that_was_changed_in_the_format_counts(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    """The records beside a format fill in, they do not overrule."""
    out = export(data, tmp_path / "out", "classes")
    picture = next((out / "train" / "nevus").glob("ISIC_0000001*"))
    (out / "val" / "melanoma").mkdir()
    picture.rename(out / "val" / "melanoma" / picture.name)
    record = by_id(import_data(out, tmp_path / "back", "classes"))["ISIC_0000001"]
    assert (record.split, record.diagnosis, record.age_approx) == ("val", "melanoma", 55)


def test_a_spelling_that_a_format_unifies_comes_back(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    out = export(data, tmp_path / "out", "classes")
    assert sorted(folder.name for folder in (out / "train").iterdir()) == [
        "melanoma",
        "nevus",
        "seborrheic keratosis",
        "skin lesion",
    ]
    assert by_id(import_data(out, tmp_path / "back", "classes"))["SDG_0000001"].diagnosis == "seborrheic_keratosis"


# --- the tools' own libraries ---


def test_imagefolder_loads_with_datasets(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = export(data, tmp_path / "out", "imagefolder")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    rows = {row["isic_id"]: row for row in loaded["train"]}
    assert len(rows) == len(data[1])
    for record in data[1]:
        row = rows[record.isic_id]
        np.testing.assert_array_equal(np.asarray(row["mask"]) > 127, lesion_of(data[0], record))
        assert (row["diagnosis"], row["split"], row["origin"]) == (record.diagnosis, record.split, record.origin)


def test_parquet_loads_with_datasets_split_by_split(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = export(data, tmp_path / "out", "parquet", shard_size=4)
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]
    loaded = datasets.load_dataset("parquet", data_dir=str(out / "data"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 6, "validation": 2, "test": 1}
    records = by_id(data[1])
    for part in loaded.values():
        for row in part:
            record = records[row["isic_id"]]
            np.testing.assert_array_equal(np.asarray(row["image"].convert("RGB")), image_of(data[0], record))
            np.testing.assert_array_equal(np.asarray(row["mask"]) > 127, lesion_of(data[0], record))
            assert (row["diagnosis"], row["seed"]) == (record.diagnosis, record.seed)


def test_parquet_embeds_the_files_byte_for_byte(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = export(data, tmp_path / "out", "parquet")
    table = parquet.read_table(out / "data" / "train-00000-of-00001.parquet")
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["mask"] == {"_type": "Image"}
    record = by_id(data[1])["SDG_0000001"]
    row = next(row for row in table.to_pylist() if row["isic_id"] == record.isic_id)
    assert row["image"]["bytes"] == (data[0] / record.file_name).read_bytes()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves closing the shards to the collector
def test_shards_load_with_webdataset(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = export(data, tmp_path / "out", "webdataset", shard_size=4)
    shards = sorted(out.glob("*.tar"))
    assert [shard.name for shard in shards] == [
        "test-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
        "val-000000.tar",
    ]
    records, seen = by_id(data[1]), []
    samples = webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False, empty_check=False)
    for sample in samples.decode("pil"):
        record = records[sample["json"]["isic_id"]]
        image = sample["png"] if "png" in sample else sample["jpg"]
        np.testing.assert_array_equal(np.asarray(image), image_of(data[0], record))
        np.testing.assert_array_equal(np.asarray(sample["mask.png"])[..., 0] > 127, lesion_of(data[0], record))
        seen.append(record.isic_id)
    assert sorted(seen) == sorted(records)
    del samples
    gc.collect()


def test_shards_are_the_same_bytes_each_time(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    first, second = (export(data, tmp_path / name, "webdataset") for name in ("a", "b"))
    with tarfile.open(first / "train-000000.tar") as tar:
        assert {member.mtime for member in tar} == {0}
    assert (first / "train-000000.tar").read_bytes() == (second / "train-000000.tar").read_bytes()


def test_nnunet_finds_its_own_raw_data_set_whole(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    """Its check forks, which in a process with threads, as this one, can hang: it gets a process of its own."""
    pytest.importorskip("nnunetv2")
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    root = export(data, tmp_path / "out", "nnunet", dataset_id=7) / "Dataset007_SkinDualGen"
    check = (
        "import sys; from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity; "
        "verify_dataset_integrity(sys.argv[1], num_processes=1)"
    )
    command = [sys.executable, "-c", check, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and "verify_dataset_integrity Done" in done.stdout, done.stdout + done.stderr
    reader, records = NaturalImage2DIO(), by_id(data[1])
    for part, name in (("Tr", HOLED), ("Tr", EMPTY), ("Ts", "ISIC_0000005")):
        image, _ = reader.read_images([str(root / f"images{part}" / f"{name}_0000.png")])
        label, _ = reader.read_seg(str(root / f"labels{part}" / f"{name}.png"))
        np.testing.assert_array_equal(image[:, 0], image_of(data[0], records[name]).transpose(2, 0, 1))
        np.testing.assert_array_equal(label[0, 0], lesion_of(data[0], records[name]))


def test_nnunet_description_is_what_its_own_function_writes(
    data: tuple[Path, list[PairRecord]], tmp_path: Path
) -> None:
    generate = pytest.importorskip("nnunetv2.dataset_conversion.generate_dataset_json")
    root = export(data, tmp_path / "out", "nnunet") / "Dataset500_SkinDualGen"
    generate.generate_dataset_json(
        str(tmp_path),
        {0: "R", 1: "G", 2: "B"},
        {"background": 0, "lesion": 1},
        8,
        ".png",
        dataset_name="SkinDualGen",
        license="CC-BY-4.0, CC0-1.0, OpenRAIL++",
        converted_by="skindualgen",
    )
    assert json.loads((root / "dataset.json").read_text()) == json.loads((tmp_path / "dataset.json").read_text())


def test_nnunet_trains_on_train_and_validates_on_val(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    root = export(data, tmp_path / "out", "nnunet") / "Dataset500_SkinDualGen"
    (fold,) = json.loads((root / "splits_final.json").read_text())
    labels = {path.stem for path in (root / "labelsTr").iterdir()}
    assert (len(fold["train"]), len(fold["val"])) == (6, 2) and set(fold["train"]) | set(fold["val"]) == labels
    assert [path.stem for path in (root / "labelsTs").iterdir()] == ["ISIC_0000005"]


def test_coco_loads_with_pycocotools(
    data: tuple[Path, list[PairRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    out = export(data, tmp_path / "out", "coco")
    records, seen = by_id(data[1]), 0
    for split in ("train", "val", "test"):
        loaded = coco.COCO(str(out / "annotations" / f"instances_{split}.json"))
        names = {category["id"]: category["name"] for category in loaded.loadCats(loaded.getCatIds())}
        licenses = {entry["id"]: entry["name"] for entry in loaded.dataset["licenses"]}
        for image in loaded.loadImgs(loaded.getImgIds()):
            with Image.open(out / split / image["file_name"]) as file:
                assert file.size == (image["width"], image["height"]) == (WIDTH, HEIGHT)
            found = Path(image["file_name"]).stem
            record = next((r for r in data[1] if found in (r.isic_id, r.isic_id.upper())), records[JPEG])
            annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"]))
            lesion = lesion_of(data[0], record)
            assert len(annotations) == lesion.any() and licenses.get(image.get("license")) == record.license
            for annotation in annotations:
                np.testing.assert_array_equal(loaded.annToMask(annotation), lesion)
                assert names[annotation["category_id"]] == (diagnosis_term(record.diagnosis) or "skin lesion")
                rows, columns = np.nonzero(lesion)
                assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert annotation["area"] == lesion.sum()
            seen += 1
    capsys.readouterr()  # it talks while it loads
    assert seen == len(data[1])


def test_coco_of_others_with_polygons_and_crowds(tmp_path: Path) -> None:
    """A square polygon of 4 x 4 px and a run-length code of the first column are one lesion: 16 + 10 pixels."""
    pytest.importorskip("pycocotools")
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "train2017").mkdir()
    Image.new("RGB", (12, 10)).save(tmp_path / "coco" / "train2017" / "a.png")
    common = {"image_id": 1, "category_id": 3}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 12, "height": 10}],
        "categories": [{"id": 3, "name": "melanoma"}],
        "annotations": [
            {"id": 1, **common, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]},
            {"id": 2, **common, "segmentation": {"size": [10, 12], "counts": [0, 10, 110]}, "iscrowd": 1},
        ],
    }
    (tmp_path / "coco" / "annotations" / "instances_train2017.json").write_text(json.dumps(document))
    (record,) = import_data(tmp_path / "coco", tmp_path / "back", "coco", origin="synthetic")
    expected = np.zeros((10, 12), bool)
    expected[2:6, 2:6] = expected[:, 0] = True
    np.testing.assert_array_equal(lesion_of(tmp_path / "back", record), expected)
    assert (record.diagnosis, record.split, record.origin) == ("melanoma", "train", "synthetic")


def test_yolo_polygons_fill_to_the_mask_as_its_loaders_fill_them(
    data: tuple[Path, list[PairRecord]], tmp_path: Path
) -> None:
    """ultralytics.data.utils.polygon2mask: float32 shares to pixels, cut to whole numbers, cv2.fillPoly."""
    cv2 = pytest.importorskip("cv2")
    yaml = pytest.importorskip("yaml")
    out = export(data, tmp_path / "out", "yolo")
    content = yaml.safe_load((out / "data.yaml").read_text())
    records = by_id(data[1])
    for name, polygons in ((HOLED, 1), (PARTED, 3), (EMPTY, 0), ("ISIC_0000005", 1)):
        record = records[name]
        assert content[record.split] == f"images/{record.split}"
        lines = (out / "labels" / record.split / f"{name}.txt").read_text().splitlines()
        filled = np.zeros((HEIGHT, WIDTH), np.uint8)
        for line in lines:
            row, *shares = line.split()
            assert content["names"][int(row)] == (record.diagnosis or "skin lesion")
            points = np.array(shares, np.float32).reshape(-1, 2) * np.array([WIDTH, HEIGHT], np.float32)
            assert len(points) >= 3
            cv2.fillPoly(filled, [points.astype(np.int32)], 1)
        assert len(lines) == polygons
        np.testing.assert_array_equal(filled > 0, ndimage.binary_fill_holes(lesion_of(data[0], record)))


def test_yolo_loses_a_hole_and_says_how_much(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    """A hole of one pixel in a lesion of n: the intersection over union is n / (n + 1)."""
    import_data(export(data, tmp_path / "out", "yolo"), tmp_path / "back", "yolo")
    before = lesion_of(data[0], by_id(data[1])[HOLED])
    after = lesion_of(tmp_path / "back", by_id(read_metadata(tmp_path / "back"))[HOLED])
    assert (before & after).sum() / (before | after).sum() == before.sum() / (before.sum() + 1)


@pytest.mark.parametrize("seed", range(6))
def test_outlines_give_any_mask_without_holes_back(seed: int) -> None:
    from skindualgen.exchange.yolo import filled, outlines

    random = np.random.default_rng(seed)
    for smoothing in (0, 0.7, 2):
        noise = ndimage.gaussian_filter(random.normal(size=(37, 53)), smoothing)
        lesion = noise > np.quantile(noise, random.choice([0.2, 0.5, 0.9]))
        again = np.zeros_like(lesion)
        for vertices in outlines(lesion):
            again |= filled(vertices, lesion.shape)
        np.testing.assert_array_equal(again, ndimage.binary_fill_holes(lesion))


@pytest.mark.filterwarnings("ignore:The .*keyword in .* is deprecated:DeprecationWarning")  # its calls of pandas
def test_isic_layout_is_scored_by_the_challenge_code(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    # A dependency of it needs a C compiler, so `make test` installs it only where that works.
    scoring = pytest.importorskip("isic_challenge_scoring.segmentation", reason="isic-challenge-scoring not installed")
    from isic_challenge_scoring.load_csv import parse_truth_csv

    out = export(data, tmp_path / "out", "isic")
    truth = out / "ISIC2018_Task1_Training_GroundTruth"
    assert len(list(truth.iterdir())) == 6
    perfect = scoring.SegmentationScore.from_dir(truth, truth).macro_average
    assert perfect.at["accuracy"] == perfect.at["dice"] == 1
    with (out / "ISIC2018_Task3_Training_GroundTruth.csv").open() as file:
        table, _ = parse_truth_csv(file)
    assert list(table.columns) == ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert table.idxmax(axis=1).to_dict() == {
        "ISIC_0000001": "NV",
        "ISIC_0000002": "MEL",
        "ISIC_9000003": "NV",
        "ISIC_9000004": "BKL",
        "ISIC_9000005": "BKL",
    }
    assert (table.sum(axis=1) == 1).all()


def test_isic_layout_is_read_by_prepare(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    out = export(data, tmp_path / "out", "isic")
    options = PrepareOptions(layout="isic2018", size=HEIGHT, crop="none", keep_split=True)
    summary = prepare(out, tmp_path / "prepared", options)
    records = by_id(read_metadata(tmp_path / "prepared"))
    assert summary.rejected == {"mask_empty": 1} and len(records) == len(data[1]) - 1
    assert records["ISIC_0000001"].lesion_id == "IL_1" and records["ISIC_0000005"].split == "test"
    for name in ("ISIC_0000001", HOLED, "ISIC_0000005"):
        np.testing.assert_array_equal(
            lesion_of(tmp_path / "prepared", records[name]), lesion_of(data[0], by_id(data[1])[name])
        )
        assert records[name].diagnosis == by_id(data[1])[name].diagnosis


def test_isic_keeps_the_record_inside_the_image(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    out = export(data, tmp_path / "out", "isic")
    with (out / "ISIC2018_Task3_Validation_GroundTruth.csv").open(newline="") as file:
        columns = {row["image"]: row for row in csv.DictReader(file)}
    assert sum(row["VASC"] == "1.0" for row in columns.values()) == 1  # angioma
    with Image.open(out / "ISIC2018_Task1-2_Training_Input" / "ISIC_9000004.jpg") as image:
        comment = json.loads(image.info["comment"])
    original = by_id(data[1])["SDG_0000001"]
    with Image.open(data[0] / original.file_name) as image:
        assert comment == json.loads(image.info[PNG_KEY]) and comment["isic_id"] == "SDG_0000001"


def test_class_folders_load_with_torchvision(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets.folder")
    out = export(data, tmp_path / "out", "classes")
    images, masks = folder.ImageFolder(out / "train"), folder.ImageFolder(out / "masks" / "train")
    assert images.classes == masks.classes == ["melanoma", "nevus", "seborrheic keratosis", "skin lesion"]
    records = by_id(data[1])
    for (image, label), (mask, mask_label), (path, _) in zip(images, masks, images.samples, strict=True):
        record = records[Path(path).stem]
        assert images.classes[label] == (diagnosis_term(record.diagnosis) or "skin lesion") and label == mask_label
        np.testing.assert_array_equal(np.asarray(image), image_of(data[0], record))
        np.testing.assert_array_equal(np.asarray(mask)[..., 0] > 127, lesion_of(data[0], record))
    assert len(images) == 6


# --- what a format refuses ---


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("nothing")
    with pytest.raises(InputError):
        import_data(tmp_path / "other", tmp_path / "out", name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


@pytest.mark.parametrize("name", ["nnunet", "coco", "yolo"])
def test_a_pair_without_mask_is_refused_where_it_would_mean_no_lesion(name: str, tmp_path: Path) -> None:
    records = write_exchange_data(tmp_path / "data")
    lines = [record.model_dump(mode="json") for record in records]
    lines[0] |= {"mask_file_name": None, "mask_sha256": None}
    (tmp_path / "data" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"without a mask.*--require-masks"):
        export_data(tmp_path / "data", tmp_path / "out", name)
    assert export_data(tmp_path / "data", tmp_path / "out", name, require_masks=True).counts["records"] == 8


def test_nnunet_needs_pairs_to_train_on(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pair of the train split"):
        export_data(data[0], tmp_path / "out", "nnunet", split="test")
    with pytest.raises(InputError, match="letters, digits"):
        export_data(data[0], tmp_path / "out", "nnunet", options=ExchangeOptions(name="a b"))


def test_embedded_pictures_are_checked_against_the_hash_beside_them(
    data: tuple[Path, list[PairRecord]], tmp_path: Path
) -> None:
    out = export(data, tmp_path / "out", "webdataset")
    shard = out / "test-000000.tar"
    content = shard.read_bytes()
    place = content.index(b"IDAT") + 40
    shard.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(InputError, match=r"of ISIC_0000005 in test-000000\.tar, changed"):
        import_data(out, tmp_path / "back", "webdataset")


def test_a_soft_mask_is_not_made_binary_in_silence(data: tuple[Path, list[PairRecord]], tmp_path: Path) -> None:
    out = export(data, tmp_path / "out", "classes")
    mask = next((out / "masks" / "train" / "melanoma").iterdir())
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(mask)
    with pytest.raises(InputError, match=r"ISIC_0000002\.png.*0 and 255.*prepare"):
        import_data(out, tmp_path / "back", "classes")
