"""Joining photographs, masks and table rows to candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from skindualgen.contracts import InputError, Split, listed
from skindualgen.data.images import SUFFIXES, Adjustment, ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, stem
from skindualgen.data.sources.doubts import (
    note_lesions_of_several_patients,
    refuse_half_marked,
    refuse_two_diagnoses,
    unread_fields,
)
from skindualgen.data.sources.pairing import another, pair_masks, unique_files
from skindualgen.data.sources.tables import UNKNOWN_LABEL, Row, Table, diagnosis_columns, marked_diagnosis
from skindualgen.data.sources.values import Fields, known_value, split_name
from skindualgen.data.splits import Link

Describe = Callable[[Mapping[str, str], Mapping[str, str]], tuple[Fields, list[Adjustment]]]
"""(values by field, values by column) -> record fields and adjustments; may raise ItemError."""


SHOWN_COLUMNS = 12
TABLE_NAMES = r".*\.(csv|tsv|tab|xlsx?|ods|parquet|hdf5|h5|jsonl?)"


class _Entry(NamedTuple):
    """A row: the table's file, the line in it, values by field and by column."""

    file: str
    where: str
    values: Mapping[str, str]
    raw: Mapping[str, str]


@dataclass
class Pictures:
    """The files of a listing by `key` of their id, and what folders say of them; masks by annotator.

    ``ignored`` are pictures of the pixels that are not to be learnt from.
    """

    images: dict[str, str]
    masks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    fields: dict[str, Fields] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    def id_of(self, name: str) -> str:
        """Return the id in its own spelling: the file's stem, unless another was given."""
        return self.ids.get(name) or stem(self.images[name])


def named_pictures(
    listing: Listing,
    tree: Tree,
    is_photograph: Callable[[str], bool],
    is_mask: Callable[[str], bool],
    expected: str,
    splits: Mapping[str, Split],
) -> Pictures:
    """Find photographs, masks and splits (`named_split`) by the names of files.

    What is neither is rejected with the detail ``expected``.
    """
    images, masks = [], []
    for file in tree.images():
        if is_photograph(file):
            images.append(file)
        elif is_mask(file):
            masks.append(file)
        else:
            listing.reject(stem(file), file, "unknown_name", expected)
    by_stem = unique_files(listing, tree, images)
    found = {name: split for name, file in by_stem.items() if (split := named_split(file, splits)) is not None}
    return Pictures(by_stem, pair_masks(listing, tree, masks, by_stem), found)


def named_split(file: str, splits: Mapping[str, Split]) -> Split | None:
    """Return the split that a file's folders or name stand for, by patterns; the innermost that says one counts."""
    for part in reversed(PurePosixPath(file).parts):
        for pattern, split in splits.items():
            if re.fullmatch(pattern, part, re.IGNORECASE):
                return split
    return None


def add_candidates(
    listing: Listing,
    tree: Tree,
    tables: Sequence[Table],
    pictures: Pictures,
    options: Options,
    describe: Describe,
    *,
    also: Collection[str] = (),
) -> None:
    """Add a candidate for each photograph, with the fields of its row if it has one, and reject what does not join.

    Rows of one id in several tables are joined, where they do not contradict each other. A table without a column for
    the diagnosis may have one for each (`diagnosis_columns`). Columns without a reader are noted.

    Raises:
        InputError: columns are named, and there is no table or not these columns; two columns of diagnoses differ.
    """
    if options.columns and not tables:
        raise InputError(
            f"--column {', '.join(options.columns)}, but no table",
            "a CSV next to the folders",
            "add it, or leave --column",
        )
    rows = _rows_by_key(listing, tree, tables, pictures, options)
    for table in tables:
        note_unused_columns(listing, table, options.columns, also)
    without_row = 0
    for name, file in sorted(pictures.images.items()):
        isic_id = pictures.id_of(name)
        fields: Fields = {**pictures.fields.get(name, {})}
        split, masks = pictures.splits.get(name), pictures.masks.get(name, ())
        adjustments: list[Adjustment] = []
        links: tuple[Link, ...] = ()
        try:
            if name in rows:
                row, raw = rows[name]
                described, adjustments = describe(row, raw)
                fields |= described
                split = split_name(row.get("split")) or split
                named = _mask_of(tree, row)
                masks = (named,) if named is not None else masks
                group = known_value(row.get("split_group"))
                links = (("split_group", group),) if group is not None else ()
            else:
                without_row += 1
        except ItemError as error:
            listing.reject(isic_id, file, error.code, error.detail)
            continue
        mask, others = masks[0] if masks else None, masks[1:]
        ignored = pictures.ignored.get(name)
        listing.candidates.append(
            Candidate(isic_id, file, mask, fields, split, links, tuple(adjustments), others, ignored)
        )
    if tables and without_row:
        listing.notes.append(f"{without_row} photographs have no row in the table: nothing is known of them")


def row_name(value: str) -> str:
    """Return the key of the photograph that an id, file name or path in a table stands for.

    Raises:
        ItemError: ``leaves_folder`` for an absolute path or one with ``..``; ``no_id`` for an empty value.
    """
    pure = PurePosixPath(value.replace("\\", "/"))
    if not pure.parts:
        raise ItemError("no_id", "empty id")
    if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", value):
        raise ItemError("leaves_folder", f"{value!r} is absolute or holds '..'")
    return key(pure.stem if pure.suffix.lower() in SUFFIXES else pure.name)


def note_unused_columns(listing: Listing, table: Table, columns: Mapping[str, str], also: Collection[str] = ()) -> None:
    """Note the columns of a table that nothing is read from."""
    used = {*table.fields(columns).values(), *also}
    used |= set() if "diagnosis" in table.fields(columns) else set(diagnosis_columns(table))
    unused = [column for column in table.columns if column and column not in used]
    if unused:
        shown = listed(unused, SHOWN_COLUMNS)
        listing.notes.append(f"{table.path.name}: columns not used, as no field has these names: {shown}")


def note_unused_tables(listing: Listing, tree: Tree, used: Collection[str]) -> None:
    """Note the tables below the source folder that nothing is read from."""
    others = [file for file in tree.named(TABLE_NAMES) if file not in used]
    if others:
        listing.notes.append(f"tables not used, as this layout has none of the name: {listed(others, SHOWN_COLUMNS)}")


def _rows_by_key(
    listing: Listing, tree: Tree, tables: Sequence[Table], pictures: Pictures, options: Options
) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
    rejected = {key(stem(rejection.file)) for rejection in listing.rejections}
    unusable: set[str] = set()
    found: dict[str, list[_Entry]] = {}
    for table in tables:
        file = table.path.relative_to(tree.root).as_posix()
        reject_bad_lines(listing, file, table)
        refuse_two_diagnoses(table, options)
        note_lesions_of_several_patients(listing, table, options)
        marks = {} if "diagnosis" in table.fields(options.columns) else diagnosis_columns(table)
        refuse_half_marked(table, marks)
        unread = unread_fields(listing, table, options)
        raw: Row
        for raw, row in zip(table.rows, table.renamed(options.columns, needed=("isic_id",)), strict=True):
            where, value = f"{file}:{row.line}", row.values["isic_id"]
            try:
                name = row_name(value)
                marked = {"diagnosis": marked_diagnosis(raw.values, marks) or ""} if marks else {}
            except ItemError as error:
                listing.reject(value, where, error.code, error.detail)
                if error.code == UNKNOWN_LABEL:
                    unusable.add(row_name(value))
                continue
            path = value.replace("\\", "/")
            if name in pictures.images and another(name, path, pictures.images[name]):
                detail = f"that of this name, {pictures.images[name]}, is in a folder of another split or class"
                listing.reject(value, where, "row_without_image", detail)
            elif name in pictures.images:
                found.setdefault(name, []).append(_Entry(file, where, {**row.values, **marked, **unread}, raw.values))
            elif name not in rejected | unusable:
                listing.reject(value, where, "row_without_image", "no photograph of this id")
    for name in unusable & pictures.images.keys():
        del pictures.images[name]
    return _without_contradictions(listing, found, pictures)


def _without_contradictions(
    listing: Listing, found: Mapping[str, Sequence[_Entry]], pictures: Pictures
) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
    rows: dict[str, tuple[Mapping[str, str], Mapping[str, str]]] = {}
    repeated = joined = 0
    for name, entries in found.items():
        if name not in pictures.images:
            continue
        differing = _differing(entries)
        if differing:
            places = ", ".join(entry.where for entry in entries)
            listing.reject(
                pictures.id_of(name),
                pictures.images[name],
                "duplicate_id",
                f"{places} differ in {', '.join(differing)}",
            )
            del pictures.images[name]
            continue
        values: dict[str, str] = {}
        raw: dict[str, str] = {}
        for entry in entries:
            values |= {field: value for field, value in entry.values.items() if not values.get(field)}
            raw |= {column: value for column, value in entry.raw.items() if not raw.get(column)}
        files = len({entry.file for entry in entries})
        joined += files > 1
        repeated += len(entries) - files
        rows[name] = values, raw
    if repeated:
        listing.notes.append(f"{repeated} rows say the same as an earlier row of the same id: counted once")
    if joined:
        listing.notes.append(f"{joined} photographs have rows in several tables, which are joined")
    return rows


def _differing(entries: Sequence[_Entry]) -> list[str]:
    """Return the fields in which rows of one id differ; of several tables, those in which they contradict."""
    differing = set()
    for field_name in {name for entry in entries for name in entry.values}:
        with_it = [entry for entry in entries if field_name in entry.values]
        for file in {entry.file for entry in with_it}:
            if len({entry.values[field_name] for entry in with_it if entry.file == file}) > 1:
                differing.add(field_name)
        stated = {_comparable(entry.values[field_name]) for entry in with_it} - {None}
        if len(stated) > 1 and field_name != "isic_id":
            differing.add(field_name)
    return sorted(differing)


def _comparable(value: str) -> str | float | None:
    """Return a form in which values of several tables are compared: "50" and "50.0" are the same age."""
    text = known_value(value)
    try:
        return None if text is None else float(text)
    except ValueError:
        return text.casefold() if text is not None else None


def _mask_of(tree: Tree, row: Mapping[str, str]) -> str | None:
    value = known_value(row.get("mask"))
    return None if value is None else tree.inside(value)


def reject_bad_lines(listing: Listing, file: str, table: Table) -> None:
    """Reject the lines of a table, which is called ``file``, that have another number of values than its header."""
    for line in table.bad_lines:
        listing.reject("", f"{file}:{line}", "bad_row", f"not {len(table.columns)} values")
