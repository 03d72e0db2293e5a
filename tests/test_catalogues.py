"""Published data sets of tables and photographs, diagnoses in levels, and tables as people's programs write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from picture_files import pixels, save, write_csv
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.archive_terms import diagnosis_levels, known_diagnosis, site_of_levels
from skindualgen.data.sources import Candidate, Listing, Options, list_source
from skindualgen.data.sources.tables import read_columns, read_table
from skindualgen.data.terms import age_years, sex_term, site_term


def image(root: Path, *files: str) -> None:
    for file in files:
        save(pixels(file), root / file)


def text(root: Path, file: str, *lines: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def by_id(listing: Listing) -> dict[str, Candidate]:
    return {candidate.isic_id: candidate for candidate in listing.candidates}


def reasons(listing: Listing) -> set[tuple[str, str]]:
    return {(rejection.isic_id, rejection.reason) for rejection in listing.rejections}


COLUMNS_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"


def row_2019(isic_id: str, *marked: str) -> str:
    return ",".join([isic_id, *(str(float(name in marked)) for name in COLUMNS_2019.split(",")[1:])])


def isic2019(root: Path, pictures: Sequence[str]) -> Path:
    image(root, *pictures)
    rows = [
        row_2019("ISIC_0000001", "MEL"),
        row_2019("ISIC_0000002_downsampled", "SCC"),
        row_2019("ISIC_0000003", "AK"),
    ]
    text(root, "ISIC_2019_Training_GroundTruth.csv", COLUMNS_2019, *rows)
    text(
        root,
        "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        "ISIC_0000001,55.0,anterior torso,,female",
        "ISIC_0000002_downsampled,,,MSK4_0011,",
        "ISIC_0000003,30.0,upper extremity,BCN_1,male",
    )
    weights = ["1.0,0.0", "0.0,1.0"]
    test = [row_2019("ISIC_0034321", "UNK"), row_2019("ISIC_0034322", "BKL")]
    header = f"{COLUMNS_2019},score_weight,validation_weight"
    text(root, "ISIC_2019_Test_GroundTruth.csv", header, *(",".join(pair) for pair in zip(test, weights, strict=True)))
    text(root, "ISIC_2019_Test_Metadata.csv", "image,age_approx,anatom_site_general,sex", "ISIC_0034321,75.0,,female")
    return root


@pytest.mark.parametrize("published", [True, False])
def test_isic2019(tmp_path: Path, published: bool) -> None:
    training = "ISIC_2019_Training_Input/ISIC_2019_Training_Input/" if published else "all/"
    test = "ISIC_2019_Test_Input/" if published else "all/"
    names = ["ISIC_0000001", "ISIC_0000002_downsampled", "ISIC_0000003"]
    pictures = [f"{training}{name}.jpg" for name in names] + [f"{test}ISIC_003432{n}.jpg" for n in (1, 2)]
    listing = list_source(isic2019(tmp_path, pictures))
    found = by_id(listing)
    assert (listing.layout, listing.rejections) == ("isic2019", [])
    assert found["ISIC_0000001"].fields == {
        "source": "isic2019",
        "diagnosis": "melanoma",
        "benign_malignant": "malignant",
        "age_approx": 55,
        "anatom_site_general": "anterior torso",
        "sex": "female",
    }
    # The copy's name is not the archive's id.
    assert found["ISIC_0000002"].image.endswith("_downsampled.jpg")
    assert (found["ISIC_0000002"].fields["diagnosis"], found["ISIC_0000002"].fields["lesion_id"]) == (
        "squamous cell carcinoma",
        "MSK4_0011",
    )
    assert "benign_malignant" not in found["ISIC_0000003"].fields
    assert "diagnosis" not in found["ISIC_0034321"].fields
    assert found["ISIC_0034322"].fields["diagnosis"] == "benign keratosis"
    assert [candidate.split for candidate in listing.candidates] == ["train"] * 3 + ["test"] * 2
    assert any("_downsampled" in note for note in listing.notes)


def test_isic2019_rows_that_mark_two_or_none_are_rejected(tmp_path: Path) -> None:
    image(tmp_path, *(f"ISIC_2019_Training_Input/ISIC_000000{n}.jpg" for n in range(3)))
    rows = [row_2019("ISIC_0000000", "MEL", "NV"), row_2019("ISIC_0000001"), row_2019("ISIC_0000002", "NV")]
    text(tmp_path, "ISIC_2019_Training_GroundTruth.csv", COLUMNS_2019, *rows)
    listing = list_source(tmp_path)
    assert list(by_id(listing)) == ["ISIC_0000002"]
    assert reasons(listing) == {("ISIC_0000000", "unknown_label"), ("ISIC_0000001", "unknown_label")}


def test_isic2019_copy_beside_its_photograph_is_named(tmp_path: Path) -> None:
    pictures = ["ISIC_0000001.jpg", "ISIC_0000001_downsampled.jpg", "ISIC_0000003.jpg"]
    listing = list_source(isic2019(tmp_path, [f"ISIC_2019_Training_Input/{name}" for name in pictures]))
    assert by_id(listing)["ISIC_0000001"].image.endswith("/ISIC_0000001.jpg")
    assert ("ISIC_0000001_downsampled", "duplicate_id") in reasons(listing)


def test_isic2018_test_table_with_weights(tmp_path: Path) -> None:
    image(tmp_path, "ISIC2018_Task3_Test_Input/ISIC_0034524.jpg")
    header = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC,score_weight,validation_weight"
    text(tmp_path, "ISIC2018_Task3_Test_GroundTruth.csv", header, "ISIC_0034524,0.0,1.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0")
    assert list_source(tmp_path).candidates[0].fields["diagnosis"] == "nevus"


HEADER_2020 = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"


@pytest.mark.parametrize("kaggle", [True, False])
def test_isic2020(tmp_path: Path, kaggle: bool) -> None:
    train, test = ("jpeg/train", "jpeg/test") if kaggle else ("ISIC_2020_Training_JPEG/train", "ISIC_2020_Test_Input")
    image(tmp_path, *(f"{train}/ISIC_000000{n}.jpg" for n in range(4)), f"{test}/ISIC_0000009.jpg")
    rows = [
        "ISIC_0000000,IP_1,male,45.0,head/neck,unknown,benign,0",
        "ISIC_0000001,IP_2,female,50.0,torso,melanoma,malignant,1",
        "ISIC_0000002,IP_2,,,,lentigo NOS,benign,0",
        "ISIC_0000003,IP_3,,,,nevus,benign,1",
    ]
    if kaggle:
        text(tmp_path, "train.csv", HEADER_2020, *rows)
        text(tmp_path, "test.csv", HEADER_2020.rpartition(",diagnosis")[0], "ISIC_0000009,IP_9,female,70.0,torso")
        text(tmp_path, "sample_submission.csv", "image_name,target", "ISIC_0000009,0.5")
    else:
        text(tmp_path, "ISIC_2020_Training_GroundTruth.csv", HEADER_2020, *rows)
        newer = [f"{','.join(row.split(',')[:2])},IL_{n},{','.join(row.split(',')[2:])}" for n, row in enumerate(rows)]
        text(tmp_path, "ISIC_2020_Training_GroundTruth_v2.csv", HEADER_2020.replace(",sex", ",lesion_id,sex"), *newer)
        header = "image,patient,age_approx,anatom_site_general,sex"
        text(tmp_path, "ISIC_2020_Test_Metadata.csv", header, "ISIC_0000009,IP_9,70.0,torso,female")
    listing = list_source(tmp_path)
    found = by_id(listing)
    assert listing.layout == "isic2020"
    assert "diagnosis" not in found["ISIC_0000000"].fields
    assert found["ISIC_0000000"].fields["benign_malignant"] == "benign"
    assert (found["ISIC_0000001"].fields["diagnosis"], found["ISIC_0000001"].fields["patient_id"]) == (
        "melanoma",
        "IP_2",
    )
    assert found["ISIC_0000002"].fields["diagnosis"] == "lentigo nos"
    assert found["ISIC_0000002"].fields.get("lesion_id") == (None if kaggle else "IL_2")
    assert (found["ISIC_0000009"].fields["patient_id"], found["ISIC_0000009"].split) == ("IP_9", "test")
    assert found["ISIC_0000000"].split == "train"
    assert reasons(listing) == {("ISIC_0000003", "contradicting_labels")}
    assert any("sample_submission.csv" in note for note in listing.notes) == kaggle


def test_isic2024(tmp_path: Path) -> None:
    image(tmp_path, *(f"train-image/image/ISIC_001567{n}.jpg" for n in range(6)))
    header = "isic_id,target,patient_id,age_approx,sex,anatom_site_general,image_type,tbp_lv_A,attribution,"
    header += "copyright_license,lesion_id,iddx_full,iddx_1,iddx_2,iddx_3,iddx_4,iddx_5"
    start = "IP_1,60.0,male,head/neck,TBP tile: close-up,20.2,Memorial,CC-BY,"
    rows = [
        f"ISIC_0015670,0,{start},Benign,Benign,,,,",
        f"ISIC_0015671,1,{start}IL_1,x,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma Invasive,,",
        f"ISIC_0015672,0,{start},x,Indeterminate,Indeterminate epidermal proliferations,Solar or actinic keratosis,,",
        f"ISIC_0015673,0,{start},x,Malignant,,Melanoma in situ,,",
        f"ISIC_0015674,0.3,{start},Benign,Benign,,,,",
        f'ISIC_0015675,0,{start},x,Benign,Benign melanocytic proliferations,Nevus,"Nevus, NOS, Compound",',
    ]
    text(tmp_path, "train-metadata.csv", header, *rows)
    listing = list_source(tmp_path)
    found = by_id(listing)
    assert listing.layout == "isic2024"
    assert {name: (c.fields.get("diagnosis"), c.fields["benign_malignant"]) for name, c in found.items()} == {
        "ISIC_0015670": (None, "benign"),
        "ISIC_0015671": ("melanoma", "malignant"),
        "ISIC_0015672": ("actinic keratosis", "indeterminate"),
        "ISIC_0015675": ("nevus", "benign"),
    }
    assert found["ISIC_0015675"].fields["diagnosis_4"] == "Nevus, NOS, Compound"
    assert found["ISIC_0015671"].fields["diagnosis_detail"] == "Melanoma Invasive"
    assert {c.fields["image_type"] for c in found.values()} == {"TBP tile: close-up"}
    assert reasons(listing) == {("ISIC_0015673", "contradicting_labels"), ("ISIC_0015674", "unknown_label")}
    assert any("no dermoscopy" in note for note in listing.notes)
    assert any("tbp_lv_A" in note for note in listing.notes)


def test_isic2024_with_the_path_of_levels_in_one_column(tmp_path: Path) -> None:
    image(tmp_path, *(f"train-image/image/ISIC_001567{n}.jpg" for n in range(3)))
    melanoma = "Malignant::Malignant melanocytic proliferations (Melanoma)::Melanoma in situ"
    rows = [f"ISIC_0015670,0,{'Benign'}", f"ISIC_0015671,1,{melanoma}", f"ISIC_0015672,0,{melanoma}"]
    text(tmp_path, "train-metadata.csv", "isic_id,target,iddx_full", *rows)
    listing = list_source(tmp_path)
    assert [(c.fields.get("diagnosis"), c.fields["benign_malignant"]) for c in listing.candidates] == [
        (None, "benign"),
        ("melanoma", "malignant"),
    ]
    assert listing.candidates[1].fields["diagnosis_3"] == "Melanoma in situ"
    assert reasons(listing) == {("ISIC_0015672", "contradicting_labels")}


def test_isic2024_tables_of_the_challenge_are_joined(tmp_path: Path) -> None:
    image(tmp_path, "ISIC_2024_Training_Input/ISIC_0015670.jpg", "ISIC_2024_Training_Input/ISIC_0015671.jpg")
    text(
        tmp_path,
        "ISIC_2024_Training_Input/metadata.csv",
        "isic_id,attribution,copyright_license,age_approx,sex",
        "ISIC_0015670,A,CC-BY,60,male",
        "ISIC_0015671,A,CC-BY,50,male",
    )
    text(
        tmp_path,
        "ISIC_2024_Training_Supplement.csv",
        "isic_id,iddx_1,iddx_2,iddx_3,age_approx",
        "ISIC_0015670,Benign,Benign melanocytic proliferations,Nevus,60.0",
        "ISIC_0015671,Benign,,,55",
    )
    text(tmp_path, "ISIC_2024_Training_GroundTruth.csv", "isic_id,malignant", "ISIC_0015670,0.0", "ISIC_0015671,0.0")
    listing = list_source(tmp_path)
    assert listing.layout == "isic2024"
    fields = by_id(listing)["ISIC_0015670"].fields
    assert (fields["diagnosis"], fields["age_approx"], fields["license"]) == ("nevus", 60, "CC-BY")
    assert reasons(listing) == {("ISIC_0015671", "duplicate_id")}  # 50 in one table, 55 in another


def test_bcn20000(tmp_path: Path) -> None:
    image(tmp_path, "BCN_20k_train/bcn_20k_train/BCN_0000000001.jpg", "BCN_20k_test/BCN_0000000002.jpg", "other.jpg")
    header = "bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,capture_date,sex,split"
    text(
        tmp_path,
        "bcn_20k_train.csv",
        header,
        "BCN_0000000001.jpg,55.0,anterior torso,MEL,BCN_0003884,2012-05-16,male,train",
    )
    header = "bcn_filename,age_approx,anatom_site_general,lesion_id,capture_date,sex"
    text(tmp_path, "bcn_20k_test.csv", header, "BCN_0000000002.jpg,40.0,head/neck,,2012-05-16,female")
    listing = list_source(tmp_path)
    found = by_id(listing)
    assert listing.layout == "bcn20000"
    assert found["BCN_0000000001"].fields == {
        "source": "BCN20000",
        "lesion_id": "BCN_0003884",
        "anatom_site_general": "anterior torso",
        "sex": "male",
        "age_approx": 55,
        "diagnosis": "melanoma",
        "benign_malignant": "malignant",
    }
    assert [found[name].split for name in sorted(found)] == ["train", "test"]
    assert reasons(listing) == {("other", "unknown_name")}


def test_pad_ufes_20(tmp_path: Path) -> None:
    header = "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,itch,img_id,biopsed"
    codes = {"BCC": "basal cell carcinoma", "ACK": "actinic keratosis", "SEK": "seborrheic keratosis"}
    codes |= {"NEV": "nevus", "MEL": "melanoma", "SCC": "squamous cell carcinoma"}
    rows = [
        f"PAT_{n},88{n},False,55,{'' if n else 'FEMALE'},3.0,NECK,{code},True,PAT_{n}_88{n}_1.png,True"
        for n, code in enumerate(codes)
    ]
    text(tmp_path, "metadata.csv", header, *rows, "PAT_9,889,False,50,MALE,3.0,BACK,ZZZ,True,PAT_9_889_1.png,True")
    image(tmp_path, *(f"images/imgs_part_1/PAT_{n}_88{n}_1.png" for n in range(len(codes))), "images/PAT_9_889_1.png")
    listing = list_source(tmp_path)
    assert listing.layout == "pad-ufes-20"
    assert [candidate.fields["diagnosis"] for candidate in listing.candidates] == list(codes.values())
    assert listing.candidates[0].fields == {
        "source": "PAD-UFES-20",
        "lesion_id": "880",
        "patient_id": "PAT_0",
        "anatom_site_general": "neck",
        "sex": "female",
        "age_approx": 55,
        "image_type": "clinical: close-up",
        "diagnosis": "basal cell carcinoma",
        "benign_malignant": "malignant",
    }
    assert reasons(listing) == {("PAT_9_889_1", "unknown_label")}


HEADER_DERM7PT = (
    "case_num,diagnosis,seven_point_score,pigment_network,location,sex,clinic,derm,management,case_id,notes"
)


def derm7pt(root: Path, labels: Sequence[str]) -> Path:
    rows = []
    for n, label in enumerate(labels):
        image(root, f"release_v0/images/NEL/Nel0{n}1.jpg", f"release_v0/images/NEL/NEL0{n}2.jpg")
        rows.append(f"{n + 1},{label},0,absent,lower limbs,female,NEL/NEL0{n}2.jpg,NEL/NEL0{n}1.jpg,excision,,")
    text(root, "release_v0/meta/meta.csv", HEADER_DERM7PT, *rows)
    for name, place in (("train", 0), ("valid", 1), ("test", 2)):
        text(root, f"release_v0/meta/{name}_indexes.csv", "indexes", str(place))
    return root


def test_derm7pt_without_any_option(tmp_path: Path) -> None:
    labels = ["melanoma (0.76 to 1.5 mm)", "clark nevus", "melanoma (in situ)", "miscellaneous", "reed or spitz nevus"]
    listing = list_source(derm7pt(tmp_path, labels))
    assert listing.layout == "derm7pt"
    # The letters' case in the table is not always that of the file.
    assert [(c.isic_id, c.fields["diagnosis"], c.split) for c in listing.candidates] == [
        ("Nel001", "melanoma", "train"),
        ("Nel011", "clark nevus", "val"),
        ("Nel021", "melanoma (in situ)", "test"),
        ("Nel031", "other", None),
        ("Nel041", "reed or spitz nevus", None),
    ]
    assert listing.candidates[0].fields["anatom_site_general"] == "lower extremity"
    assert listing.candidates[1].fields["diagnosis_5"] == "Nevus, Clark"
    assert listing.rejections == []
    assert any("5 clinical photographs" in note for note in listing.notes)
    third = list_source(tmp_path, options=Options(diagnosis_level=3))
    assert [c.fields["diagnosis"] for c in third.candidates] == [
        "melanoma, nos",
        "nevus",
        "melanoma in situ",
        "other",
        "nevus",
    ]
    assert [a.code for c in third.candidates for a in c.adjustments] == ["diagnosis_without_level"]


def test_derm7pt_splits_that_would_fall_on_other_cases_are_refused(tmp_path: Path) -> None:
    table = derm7pt(tmp_path, ["nevus"] * 3) / "release_v0/meta/meta.csv"
    whole = table.read_text()
    table.write_text(whole.replace("1,nevus,0", "1,nevus"))
    with pytest.raises(InputError, match=r"meta\.csv, line 2: not 11 values"):
        list_source(tmp_path)
    table.write_text("\n".join(whole.splitlines()[:3]) + "\n")
    with pytest.raises(InputError, match=r"test_indexes\.csv, line 2: '2'"):
        list_source(tmp_path)


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("mel", "Melanoma, NOS"),
        ("lichen_planus_like_keratosis", "Lichen planus like keratosis"),
        ("Collision - Only benign proliferations", "Collision - Only benign proliferations"),
        ("spitz naevus", "Nevus, Spitz"),
        ("Benign:Benign melanocytic proliferations:Nevus", "Nevus"),
        ("Nevus / Blue nevus", "Blue nevus"),
        ("actinic keratosis", "Solar or actinic keratosis"),
        ("benign", "Benign"),
        ("Malignant > Nevus", None),
        ("skin lesion", None),
        ("unknown", None),
        ("wolf", None),
    ],
)
def test_place_of_a_diagnosis(label: str, place: str | None) -> None:
    levels = diagnosis_levels(label)
    assert (levels[-1] if levels else None) == place


def test_every_diagnosis_of_the_archive_is_known() -> None:
    from isic_metadata.diagnosis_hierarchical import DiagnosisEnum

    for member in DiagnosisEnum:
        path = tuple(member.value.split(":"))
        assert diagnosis_levels(path[-1]) == diagnosis_levels(member.value) == path
        assert known_diagnosis(path[-1].lower().replace(" ", "_"))


def folder(root: Path, rows: Sequence[dict[str, object]]) -> Path:
    image(root, *(f"images/p{n}.png" for n in range(len(rows))))
    write_csv(root / "metadata.csv", [{"image_id": f"p{n}", **row} for n, row in enumerate(rows)])
    return root


def test_terms_of_the_archive_are_taken_and_their_levels_kept(tmp_path: Path) -> None:
    labels = ["Squamous_cell_carcinoma_in_situ", "nevus", "Benign / Cysts / Milium", "malignant", "wolf", "Lentigo NOS"]
    listing = list_source(folder(tmp_path, [{"diagnosis": label} for label in labels]))
    found = by_id(listing)
    assert found["p0"].fields == {
        "diagnosis": "squamous cell carcinoma in situ",
        "diagnosis_1": "Malignant",
        "diagnosis_2": "Malignant epidermal proliferations",
        "diagnosis_3": "Squamous cell carcinoma in situ",
        "benign_malignant": "malignant",
    }
    assert found["p1"].fields == {"diagnosis": "nevus"}  # as it has always been
    assert (found["p2"].fields["diagnosis"], found["p2"].fields["diagnosis_2"]) == ("milium", "Cysts")
    assert found["p3"].fields == {"benign_malignant": "malignant"}
    assert found["p5"].fields["diagnosis"] == "lentigo nos"
    assert reasons(listing) == {("p4", "unknown_label")}


def test_labels_that_contradict_their_behaviour_are_rejected_or_reported(tmp_path: Path) -> None:
    rows = [{"diagnosis": "collision_at_least_one_malignant_proliferation", "benign_malignant": "benign"}]
    rows += [{"diagnosis": "benign", "benign_malignant": "malignant"}, {"diagnosis": "benign", "benign_malignant": ""}]
    listing = list_source(folder(tmp_path, rows))
    assert reasons(listing) == {("p1", "contradicting_labels")}
    # The archive itself has such rows: they are kept as they are, and said.
    first, last = listing.candidates
    assert (first.fields["benign_malignant"], last.fields["benign_malignant"]) == ("benign", "benign")
    assert [adjustment.code for adjustment in first.adjustments] == ["benign_malignant_doubtful"]


def test_a_diagnosis_that_contradicts_its_levels_is_reported(tmp_path: Path) -> None:
    rows = [{"diagnosis": "melanoma", "diagnosis_1": "Benign"}, {"diagnosis": "nevus", "diagnosis_1": "Benign"}]
    first, second = list_source(folder(tmp_path, rows)).candidates
    assert [adjustment.code for adjustment in first.adjustments] == ["diagnosis_doubtful"]
    assert second.adjustments == ()


LEVELS = {
    1: ["benign", "malignant", "indeterminate", "benign"],
    2: [
        "benign melanocytic proliferations",
        "malignant melanocytic proliferations (melanoma)",
        "indeterminate epidermal proliferations",
        None,
    ],
    3: ["nevus", "melanoma, nos", "solar or actinic keratosis", None],
    5: ["nevus, clark", "melanoma, nos", "solar or actinic keratosis", None],
}


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_level_of_the_diagnosis(tmp_path: Path, level: int) -> None:
    rows: list[dict[str, object]] = [{"diagnosis": "clark nevus"}, {"diagnosis": "MEL"}, {"diagnosis": "akiec"}]
    rows = [{**row, "diagnosis_1": ""} for row in rows]
    listing = list_source(
        folder(tmp_path, [*rows, {"diagnosis": "", "diagnosis_1": "Benign"}]), options=Options(diagnosis_level=level)
    )
    assert [candidate.fields.get("diagnosis") for candidate in listing.candidates] == LEVELS[level]


def test_a_level_that_the_archive_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 to 5"):
        list_source(folder(tmp_path, [{"diagnosis": "nevus"}]), options=Options(diagnosis_level=6))


def test_prepare_at_a_level_and_again(tmp_path: Path) -> None:
    source = folder(tmp_path / "src", [{"diagnosis": "clark nevus"}, {"diagnosis": "melanoma in situ"}] * 2)
    command = ["prepare", str(source), str(tmp_path / "out"), "--size", "64", "--workers", "1"]
    result = CliRunner().invoke(app, [*command, "--diagnosis-level", "2"])
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert {json.loads(line)["diagnosis"] for line in lines} == {
        "benign melanocytic proliferations",
        "malignant melanocytic proliferations (melanoma)",
    }
    assert {json.loads(line).get("diagnosis_5") for line in lines} == {"Nevus, Clark", None}
    # What is prepared again keeps the levels.
    again = list_source(tmp_path / "out")
    assert {c.fields["diagnosis_3"] for c in again.candidates} == {"Nevus", "Melanoma in situ"}
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "diagnosis_level" in result.stderr


def test_one_hot_table_of_any_folder(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"MEL": 1, "NV": 0, "UNK": 0, "age": "50.0"},
        {"MEL": 0, "NV": 1, "UNK": 0, "age": "NaN"},
        {"MEL": 0, "NV": 0, "UNK": 1, "age": "unknown"},
        {"MEL": 1, "NV": 1, "UNK": 0, "age": ""},
        {"MEL": 0, "NV": 0, "UNK": 0, "age": ""},
        {"MEL": 0, "NV": "x", "UNK": 0, "age": ""},
    ]
    listing = list_source(folder(tmp_path, rows))
    assert [dict(candidate.fields) for candidate in listing.candidates] == [
        {"diagnosis": "melanoma", "age_approx": 50},
        {"diagnosis": "nevus"},
        {},
    ]
    assert reasons(listing) == {(f"p{n}", "unknown_label") for n in (3, 4, 5)}


def test_probabilities_and_a_single_column_are_no_labels_and_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"MEL": 0.2, "NV": 0.8, "scar": 1}, {"MEL": 0.7, "NV": 0.3, "scar": 0}]
    listing = list_source(folder(tmp_path, rows))
    assert all("diagnosis" not in candidate.fields for candidate in listing.candidates)
    assert any("not used" in note and "MEL, NV, scar" in note for note in listing.notes)


@pytest.mark.parametrize(
    "data",
    [
        b'sep=;\r\nimage;dx\r\np0;NV\r\np1;"a; b"\r\n',
        b'\xef\xbb\xbfsep=;\r\nimage;dx\r\np0;NV\r\np1;"a; b"\r\n',
        b'"sep=;"\nimage;dx\np0;NV\np1;"a; b"\n',
        b"SEP=\t\nimage\tdx\np0\tNV\np1\ta; b\n",
        "sep=,\r\nimage,dx\r\np0,NV\r\np1,a; b\r\n".encode("utf-16"),
        b"image,dx,,\r\np0,NV,,\r\np1,a; b,,\r\n",
        b'\xef\xbb\xbf"image";"dx"\r\n"p0";"NV"\r\n"p1";"a; b"\r\n',
        b"image,dx\rp0,NV\rp1,a; b\r",
        b"\nimage|dx\np0|NV\n\np1|a; b\n",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    table = read_table(tmp_path / "t.csv")
    assert table.columns == read_columns(tmp_path / "t.csv") == ("image", "dx")
    assert [dict(row.values) for row in table.rows] == [{"image": "p0", "dx": "NV"}, {"image": "p1", "dx": "a; b"}]
    assert table.bad_lines == ()


def test_lines_of_a_table_are_counted_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\nimage;dx\np0;NV\np1\np2;NV;more\np3;\n")
    table = read_table(tmp_path / "t.csv")
    assert ([row.line for row in table.rows], table.bad_lines) == ([3, 6], (4, 5))
    (tmp_path / "t.csv").write_text('sep=;\nimage;dx\n"p0"x;NV\n')
    with pytest.raises(InputError, match=r"t\.csv, line 3"):
        read_table(tmp_path / "t.csv")


def test_sites_in_levels(tmp_path: Path) -> None:
    rows = [
        {"isic_id": "ISIC_0000001", "attribution": "A", "anatom_site_1": "Trunk", "anatom_site_2": "Posterior trunk"}
    ]
    image(tmp_path, "ISIC_0000001.jpg")
    write_csv(tmp_path / "metadata.csv", rows)
    assert list_source(tmp_path).candidates[0].fields["anatom_site_general"] == "posterior torso"
    assert site_of_levels(["Upper extremity", "Hand", "Palm of hand"]) == "palms/soles"
    assert site_of_levels(["Somewhere new", ""]) == "somewhere new"
    assert site_of_levels([]) is None


def test_spellings() -> None:
    assert (sex_term("F"), sex_term("Male"), sex_term("n/a")) == ("female", "male", None)
    assert (site_term("Lower limbs"), site_term("back"), site_term("-")) == ("lower extremity", "back", None)
    assert [age_years(text) for text in ("50", "50.0", "50,0", "85+", "NaN", "")] == [50, 50, 50, 85, None, None]
    for wrong in ("inf", "-3", "1e1", "121", "fifty"):
        with pytest.raises(ValueError, match=wrong):
            age_years(wrong)
