"""HAM10000, PH2 and ISIC Archive downloads as published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from skindualgen.contracts import Split
from skindualgen.data.images import Adjustment
from skindualgen.data.sources.base import (
    Candidate,
    Listing,
    Options,
    Tree,
    clinical_fields,
    diagnosis_name,
    key,
    known_value,
    stem,
)
from skindualgen.data.sources.challenges import with_behaviour
from skindualgen.data.sources.names import place
from skindualgen.data.sources.pairing import pair_masks, unique_files
from skindualgen.data.sources.rows import Fields, Pictures, add_candidates
from skindualgen.data.sources.tables import Table, read_table

HAM_TABLE = r"(HAM10000_metadata(\.csv|\.tab)?|ISIC2018_Task3_Test_GroundTruth\.(csv|tab))"
HAM_TRAIN = re.compile(r"HAM10000_images(_part_?[12])?", re.IGNORECASE)
HAM_TEST = re.compile(r"ISIC2018_Task3_Test_Images", re.IGNORECASE)

ISIC_MASK = r"ISIC_\d+_(segmentation|mask)\.png"

PH2_IMAGE = re.compile(r"(?P<id>IMD\d+)_Dermoscopic_Image/(?P=id)\.bmp", re.IGNORECASE)
PH2_MASK = re.compile(r"(?P<id>IMD\d+)_lesion/(?P=id)_lesion\.bmp", re.IGNORECASE)
PH2_DIAGNOSES = {
    "0": {"diagnosis": "nevus", "benign_malignant": "benign"},
    "1": {"diagnosis": "atypical nevus", "benign_malignant": "benign"},
    "2": {"diagnosis": "melanoma", "benign_malignant": "malignant"},
}
"""The column "Clinical Diagnosis" of PH2_dataset.txt: common nevus, atypical nevus, melanoma."""
PH2_NAME_CELL, PH2_DIAGNOSIS_CELL = 1, 3

ARCHIVE_MARKS = ("attribution", "copyright_license", "diagnosis_1")
"""Columns of which isic-cli writes at least one beside ``isic_id``."""
ARCHIVE_LEVELS = ("diagnosis_3", "diagnosis_2")
ARCHIVE_TERMS = (
    (r"melanoma metastasis.*", "melanoma metastasis"),
    (r"melanoma.*", "melanoma"),
    (r"nevus.*", "nevus"),
    (r"squamous cell carcinoma.*", "squamous cell carcinoma"),
    (r"solar or actinic keratosis", "actinic keratosis"),
    (r"lichen planus like keratosis", "lichenoid keratosis"),
    (r"basal cell carcinoma.*", "basal cell carcinoma"),
)
"""Finer diagnoses of the archive's five-level scheme -> the term of its earlier single column."""


def ham10000_evidence(tree: Tree) -> str | None:
    """Return a file or folder that only HAM10000 has, or None."""
    names = tree.named(r"HAM10000_metadata(\.csv|\.tab)?")
    folders = (file for file in tree.files if any(HAM_TRAIN.fullmatch(part) for part in PurePosixPath(file).parts[:-1]))
    return next(iter(names), None) or next(folders, None)


def read_ham10000(tree: Tree, options: Options) -> Listing:
    """List HAM10000: image parts 1 and 2, the metadata table, lesion masks; the test set of 2018 if it is there."""
    listing = Listing("ham10000")
    images: list[str] = []
    splits: dict[str, Split] = {}
    for file in tree.images():
        folders = PurePosixPath(file).parts[:-1]
        if any(HAM_TEST.fullmatch(folder) for folder in folders):
            images.append(file)
            splits[file] = "test"
        elif any(HAM_TRAIN.fullmatch(folder) for folder in folders):
            images.append(file)
    if len(images) == len(splits):  # No folder has its published name: both parts were put into another one.
        images += [file for file in tree.images() if file not in splits and _is_archive_photograph(file)]
    pictures = _pictures(listing, tree, images)
    pictures.splits = {name: splits[file] for name, file in pictures.images.items() if file in splits}
    tables = [read_table(tree.root / file) for file in tree.named(HAM_TABLE)]
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
    images = {key(match["id"]): file for file in tree.files if (match := PH2_IMAGE.search(file))}
    masks = {key(match["id"]): file for file in tree.files if (match := PH2_MASK.search(file))}
    codes: dict[str, str] = {}
    for file in tree.named(r"PH2_dataset\.txt"):
        for line in (tree.root / file).read_text(encoding="utf-8-sig", errors="replace").splitlines():
            cells = [cell.strip() for cell in line.split("||")]
            if len(cells) > PH2_DIAGNOSIS_CELL and re.fullmatch(r"IMD\d+", cells[PH2_NAME_CELL]):
                codes[key(cells[PH2_NAME_CELL])] = cells[PH2_DIAGNOSIS_CELL]
    if not codes:
        listing.notes.append("PH2_dataset.txt is not there (the .xlsx is not read): diagnoses are not known")
    for name, file in sorted(images.items()):
        code = codes.get(name)
        if code is not None and code not in PH2_DIAGNOSES:
            listing.reject(stem(file), file, "unknown_label", f"clinical diagnosis {code!r}; expected 0, 1 or 2")
            continue
        fields: dict[str, str | int] = {"source": "PH2", **(PH2_DIAGNOSES[code] if code is not None else {})}
        listing.candidates.append(Candidate(stem(file), file, masks.get(name), fields))
    for name in sorted(masks.keys() - images.keys()):
        listing.reject(name.upper(), masks[name], "mask_without_image", "no photograph of this id")
    for name in sorted(codes.keys() - images.keys()):
        listing.reject(name.upper(), "", "row_without_image", "PH2_dataset.txt names this id, no photograph has it")
    return listing


def archive_evidence(tree: Tree) -> str | None:
    """Return a table as isic-cli writes it, or None."""
    return next((file for file, _ in _archive_tables(tree)), None)


def read_archive(tree: Tree, options: Options) -> Listing:
    """List an ISIC Archive download: ``<isic_id>.jpg`` files and metadata.csv, in its present or its earlier schema."""
    listing = Listing("isic-archive")
    named = [file for file in tree.images() if _is_archive_photograph(file)]
    pictures = _pictures(listing, tree, named)

    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        fields, adjustments = clinical_fields(row)
        named = "diagnosis" in options.columns
        diagnosis, detail = (row["diagnosis"], None) if named else archive_diagnosis(raw)
        name = diagnosis_name(diagnosis, options.labels, any_label=True)
        fields |= {"diagnosis": name} if name is not None else {}
        fields |= {"diagnosis_detail": detail} if detail is not None else {}
        top_level = known_value(raw.get("diagnosis_1"))
        if "benign_malignant" not in fields and top_level is not None:
            fields["benign_malignant"] = top_level.lower()
        return fields, adjustments

    add_candidates(listing, tree, [table for _, table in _archive_tables(tree)], pictures, options, describe)
    return listing


def archive_diagnosis(row: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return diagnosis and finer diagnosis of a row of the archive's metadata, from either schema."""
    old = known_value(row.get("diagnosis"))
    if old is not None:
        return old, None
    for level in ARCHIVE_LEVELS:
        text = known_value(row.get(level))
        if text is not None:
            lower = text.lower()
            return next((term for pattern, term in ARCHIVE_TERMS if re.fullmatch(pattern, lower)), lower), text
    return None, None


def _is_archive_photograph(file: str) -> bool:
    return re.fullmatch(r"ISIC_\d+", stem(file), re.IGNORECASE) is not None and place(file).kind in (None, "image")


def _is_in_mask_folder(file: str) -> bool:
    return re.match(r"ISIC_\d+", stem(file), re.IGNORECASE) is not None and place(file).kind == "mask"


def _pictures(listing: Listing, tree: Tree, images: list[str]) -> Pictures:
    """Pair photographs with masks named ``<id>_segmentation.png``, wherever they lie."""
    by_stem = unique_files(listing, tree, images)
    masks = {*tree.named(ISIC_MASK), *(file for file in tree.images() if _is_in_mask_folder(file))}
    return Pictures(by_stem, pair_masks(listing, tree, sorted(masks), by_stem))


def _archive_tables(tree: Tree) -> list[tuple[str, Table]]:
    tables = [(file, read_table(tree.root / file)) for file in tree.named(r".*metadata.*\.csv")]
    return [
        (file, table)
        for file, table in tables
        if "isic_id" in table.columns and any(mark in table.columns for mark in ARCHIVE_MARKS)
    ]
