"""Folders as people have them: names that mean splits, masks, annotators, behaviour and captions, or are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from picture_files import disc, pixels, save, write_csv
from skindualgen.contracts import InputError
from skindualgen.data.sources import Candidate, Listing, Options, list_source
from skindualgen.data.sources.base import is_hidden
from skindualgen.data.sources.file_names import mask_names
from skindualgen.data.sources.names import folder_name, place

MASKS = ("mask", "gt", "label", "seg", "target", "annot", "truth")


def draw(root: Path, *files: str) -> Path:
    """Write pictures, and masks (a disc of a size of its own) where the path has a word for them."""
    for number, file in enumerate(files):
        is_mask = any(word in file.lower() for word in MASKS)
        save(disc(radius=0.2 + number / 100) if is_mask else pixels(file), root / file)
    return root


def masks(listing: Listing) -> dict[str, str | None]:
    return {candidate.image: candidate.mask for candidate in listing.candidates}


def splits(listing: Listing) -> dict[str, str | None]:
    return {candidate.image: candidate.split for candidate in listing.candidates}


def fields(listing: Listing) -> dict[str, dict[str, str | int]]:
    return {candidate.isic_id: dict(candidate.fields) for candidate in listing.candidates}


def rejected(listing: Listing) -> dict[str, str]:
    return {rejection.file: rejection.reason for rejection in listing.rejections}


# -- splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("TRAIN", "Testing"),
        ("training_set", "test-set"),
        ("TrainDataset", "TestDataset"),
        ("train_images", "test_images"),
        ("images_train", "images_test"),
        ("trainimages", "testimages"),
        ("imagesTr", "imagesTs"),
        ("data/Training/images", "data/Evaluation/images"),
        ("train2017", "holdout"),
        ("split/train", "split/held_out"),
    ],
)
def test_folders_of_splits_are_no_diagnoses(tmp_path: Path, train: str, test: str) -> None:
    listing = list_source(draw(tmp_path, f"{train}/a.png", f"{train}/b.png", f"{test}/c.png"))
    assert splits(listing) == {f"{train}/a.png": "train", f"{train}/b.png": "train", f"{test}/c.png": "test"}
    assert [candidate.fields for candidate in listing.candidates] == [{}, {}, {}]


@pytest.mark.parametrize("val", ["val", "Valid", "validation", "dev", "val_images"])
def test_names_of_the_validation_split(tmp_path: Path, val: str) -> None:
    listing = list_source(draw(tmp_path, "train/a.png", f"{val}/b.png"))
    assert splits(listing)[f"{val}/b.png"] == "val"


def test_splits_and_classes_in_one_name_or_in_two(tmp_path: Path) -> None:
    draw(tmp_path, "train_nevus/a.png", "test_melanoma/b.png", "val/BasalCellCarcinoma/c.png")
    listing = list_source(tmp_path)
    assert list(splits(listing).values()) == ["train", "test", "val"]
    assert fields(listing) == {
        "a": {"diagnosis": "nevus"},
        "b": {"diagnosis": "melanoma"},
        "c": {"diagnosis": "basal cell carcinoma"},
    }


def test_one_metadata_file_above_the_folders_of_splits(tmp_path: Path) -> None:
    files = ("train/a.png", "validation/b.png", "test/c.png")
    rows = [json.dumps({"file_name": file, "text": f"a nevus {file}"}) for file in files]
    (draw(tmp_path, *files) / "metadata.jsonl").write_text("\n".join(rows))
    listing = list_source(tmp_path)
    assert splits(listing) == dict(zip(files, ("train", "val", "test"), strict=True))
    assert fields(listing)["b"]["prompt"] == "a nevus validation/b.png"


def test_metadata_that_names_files_without_their_folder(tmp_path: Path) -> None:
    draw(tmp_path, "train/a.png", "test/b.png")
    write_csv(tmp_path / "metadata.csv", [{"file_name": f"{name}.png", "dx": "nv"} for name in "ab"])
    listing = list_source(tmp_path)
    assert list(splits(listing).values()) == ["train", "test"]
    assert fields(listing) == {name: {"diagnosis": "nevus"} for name in "ab"}


def test_a_table_for_each_split(tmp_path: Path) -> None:
    draw(tmp_path, "images/a.png", "images/b.png")
    write_csv(tmp_path / "train.csv", [{"image_id": "a", "dx": "nv"}])
    write_csv(tmp_path / "test_labels.csv", [{"image_id": "b", "dx": "mel"}])
    assert list(splits(list_source(tmp_path)).values()) == ["train", "test"]
    write_csv(tmp_path / "test_labels.csv", [{"image_id": "a", "dx": "nv"}])
    with pytest.raises(InputError, match=r"a in the tables of (train and test|test and train)"):
        list_source(tmp_path)


def test_row_that_contradicts_its_folder_is_rejected(tmp_path: Path) -> None:
    draw(tmp_path, "images/train/a.png", "images/test/b.png")
    write_csv(tmp_path / "metadata.csv", [{"image_id": name, "split": "test"} for name in "ab"])
    listing = list_source(tmp_path)
    assert (list(splits(listing)), rejected(listing)) == (
        ["images/test/b.png"],
        {"images/train/a.png": "contradicting_split"},
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/test/a.png",), "two splits"),
        (("trainA/a.png", "trainB/a.png"), "a letter tells"),
        (("0/a.png", "1/b.png"), "'0'.*no diagnosis.*--label"),
        (("class_1/a.png", "class_2/b.png"), "no diagnosis"),
        (("melanoma/a.png", "NotMelanoma/b.png"), "'NotMelanoma'.*no diagnosis"),
        (("normal/a.png", "abnormal/b.png"), "no diagnosis"),
        (("real/a.png", "synthetic/b.png"), "no diagnosis"),
        (("male/a.png", "female/b.png"), "no diagnosis"),
        (("upper arm/a.png", "back/b.png"), "no diagnosis"),
        (("nevus/melanoma/a.png", "nevus/b.png"), "'nevus' and 'melanoma'"),
        (("siteA/my class/a.png", "siteB/other class/b.png"), "could each be the diagnosis"),
        (("bilder/a.png", "masken/a.png"), "photographs and masks"),
        (("10_sks person/a.png", "5_nevus/b.png"), "no diagnosis"),
    ],
)
def test_names_that_could_mean_two_things_are_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_source(draw(tmp_path, *files))


def test_label_says_what_a_folder_means(tmp_path: Path) -> None:
    draw(tmp_path, "0/a.png", "NotMelanoma/b.png", "mine/c.png")
    labels = {"0": "melanoma", "NotMelanoma": "unknown", "mine": "nevus"}
    listing = list_source(tmp_path, options=Options(labels=labels))
    assert fields(listing) == {"a": {"diagnosis": "melanoma"}, "b": {}, "c": {"diagnosis": "nevus"}}


# -- masks


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *[
            ("images/a.jpg", f"{folder}/a.png")
            for folder in (
                *("labels", "Annotations", "gt", "GroundTruth", "ground_truth", "segmentation", "Seg", "lesion_masks"),
                *("images_gt", "SegmentationClass", "target", "binary masks"),
            )
        ],
        *[
            ("images/a.jpg", f"masks/{name}.png")
            for name in ("mask_a", "a_m", "a-label", "a_segmentation", "A_MASK", "seg_a", "a.jpg", "a_groundtruth")
        ],
        ("train/a.jpg", "train_masks/a_mask.gif"),
        ("input/a.jpg", "target/a.png"),
        ("data/Train/Images/a.jpg", "data/Train/GT/a.png"),
        ("imagesTr/a.jpg", "labelsTr/a.png"),
        ("images/melanoma/a.jpg", "masks/melanoma/a.png"),
        ("a.jpg", "a_mask.png"),
        ("a.jpg", "a_seg.png"),
        ("train/image_1.png", "train/mask_1.png"),
        ("benign/benign (1).png", "benign/benign (1)_mask.png"),
        ("a.jpg", "gt/a.png"),
    ],
)
def test_masks_are_masks(tmp_path: Path, image: str, mask: str) -> None:
    listing = list_source(draw(tmp_path, image, mask))
    assert masks(listing) == {image: mask}
    assert listing.rejections == []


def test_masks_of_one_name_find_their_photographs_by_folder(tmp_path: Path) -> None:
    files = [f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("images", "masks")]
    listing = list_source(draw(tmp_path, *files))
    assert masks(listing) == {"train/images/1.png": "train/masks/1.png", "test/images/1.png": "test/masks/1.png"}
    draw(tmp_path, "others/masks/1.png")
    assert rejected(list_source(tmp_path)) == {"others/masks/1.png": "mask_without_image"}


def test_number_behind_a_mask_alone_may_be_another_photographs(tmp_path: Path) -> None:
    listing = list_source(draw(tmp_path, "images/1.png", "masks/1_2.png"))
    assert (masks(listing), rejected(listing)) == ({"images/1.png": None}, {"masks/1_2.png": "mask_without_image"})


@pytest.mark.parametrize(
    "names",
    [
        ("masks/a_annotator1.png", "masks/a_annotator2.png"),
        ("masks/a_mask_0.png", "masks/a_mask_1.png"),
        ("masks/a_r1.png", "masks/a_r2.png"),
        ("masks/a.png", "segmentations/a.png"),
        ("annotator1/a.png", "annotator2/a.png"),
        ("masks/annotator_A/a.png", "masks/annotator_B/a.png"),
        ("masks/jones/a.png", "masks/smith/a.png"),
        ("masks1/a.png", "masks2/a.png"),
        ("images/a_mask.png", "images/a_mask_1.png"),
    ],
)
def test_several_masks_of_one_photograph_are_said_to_be_that(tmp_path: Path, names: tuple[str, str]) -> None:
    draw(tmp_path, "images/a.jpg", *names)
    with pytest.raises(InputError, match=r"several masks of one photograph .*images/a\.jpg.*--annotator"):
        list_source(tmp_path)
    (candidate,) = list_source(tmp_path, options=Options(annotators=True)).candidates
    assert (candidate.mask, candidate.other_masks) == (names[0], names[1:])


def test_masks_that_are_the_same_file_count_once(tmp_path: Path) -> None:
    draw(tmp_path, "images/a.jpg", "masks/a.png")
    shutil.copyfile(tmp_path / "masks/a.png", tmp_path / "masks/a_mask.png")
    listing = list_source(tmp_path)
    assert masks(listing) == {"images/a.jpg": "masks/a.png"}
    assert any("masks/a_mask.png as masks/a.png" in note for note in listing.notes)


# -- behaviour, captions


def test_benign_and_malignant_are_no_diagnoses(tmp_path: Path) -> None:
    draw(tmp_path, "train/Benign/a.png", "train/malignant/b.png", "test/malignant/melanoma/c.png")
    assert fields(list_source(tmp_path)) == {
        "a": {"benign_malignant": "benign"},
        "b": {"benign_malignant": "malignant"},
        "c": {"benign_malignant": "malignant", "diagnosis": "melanoma"},
    }


def test_behaviour_in_the_column_of_labels(tmp_path: Path) -> None:
    draw(tmp_path, "images/a.png", "images/b.png")
    rows = [{"image_id": "a", "label": "Malignant"}, {"image_id": "b", "label": "melanoma"}]
    write_csv(tmp_path / "metadata.csv", rows)
    assert fields(list_source(tmp_path)) == {"a": {"benign_malignant": "malignant"}, "b": {"diagnosis": "melanoma"}}


def test_captions_beside_photographs_and_repeats_in_the_folder_name(tmp_path: Path) -> None:
    draw(tmp_path, "10_nevus/a.png", "5_sks person/b.png", "1_melanoma/c.png", "1_melanoma/d.png")
    (tmp_path / "10_nevus/a.txt").write_text("a nevus\non the back\n")
    (tmp_path / "5_sks person/b.caption").write_text("another one")
    (tmp_path / "1_melanoma/c.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "1_melanoma/d.txt").write_text("\n")
    listing = list_source(tmp_path)
    assert fields(listing) == {
        "a": {"diagnosis": "nevus", "prompt": "a nevus on the back"},
        "b": {"prompt": "another one"},
        "c": {"diagnosis": "melanoma"},
        "d": {"diagnosis": "melanoma"},
    }
    assert rejected(listing) == {"1_melanoma/c.txt": "no_caption", "1_melanoma/d.txt": "no_caption"}
    assert any("5_sks person" in note for note in listing.notes)


def test_captions_in_a_folder_of_their_own_and_one_that_the_table_replaces(tmp_path: Path) -> None:
    draw(tmp_path, "images/a.png", "images/b.png")
    for name in "ab":
        path = tmp_path / "captions" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"caption {name}")
    write_csv(tmp_path / "metadata.csv", [{"image_id": "a", "prompt": "of the table"}])
    listing = list_source(tmp_path)
    assert [found["prompt"] for found in fields(listing).values()] == ["of the table", "caption b"]
    assert "captions in files of 1 photographs are not used: the table has others" in listing.notes


def test_table_that_says_otherwise_than_folder_and_mask_file(tmp_path: Path) -> None:
    draw(tmp_path, "images/nevus/a.png", "masks/a.png", "masks/other_seg.png")
    write_csv(tmp_path / "metadata.csv", [{"image_id": "a", "dx": "mel", "mask": "masks/other_seg.png"}])
    listing = list_source(tmp_path)
    (candidate,) = listing.candidates
    assert (candidate.mask, candidate.fields) == ("masks/other_seg.png", {"diagnosis": "melanoma"})
    assert candidate.adjustments == (("folder_diagnosis_dropped", "'nevus'; the table says 'melanoma'"),)
    assert "masks in files of 1 photographs are not used: the table has others" in listing.notes


def test_several_captions_of_one_photograph(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    rows = [{"file_name": "a.png", "text": ["one", "two", "three"]}, {"file_name": "b.png", "text": ["only"]}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = list_source(tmp_path).candidates
    assert (first.fields["prompt"], first.adjustments) == (
        "one",
        (("captions_left_out", "the first of 3 is the prompt"),),
    )
    assert (second.fields["prompt"], second.adjustments) == ("only", ())


def test_list_in_another_column_is_not_dropped(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "label": ["nevus", "melanoma"]}
    (draw(tmp_path, "a.png") / "metadata.jsonl").write_text(json.dumps(row))
    assert rejected(list_source(tmp_path)) == {"a.png": "unknown_label"}


# -- what is not used


def test_everything_that_is_not_used_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "images/a.png", "extras/b.png", "superpixels/a.png", "overview.png")
    for name in ("images/c.heic", "d.AVIF", "e.dng", "labels.xlsx", "metadata.parquet", "labels/a.xml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in (".DS_Store", "images/Thumbs.db", "images/._a.png", "@eaDir/a.png", "__MACOSX/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listing = list_source(tmp_path)
    assert masks(listing) == {"images/a.png": None}
    assert rejected(listing) == {
        "extras/b.png": "not_used",
        "superpixels/a.png": "not_used",
        "overview.png": "not_used",
        "images/c.heic": "not_an_image",
        "d.AVIF": "not_an_image",
        "e.dng": "not_an_image",
        "labels/a.xml": "not_an_image",
        "labels.xlsx": "table_not_read",
        "metadata.parquet": "table_not_read",
    }
    assert [note for note in listing.notes if "not used" in note] == ["1 other files are not used (.md 1): README.md"]


def test_files_of_a_published_layout_that_are_not_used_are_named(tmp_path: Path) -> None:
    draw(tmp_path, "ISIC-2017_Training_Data/ISIC_0000000.jpg", "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png")
    (tmp_path / "labels.xlsx").write_bytes(b"x")
    listing = list_source(tmp_path)
    assert rejected(listing) == {"labels.xlsx": "table_not_read"}
    assert any("ISIC_0000000_superpixels.png" in note for note in listing.notes)


def test_table_beside_class_folders_is_read_and_others_are_named(tmp_path: Path) -> None:
    draw(tmp_path, "nevus/a.png", "melanoma/b.png")
    write_csv(tmp_path / "people.csv", [{"image_id": "a", "age": 50, "hair": "red"}, {"image_id": "b", "age": 60}])
    write_csv(tmp_path / "results.csv", [{"epoch": 1, "loss": 2}])
    listing = list_source(tmp_path)
    assert fields(listing) == {
        "a": {"diagnosis": "nevus", "age_approx": 50},
        "b": {"diagnosis": "melanoma", "age_approx": 60},
    }
    assert "people.csv: columns not used, as no field has these names: hair" in listing.notes
    assert any("results.csv" in note for note in listing.notes)


def test_classes_that_no_vocabulary_knows_are_said(tmp_path: Path) -> None:
    draw(tmp_path, "my_class/a.png", "nevus/b.png", "train_test_split/nevus/c.png", "unknown/d.png")
    listing = list_source(tmp_path)
    assert fields(listing)["a"] == {"diagnosis": "my class"}
    assert fields(listing)["d"] == {}
    assert "diagnoses that folders name, and the vocabulary does not know: my class" in listing.notes
    assert any("train_test_split" in note for note in listing.notes)


# -- HAM10000 as it is found


def test_ham10000_with_its_parts_twice_or_in_one_folder(tmp_path: Path) -> None:
    draw(tmp_path, *(f"HAM10000_images_part_1/ISIC_002430{number}.jpg" for number in range(3)))
    rows = [{"lesion_id": f"HAM_{n}", "image_id": f"ISIC_002430{n}", "dx": "nv"} for n in range(3)]
    write_csv(tmp_path / "HAM10000_metadata.csv", rows)
    shutil.copytree(tmp_path / "HAM10000_images_part_1", tmp_path / "copy" / "ham10000_images_part_1")
    listing = list_source(tmp_path)
    assert (len(listing.candidates), listing.rejections) == (3, [])
    assert any(note.startswith("3 files are byte for byte another of the same id") for note in listing.notes)
    save(pixels("another"), tmp_path / "copy" / "ham10000_images_part_1" / "ISIC_0024300.jpg")
    assert {r.reason for r in list_source(tmp_path).rejections} == {"duplicate_id"}
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "HAM10000_images_part_1").rename(tmp_path / "all_images")
    draw(tmp_path, "masks/ISIC_0024300.png")
    listing = list_source(tmp_path)
    assert listing.layout == "ham10000"
    assert [candidate.fields["lesion_id"] for candidate in listing.candidates] == ["HAM_0", "HAM_1", "HAM_2"]
    assert masks(listing)["all_images/ISIC_0024300.jpg"] == "masks/ISIC_0024300.png"


# -- single names


def test_words_in_names_of_folders() -> None:
    for name in ("trainMasks", "train_masks", "masks-train", "trainmasks", "TRAIN GT"):
        assert (folder_name(name).splits, folder_name(name).kind) == ({"train"}, "mask")
    assert folder_name("Poison Ivy Photos and other Contact Dermatitis").kind is None
    assert folder_name("images and masks").kind is None
    assert (folder_name("masks_512").annotator, folder_name("masks_2").annotator) == (None, "2")
    assert place("masks/images/a.png").kind == "mask"
    assert place("annotations/images/a.png").kind == "image"
    assert [way.core for way in mask_names("a_mask_2")][:2] == ["a_mask_2", "a"]


@pytest.mark.parametrize("name", [".DS_Store", "._a.jpg", "Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"])
def test_hidden_files_are_those_of_one_rule(name: str) -> None:
    assert is_hidden(name)
    assert not is_hidden("a.jpg")


def test_photograph_in_the_root_beside_a_folder_of_no_known_name(tmp_path: Path) -> None:
    listing = list_source(draw(tmp_path, "a.png", "more/b.png"))
    assert listing.candidates == [Candidate("a", "a.png")]
    assert rejected(listing) == {"more/b.png": "not_used"}
