"""Published layouts, recognised and listed: folders with the published names, tables with the published columns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from picture_files import disc, good_folder, pixels, save, write_csv
from skindualgen.contracts import InputError
from skindualgen.data.archive_terms import archive_diagnosis
from skindualgen.data.sources import Candidate, Listing, Options, Tree, detect, list_source
from skindualgen.data.sources.tables import read_table
from skindualgen.data.sources.values import clinical_fields


def image(root: Path, file: str) -> Path:
    return save(pixels(file), root / file)


def mask(root: Path, file: str) -> Path:
    return save(disc(), root / file)


def by_id(listing: Listing) -> dict[str, Candidate]:
    return {candidate.isic_id: candidate for candidate in listing.candidates}


def reasons(listing: Listing) -> set[tuple[str, str]]:
    return {(rejection.isic_id, rejection.reason) for rejection in listing.rejections}


@pytest.fixture
def isic2016(tmp_path: Path) -> Path:
    for part, split in (("Training", "0000000"), ("Test", "0000003")):
        image(tmp_path, f"ISBI2016_ISIC_Part1_{part}_Data/ISIC_{split}.jpg")
        mask(tmp_path, f"ISBI2016_ISIC_Part1_{part}_GroundTruth/ISIC_{split}_Segmentation.png")
        image(tmp_path, f"ISBI2016_ISIC_Part3_{part}_Data/ISIC_{split}.jpg")
    image(tmp_path, "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000001.jpg")
    # The tables have no header line; the training table has words, the test table numbers.
    (tmp_path / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv").write_text(
        "ISIC_0000000,malignant\nISIC_0000001,benign\n"
    )
    (tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text("ISIC_0000003,1.0\n")
    return tmp_path


def test_isic2016(isic2016: Path) -> None:
    listing = list_source(isic2016)
    found = by_id(listing)
    assert listing.layout == "isic2016"
    assert found["ISIC_0000000"].mask == "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png"
    assert found["ISIC_0000000"].image.startswith("ISBI2016_ISIC_Part1_")
    assert found["ISIC_0000000"].fields["diagnosis"] == "melanoma"
    # Benign says what it is not: the diagnosis stays unknown.
    assert "diagnosis" not in found["ISIC_0000001"].fields
    assert found["ISIC_0000001"].fields["benign_malignant"] == "benign"
    assert found["ISIC_0000003"].fields["benign_malignant"] == "malignant"
    assert {isic_id: c.split for isic_id, c in found.items()} == {
        "ISIC_0000000": "train",
        "ISIC_0000001": "train",
        "ISIC_0000003": "test",
    }
    assert listing.rejections == []


@pytest.fixture
def isic2017(tmp_path: Path) -> Path:
    for part, numbers in (("Training", "012"), ("Validation", "3"), ("Test_v2", "4")):
        for number in numbers:
            image(tmp_path, f"ISIC-2017_{part}_Data/ISIC_000000{number}.jpg")
            image(tmp_path, f"ISIC-2017_{part}_Data/ISIC_000000{number}_superpixels.png")
            mask(tmp_path, f"ISIC-2017_{part}_Part1_GroundTruth/ISIC_000000{number}_segmentation.png")
        rows = [
            {
                "image_id": f"ISIC_000000{number}",
                "melanoma": float(number == "0"),
                "seborrheic_keratosis": float(number == "1"),
            }
            for number in numbers
        ]
        write_csv(tmp_path / f"ISIC-2017_{part}_Part3_GroundTruth.csv", rows)
        patients = [{"image_id": row["image_id"], "age_approximate": "unknown", "sex": "female"} for row in rows]
        patients[0]["age_approximate"] = "55"
        write_csv(tmp_path / f"ISIC-2017_{part}_Data" / f"ISIC-2017_{part}_Data_metadata.csv", patients)
    return tmp_path


def test_isic2017(isic2017: Path) -> None:
    listing = list_source(isic2017)
    found = by_id(listing)
    assert listing.layout == "isic2017"
    assert sorted(found) == [f"ISIC_000000{number}" for number in range(5)]
    diagnoses = [candidate.fields["diagnosis"] for candidate in listing.candidates]
    assert diagnoses == ["melanoma", "seborrheic keratosis", "nevus", "nevus", "nevus"]
    assert [candidate.split for candidate in listing.candidates] == ["train", "train", "train", "val", "test"]
    assert found["ISIC_0000000"].fields == {
        "source": "isic2017",
        "diagnosis": "melanoma",
        "benign_malignant": "malignant",
        "age_approx": 55,
        "sex": "female",
    }
    assert "age_approx" not in found["ISIC_0000001"].fields
    assert all(candidate.mask for candidate in listing.candidates)


def test_isic2017_row_with_two_diagnoses_is_rejected(isic2017: Path) -> None:
    table = isic2017 / "ISIC-2017_Validation_Part3_GroundTruth.csv"
    table.write_text("image_id,melanoma,seborrheic_keratosis\nISIC_0000003,1.0,1.0\n")
    assert reasons(list_source(isic2017)) == {("ISIC_0000003", "unknown_label")}


def test_challenge_row_with_a_value_too_few_is_rejected(isic2017: Path) -> None:
    table = isic2017 / "ISIC-2017_Validation_Part3_GroundTruth.csv"
    table.write_text("image_id,melanoma,seborrheic_keratosis\nISIC_0000003,1.0\n")
    (rejection,) = list_source(isic2017).rejections
    assert (rejection.file, rejection.reason) == (f"{table.name}:2", "bad_row")


def test_isic2018(tmp_path: Path) -> None:
    image(tmp_path, "ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg")
    mask(tmp_path, "ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png")
    mask(tmp_path, "ISIC2018_Task1_Training_GroundTruth/ISIC_0000009_segmentation.png")
    # Published as task 1 training and as task 3 test: the held-out role wins.
    image(tmp_path, "ISIC2018_Task3_Test_Input/ISIC_0000000.jpg")
    for number in (1, 2):
        image(tmp_path, f"ISIC2018_Task3_Training_Input/ISIC_002430{number}.jpg")
    columns = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    rows = [
        {"image": f"ISIC_002430{n}", **{column: float(column == name) for column in columns}}
        for n, name in ((1, "BKL"), (2, "AKIEC"))
    ]
    folder = tmp_path / "ISIC2018_Task3_Training_GroundTruth"
    write_csv(folder / "ISIC2018_Task3_Training_GroundTruth.csv", rows)
    lesions = [
        {"image": f"ISIC_002430{n}", "lesion_id": "HAM_1", "diagnosis_confirm_type": "histopathology"} for n in (1, 2)
    ]
    write_csv(tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv", lesions)
    listing = list_source(tmp_path)
    found = by_id(listing)
    assert listing.layout == "isic2018"
    assert found["ISIC_0000000"].split == "test"
    assert found["ISIC_0000000"].adjustments[0].code == "in_two_splits"
    assert found["ISIC_0024301"].fields["diagnosis"] == "benign keratosis"
    assert "benign_malignant" not in found["ISIC_0024302"].fields  # AKIEC holds both
    assert found["ISIC_0024301"].fields["lesion_id"] == found["ISIC_0024302"].fields["lesion_id"] == "HAM_1"
    assert "histopathology" not in json.dumps([dict(c.fields) for c in listing.candidates])
    assert reasons(listing) == {("ISIC_0000009", "mask_without_image")}


def test_ham10000(tmp_path: Path) -> None:
    rows = []
    for number, (code, part) in enumerate((("nv", 1), ("mel", 1), ("bkl", 2), ("akiec", 2), ("zz", 2))):
        image(tmp_path, f"HAM10000_images_part_{part}/ISIC_002430{number}.jpg")
        folder = "HAM10000_segmentations_lesion_tschandl"
        mask(tmp_path, f"{folder}/ISIC_002430{number}_segmentation.png")
        rows.append(
            {
                "lesion_id": f"HAM_000{number // 2}",
                "image_id": f"ISIC_002430{number}",
                "dx": code,
                "dx_type": "histo",
                "age": "80.0" if number else "",
                "sex": "unknown" if number else "male",
                "localization": "back",
                "dataset": "vidir_modern",
            }
        )
    rows.append({**rows[0], "image_id": "ISIC_0099999"})
    write_csv(tmp_path / "HAM10000_metadata", rows, delimiter="\t")
    listing = list_source(tmp_path)
    found = by_id(listing)
    assert listing.layout == "ham10000"
    expected = ["nevus", "melanoma", "benign keratosis", "actinic keratosis"]
    assert [candidate.fields["diagnosis"] for candidate in listing.candidates] == expected
    assert found["ISIC_0024300"].fields == {
        "source": "HAM10000",
        "diagnosis": "nevus",
        "benign_malignant": "benign",
        "lesion_id": "HAM_0000",
        "sex": "male",
        "anatom_site_general": "back",
    }
    assert found["ISIC_0024301"].fields["age_approx"] == 80
    assert found["ISIC_0024303"].mask == "HAM10000_segmentations_lesion_tschandl/ISIC_0024303_segmentation.png"
    assert reasons(listing) == {("ISIC_0024304", "unknown_label"), ("ISIC_0099999", "row_without_image")}


def test_ham10000_with_its_test_images(tmp_path: Path) -> None:
    image(tmp_path, "HAM10000_images_part_1/ISIC_0024300.jpg")
    image(tmp_path, "ISIC2018_Task3_Test_Images/ISIC_0034524.jpg")
    found = by_id(list_source(tmp_path))
    assert (found["ISIC_0024300"].split, found["ISIC_0034524"].split) == (None, "test")


def test_ph2(tmp_path: Path) -> None:
    for name in ("IMD003", "IMD010", "IMD404"):
        case = tmp_path / "PH2Dataset" / "PH2 Dataset images" / name
        image(case, f"{name}_Dermoscopic_Image/{name}.bmp")
        mask(case, f"{name}_lesion/{name}_lesion.bmp")
        mask(case, f"{name}_roi/{name}_R1_Label3.bmp")
    lines = [
        "|| Name    || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network || Colors ||",
        "|| IMD003  ||                        ||                 0  ||     0     |        T        || 4      ||",
        "|| IMD010  ||                        ||                 1  ||     0     |        T        || 3  4   ||",
        "|| IMD404  || Melanoma, in situ      ||                 2  ||     2     |        AT       || 3  4   ||",
        "Legends: Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma",
    ]
    (tmp_path / "PH2Dataset" / "PH2_dataset.txt").write_text("\n".join(lines))
    listing = list_source(tmp_path)
    assert listing.layout == "ph2"
    assert [(c.isic_id, c.fields["diagnosis"]) for c in listing.candidates] == [
        ("IMD003", "nevus"),
        ("IMD010", "atypical nevus"),
        ("IMD404", "melanoma"),
    ]
    assert all(candidate.mask and candidate.mask.endswith("_lesion.bmp") for candidate in listing.candidates)


@pytest.mark.parametrize("schema", ["old", "new"])
def test_isic_archive(tmp_path: Path, schema: str) -> None:
    image(tmp_path, "ISIC_0000001.jpg")
    row = {
        "isic_id": "ISIC_0000001",
        "attribution": "Anonymous",
        "copyright_license": "CC-0",
        "age_approx": "85+",
        "anatom_site_general": "head/neck",
        "sex": "female",
        "lesion_id": "IL_1",
        "patient_id": "IP_1",
        "diagnosis_confirm_type": "histopathology",
    }
    if schema == "old":
        row |= {"diagnosis": "melanoma", "benign_malignant": "malignant"}
    else:
        detail = "Malignant melanocytic proliferations (Melanoma)"
        row |= {"diagnosis_1": "Malignant", "diagnosis_2": detail, "diagnosis_3": "Melanoma Invasive"}
    write_csv(tmp_path / "metadata.csv", [row])
    listing = list_source(tmp_path)
    assert listing.layout == "isic-archive"
    fields = listing.candidates[0].fields
    assert fields["diagnosis"] == "melanoma"
    assert fields["benign_malignant"] == "malignant"
    assert (fields["patient_id"], fields["lesion_id"], fields["license"]) == ("IP_1", "IL_1", "CC-0")
    assert fields["age_approx"] == 85
    assert fields.get("diagnosis_detail") == ("Melanoma Invasive" if schema == "new" else None)
    assert "histopathology" not in fields.values()


def test_column_of_an_isic_archive_download_can_be_chosen(tmp_path: Path) -> None:
    image(tmp_path, "ISIC_0000001.jpg")
    row = {"isic_id": "ISIC_0000001", "attribution": "A", "diagnosis_3": "Melanoma in situ", "mine": "nv"}
    write_csv(tmp_path / "metadata.csv", [row])
    assert list_source(tmp_path).candidates[0].fields["diagnosis"] == "melanoma"
    chosen = list_source(tmp_path, options=Options({"diagnosis": "mine"})).candidates[0]
    assert chosen.fields["diagnosis"] == "nevus"


def test_archive_download_in_a_folder_named_images_is_still_one(tmp_path: Path) -> None:
    image(tmp_path, "images/ISIC_0000001.jpg")
    write_csv(tmp_path / "images" / "metadata.csv", [{"isic_id": "ISIC_0000001", "attribution": "A"}])
    assert list_source(tmp_path).layout == "isic-archive"


@pytest.mark.parametrize(
    ("finest", "expected"),
    [
        ("Melanoma in situ", "melanoma"),
        ("Melanoma metastasis", "melanoma metastasis"),
        ("Nevus, Atypical, Dysplastic, or Clark", "nevus"),
        ("Squamous cell carcinoma, NOS", "squamous cell carcinoma"),
        ("Solar or actinic keratosis", "actinic keratosis"),
        ("Dermatofibroma", "dermatofibroma"),
    ],
)
def test_archive_terms(finest: str, expected: str) -> None:
    assert archive_diagnosis({"diagnosis_1": "x", "diagnosis_2": "y", "diagnosis_3": finest}) == (expected, finest)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_imagefolder_with_metadata(tmp_path: Path, kind: str) -> None:
    rows = []
    for name in "ab":
        image(tmp_path, f"train/pictures/{name}.png")
        mask(tmp_path, f"train/outlines/{name}.png")
        paths = {"file_name": f"pictures/{name}.png", "mask_file_name": f"outlines/{name}.png"}
        rows.append({**paths, "label": "bcc", "text": f"caption {name}", "patient_id": "7"})
    rows.append({**rows[0], "file_name": "pictures/none.png"})
    if kind == "csv":
        write_csv(tmp_path / "train" / "metadata.csv", rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "train" / "metadata.jsonl").write_text(text + "not json\n")
    listing = list_source(tmp_path)
    assert listing.layout == "imagefolder"
    assert [(c.isic_id, c.image, c.mask, c.split) for c in listing.candidates] == [
        (name, f"train/pictures/{name}.png", f"train/outlines/{name}.png", "train") for name in "ab"
    ]
    assert listing.candidates[1].fields == {
        "diagnosis": "basal cell carcinoma",
        "prompt": "caption b",
        "patient_id": "7",
    }
    assert {rejection.reason for rejection in listing.rejections} == {"no_file"} | (
        {"bad_row"} if kind == "jsonl" else set()
    )


def test_file_names_of_a_folder_of_photographs_need_no_path(tmp_path: Path) -> None:
    root = good_folder(tmp_path, 2)
    write_csv(root / "metadata.csv", [{"file_name": f"p0{i}.png", "diagnosis": "nevus"} for i in range(2)])
    listing = list_source(root)
    assert (listing.layout, listing.rejections) == ("folder", [])
    assert [(c.mask, c.fields["diagnosis"]) for c in listing.candidates] == [
        (f"masks/p0{i}.png", "nevus") for i in range(2)
    ]


def test_imagefolder_without_a_mask_column_finds_masks_by_name_and_rejects_what_no_row_names(tmp_path: Path) -> None:
    root = good_folder(tmp_path, 2)
    write_csv(root / "metadata.csv", [{"file_name": "images/p00.png"}])
    for file in ("masks/other.png", "contact_sheet.png"):
        mask(root, file)
    listing = list_source(root)
    assert (listing.layout, [c.mask for c in listing.candidates]) == ("imagefolder", ["masks/p00.png"])
    assert reasons(listing) == {
        ("p01", "image_without_row"),
        ("p01", "mask_without_image"),
        ("other", "mask_without_image"),
    }


def test_overview_that_generate_writes_is_no_picture() -> None:
    from skindualgen.data.sources.folders import NOT_PICTURES
    from skindualgen.production.finish import SHEET_FILE

    assert re.fullmatch(NOT_PICTURES, SHEET_FILE)


def test_folders_of_images_and_masks_are_no_classes(tmp_path: Path) -> None:
    image(tmp_path, "data/images/a.png")
    mask(tmp_path, "data/masks/a.png")
    listing = list_source(tmp_path)
    assert (listing.layout, [(c.image, c.mask, c.fields) for c in listing.candidates]) == (
        "folder",
        [("data/images/a.png", "data/masks/a.png", {})],
    )
    with pytest.raises(InputError, match="folders named images, masks"):
        list_source(tmp_path, layout="imagefolder")


def test_folder_with_a_folder_for_each_split(tmp_path: Path) -> None:
    for file in ("train/a.png", "val/b.png", "c.png"):
        image(tmp_path, f"images/{file}")
        mask(tmp_path, f"masks/{file}")
    listing = list_source(tmp_path)
    assert [(c.isic_id, c.split) for c in listing.candidates] == [("a", "train"), ("b", "val"), ("c", None)]
    assert all(candidate.mask for candidate in listing.candidates)


def test_folder_with_metadata_in_json_lines(tmp_path: Path) -> None:
    (good_folder(tmp_path, 1) / "metadata.csv").unlink()
    # A line separator inside a string is no end of a line.
    (tmp_path / "metadata.jsonl").write_text('{"image_id": "p00", "prompt": "a\u2028b", "diagnosis": "bcc"}\n')
    candidate = list_source(tmp_path).candidates[0]
    assert candidate.fields == {"prompt": "a b", "diagnosis": "basal cell carcinoma"}


def test_imagefolder_of_classes_with_splits_and_repeated_names(tmp_path: Path) -> None:
    for file in ("train/nevus/1.png", "train/melanoma/1.png", "test/my_own_class/1.png"):
        image(tmp_path, file)
    listing = list_source(tmp_path)
    assert listing.layout == "imagefolder"
    assert [(c.isic_id, c.fields["diagnosis"], c.split) for c in listing.candidates] == [
        ("test_my_own_class_1", "my own class", "test"),
        ("train_melanoma_1", "melanoma", "train"),
        ("train_nevus_1", "nevus", "train"),
    ]
    assert "file names repeat" in listing.notes[0]


def test_folder_without_masks_or_table_and_with_pictures_in_the_root(tmp_path: Path) -> None:
    image(tmp_path, "a.png")
    listing = list_source(tmp_path)
    assert (listing.layout, listing.candidates) == ("folder", [Candidate("a", "a.png")])
    assert "no table" in listing.notes[0]


@pytest.mark.parametrize("ending", ["", "_mask", "_segmentation", "_Segmentation", "-seg", "_lesion"])
def test_folder_masks_by_the_usual_endings(tmp_path: Path, ending: str) -> None:
    image(tmp_path, "images/x_1.jpg")
    mask(tmp_path, f"masks/x_1{ending}.png")
    assert list_source(tmp_path).candidates[0].mask == f"masks/x_1{ending}.png"


def test_folder_columns_and_labels_by_option(tmp_path: Path) -> None:
    image(tmp_path, "images/a.png")
    write_csv(tmp_path / "images.csv", [{"picture": "a.png", "dg": "MM", "Group": "g1"}])
    options = Options({"isic_id": "picture", "diagnosis": "dg", "split_group": "Group"}, {"MM": "melanoma"})
    candidate = list_source(tmp_path, options=options).candidates[0]
    assert candidate.fields == {"diagnosis": "melanoma"}
    assert candidate.links == (("split_group", "g1"),)


@pytest.mark.parametrize("columns", [{"diagnosis": "nothing"}, {"no_field": "image_id"}])
def test_folder_with_an_impossible_column_option(tmp_path: Path, columns: dict[str, str]) -> None:
    good_folder(tmp_path, 1)
    with pytest.raises(InputError, match="--column"):
        list_source(tmp_path, options=Options(columns))


def test_options_that_nothing_would_read_are_refused(tmp_path: Path, isic2017: Path) -> None:
    for options in (Options({"diagnosis": "dx"}), Options(labels={"a": "nevus"})):
        with pytest.raises(InputError, match="published columns"):
            list_source(isic2017, options=options)
    image(tmp_path / "plain", "a.png")
    with pytest.raises(InputError, match="--column diagnosis, but no table"):
        list_source(tmp_path / "plain", options=Options({"diagnosis": "dx"}))


def test_real_folder_is_read_as_it_is(real_data: Path) -> None:
    listing = list_source(real_data)
    assert listing.layout == "folder"
    assert listing.rejections == []
    assert len(listing.candidates) == 1559
    first = by_id(listing)["ISIC_0000000"]
    assert first.mask == "masks/ISIC_0000000.png"
    assert first.split == "train"
    assert first.links == (("split_group", "ISIC_0000000"),)
    assert first.fields["age_approx"] == 55
    assert first.fields["anatom_site_general"] == "anterior torso"
    assert {c.fields["diagnosis"] for c in listing.candidates} == {"melanoma", "nevus", "seborrheic keratosis"}


def test_two_layouts_in_one_folder_are_named(isic2016: Path) -> None:
    image(isic2016, "HAM10000_images_part_1/ISIC_0024300.jpg")
    with pytest.raises(InputError, match=r"isic2016 .*ham10000"):
        list_source(isic2016)
    assert list_source(isic2016, layout="ham10000").layout == "ham10000"


def test_no_layout_lists_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    (tmp_path / "b.pdf").write_text("x")
    with pytest.raises(InputError, match=r"seen: b\.pdf, notes/ \(1\)"):
        detect(Tree(tmp_path))


def test_unknown_layout_and_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="isic2016, isic2017"):
        list_source(tmp_path, layout="isic2099")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no folder"):
        list_source(tmp_path / "none")


@pytest.mark.parametrize(
    ("age", "expected"),
    [("55", 55), ("55.0", 55), ("85+", 85), ("0", 0), ("unknown", None), ("", None), ("121", None), ("old", None)],
)
def test_ages(age: str, expected: int | None) -> None:
    fields, adjustments = clinical_fields({"age_approx": age})
    assert fields.get("age_approx") == expected
    assert [adjustment.code for adjustment in adjustments] == (["age_approx_dropped"] if age in ("121", "old") else [])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_table_with_any_delimiter_and_quoted_values(tmp_path: Path, delimiter: str) -> None:
    path = write_csv(tmp_path / "t.csv", [{"a": f"x{delimiter} y", "b": "1"}, {"a": "z", "b": ""}], delimiter=delimiter)
    table = read_table(path)
    assert table.columns == ("a", "b")
    assert [dict(row.values) for row in table.rows] == [{"a": f"x{delimiter} y", "b": "1"}, {"a": "z", "b": ""}]


@pytest.mark.parametrize("layout", ["isic2016", "isic2017"])
def test_hidden_and_system_files_are_left_out(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(layout)
    image(root, "__MACOSX/ISIC-2017_Training_Data/ISIC_0000000.jpg")
    image(root, ".cache/ISBI2016_ISIC_Part1_Test_Data/ISIC_0000009.jpg")
    listing = list_source(root)
    assert listing.layout == layout
    assert not any("MACOSX" in c.image or ".cache" in c.image for c in listing.candidates)
