"""Folders of any origin: Hugging Face imagefolders and ``images/`` with ``masks/`` and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import get_args

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, InputError, Origin
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.sources.base import (
    SPLIT_NAMES,
    Listing,
    Options,
    Tree,
    clinical_fields,
    diagnosis_name,
    key,
    known_value,
    stem,
    unique_files,
)
from skindualgen.data.sources.rows import Describe, Fields, Pictures, add_candidates, masks_by_stem, reject_masks
from skindualgen.data.sources.tables import Row, Table, read_table, read_text

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "segmentations", "groundtruth")
TABLE_NAME = "metadata.csv"
PATH_COLUMNS = ("file_name", "mask_file_name")
"""Columns of an imagefolder's metadata file that name files."""
NOT_TABLES = r"(rejected|adjusted|audit)\.csv"
"""Reports that `prepare` writes into a data set, which are no metadata."""
NOT_PICTURES = r"contact_sheet\.png"
"""Overview that `generate` writes into a data set, which is no picture of it."""


def table_evidence(tree: Tree) -> str | None:
    """Return a metadata file whose ``file_name`` is relative to it (an imagefolder with metadata), or None.

    Where none of the files is there, and a folder ``images/`` is, the names are those of files in ``images/``.
    """
    for file, table in _metadata_files(tree):
        if not _folder(tree, IMAGE_FOLDERS) or not _named(file, table).isdisjoint(tree.files):
            return file
    return None


def classes_evidence(tree: Tree) -> str | None:
    """Return the class folders of an imagefolder without metadata, or None."""
    images = tree.images()
    if _folder(tree, IMAGE_FOLDERS) or not images:
        return None
    depths = {len(PurePosixPath(file).parts) for file in images}
    classes = sorted({PurePosixPath(file).parent.name for file in images})
    if len(depths) == 1 and min(depths) > 1 and len(classes) > 1 and not _no_classes(classes):
        return ", ".join(f"{name}/" for name in classes[:6])
    return None


def folder_evidence(tree: Tree) -> str | None:
    """Return the folder of photographs: one named images, or the source itself if they lie directly in it; or None."""
    named = _folder(tree, IMAGE_FOLDERS)
    if named:
        return f"{named}/"
    return next((file for file in tree.images() if "/" not in file), None)


def read_imagefolder(tree: Tree, options: Options) -> Listing:
    """List a Hugging Face imagefolder: with ``metadata.csv`` / ``.jsonl`` (``file_name``), or one folder a class."""
    listing = Listing("imagefolder")
    published = _metadata_files(tree)
    if not published:
        return _read_classes(listing, tree, options)
    pictures = Pictures({})
    tables = [_resolve(tree, table, pictures, listing) for _, table in published]
    known = set(tree.named(NOT_PICTURES)).union(*(_named(file, table) for file, table in published))
    if not any("mask_file_name" in table.columns for _, table in published):
        masks = [file for file in tree.images() if PurePosixPath(file).parent.name.lower() in MASK_FOLDERS]
        pictures.masks, unmatched = masks_by_stem(masks, pictures.images)
        reject_masks(listing, unmatched)
        known.update(masks)
    for file in sorted(set(tree.images()) - known):
        listing.reject(stem(file), file, "image_without_row", "no metadata file names it")
    # What `prepare` has admitted once is no typing error.
    any_label = DATASET_FILE in tree.files
    add_candidates(listing, tree, tables, pictures, options, _describer(options, any_label=any_label))
    return listing


def read_folder(tree: Tree, options: Options) -> Listing:
    """List any folder: ``images/`` (or the folder itself), ``masks/`` if there, and one table if there."""
    listing = Listing("folder")
    image_folder, mask_folder = _folder(tree, IMAGE_FOLDERS), _folder(tree, MASK_FOLDERS)
    pictures_at, masks_at = f"{image_folder}/" if image_folder else "", f"{mask_folder}/" if mask_folder else None
    files = tree.images()
    mask_files = [file for file in files if masks_at and file.startswith(masks_at)]
    images = [file for file in files if file.startswith(pictures_at) and not (masks_at and file.startswith(masks_at))]
    if not image_folder:
        images = [file for file in images if "/" not in file]
    pictures = Pictures(unique_files(listing, images))
    for name, file in pictures.images.items():
        first = file.removeprefix(pictures_at).partition("/")[0].lower()
        if first in SPLIT_NAMES:  # images/train/, images/val/, ...
            pictures.splits[name] = SPLIT_NAMES[first]
    pictures.masks, unmatched = masks_by_stem(mask_files, pictures.images)
    reject_masks(listing, unmatched)
    _reject_other_files(listing, tree, pictures_at, mask_folder)
    table = _table(tree)
    if table is None:
        listing.notes.append("no table of metadata: diagnoses are not known")
    add_candidates(listing, tree, [table] if table else [], pictures, options, _describer(options))
    return listing


def _read_classes(listing: Listing, tree: Tree, options: Options) -> Listing:
    images = tree.images()
    if no_classes := _no_classes(PurePosixPath(file).parent.name for file in images):
        raise InputError(
            f"folders named {', '.join(no_classes)} and no metadata file with a column file_name",
            "an imagefolder: such a file, or one folder a class",
            "say --layout folder, and give the folder that holds them",
        )
    unique = len({key(stem(file)) for file in images}) == len(images)
    pictures = Pictures({})
    if not unique:
        listing.notes.append("file names repeat between folders: ids are made of folder and file name")
    for file in images:
        isic_id = stem(file) if unique else "_".join(PurePosixPath(file).with_suffix("").parts)
        name = key(isic_id)
        folders = PurePosixPath(file).parts[:-1]
        split = SPLIT_NAMES.get(folders[0].lower()) if len(folders) > 1 else None
        # The folder is the user's own statement of the class: no vocabulary is asked.
        diagnosis = diagnosis_name(folders[-1], options.labels, any_label=True)
        pictures.images[name] = file
        pictures.ids[name] = isic_id
        pictures.splits |= {name: split} if split is not None else {}
        pictures.fields[name] = {"diagnosis": diagnosis} if diagnosis is not None else {}
    add_candidates(listing, tree, [], pictures, options, _describer(options))
    return listing


def _describer(options: Options, *, any_label: bool = False) -> Describe:
    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        del raw
        fields, adjustments = clinical_fields(row)
        diagnosis = diagnosis_name(row.get("diagnosis"), options.labels, any_label=any_label)
        fields |= {"diagnosis": diagnosis} if diagnosis is not None else {}
        for name in ("prompt", "origin"):
            value = known_value(row.get(name))
            fields |= {name: value} if value is not None else {}
        if fields.get("origin", "real") not in get_args(Origin):
            raise ItemError("unknown_origin", f"{fields['origin']!r}; expected {' or '.join(get_args(Origin))}")
        return fields, adjustments

    return describe


def _folder(tree: Tree, names: tuple[str, ...]) -> str | None:
    """Return the top folder that has one of the names, ignoring case; the order of ``names`` is the order of choice."""
    tops = sorted({PurePosixPath(file).parts[0] for file in tree.files if "/" in file})
    return next((top for name in names for top in tops if top.lower() == name), None)


def _table(tree: Tree) -> Table | None:
    tables = [file for file in tree.named(r".*\.(csv|tsv)|metadata\.jsonl") if "/" not in file]
    tables = [file for file in tables if file not in tree.named(NOT_TABLES)]
    if TABLE_NAME in tables:
        tables = [TABLE_NAME]
    if len(tables) > 1:
        raise InputError(
            f"{len(tables)} tables: {', '.join(tables[:6])}",
            f"one table beside the folders, or one named {TABLE_NAME}",
            "take the others away or rename one",
        )
    return _read(tree, tables[0]) if tables else None


def _no_classes(names: Iterable[str]) -> list[str]:
    """Return the folders whose name says that they hold photographs or masks, and is no diagnosis."""
    return sorted({name for name in names if name.lower() in IMAGE_FOLDERS + MASK_FOLDERS})


def _reject_other_files(listing: Listing, tree: Tree, pictures_at: str, mask_folder: str | None) -> None:
    """Files of other kinds in the picture folders are reported: a phone's .heic must not go missing in silence."""
    images = set(tree.images())
    for file in tree.files:
        in_folder = (pictures_at and file.startswith(pictures_at)) or (
            mask_folder and file.startswith(f"{mask_folder}/")
        )
        if in_folder and file not in images:
            listing.reject(stem(file), file, "not_an_image", f"ending {PurePosixPath(file).suffix or '(none)'}")


def _metadata_files(tree: Tree) -> list[tuple[str, Table]]:
    """Return the metadata files of an imagefolder: those with a column ``file_name``."""
    tables = [(file, _read(tree, file)) for file in tree.named(r"metadata\.(csv|jsonl)")]
    return [(file, table) for file, table in tables if "file_name" in table.columns]


def _read(tree: Tree, file: str) -> Table:
    path = tree.root / file
    return _read_json_lines(path) if path.name == METADATA_FILE else read_table(path)


def _read_json_lines(path: Path) -> Table:
    rows: list[Row] = []
    bad_lines: list[int] = []
    columns: dict[str, None] = {}
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            bad_lines.append(line)
            continue
        columns |= dict.fromkeys(values)
        plain = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
        rows.append(Row(line, {name: str(value) for name, value in plain.items()}))
    if not rows:
        raise InputError(f"{path.name} without a JSON object", "one a line", "fill it or take it away")
    filled = tuple(Row(row.line, {name: row.values.get(name, "") for name in columns}) for row in rows)
    return Table(path, tuple(columns), filled, tuple(bad_lines))


def _resolve(tree: Tree, table: Table, pictures: Pictures, listing: Listing) -> Table:
    """Turn a metadata file's paths, which are relative to its folder, into pictures; return the rows that have one."""
    folder = table.path.parent.relative_to(tree.root).as_posix()
    table_split = SPLIT_NAMES.get(table.path.parent.name.lower()) if folder != "." else None
    rows: list[Row] = []
    for row in table.rows:
        where = f"{table.path.relative_to(tree.root).as_posix()}:{row.line}"
        try:
            image = tree.inside(row.values["file_name"], folder)
            mask = tree.inside(row.values["mask_file_name"], folder) if row.values.get("mask_file_name") else None
        except ItemError as error:
            listing.reject(row.values.get("isic_id", ""), where, error.code, error.detail)
            continue
        isic_id = row.values.get("isic_id") or stem(image)
        name = key(isic_id)
        if pictures.images.setdefault(name, image) != image:
            listing.reject(isic_id, where, "duplicate_id", f"the same id as {pictures.images[name]}")
            continue
        pictures.ids[name] = isic_id
        if mask is not None:
            pictures.masks[name] = mask
        if table_split is not None:
            pictures.splits[name] = table_split
        rest = {column: value for column, value in row.values.items() if column not in (*PATH_COLUMNS, "isic_id")}
        rows.append(Row(row.line, {"isic_id": isic_id, **rest}))
    columns = ("isic_id", *(column for column in table.columns if column not in (*PATH_COLUMNS, "isic_id")))
    return Table(table.path, columns, tuple(rows), table.bad_lines)


def _named(file: str, table: Table) -> set[str]:
    """Return the paths that a metadata file names, relative to the tree, whether or not anything is there."""
    values = (row.values.get(column) for row in table.rows for column in PATH_COLUMNS)
    return {(PurePosixPath(file).parent / value).as_posix() for value in values if value}
