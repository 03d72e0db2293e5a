"""Tables whose columns, rows or order could be mistaken: read right or refused, never falsified."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from picture_files import pixels, save
from skindualgen.contracts import InputError
from skindualgen.data.sources import Listing, Options, list_source

CASES = 6
SPLITS = {"train": (0, 1), "valid": (2, 3), "test": (4, 5)}


def derm7pt_rows() -> list[dict[str, str]]:
    labels = ["melanoma", "clark nevus", "blue nevus", "miscellaneous", "dermatofibroma", "seborrheic keratosis"]
    return [
        {"case_num": str(2 * n + 1), "diagnosis": label, "clinic": f"N/C{n}.png", "derm": f"N/D{n}.png"}
        for n, label in enumerate(labels)
    ]


def derm7pt(
    root: Path, rows: Sequence[Mapping[str, str]], splits: Mapping[str, Sequence[int]] = SPLITS, name: str = "meta"
) -> Path:
    for n in range(CASES):
        save(pixels(f"d{n}"), root / f"images/N/D{n}.png")
        save(pixels(f"c{n}"), root / f"images/N/C{n}.png")
    write_table(root / f"meta/{name}.csv", rows)
    for split, places in splits.items():
        (root / f"meta/{split}_indexes.csv").write_text("\n".join(["indexes", *map(str, places), ""]))
    return root


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows), ""]))
    return path


def splits_of(listing: Listing) -> dict[str, str | None]:
    return {candidate.isic_id: candidate.split for candidate in listing.candidates}


PUBLISHED = dict(zip((f"D{n}" for n in range(CASES)), ("train", "train", "val", "val", "test", "test"), strict=True))


def test_derm7pt_in_another_order_is_refused(tmp_path: Path) -> None:
    """Guards against test cases in train, where a spreadsheet has sorted the table that the indexes count."""
    rows = derm7pt_rows()
    assert splits_of(list_source(derm7pt(tmp_path / "published", rows))) == PUBLISHED
    for number in range(5):
        shuffled = random.Random(number).sample(rows, CASES)
        if shuffled != rows:
            with pytest.raises(InputError, match=r"meta\.csv, line \d+: case_num"):
                list_source(derm7pt(tmp_path / str(number), shuffled))
    doubled = [*rows[:3], rows[2], *rows[3:]]
    with pytest.raises(InputError, match=r"line 5: case_num '5' after 5"):
        list_source(derm7pt(tmp_path / "doubled", doubled))


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_derm7pt_without_one_table_of_indexes_is_refused(tmp_path: Path, split: str) -> None:
    """Guards against the test cases' being dealt anew, most of them to train."""
    derm7pt(tmp_path, derm7pt_rows())
    file = tmp_path / f"meta/{split}_indexes.csv"
    whole = file.read_text()
    for wrong, message in (("indexes\n", "without a row"), (whole.replace("indexes", "indexes,x"), "line 2, cut")):
        file.write_text(wrong)
        with pytest.raises(InputError, match=message):
            list_source(tmp_path)
    file.rename(tmp_path / f"meta/{split}_set.csv")
    with pytest.raises(InputError, match="each of train_indexes"):
        list_source(tmp_path)


def test_derm7pt_without_indexes_has_no_split_and_rows_in_none_are_said(tmp_path: Path) -> None:
    listing = list_source(derm7pt(tmp_path / "none", derm7pt_rows()[::-1], {}))
    assert set(splits_of(listing).values()) == {None}
    partial = list_source(derm7pt(tmp_path / "part", derm7pt_rows(), {**SPLITS, "train": (0,)}))
    assert splits_of(partial) == {**PUBLISHED, "D1": None}
    assert any("1 of 6 rows" in note for note in partial.notes)


def test_derm7pt_reads_the_table_of_the_published_name(tmp_path: Path) -> None:
    derm7pt(tmp_path, derm7pt_rows())
    write_table(tmp_path / "meta/a_copy.csv", derm7pt_rows()[::-1])
    assert splits_of(list_source(tmp_path)) == PUBLISHED


def test_derm7pt_photograph_of_two_rows_or_columns_is_rejected(tmp_path: Path) -> None:
    """Guards against the diagnosis of the first of two cases, and against clinical photographs as dermoscopic ones."""
    rows = derm7pt_rows()
    rows[3]["derm"], rows[5]["clinic"] = rows[0]["derm"], rows[5]["derm"]
    listing = list_source(derm7pt(tmp_path, rows))
    assert sorted(splits_of(listing)) == ["D1", "D2", "D4"]
    assert [(r.isic_id, r.reason) for r in listing.rejections if "meta.csv:" in r.file] == [
        ("D0", "duplicate_id"),
        ("D0", "duplicate_id"),
        ("D5", "contradicting_rows"),
    ]


def listed_with(root: Path, columns: Mapping[str, Sequence[object]], options: Options | None = None) -> Listing:
    """List photographs p0, p1, ... with a table of these columns."""
    count = len(next(iter(columns.values())))
    for n in range(count):
        save(pixels(f"p{n}"), root / f"images/p{n}.png")
    rows = [{"image": f"p{n}", **{name: str(values[n]) for name, values in columns.items()}} for n in range(count)]
    write_table(root / "table.csv", rows)
    return list_source(root, options=options or Options())


def diagnoses(listing: Listing) -> list[str | None]:
    return [candidate.diagnosis for candidate in listing.candidates]


HISTORY = (
    *(
        "melanoma_history",
        "history of melanoma",
        "personal_hx_mm",
        "family_hx",
        "hx_mel",
        "prior melanoma",
        "mel_count",
    ),
    *(
        "nevus_count",
        "nevi total",
        "number_of_nevi",
        "cancer_history",
        "melanoma (first degree)",
        "NV before",
        "not_mel",
    ),
)


def test_columns_of_history_and_counts_are_no_diagnoses(tmp_path: Path) -> None:
    """Guards against a diagnosis that is what the patient once had, alone and beside columns of marks."""
    draw = random.Random(17)
    for number in range(6):
        names = draw.sample(HISTORY, 4)
        history: dict[str, Sequence[object]] = {name: [draw.randint(0, 1) for _ in range(6)] for name in names}
        alone = listed_with(tmp_path / f"alone{number}", history)
        assert diagnoses(alone) == [None] * 6
        assert all(any(name in note for note in alone.notes) for name in names)
        truth = [draw.choice(["melanoma", "nevus"]) for _ in range(6)]
        marks: dict[str, Sequence[object]] = {
            "MEL": [int(name == "melanoma") for name in truth],
            "NV": [int(name == "nevus") for name in truth],
        }
        parts = list({**history, **marks}.items())
        draw.shuffle(parts)
        assert diagnoses(listed_with(tmp_path / f"marks{number}", dict(parts))) == truth
        assert diagnoses(listed_with(tmp_path / f"words{number}", {**history, "dx": truth})) == truth


def test_marks_of_none_or_several_and_counts_are_no_labels(tmp_path: Path) -> None:
    """Guards against histories under the diagnoses' own names: the row that happens to mark one is no label."""
    marks = {"melanoma": [1, 0, 0, 0, 1], "nevus": [0, 0, 1, 0, 1], "bcc": [0, 0, 1, 0, 1]}
    listing = listed_with(tmp_path / "history", marks)
    assert diagnoses(listing) == [None] * 5 and any("melanoma, nevus, bcc" in note for note in listing.notes)
    counts = {"melanoma": [0, 0, 1, 1], "nevus": [1, 12, 0, 0]}
    assert diagnoses(listed_with(tmp_path / "counts", counts)) == [None] * 4


def test_two_columns_of_diagnoses_that_differ_are_refused_until_one_is_named(tmp_path: Path) -> None:
    """Guards against the first of ``dx`` and ``label``, and against marks of the history beside the pathology."""
    dx, label = ["mel", "nv", "bkl"], ["melanoma in situ", "Melanocytic nevi", "solar lentigo"]
    agreeing = listed_with(tmp_path / "agree", {"label": label, "dx": dx})
    assert diagnoses(agreeing) == ["melanoma", "nevus", "benign keratosis"]
    with pytest.raises(InputError, match=r"line 3: dx 'nv' and label 'BCC'.* --column diagnosis=label"):
        listed_with(tmp_path / "words", {"label": ["mel", "BCC", "bkl"], "dx": dx})
    chosen = Options(columns={"diagnosis": "label"})
    columns: dict[str, Sequence[object]] = {"label": ["mel", "BCC", "bkl"], "dx": dx}
    assert diagnoses(listed_with(tmp_path / "chosen", columns, chosen))[1] == "basal cell carcinoma"
    marks: dict[str, Sequence[object]] = {"melanoma": [1, 0, 0], "bcc": [0, 1, 1]}
    marks["pathology"] = ["nevus", "nevus", "melanoma"]
    with pytest.raises(InputError, match=r"line 2: a mark for melanoma and pathology 'nevus'"):
        listed_with(tmp_path / "marks", marks)
    codes: dict[str, Sequence[object]] = {"dx": dx, "label": [0, 1, 2]}
    assert len(diagnoses(listed_with(tmp_path / "codes", codes))) == 3


@pytest.mark.parametrize(
    "levels",
    [
        {"diagnosis_1": [0, 1], "diagnosis_2": [1, 0]},
        {"diagnosis_1": ["nevus", "melanoma"], "diagnosis_2": ["melanoma", "bcc"], "diagnosis_3": ["bcc", "nevus"]},
        {"diagnosis_2": ["melanoma", "nevus"]},
    ],
    ids=["codes", "in order of likelihood", "second opinion"],
)
def test_columns_named_as_levels_that_hold_something_else_are_refused(
    tmp_path: Path, levels: Mapping[str, Sequence[object]]
) -> None:
    """Guards against the last of several opinions, and against a diagnosis "1", as the finest level."""
    listing = listed_with(tmp_path, levels)
    assert listing.candidates == []
    assert {rejection.reason for rejection in listing.rejections} == {"unknown_label"}


@pytest.mark.parametrize(
    ("sites", "read"),
    [
        (["Barcelona", "Hospital 2", "UQ"], [None, None, None]),
        (["back", "Lower limbs", "UQ"], ["back", "lower extremity", "uq"]),
        (["1", "2", "3"], [None, None, None]),
    ],
)
def test_site_of_a_hospital_is_no_place_on_the_body(
    tmp_path: Path, sites: Sequence[str], read: Sequence[str | None]
) -> None:
    """Guards against "a melanoma on the barcelona"."""
    columns = {"dx": ["mel", "nv", "nv"], "site": sites}
    listing = listed_with(tmp_path / "usual", columns)
    assert [candidate.fields.get("anatom_site_general") for candidate in listing.candidates] == read
    assert any("--column anatom_site_general=site" in note for note in listing.notes) == (read[0] is None)
    named = listed_with(tmp_path / "named", columns, Options(columns={"anatom_site_general": "site"}))
    assert [candidate.fields.get("anatom_site_general") for candidate in named.candidates] == (
        read if sites[0] in ("back", "1") else ["barcelona", "hospital 2", "uq"]
    )


def test_lesions_that_count_within_a_patient_are_said(tmp_path: Path) -> None:
    columns = {"dx": ["mel", "nv", "nv"], "patient_id": ["A", "B", "C"], "lesion_id": ["1", "1", "2"]}
    assert any(
        "1 ids of lesions stand with several patients (1)" in note for note in listed_with(tmp_path, columns).notes
    )


def test_number_is_no_diagnosis_of_an_archive_download(tmp_path: Path) -> None:
    save(pixels("a"), tmp_path / "ISIC_0000001.png")
    rows = [{"isic_id": "ISIC_0000001", "attribution": "x", "copyright_license": "CC-0", "diagnosis": "1"}]
    write_table(tmp_path / "metadata.csv", rows)
    assert [rejection.reason for rejection in list_source(tmp_path).rejections] == ["unknown_label"]


@pytest.mark.parametrize(
    ("ages", "read"),
    [
        (["1", "2", "3"], [None, None, None]),
        (["3.0", "1.0", ""], [3, 1, None]),
        (["0", "5", "5"], [0, 5, 5]),
        (["4", "7", "12"], [4, 7, 12]),
        (["1", "2", "unknown", "9"], [None, None, None, None]),
    ],
)
def test_ages_of_one_digit_may_be_numbers_of_groups(
    tmp_path: Path, ages: Sequence[str], read: Sequence[int | None]
) -> None:
    """Guards against "a nevus in a 3 year old boy" for the third of nine age groups."""
    columns: dict[str, Sequence[object]] = {"dx": ["nv"] * len(ages), "age": ages}
    listing = listed_with(tmp_path / "usual", columns)
    assert [candidate.fields.get("age_approx") for candidate in listing.candidates] == read
    unread = any("--column age_approx=age" in note for note in listing.notes)
    assert unread == (set(read) == {None})
    named = listed_with(tmp_path / "named", columns, Options(columns={"age_approx": "age"}))
    assert any(candidate.fields.get("age_approx") is not None for candidate in named.candidates)


def test_marks_that_many_rows_lack_are_a_question(tmp_path: Path) -> None:
    """Guards against histories of which just half of the rows happen to mark one."""
    marks: dict[str, Sequence[object]] = {"melanoma": [1, 0, 0, 0, 1, 0], "nevus": [0, 1, 0, 0, 1, 1]}
    with pytest.raises(InputError, match=r"of 6 rows 3 mark none or several of melanoma, nevus, the first in line 4"):
        listed_with(tmp_path / "half", marks)
    few: dict[str, Sequence[object]] = {"melanoma": [1, 0, 0, 0], "nevus": [0, 1, 0, 1]}
    assert diagnoses(listed_with(tmp_path / "few", few)) == ["melanoma", "nevus", "nevus"]
