"""Tables with a column for each diagnosis, of which a row marks one: MEL, NV, BCC, ... with 0 and 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skindualgen.data.archive_terms import known_diagnosis
from skindualgen.data.images import ItemError
from skindualgen.data.sources.tables import Table
from skindualgen.data.terms import BEHAVIOURS, NOT_KNOWN, diagnosis_term, known

MARKS = {"0": False, "0.0": False, "1": True, "1.0": True, "false": False, "true": True}
"""Values of such columns, in lower case. Others are probabilities or numbers of something, and mark nothing."""

UNKNOWN_LABEL = "unknown_label"


def diagnosis_columns(table: Table) -> dict[str, str | None]:
    """Return the columns that stand for one diagnosis each, and these; None stands for "unknown" (``UNK``).

    At least two are needed, with marks (`MARKS`) or nothing in most rows: one column alone ("melanoma") does not say
    what a 0 stands for, and probabilities are no labels.
    """
    found = {column: diagnosis_term(column) for column in table.columns if is_diagnosis(column)}
    found = {column: term for column, term in found.items() if _holds_marks(table, column)}
    return found if sum(term is not None for term in found.values()) > 1 else {}


def marked_columns(values: Mapping[str, str], columns: Iterable[str]) -> list[str]:
    """Return the columns that a row marks; nothing in them counts as no mark.

    Raises:
        ItemError: ``unknown_label``: a value is no mark.
    """
    marked = []
    for column in columns:
        value = values[column].strip().lower()
        if value not in MARKS and value not in NOT_KNOWN:
            raise ItemError(UNKNOWN_LABEL, f"{values[column]!r} for {column}; expected 0 or 1")
        marked += [column] if MARKS.get(value) else []
    return marked


def marked_diagnosis(values: Mapping[str, str], diagnoses: Mapping[str, str | None]) -> str | None:
    """Return the diagnosis whose column is marked.

    Args:
        values: of the row, by column.
        diagnoses: column -> diagnosis.

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
