"""HAM10000, PH2 and ISIC Archive downloads as published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from skindualgen.contracts import InputError, Split
from skindualgen.data.images import Adjustment
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, stem
from skindualgen.data.sources.catalogues import CATALOGUES
from skindualgen.data.sources.challenges import with_behaviour
from skindualgen.data.sources.names import place
from skindualgen.data.sources.pairing import unique_files
from skindualgen.data.sources.rows import Pictures, add_candidates, named_pictures, note_unused_tables
from skindualgen.data.sources.tables import read_columns, read_table
from skindualgen.data.sources.values import Fields, clinical_fields, diagnosis_name, stated

HAM_TABLE = r"(HAM10000_metadata(\.csv|\.tab)?|ISIC2018_Task3_Test_GroundTruth\.(csv|tab))"
HAM_TRAIN = re.compile(r"HAM10000_images(_part_?[12])?", re.IGNORECASE)
HAM_SPLITS: Mapping[str, Split] = {r"ISIC2018_Task3_Test_Images": "test"}

ISIC_MASK = r"ISIC_\d+_(segmentation|mask)\.png"

PH2_IMAGE = re.compile(r"(?P<id>IMD\d+)_Dermoscopic_Image/(?P=id)\.bmp", re.IGNORECASE)
PH2_MASK = re.compile(r"(?P<id>IMD\d+)_lesion/(?P=id)_lesion\.bmp", re.IGNORECASE)
PH2_DIAGNOSES = {
    "0": {"diagnosis": "nevus", "benign_malignant": "benign"},
    "1": {"diagnosis": "atypical nevus", "benign_malignant": "benign"},
    "2": {"diagnosis": "melanoma", "benign_malignant": "malignant"},
}
"""The column "Clinical Diagnosis" of PH2_dataset.txt: common nevus, atypical nevus, melanoma."""
PH2_COLUMNS = ("name", "clinical diagnosis")
"""Columns that are read, in lower case."""

ARCHIVE_MARKS = ("attribution", "copyright_license", "diagnosis_1")
"""Columns of which isic-cli writes at least one next to ``isic_id``."""


def ham10000_evidence(tree: Tree) -> str | None:
    """Return a file or folder that only HAM10000 has, or None."""
    names = tree.named(r"HAM10000_metadata(\.csv|\.tab)?")
    folders = (file for file in tree.files if any(HAM_TRAIN.fullmatch(part) for part in PurePosixPath(file).parts[:-1]))
    return next(iter(names), None) or next(folders, None)


def read_ham10000(tree: Tree, options: Options) -> Listing:
    """List HAM10000: image parts 1 and 2, the metadata table, lesion masks; the test set of 2018 if it is there."""
    listing = Listing("ham10000")
    pictures = _archive_pictures(listing, tree, HAM_SPLITS)
    files = tree.named(HAM_TABLE)
    tables = [read_table(tree.root / file) for file in files]
    note_unused_tables(listing, tree, files)
    if not tables:
        listing.notes.append("HAM10000_metadata is not there: diagnoses and lesion ids are not known")

    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        del raw
        fields, adjustments = clinical_fields(row)
        fields |= with_behaviour(diagnosis_name(row.get("diagnosis"), options.labels))
        return {**fields, "source": "HAM10000"}, adjustments

    add_candidates(listing, tree, tables, pictures, options, describe)
    return listing


def ph2_evidence(tree: Tree) -> str | None:
    """Return a photograph in PH2's own folder structure, or None."""
    return next((file for file in tree.files if PH2_IMAGE.search(file)), None)


def read_ph2(tree: Tree, options: Options) -> Listing:
    """List PH2: one folder a case with photograph and lesion mask, and PH2_dataset.txt."""
    del options  # The published table has fixed columns and codes.
    listing = Listing("ph2")
    images = unique_files(listing, tree, filter(PH2_IMAGE.search, tree.files))
    masks = unique_files(listing, tree, filter(PH2_MASK.search, tree.files))
    masks = {name.removesuffix("_lesion"): file for name, file in masks.items()}
    codes: dict[str, str] = {}
    for file in tree.named(r"PH2_dataset\.txt"):
        codes |= _ph2_codes(tree.root / file)
    if not codes:
        listing.notes.append("PH2_dataset.txt is not there (the .xlsx is not read): diagnoses are not known")
    for name, file in sorted(images.items()):
        code = codes.get(name)
        if code is not None and code not in PH2_DIAGNOSES:
            listing.reject(stem(file), file, "unknown_label", f"clinical diagnosis {code!r}; expected 0, 1 or 2")
            continue
        fields: Fields = {"source": "PH2", **(PH2_DIAGNOSES[code] if code is not None else {})}
        listing.candidates.append(Candidate(stem(file), file, masks.get(name), fields))
    for name in sorted(masks.keys() - images.keys()):
        listing.reject(name.upper(), masks[name], "mask_without_image", "no photograph of this id")
    for name in sorted(codes.keys() - images.keys()):
        listing.reject(name.upper(), "", "row_without_image", "PH2_dataset.txt names this id, no photograph has it")
    return listing


def _ph2_codes(path: Path) -> dict[str, str]:
    """Return key of the id -> code of the diagnosis of PH2_dataset.txt.

    Raises:
        InputError: no line names the columns, so that another's numbers could be taken for diagnoses.
    """
    codes: dict[str, str] = {}
    names: list[str] = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        cells = [cell.strip() for cell in line.split("||")]
        if not names and set(PH2_COLUMNS) <= {cell.lower() for cell in cells}:
            names = [cell.lower() for cell in cells]
        elif any(re.fullmatch(r"IMD\d+", cell) for cell in cells):
            found = dict(zip(names, cells, strict=False))
            if not re.fullmatch(r"IMD\d+", found.get(PH2_COLUMNS[0], "")):
                got = f"{path.name} with the row {line.strip()[:60]!r}"
                raise InputError(got, f"below a header with {' and '.join(PH2_COLUMNS)}", "take the published table")
            codes[key(found[PH2_COLUMNS[0]])] = found.get(PH2_COLUMNS[1], "")
    return codes


def archive_evidence(tree: Tree) -> str | None:
    """Return a table as isic-cli writes it, or None; the challenge of 2024 holds such tables as well."""
    return None if CATALOGUES["isic2024"].evidence(tree) else next(iter(_archive_tables(tree)), None)


def read_archive(tree: Tree, options: Options) -> Listing:
    """List an ISIC Archive download: ``<isic_id>.jpg`` files and metadata.csv, in its present or its earlier schema."""
    listing = Listing("isic-archive")
    pictures = _archive_pictures(listing, tree, {})

    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        del raw
        fields, adjustments = clinical_fields(row)
        # The archive is the vocabulary: no label of it is unknown.
        name = diagnosis_name(row.get("diagnosis"), options.labels, any_label=True)
        return fields | stated(diagnosis=name), adjustments

    files = _archive_tables(tree)
    note_unused_tables(listing, tree, files)
    add_candidates(listing, tree, [read_table(tree.root / file) for file in files], pictures, options, describe)
    return listing


def _archive_pictures(listing: Listing, tree: Tree, splits: Mapping[str, Split]) -> Pictures:
    """Photographs named ``ISIC_<number>`` in any folder, with masks named so or in folders of masks."""
    named = set(tree.named(ISIC_MASK))

    def is_photograph(file: str) -> bool:
        return re.fullmatch(r"ISIC_\d+", stem(file), re.IGNORECASE) is not None and place(file).kind in (None, "image")

    def is_mask(file: str) -> bool:
        return file in named or (
            re.match(r"ISIC_\d+", stem(file), re.IGNORECASE) is not None and place(file).kind == "mask"
        )

    expected = "neither ISIC_<number> nor a mask of that name"
    return named_pictures(listing, tree, is_photograph, is_mask, expected, splits)


def _archive_tables(tree: Tree) -> list[str]:
    """Return the tables as isic-cli writes them; those of the challenge of 2024 name their levels in another way."""
    columns = {file: set(read_columns(tree.root / file)) for file in tree.named(r".*metadata.*\.csv")}
    return [file for file, names in columns.items() if "isic_id" in names and not names.isdisjoint(ARCHIVE_MARKS)]
