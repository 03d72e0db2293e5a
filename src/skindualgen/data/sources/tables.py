"""Tables of metadata: comma, semicolon, tab or bar separated, with or without a byte order mark or a header.

Some have a column for each diagnosis, of which a row marks one: MEL, NV, BCC, ... with 0 and 1.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skindualgen.contracts import InputError
from skindualgen.data.archive_terms import known_diagnosis
from skindualgen.data.images import ItemError
from skindualgen.data.terms import BEHAVIOURS, NOT_KNOWN, diagnosis_term, known

DELIMITERS = (",", ";", "\t", "|")
MAX_HEADER_BYTES = 1 << 16
ALIASES: Mapping[str, tuple[str, ...]] = {
    "isic_id": ("isic_id", "image_id", "image", "image_name", "file_name", "filename", "id", "name"),
    "diagnosis": ("diagnosis", "dx", "label"),
    "benign_malignant": ("benign_malignant",),
    "age_approx": ("age_approx", "age", "age_approximate"),
    "sex": ("sex", "gender"),
    "anatom_site_general": ("anatom_site_general", "anatom_site_general_challenge", "site", "localization"),
    "lesion_id": ("lesion_id",),
    "patient_id": ("patient_id", "patient"),
    "split": ("split",),
    "split_group": ("split_group", "group"),
    "license": ("license", "copyright_license"),
    "source": ("source", "dataset", "attribution"),
    "prompt": ("prompt", "text", "caption"),
    "origin": ("origin",),
    "mask": ("mask_file_name", "mask", "mask_name", "mask_path"),
    "image_type": ("image_type",),
    **{f"diagnosis_{level}": (f"diagnosis_{level}", f"iddx_{level}") for level in range(1, 6)},
    **{f"anatom_site_{level}": (f"anatom_site_{level}",) for level in range(1, 6)},
}
"""Field -> the columns it is read from, the first that is there. ``split_group`` ties rows to one side of any split.

How a diagnosis was established (``dx_type``, ``diagnosis_confirm_type``) leaks the label and is read nowhere.
"""
USUAL_COLUMNS = frozenset(alias for aliases in ALIASES.values() for alias in aliases)

MARKS = {"0": False, "0.0": False, "1": True, "1.0": True, "false": False, "true": True}
"""Values of columns for one diagnosis each, in lower case. Others (probabilities, numbers) mark nothing."""

UNKNOWN_LABEL = "unknown_label"

_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t| :])"?[,;\t| ]*[\r\n]*', re.IGNORECASE)
"""First line that Excel writes, or is told by, in some countries: it names the delimiter and is no header."""

if TYPE_CHECKING:
    from _csv import Reader


@dataclass(frozen=True)
class Row:
    """A row of a table: its line number in the file, counted from 1, and column -> value, of the columns kept."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table: its file, columns in order, rows, and the line numbers of rows with a wrong number of values."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bad_lines: tuple[int, ...]

    def renamed(self, columns: Mapping[str, str], *, needed: Sequence[str] = ()) -> Iterator[Row]:
        """Yield the rows with fields instead of columns, by the user's ``columns`` first and by `ALIASES` otherwise.

        Raises:
            InputError: an unknown field, a column that is not there, or a needed field without a column.
        """
        chosen = self.fields(columns)
        for name in needed:
            if name not in chosen:
                raise InputError(
                    f"{self.path.name} with the columns {', '.join(self.columns)}",
                    f"a column for {name} ({', '.join(ALIASES[name])})",
                    f"name it with --column {name}=COLUMN",
                )
        for row in self.rows:
            yield Row(row.line, {name: row.values[column] for name, column in chosen.items()})

    def fields(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Return field -> column for all fields that this table has; Raises as `renamed`."""
        for name, column in columns.items():
            if name not in ALIASES:
                raise InputError(f"--column {name}={column}", f"a field of {', '.join(ALIASES)}", "use one of these")
            if column not in self.columns:
                raise InputError(
                    f"--column {name}={column}, but {self.path.name} has {', '.join(self.columns)}",
                    "a column of the table",
                    "use one of its columns",
                )
        lower = {column.lower(): column for column in reversed(self.columns)}
        chosen = {
            name: next((lower[alias] for alias in aliases if alias in lower), "") for name, aliases in ALIASES.items()
        }
        return {name: column for name, column in {**chosen, **columns}.items() if column}


def read_table(
    path: Path,
    header: Sequence[str] | None = None,
    *,
    comment: str | None = None,
    keep: Callable[[str], bool] = lambda column: True,
) -> Table:
    """Read a table.

    Excel's first line ``sep=;`` names the delimiter; otherwise it is the one that parts the header into most columns.
    Empty cells beyond the last named column, as spreadsheets leave them, do not count.

    Args:
        path: UTF-8 or, with a byte order mark, UTF-16.
        header: column names of a file that has no header line.
        comment: sign with which lines begin that are passed over.
        keep: whether the rows keep the values of a column; for tables with very many of them.

    Raises:
        InputError: another encoding, no CSV, no line, or a column name twice or missing.
    """
    text = read_text(path)
    if comment is not None:  # blank lines, so that the numbers of the others stay
        text = re.sub(rf"^[ \t]*{re.escape(comment)}[^\r\n]*", "", text, flags=re.MULTILINE)
    reader, before = _reader(text)
    rows: list[Row] = []
    bad_lines: list[int] = []
    columns = tuple(header) if header is not None else ()
    kept = [(place, column) for place, column in enumerate(columns) if keep(column)]
    for line, values in _lines(path, reader, before):
        if not columns:
            columns = _header(path, values)
            kept = [(place, column) for place, column in enumerate(columns) if keep(column)]
            continue
        if len(values) < len(columns) or any(value.strip() for value in values[len(columns) :]):
            bad_lines.append(line)
        else:
            rows.append(Row(line, {column: sys.intern(values[place].strip()) for place, column in kept}))
    if not columns:
        raise InputError(f"{path.name} without a line", "a table with a header line", "fill it or take it away")
    return Table(path, columns, tuple(rows), tuple(bad_lines))


def read_columns(path: Path) -> tuple[str, ...]:
    """Return a table's column names, reading no more than its beginning; none if it cannot be read as a table."""
    with path.open("rb") as file:
        data = file.read(MAX_HEADER_BYTES)
    try:
        reader, before = _reader(data.decode(_encoding(data), "ignore"))
        return next((_header(path, values) for _, values in _lines(path, reader, before)), ())
    except InputError:
        return ()


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, with a byte order mark, UTF-16; raise InputError for another one."""
    data = path.read_bytes()
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError:
        raise InputError(f"{path.name}, which is not UTF-8", "a table in UTF-8", "save it as UTF-8") from None
    # UTF-16 without a byte order mark, or UTF-32, is valid UTF-8 as well, with a zero byte to each letter or three.
    if text.count("\0") > len(text) // 3:
        raise InputError(f"{path.name}, which holds zero bytes", "a table in UTF-8", "save it as UTF-8")
    return text


def _encoding(data: bytes) -> str:
    return "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _reader(text: str) -> tuple[Reader, int]:
    """Return a reader of a table's text, and the number of lines before its header."""
    start = text.partition("\n")[0] + "\n"
    named = _SEPARATOR_LINE.fullmatch(start)
    body = text[len(start) :] if named else text
    first = next((line for line in io.StringIO(body, newline="") if line.strip()), "")
    parts = {sign: len(next(csv.reader([first], delimiter=sign), [])) for sign in DELIMITERS}
    delimiter = named[1] if named else max(DELIMITERS, key=lambda sign: parts[sign])
    return csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True), 1 if named else 0


def _lines(path: Path, reader: Reader, before: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that hold anything, with their numbers in the file."""
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num + before, values
    except csv.Error as error:
        raise InputError(
            f"{path.name}, line {reader.line_num + before}: {error}",
            "comma separated values",
            "fix or convert the file",
        ) from None


def _header(path: Path, values: Sequence[str]) -> tuple[str, ...]:
    columns = [value.strip() for value in values]
    while columns and not columns[-1]:
        columns.pop()
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise InputError(f"{path.name} with the column {repeated[0]!r} twice", "each column once", "rename one")
    return tuple(columns)


def diagnosis_columns(table: Table) -> dict[str, str | None]:
    """Return the columns that stand for one diagnosis each, and these; None stands for "unknown" (``UNK``).

    At least two are needed, with marks (`MARKS`) or nothing in most rows: one column alone ("melanoma") does not say
    what a 0 stands for, and probabilities and counts are no labels. Half of the rows at least must mark one: of what a
    patient has had, rows mark none or several.
    """
    found = {column: diagnosis_term(column) for column in table.columns if is_diagnosis(column)}
    found = {column: term for column, term in found.items() if _holds_marks(table, column)}
    marked = [sum(MARKS.get(row.values[column].lower(), False) for column in found) for row in table.rows]
    one = 2 * marked.count(1) >= len(marked)
    one &= not any(
        row.values[column].isdecimal() and int(row.values[column]) > 1 for row in table.rows for column in found
    )
    return found if one and sum(term is not None for term in found.values()) > 1 else {}


def is_mark(value: str) -> bool:
    """Whether a cell of a column that stands for one diagnosis is a mark, or nothing."""
    return value.strip().lower() in {*MARKS, *NOT_KNOWN}


def marked_columns(values: Mapping[str, str], columns: Iterable[str]) -> list[str]:
    """Return the columns that a row marks; nothing in them counts as no mark.

    Raises:
        ItemError: ``unknown_label``: a value is no mark.
    """
    marked = []
    for column in columns:
        if not is_mark(values[column]):
            raise ItemError(UNKNOWN_LABEL, f"{values[column]!r} for {column}; expected 0 or 1")
        marked += [column] if MARKS.get(values[column].strip().lower()) else []
    return marked


def marked_diagnosis(values: Mapping[str, str], diagnoses: Mapping[str, str | None]) -> str | None:
    """Return the diagnosis (of ``diagnoses`` by column) whose column a row marks.

    Raises:
        ItemError: ``unknown_label``: none or several are marked, or a value is no mark.
    """
    marked = marked_columns(values, diagnoses)
    if len(marked) != 1:
        shown = ", ".join(f"{column} {values[column]}" for column in diagnoses)
        raise ItemError(UNKNOWN_LABEL, f"{len(marked)} diagnoses marked in {shown}")
    return diagnoses[marked[0]]


def is_diagnosis(column: str) -> bool:
    """Whether a column may stand for one diagnosis, by its name."""
    name = known(column)
    return column.strip().lower() == "unk" if name is None else name not in BEHAVIOURS and known_diagnosis(column)


def _holds_marks(table: Table, column: str) -> bool:
    stated = [value for row in table.rows if (value := row.values[column].strip().lower()) not in NOT_KNOWN]
    return bool(stated) and 2 * sum(value in MARKS for value in stated) > len(stated)
