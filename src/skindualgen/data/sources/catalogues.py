"""Published data sets that are photographs and tables which name them: ISIC 2020, ISIC 2024, BCN20000, PAD-UFES-20.

Where their names, columns and codes are stated: docs/data-layouts.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from skindualgen.contracts import Split
from skindualgen.data.archive_terms import LEVEL_FIELDS, diagnosis_levels
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.sources.base import Listing, Options, Tree, key, stem
from skindualgen.data.sources.challenges import with_behaviour
from skindualgen.data.sources.file_names import without_mask_word
from skindualgen.data.sources.names import place
from skindualgen.data.sources.rows import (
    Describe,
    add_candidates,
    named_pictures,
    named_split,
    note_unused_tables,
)
from skindualgen.data.sources.tables import MARKS, USUAL_COLUMNS, Table, is_diagnosis, read_columns, read_table
from skindualgen.data.sources.values import Fields, clinical_fields, diagnosis_name

TABLE = r".*\.(csv|tsv|tab)"


@dataclass(frozen=True)
class Catalogue:
    """What a published data set is known by.

    Attributes:
        layout: its name here.
        name: the record's source, where the table states none.
        pictures: pattern of a photograph's stem.
        tables: pattern of the tables' names.
        marks: columns that only its tables have: one of these sets is enough.
        others: further sets of columns, of tables that belong to it but do not tell it from others.
        columns: field -> column, where the usual names do not say it; used where no column has a usual name.
        malignant: column of 1 (malignant) and 0 (not malignant), or None.
        image_type: the ISIC Archive's image type, where it is not dermoscopic.
        splits: pattern of a folder or table -> the split that it stands for.
    """

    layout: str
    name: str
    pictures: str
    tables: str
    marks: tuple[frozenset[str], ...]
    others: tuple[frozenset[str], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    malignant: tuple[str, ...] = ()
    image_type: str | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)

    def evidence(self, tree: Tree) -> str | None:
        """Return a table that only this data set has, or None."""
        return next(iter(tree.named(self.tables)), None) or next(
            (file for file in tree.named(TABLE) if _has_one(tree, file, self.marks)), None
        )

    def read(self, tree: Tree, options: Options) -> Listing:
        """List a published data set; see docs/data-layouts.md for its names and where they are stated."""
        listing = Listing(self.layout)
        named = re.compile(self.pictures, re.IGNORECASE)
        pictures = named_pictures(
            listing,
            tree,
            lambda file: named.fullmatch(stem(file)) is not None and place(file).kind != "mask",
            lambda file: named.fullmatch(without_mask_word(stem(file))) is not None,
            f"no name of {self.name}'s photographs",
            self.splits,
        )
        files = [file for file in tree.named(TABLE) if _belongs(tree, file, self)]
        tables = [_with_split(_table(tree, file, self, options), named_split(file, self.splits)) for file in files]
        note_unused_tables(listing, tree, files)
        if self.image_type is not None:
            listing.notes.append(f"these photographs are no dermoscopy: their image_type is {self.image_type!r}")
        add_candidates(listing, tree, tables, pictures, options, _describer(self, options), also=self.malignant)
        return listing


_ALL = (
    Catalogue(
        "isic2020",
        "ISIC 2020",
        pictures=r"ISIC_\d+",
        tables=r"ISIC_2020_(Training_(GroundTruth|Metadata)(_v2)?|Test_Metadata)\.csv",
        marks=(frozenset({"image_name", "benign_malignant", "target"}),),
        others=(frozenset({"image_name", "patient_id"}),),
        malignant=("target",),
        splits={
            r"ISIC_2020_Train.*|train|train\.csv": "train",
            r"ISIC_2020_Test.*|test|test\.csv": "test",
        },
    ),
    Catalogue(
        "isic2024",
        "ISIC 2024",
        pictures=r"ISIC_\d+",
        tables=r"ISIC_2024_.*\.csv",
        marks=(frozenset({"isic_id", "iddx_1"}), frozenset({"isic_id", "iddx_full"})),
        others=(
            frozenset({"isic_id", "patient_id"}),
            frozenset({"isic_id", "malignant"}),
            frozenset({"isic_id", "attribution"}),
        ),
        columns={"diagnosis": "iddx_full"},
        malignant=("target", "malignant"),
        image_type="TBP tile: close-up",
        splits={
            r"ISIC_2024_(Permissive_)?Train.*|train-image|train-metadata\.csv": "train",
            r"ISIC_2024_Test.*|test-image|test-metadata\.csv": "test",
        },
    ),
    Catalogue(
        "bcn20000",
        "BCN20000",
        pictures=r"BCN_\d+",
        tables=r"bcn_20k_(train|test)\.csv",
        marks=(frozenset({"bcn_filename"}),),
        columns={"isic_id": "bcn_filename"},
        splits={r"BCN_20k_train(\.csv)?": "train", r"BCN_20k_test(\.csv)?": "test"},
    ),
    Catalogue(
        "pad-ufes-20",
        "PAD-UFES-20",
        pictures=r"PAT_\d+_\d+_\d+",
        tables=r"(?!)",
        marks=(frozenset({"img_id", "diagnostic"}),),
        columns={"isic_id": "img_id", "diagnosis": "diagnostic", "anatom_site_general": "region"},
        image_type="clinical: close-up",
    ),
)
CATALOGUES = {catalogue.layout: catalogue for catalogue in _ALL}


def _describer(catalogue: Catalogue, options: Options) -> Describe:
    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        fields, adjustments = clinical_fields(row)
        fields = {"source": catalogue.name, **fields}
        if catalogue.image_type is not None:
            fields["image_type"] = catalogue.image_type
        diagnosis = diagnosis_name(row.get("diagnosis"), options.labels)
        fields = {**with_behaviour(diagnosis), **fields}
        for column in catalogue.malignant:
            _add_malignant(fields, column, raw.get(column, ""))
        return fields, adjustments

    return describe


def _add_malignant(fields: Fields, column: str, value: str) -> None:
    """Add what a column of 0 and 1 says: 0 is "not malignant", which a diagnosis of the same row may say better."""
    if not value:
        return
    mark = MARKS.get(value.lower())
    if mark is None:
        raise ItemError("unknown_label", f"{value!r} for {column}; expected 0 or 1")
    stated = {str(fields[name]).lower() for name in ("benign_malignant", "diagnosis_1") if name in fields}
    place = diagnosis_levels(str(fields.get("diagnosis", ""))) or ("",)
    opposite = place[0].lower() == ("benign" if mark else "malignant")
    if opposite or (stated and mark != ("malignant" in stated)):
        others = ", ".join(sorted(stated | {str(fields.get("diagnosis", ""))} - {""}))
        raise ItemError("contradicting_labels", f"{column} {value} together with {others}")
    if not stated and place[0] != "Indeterminate":
        fields["benign_malignant"] = "malignant" if mark else "benign"


def _table(tree: Tree, file: str, catalogue: Catalogue, options: Options) -> Table:
    """Read a table, with the fields' names for columns that the usual names do not cover, but for the user's.

    Of its columns, of which ISIC 2024 has 55 in 401,059 rows, only those are held that something may be read from.
    """
    used = {*USUAL_COLUMNS, *catalogue.columns.values(), *catalogue.malignant}
    chosen = set(options.columns.values())
    table = read_table(tree.root / file, keep=lambda c: c.lower() in used or c in chosen or is_diagnosis(c))
    usual = table.fields({})
    names = {
        column: name
        for name, column in catalogue.columns.items()
        if column in table.columns
        and name not in usual
        and column not in chosen
        # iddx_full holds the levels of iddx_1 to iddx_5 in one cell.
        and not (name == "diagnosis" and LEVEL_FIELDS[0] in usual)
    }
    if not names:
        return table
    rows = tuple(replace(r, values={names.get(c, c): value for c, value in r.values.items()}) for r in table.rows)
    return replace(table, columns=tuple(names.get(column, column) for column in table.columns), rows=rows)


def _with_split(table: Table, split: Split | None) -> Table:
    """Return the table with a split for each row, where its name says one and no column does."""
    if split is None or "split" in table.columns:
        return table
    rows = tuple(replace(row, values={**row.values, "split": split}) for row in table.rows)
    return replace(table, columns=(*table.columns, "split"), rows=rows)


def _belongs(tree: Tree, file: str, catalogue: Catalogue) -> bool:
    named = re.fullmatch(catalogue.tables, PurePosixPath(file).name, re.IGNORECASE)
    return bool(named) or _has_one(tree, file, (*catalogue.marks, *catalogue.others))


def _has_one(tree: Tree, file: str, sets: tuple[frozenset[str], ...]) -> bool:
    columns = {key(column) for column in read_columns(tree.root / file)} if sets else set()
    return any(marks <= columns for marks in sets)
