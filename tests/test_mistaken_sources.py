"""Sources whose names and tables could be mistaken: read right or refused, never falsified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from picture_files import disc, pixels, read_csv, save
from skindualgen.contracts import InputError
from skindualgen.data.masks import looks_like_mask
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.sources import Listing, Options, list_source


def photographs(root: Path, *files: str) -> Path:
    for file in files:
        save(pixels(file), root / file)
    return root


def masks(root: Path, *files: str) -> Path:
    for number, file in enumerate(files):
        save(disc(radius=0.2 + number / 100), root / file)
    return root


def rejected(listing: Listing) -> dict[str, str]:
    return {rejection.file: rejection.reason for rejection in listing.rejections}


def with_table(root: Path, text: str, *files: str, name: str = "table.csv") -> Listing:
    photographs(root, *files)
    (root / name).write_bytes(text.encode())
    return list_source(root)


def test_mask_of_a_missing_photograph_is_not_given_to_one_of_another_split_or_class(tmp_path: Path) -> None:
    """Guards against the mask of train/3 on test/3, whose own is withheld."""
    photographs(tmp_path / "a", "train/images/1.png", "test/images/3.png")
    masks(tmp_path / "a", "train/masks/1.png", "train/masks/3.png")
    listing = list_source(tmp_path / "a")
    assert [candidate.mask for candidate in listing.candidates] == ["train/masks/1.png", None]
    assert rejected(listing) == {"train/masks/3.png": "mask_without_image"}
    photographs(tmp_path / "b", "benign/images/1.png", "malignant/images/2.png")
    masks(tmp_path / "b", "benign/masks/1.png", "benign/masks/2.png")
    assert [candidate.mask for candidate in list_source(tmp_path / "b").candidates] == ["benign/masks/1.png", None]


def test_mask_of_the_archives_id_finds_its_photograph_in_another_split(tmp_path: Path) -> None:
    photographs(tmp_path, "train/ISIC_0000001.png", "val/ISIC_0000002.png")
    masks(tmp_path, "training_masks/ISIC_0000001.png", "training_masks/ISIC_0000002.png")
    assert all(candidate.mask for candidate in list_source(tmp_path).candidates)


def test_row_of_another_folders_photograph_is_not_joined(tmp_path: Path) -> None:
    table = "image,dx\nmalignant/001.png,mel\nbenign/002.png,nv\n"
    listing = with_table(tmp_path, table, "images/benign/001.png", "images/benign/002.png")
    assert [candidate.diagnosis for candidate in listing.candidates] == [None, "nevus"]
    assert rejected(listing) == {"table.csv:2": "row_without_image"}


@pytest.mark.parametrize("behind", ["", "_mascara"])
def test_folders_of_photographs_and_masks_in_another_language_are_refused(tmp_path: Path, behind: str) -> None:
    """Also where a mask is missing, so that the names are not the same."""
    photographs(tmp_path, *(f"imagenes/a{number}.png" for number in range(4)))
    masks(tmp_path, *(f"mascaras/a{number}{behind}.png" for number in range(3)))
    with pytest.raises(InputError, match="mascaras"):
        prepare(tmp_path, tmp_path.parent / "out", PrepareOptions(size=16))


def test_mask_among_photographs_is_rejected_by_what_it_shows(tmp_path: Path) -> None:
    photographs(tmp_path / "in", "1_i.png", "2_i.png")
    masks(tmp_path / "in", "1_k.png", "2_k.png")
    prepare(tmp_path / "in", tmp_path / "out", PrepareOptions(size=16))
    found = read_csv(tmp_path / "out" / "rejected.csv")
    assert [(row["file"], row["reason"]) for row in found] == [
        ("1_k.png", "photograph_is_mask"),
        ("2_k.png", "photograph_is_mask"),
    ]


def test_masks_are_told_from_photographs_by_their_colours(tmp_path: Path) -> None:
    from PIL import Image

    mask = Image.fromarray(disc())
    mask.save(tmp_path / "mask.jpg", quality=90)
    with Image.open(tmp_path / "mask.jpg") as lossy:
        assert looks_like_mask(lossy.convert("RGB"))
    assert looks_like_mask(mask.convert("RGB"))
    assert looks_like_mask(Image.fromarray(disc() // 255).convert("RGB")) == "levels from 0 to 1 alone"
    with_corners = pixels("skin")
    with_corners[:12] = 0
    for photograph in (pixels("skin"), with_corners, np.zeros((8, 8, 3), np.uint8)):
        assert looks_like_mask(Image.fromarray(photograph)) is None


def test_names_of_waterloos_skin_data(tmp_path: Path) -> None:
    photographs(tmp_path, "melanoma/dermis/1_orig.png", "melanoma/dermis/2_orig.png")
    masks(tmp_path, "melanoma/dermis/1_contour.png", "melanoma/dermis/2_contour.png")
    assert [(item.isic_id, item.mask) for item in list_source(tmp_path).candidates] == [
        ("1_orig", "melanoma/dermis/1_contour.png"),
        ("2_orig", "melanoma/dermis/2_contour.png"),
    ]


@pytest.mark.parametrize("name", ["notmelanoma", "NonNevus", "nomel", "NMSC", "unsuspicious"])
def test_class_folders_that_deny_are_no_diagnoses(tmp_path: Path, name: str) -> None:
    photographs(tmp_path, "melanoma/1.png", f"{name}/2.png")
    with pytest.raises(InputError, match=f"'{name}'.*no diagnosis"):
        list_source(tmp_path)


def test_coordinates_with_a_label_are_no_caption(tmp_path: Path) -> None:
    photographs(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("melanoma 0.5 0.5 0.1 0.1")
    (tmp_path / "b.txt").write_text("10,20 30,40 50,60 nevus")
    (tmp_path / "c.txt").write_text("a nevus of 12 mm in a 55 year old man")
    listing = list_source(tmp_path)
    assert rejected(listing) == {"a.txt": "no_caption", "b.txt": "no_caption"}
    assert [candidate.fields.get("prompt") for candidate in listing.candidates][:2] == [None, None]


def test_number_of_a_column_named_text_is_no_prompt(tmp_path: Path) -> None:
    (candidate,) = with_table(tmp_path, "image,text\na,55\n", "a.png").candidates
    assert "prompt" not in candidate.fields
    assert [change.code for change in candidate.adjustments] == ["prompt_dropped"]


def test_ids_that_are_row_numbers_are_refused_where_a_column_names_the_files(tmp_path: Path) -> None:
    """Guards against labels that are exchanged: row 1 is of 2.png."""
    table = "id,image_path,dx\n1,x/2.png,nv\n2,x/1.png,mel\n"
    with pytest.raises(InputError, match="--column isic_id=image_path"):
        with_table(tmp_path, table, "1.png", "2.png")
    listing = list_source(tmp_path, options=Options(columns={"isic_id": "image_path"}))
    assert [candidate.diagnosis for candidate in listing.candidates] == ["melanoma", "nevus"]


def test_two_files_of_one_id_of_a_challenge_are_told(tmp_path: Path) -> None:
    parts = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task3_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
    photographs(tmp_path, *(f"{part}/ISIC_0000001.png" for part in parts[:2]))
    masks(tmp_path, f"{parts[2]}/ISIC_0000001_segmentation.png", f"copy/{parts[2]}/ISIC_0000001_segmentation.png")
    listing = list_source(tmp_path)
    assert [candidate.mask for candidate in listing.candidates] == [None]
    assert sorted(rejected(listing).values()) == ["duplicate_id"] * 2  # the masks
    assert any("Task3_Training_Input/ISIC_0000001.png" in note for note in listing.notes)
    save(disc(radius=0.2), tmp_path / "copy" / parts[2] / "ISIC_0000001_segmentation.png")
    assert list_source(tmp_path).candidates[0].mask is not None


def test_missing_values_of_2017_are_no_nevus(tmp_path: Path) -> None:
    photographs(tmp_path, "ISIC-2017_Training_Data/ISIC_0000001.jpg", "ISIC-2017_Training_Data/ISIC_0000002.jpg")
    (tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(
        "image_id,melanoma,seborrheic_keratosis\nISIC_0000001,nan,nan\nISIC_0000002,0.0,0.0\n"
    )
    listing = list_source(tmp_path)
    assert [(item.isic_id, item.diagnosis) for item in listing.candidates] == [("ISIC_0000002", "nevus")]


def test_columns_of_ph2_are_found_by_their_names(tmp_path: Path) -> None:
    """Guards against asymmetry, which is 0, 1 or 2 as well, taken for the diagnosis."""
    photographs(tmp_path, "IMD003/IMD003_Dermoscopic_Image/IMD003.bmp")
    table = tmp_path / "PH2_dataset.txt"
    table.write_text("|| Name || Clinical Diagnosis || Asymmetry ||\n|| IMD003 || 0 || 2 ||\n")
    assert list_source(tmp_path).candidates[0].diagnosis == "nevus"
    table.write_text("|| IMD003 || || 0 || 2 ||\n")
    with pytest.raises(InputError, match="clinical diagnosis"):
        list_source(tmp_path)


@pytest.mark.parametrize(
    ("sexes", "expected"),
    [("HM", [None, None]), ("VM", [None, None]), ("WM", ["female", "male"]), ("FM", ["female", "male"])],
)
def test_m_is_male_only_where_the_other_letters_are_english_or_german(
    tmp_path: Path, sexes: str, expected: list[str | None]
) -> None:
    """Guards against women (mujer, mulher) read as men."""
    listing = with_table(tmp_path, f"image,sex\na,{sexes[0]}\nb,{sexes[1]}\n", "a.png", "b.png")
    assert [candidate.fields.get("sex") for candidate in listing.candidates] == expected
    assert any("sex is not read" in note for note in listing.notes) == (expected == [None, None])


def test_one_diagnosis_in_several_spellings_is_one_class_and_a_doubt_is_none(tmp_path: Path) -> None:
    table = 'image,dx\na,Basal-cell carcinoma\nb,"Nevus, NOS"\nc,melanoma?\nd,"keratosis, seborrheic"\n'
    listing = with_table(tmp_path, table, "a.png", "b.png", "c.png", "d.png")
    assert [candidate.diagnosis for candidate in listing.candidates] == [
        "basal cell carcinoma",
        "nevus",
        "seborrheic keratosis",
    ]
    assert rejected(listing) == {"c.png": "unknown_label"}


def test_errors_of_a_spreadsheet_are_no_values(tmp_path: Path) -> None:
    (candidate,) = with_table(tmp_path, "image,dx,lesion_id,sex\na,#VALUE!,#REF!,weiblich\n", "a.png").candidates
    assert dict(candidate.fields) == {"sex": "female"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32"])
def test_table_with_zero_bytes_is_refused(tmp_path: Path, encoding: str) -> None:
    photographs(tmp_path, "a.png")
    (tmp_path / "table.csv").write_bytes("image,dx\na,nv\n".encode(encoding))
    with pytest.raises(InputError, match="zero bytes"):
        list_source(tmp_path)


def test_name_twice_in_a_json_line_is_a_bad_row(tmp_path: Path) -> None:
    line = '{"file_name": "a.png", "diagnosis": "nv", "diagnosis": "mel"}\n{"file_name": "b.png", "diagnosis": "nv"}\n'
    listing = with_table(tmp_path, line, "a.png", "b.png", name="metadata.jsonl")
    assert [candidate.isic_id for candidate in listing.candidates] == ["b"]
    assert rejected(listing)["metadata.jsonl:1"] == "bad_row"
