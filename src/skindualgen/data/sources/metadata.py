"""What lies next to photographs of any origin: metadata files of imagefolders, a folder's one table, captions.

Captions are in text files, as trainers of LoRA read them: ``a.txt`` belongs to ``a.jpg``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from skindualgen.contracts import METADATA_FILE, InputError, Split, each_name_once
from skindualgen.data.images import SUFFIXES, ItemError
from skindualgen.data.sources.base import Listing, Options, Tree, key, stem
from skindualgen.data.sources.leftovers import OUR_REPORTS
from skindualgen.data.sources.names import folder_name, place, split_of
from skindualgen.data.sources.rows import Pictures, row_name
from skindualgen.data.sources.survey import shared_folders
from skindualgen.data.sources.tables import Row, Table, read_table, read_text

TABLE_NAME = "metadata.csv"
TABLE_FILE = r".*\.(csv|tsv)|metadata\.jsonl"
PATH_COLUMNS = ("file_name", "mask_file_name", "ignore_file_name")
"""Columns of an imagefolder's metadata file that name files."""
CAPTION_FILE = r".*\.(txt|caption)"
NUMBER = re.compile(r"[\d.,;:()\[\]eE+-]+")


def metadata_files(tree: Tree) -> list[tuple[str, Table]]:
    """Return the metadata files of an imagefolder: those with a column ``file_name``."""
    tables = [(file, _read(tree, file)) for file in tree.matching(r"metadata\.(csv|jsonl)")]
    return [(file, table) for file, table in tables if "file_name" in table.columns]


def named_files(file: str, table: Table) -> set[str]:
    """Return the paths that a metadata file names, relative to the tree, whether or not anything is there."""
    values = (row.values.get(column) for row in table.rows for column in PATH_COLUMNS)
    return {(PurePosixPath(file).parent / value).as_posix() for value in values if value}


def find_tables(tree: Tree, photographs: Collection[str], options: Options, *, required: bool) -> list[Table]:
    """Return the table next to the folders, or one for each split (``train.csv``, ``test.csv``).

    The source's root is searched first, then the folders that all photographs share. A table without ids is an error
    where one is ``required``, and otherwise no table of photographs.

    Raises:
        InputError: several tables.
    """
    files = [file for file in tree.matching(TABLE_FILE) if not OUR_REPORTS.fullmatch(PurePosixPath(file).name)]
    for depth in range(shared_folders(photographs) + 1):
        here = [file for file in files if len(PurePosixPath(file).parts) == depth + 1]
        here = [file for file in here if PurePosixPath(file).name == TABLE_NAME] or here
        tables = [_read(tree, file) for file in here]
        if not required or len(tables) > 1:
            tables = [
                table for table in tables if "isic_id" in {**table.fields({}), **options.columns}
            ] or tables * required
        splits = [folder_name(table.path.stem).splits for table in tables]
        if len(tables) > 1 and not all(len(split) == 1 for split in splits):
            raise InputError(
                f"{len(tables)} tables: {', '.join(table.path.name for table in tables[:6])}",
                f"one table next to the folders, or one named {TABLE_NAME}",
                "take the others away or rename one",
            )
        if tables:
            return tables
    return []


def refuse_other_files(tables: Sequence[Table], photographs: Collection[str], options: Options) -> None:
    """Refuse a table whose ids are not the photographs that another of its columns names: ids may be row numbers.

    Args:
        tables: of photographs.
        photographs: keys of their ids.
        options: a column for the id that the user names is not doubted.

    Raises:
        InputError: a row with such a column.
    """
    for table in tables if "isic_id" not in options.columns else ():
        fields = table.fields(options.columns)
        own = fields.get("isic_id", "")
        if not own or any(_is_picture(row.values[own]) for row in table.rows):
            continue
        for column in [name for name in table.columns if name not in (own, fields.get("mask"))]:
            for row in table.rows:
                value, isic_id = row.values[column], row.values[own]
                name = key(stem(value.replace("\\", "/")))
                if _is_picture(value) and name in photographs and name != key(isic_id):
                    raise InputError(
                        f"{table.path.name}, line {row.line}: {own} {isic_id!r} and {column} {value!r}",
                        "one column that names the photographs",
                        f"say which it is: --column isic_id={column} or isic_id={own}",
                    )


def _is_picture(value: str) -> bool:
    return value.lower().endswith(SUFFIXES)


def splits_of_tables(tables: Sequence[Table], options: Options) -> dict[str, Split]:
    """Return `key` of the id -> split, where each split has a table of its own (``train.csv``).

    Raises:
        InputError: an id in the tables of two splits.
    """
    splits: dict[str, Split] = {}
    for table in tables if len(tables) > 1 else ():
        (split,) = folder_name(table.path.stem).splits
        for row in table.renamed(options.columns, needed=("isic_id",)):
            try:
                name = row_name(row.values["isic_id"])
            except ItemError:
                continue  # Rejected where rows are joined to photographs.
            if splits.setdefault(name, split) != split:
                got = f"{row.values['isic_id']} in the tables of {splits[name]} and {split}"
                raise InputError(got, "each photograph in one", f"fix {table.path.name}")
    return splits


def first_caption(text: str) -> tuple[str, int]:
    """Return the first of several captions, which a JSON list holds, and how many more there are."""
    try:
        values = json.loads(text) if text.startswith("[") else None
    except ValueError:
        values = None
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return values[0], len(values) - 1
    return text, 0


def says_numbers(text: str) -> bool:
    """Tell whether more than half of a text's words are numbers: coordinates or codes, and no caption."""
    words = text.split()
    return 2 * sum(NUMBER.fullmatch(word) is not None for word in words) > len(words)


def read_captions(listing: Listing, tree: Tree, photographs: Mapping[str, str]) -> dict[str, str]:
    """Return `key` of the id -> caption, of text files in the photograph's folder or in one named for captions.

    The whole text counts, blanks and line ends as single blanks. Files that are empty, not UTF-8, or hold numbers for
    the most part (outlines, as YOLO has them, or ``nevus 10 20 30 40``) are rejected.
    """
    by_path = {_without_ending(file): name for name, file in photographs.items()}
    by_context = {(place(file).context, key(stem(file))): name for name, file in photographs.items()}
    captions: dict[str, str] = {}
    for file in tree.matching(CAPTION_FILE):
        name = by_path.get(_without_ending(file))
        if name is None and place(file).kind == "caption":
            name = by_context.get((place(file).context, key(stem(file))))
        if name is None:
            continue
        try:
            text = " ".join(read_text(tree.root / file).split())
        except InputError as error:
            listing.reject(stem(file), file, "caption_unreadable", error.got)
            continue
        if not text or says_numbers(text):
            detail = "numbers, no caption; for YOLO use import-data" if text else "an empty caption"
            listing.reject(stem(file), file, "no_caption", detail)
        elif captions.setdefault(name, text) != text:
            listing.reject(stem(file), file, "no_caption", "another caption of the same photograph is used")
        else:
            listing.used.add(file)
    return captions


def _without_ending(file: str) -> str:
    return key(PurePosixPath(file).with_suffix("").as_posix())


def resolve(tree: Tree, table: Table, pictures: Pictures, listing: Listing) -> Table:
    """Turn a metadata file's paths, which are relative to its folder, into pictures; return the rows that have one."""
    folder = table.path.parent.relative_to(tree.root).as_posix()
    rows: list[Row] = []
    for row in table.rows:
        where = f"{table.path.relative_to(tree.root).as_posix()}:{row.line}"
        try:
            image = tree.inside(row.values["file_name"], folder)
            mask, ignored = (
                tree.inside(row.values[column], folder) if row.values.get(column) else None
                for column in PATH_COLUMNS[1:]
            )
            if ignored is not None and mask is None:
                raise ItemError("ignored_without_mask", f"{row.values['ignore_file_name']!r}, of no mask")
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
            pictures.masks[name] = (mask,)
        if ignored is not None:
            pictures.ignored[name] = ignored
        if (split := split_of(image)) is not None:
            pictures.splits[name] = split
        rest = {column: value for column, value in row.values.items() if column not in (*PATH_COLUMNS, "isic_id")}
        rows.append(Row(row.line, {"isic_id": isic_id, **rest}))
    columns = ("isic_id", *(column for column in table.columns if column not in (*PATH_COLUMNS, "isic_id")))
    return Table(table.path, columns, tuple(rows), table.bad_lines)


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
            values = json.loads(text, object_pairs_hook=each_name_once)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            bad_lines.append(line)
            continue
        columns |= dict.fromkeys(values)
        rows.append(Row(line, {name: _text(value) for name, value in values.items()}))
    if not rows:
        raise InputError(f"{path.name} without a JSON object", "one a line", "fill it or take it away")
    filled = tuple(Row(row.line, {name: row.values.get(name, "") for name in columns}) for row in rows)
    return Table(path, tuple(columns), filled, tuple(bad_lines))


def _text(value: object) -> str:
    """Return a JSON value as a table's: a list of one as that one, other lists and objects as JSON."""
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0])
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)
