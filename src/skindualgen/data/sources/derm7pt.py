"""derm7pt: cases of the seven-point checklist, with one dermoscopic and one clinical photograph each.

Kawahara, Daneshvar, Argenziano, Hamarneh, IEEE J. Biomed. Health Inform. 23, 2019; names, columns and labels as read by
<https://github.com/jeremykawahara/derm7pt>, ``derm7pt/dataset.py`` and README.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from skindualgen.contracts import InputError, Split
from skindualgen.data.images import ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, stem
from skindualgen.data.sources.rows import note_unused_columns, note_unused_tables
from skindualgen.data.sources.tables import Table, read_columns, read_table
from skindualgen.data.sources.values import clinical_fields, diagnosis_name, stated

MARKS = frozenset({"derm", "clinic", "diagnosis", "case_num"})
TABLE_NAME = "meta.csv"
PUBLISHED = "take the published tables"
INDEXES: Mapping[str, Split] = {"train_indexes.csv": "train", "valid_indexes.csv": "val", "test_indexes.csv": "test"}
"""Tables with a column ``indexes``: places of the rows of meta.csv, counted from 0."""
LABELS = {"miscellaneous": "other"}
MELANOMA = re.compile(r"melanoma \((less|more) than .* mm\)|melanoma \(.* to .* mm\)")
"""Melanomas by their thickness, which is no diagnosis of its own."""


def evidence(tree: Tree) -> str | None:
    """Return derm7pt's table, or None; of several, that which is named as published."""
    found = [file for file in tree.named(r".*\.csv") if set(read_columns(tree.root / file)) >= MARKS]
    return min(found, key=lambda file: PurePosixPath(file).name.lower() != TABLE_NAME, default=None)


def read(tree: Tree, options: Options) -> Listing:
    """List derm7pt: the dermoscopic photographs (column ``derm``) of meta.csv, with the published splits.

    Raises:
        InputError: no table; tables that do not say the published splits, as rows are missing, doubled or in another
            order, so that the splits would fall on other cases.
    """
    del options  # The published tables have fixed columns and labels.
    listing = Listing("derm7pt")
    file = evidence(tree)
    if file is None:
        raise InputError("no table with the columns derm, clinic and diagnosis", "meta/meta.csv", "add it")
    table = read_table(tree.root / file)
    if table.bad_lines:
        raise InputError(
            f"{file}, line {table.bad_lines[0]}: not {len(table.columns)} values",
            "every row whole, as the splits count them",
            "fix the line",
        )
    splits, used = _splits(tree, table)
    if used and (unnamed := len(table.rows) - len(splits)):
        listing.notes.append(f"{unnamed} of {len(table.rows)} rows of {file} stand in no table of indexes: split anew")
    by_path = {key("/".join(parts[start:])): image for image, parts in _parts(tree) for start in range(len(parts))}
    places: dict[str, str] = {}
    named = Counter(key(stem(row.values["derm"])) for row in table.rows)
    clinical = {image for row in table.rows if (image := by_path.get(_path(row.values["clinic"])))}
    for index, row in enumerate(table.rows):
        image = by_path.get(_path(row.values["derm"]))
        isic_id, where = stem(row.values["derm"]), f"{file}:{row.line}"
        if image is None:
            listing.reject(isic_id, where, "row_without_image", "no such photograph")
            continue
        places[key(isic_id)] = image
        if named[key(isic_id)] > 1:
            listing.reject(isic_id, where, "duplicate_id", f"{named[key(isic_id)]} rows name the photograph {image}")
        elif image in clinical:
            listing.reject(isic_id, where, "contradicting_rows", f"{image} in the columns clinic and derm")
        else:
            _add(listing, image, row.values, splits.get(index))
    clinical -= set(places.values())
    if clinical:
        listing.notes.append(
            f"{len(clinical)} clinical photographs (column clinic) are not used: they are no dermoscopy"
        )
    rest = set(by_path.values()) - clinical - set(places.values())
    for image in sorted(rest):
        listing.reject(stem(image), image, "image_without_row", f"{file} does not name it")
    note_unused_columns(listing, table, {}, ("derm", "clinic", "location"))
    note_unused_tables(listing, tree, [file, *used])
    return listing


def _add(listing: Listing, image: str, row: Mapping[str, str], split: Split | None) -> None:
    label = row["diagnosis"].lower()
    try:
        name = diagnosis_name("melanoma" if MELANOMA.fullmatch(label) else label, LABELS)
    except ItemError as error:
        listing.reject(stem(image), image, error.code, error.detail)
        return
    fields, adjustments = clinical_fields({"sex": row.get("sex", ""), "anatom_site_general": row.get("location", "")})
    detail = label if MELANOMA.fullmatch(label) else None
    fields = {"source": "derm7pt", **fields, **stated(diagnosis=name, diagnosis_detail=detail)}
    listing.candidates.append(Candidate(stem(image), image, None, fields, split, adjustments=tuple(adjustments)))


def _parts(tree: Tree) -> list[tuple[str, tuple[str, ...]]]:
    return [(image, PurePosixPath(image).parts) for image in tree.images()]


def _path(value: str) -> str:
    """Return the form in which a cell's path, relative to the folder of images, is compared."""
    return key(PurePosixPath(value.replace("\\", "/")).as_posix())


def _splits(tree: Tree, table: Table) -> tuple[dict[int, Split], list[str]]:
    """Return the split of each row by its place, and the tables that say it: none, or one for each split."""
    splits: dict[int, Split] = {}
    used = tree.named("|".join(map(re.escape, INDEXES)))
    names = sorted(PurePosixPath(file).name.lower() for file in used)
    if used and names != sorted(INDEXES):
        expected = f"each of {', '.join(INDEXES)} once, or none of them"
        raise InputError(f"the tables of indexes {', '.join(used)}", expected, PUBLISHED)
    if used:
        _refuse_another_order(table)
    for file in used:
        indexes = read_table(tree.root / file)
        if indexes.bad_lines or not indexes.rows:
            got = f"{file}, line {indexes.bad_lines[0]}, cut short" if indexes.bad_lines else f"{file} without a row"
            raise InputError(got, "a place of a row in each line", PUBLISHED)
        for row in indexes.rows:
            value = row.values.get("indexes", "")
            if not value.isdecimal() or int(value) >= len(table.rows) or int(value) in splits:
                raise InputError(
                    f"{file}, line {row.line}: {value!r}",
                    f"places of the {len(table.rows)} rows of {table.path.name} in a column indexes, each once",
                    PUBLISHED,
                )
            splits[int(value)] = INDEXES[PurePosixPath(file).name.lower()]
    return splits, used


def _refuse_another_order(table: Table) -> None:
    """Refuse rows whose running numbers do not ascend: they are not where the tables of indexes count them."""
    last = 0
    for row in table.rows:
        value = row.values["case_num"]
        if not value.isdecimal() or int(value) <= last:
            raise InputError(
                f"{table.path.name}, line {row.line}: case_num {value!r} after {last}",
                "rows in the published order, as the tables of indexes count them",
                f"sort them by case_num, or {PUBLISHED}",
            )
        last = int(value)
