"""Joining photographs, masks and table rows to candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skindualgen.contracts import InputError, Split
from skindualgen.data.images import SUFFIXES, Adjustment, ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, known_value, split_name, stem
from skindualgen.data.sources.tables import Row, Table
from skindualgen.data.splits import Link

Fields = dict[str, str | int]
Describe = Callable[[Mapping[str, str], Mapping[str, str]], tuple[Fields, list[Adjustment]]]
"""(values by field, values by column) -> record fields and adjustments; may raise ItemError."""


@dataclass
class Pictures:
    """The files of a listing by `key` of their id, and what folders say of them; masks by annotator."""

    images: dict[str, str]
    masks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    fields: dict[str, Fields] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def id_of(self, name: str) -> str:
        """Return the id in its own spelling: the file's stem, unless another was given."""
        return self.ids.get(name) or stem(self.images[name])


def add_candidates(
    listing: Listing, tree: Tree, tables: Sequence[Table], pictures: Pictures, options: Options, describe: Describe
) -> None:
    """Add a candidate for each photograph, with the fields of its row if it has one, and reject what does not join.

    Raises:
        InputError: columns are named, and there is no table or not these columns.
    """
    if options.columns and not tables:
        raise InputError(
            f"--column {', '.join(options.columns)}, but no table",
            "a CSV beside the folders",
            "add it, or leave --column",
        )
    rows = _rows_by_key(listing, tree, tables, pictures, options)
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
        listing.candidates.append(Candidate(isic_id, file, mask, fields, split, links, tuple(adjustments), others))
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


def _rows_by_key(
    listing: Listing, tree: Tree, tables: Sequence[Table], pictures: Pictures, options: Options
) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
    rejected = {key(stem(rejection.file)) for rejection in listing.rejections}
    found: dict[str, list[tuple[str, Mapping[str, str], Mapping[str, str]]]] = {}
    for table in tables:
        file = table.path.relative_to(tree.root).as_posix()
        reject_bad_lines(listing, file, table)
        raw: Row
        for raw, row in zip(table.rows, table.renamed(options.columns, needed=("isic_id",)), strict=True):
            where, value = f"{file}:{row.line}", row.values["isic_id"]
            try:
                name = row_name(value)
            except ItemError as error:
                listing.reject(value, where, error.code, error.detail)
                continue
            if name in pictures.images:
                found.setdefault(name, []).append((where, row.values, raw.values))
            elif name not in rejected:
                listing.reject(value, where, "row_without_image", "no photograph of this id")
    return _without_contradictions(listing, found, pictures)


def _without_contradictions(
    listing: Listing, found: dict[str, list[tuple[str, Mapping[str, str], Mapping[str, str]]]], pictures: Pictures
) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
    rows: dict[str, tuple[Mapping[str, str], Mapping[str, str]]] = {}
    repeated = 0
    for name, entries in found.items():
        _, row, raw = entries[0]
        differing = sorted({field for _, other, _ in entries for field in row if other.get(field) != row[field]})
        if differing:
            places = ", ".join(where for where, _, _ in entries)
            listing.reject(
                pictures.id_of(name),
                pictures.images[name],
                "duplicate_id",
                f"{places} differ in {', '.join(differing)}",
            )
            del pictures.images[name]
            continue
        repeated += len(entries) - 1
        rows[name] = row, raw
    if repeated:
        listing.notes.append(f"{repeated} rows say the same as an earlier row of the same id: counted once")
    return rows


def _mask_of(tree: Tree, row: Mapping[str, str]) -> str | None:
    value = known_value(row.get("mask"))
    return None if value is None else tree.inside(value)


def reject_bad_lines(listing: Listing, file: str, table: Table) -> None:
    """Reject the lines of a table, which is called ``file``, that have another number of values than its header."""
    for line in table.bad_lines:
        listing.reject("", f"{file}:{line}", "bad_row", f"not {len(table.columns)} values")
