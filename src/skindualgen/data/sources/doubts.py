"""What the columns of a table may mean otherwise than their names say: asked, noted, or not read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from skindualgen.contracts import InputError, listed
from skindualgen.data.archive_terms import diagnosis_levels, known_diagnosis, usual_spelling
from skindualgen.data.images import ItemError
from skindualgen.data.sources.base import Listing, Options
from skindualgen.data.sources.tables import (
    ALIASES,
    Row,
    Table,
    diagnosis_columns,
    is_mark,
    marked_columns,
    marked_diagnosis,
)
from skindualgen.data.sources.values import known_value
from skindualgen.data.splits import link_value
from skindualgen.data.terms import BEHAVIOURS, OTHER_SEX_LETTERS, known, parse_terms

AMBIGUOUS_SITE = "site"
"""Column that is a place on the body in some tables, and the hospital in others."""
MELANOMA_LEVEL = 2
"""The Archive's level at which all melanomas are one."""
FEW_AGES = 3
"""ages from which on a column of single digits may hold the numbers of age groups"""
MANY_UNMARKED = 0.1
"""Share of rows that mark no or several diagnoses above which marks may be of the patient's history."""
FEW_UNMARKED = 3
SHOWN = 4


def unread_fields(listing: Listing, table: Table, options: Options) -> dict[str, str]:
    """Return the fields that a table's columns do not say, each with "", and note them: sexes, ages, hospitals."""
    unread: dict[str, str] = {}
    name, fields = table.path.name, table.fields(options.columns)
    if letters := _foreign_sexes(table, options):
        listing.notes.append(f"{name}: the sex is not read, as M may be male or mujer next to {letters}")
        unread["sex"] = ""
    if codes := _codes_of_ages(table, options):
        listing.notes.append(
            f"{name}: the ages ({listed(codes, SHOWN)}) are not read, as they may be numbers of age groups; "
            f"if they are years: --column age_approx={fields['age_approx']}"
        )
        unread["age_approx"] = ""
    site = fields.get("anatom_site_general", "")
    if site.lower() == AMBIGUOUS_SITE and "anatom_site_general" not in options.columns:
        stated = sorted({row.values[site] for row in table.rows if known(row.values[site]) is not None})
        if stated and not any(parse_terms(value)["anatom_site_general"] for value in stated):
            listing.notes.append(
                f"{name}: the column {site!r} ({listed(stated, SHOWN)}) names no place on the body and is not read; "
                f"if it does: --column anatom_site_general={site}"
            )
            unread["anatom_site_general"] = ""
    return unread


def note_lesions_of_several_patients(listing: Listing, table: Table, options: Options) -> None:
    """Note ids of lesions that stand with several patients, as numbers do that count within a patient."""
    fields = table.fields(options.columns)
    if not {"lesion_id", "patient_id"} <= fields.keys():
        return
    patients: dict[str, set[str]] = defaultdict(set)
    for row in table.rows:
        lesion, patient = link_value(row.values[fields["lesion_id"]]), link_value(row.values[fields["patient_id"]])
        if lesion is not None and patient is not None:
            patients[lesion].add(patient)
    shared = [lesion for lesion, several in patients.items() if len(several) > 1]
    if shared:
        listing.notes.append(
            f"{table.path.name}: {len(shared)} ids of lesions stand with several patients ({listed(shared, SHOWN)}), "
            "who all stay in one split; if the ids count within a patient, make them unique"
        )


def refuse_half_marked(table: Table, marks: Mapping[str, str | None]) -> None:
    """Refuse columns of marks (of `diagnosis_columns`) of which many rows mark none or several.

    Raises:
        InputError: more than a tenth of the rows, and three at least.
    """
    read = [row for row in table.rows if all(is_mark(row.values[column]) for column in marks)] if marks else []
    wrong = [row for row in read if len(marked_columns(row.values, marks)) != 1]
    if len(wrong) >= FEW_UNMARKED and len(wrong) > MANY_UNMARKED * len(table.rows):
        where = f"{listed([*marks], SHOWN)}, the first in line {wrong[0].line}"
        raise InputError(
            f"{table.path.name}: of {len(table.rows)} rows {len(wrong)} mark none or several of {where}",
            "one mark in each row, or columns that are not named as diagnoses",
            "take these rows out; if the marks are of what a patient has had, rename the columns",
        )


def refuse_two_diagnoses(table: Table, options: Options) -> None:
    """Refuse a table of which two columns state the diagnosis, where a row has two that differ.

    These are columns of the usual names (``dx``, ``label``), and words beside columns of marks, which may be marks of
    the patient's history. A finer term, or another one of the same place in the ISIC Archive's levels, is no other.

    Raises:
        InputError: a row with both; the user may say which column counts.
    """
    if "diagnosis" in options.columns:
        return
    chosen = table.fields({}).get("diagnosis")
    marks = {} if chosen is not None else diagnosis_columns(table)
    usual = set(ALIASES["diagnosis"])
    others = [column for column in table.columns if column != chosen and (marks or column.lower() in usual)]
    others = [column for column in others if column not in marks and _holds_diagnoses(table, column)]
    for row in table.rows if others and (chosen is not None or marks) else ():
        where, stated = _stated(row, chosen, marks)
        for other in others:
            value = row.values[other]
            if stated is not None and _is_diagnosis(stated) and _is_diagnosis(value) and not _agree(stated, value):
                raise InputError(
                    f"{table.path.name}, line {row.line}: {where} and {other} {value!r}",
                    "one column that says the diagnosis",
                    f"say which it is: --column diagnosis={other}"
                    + (f" or diagnosis={chosen}" if chosen is not None else ", or take that column out"),
                )


def _stated(row: Row, chosen: str | None, marks: dict[str, str | None]) -> tuple[str, str | None]:
    """Return what a row's diagnosis is by the columns that are read, as text for a message and as term."""
    if chosen is not None:
        return f"{chosen} {row.values[chosen]!r}", known_value(row.values[chosen])
    try:
        term = marked_diagnosis(row.values, marks)
    except ItemError:
        return "", None  # Rejected where the row is read.
    return f"a mark for {term}", term


def _holds_diagnoses(table: Table, column: str) -> bool:
    stated = [row.values[column] for row in table.rows if known(row.values[column]) is not None]
    return bool(stated) and 2 * sum(map(_is_diagnosis, stated)) > len(stated)


def _is_diagnosis(value: str) -> bool:
    return known(value) not in (None, *BEHAVIOURS) and known_diagnosis(value)


def _agree(one: str, other: str) -> bool:
    """Whether two diagnoses may be said of one lesion: they are the same, or one is the finer."""
    terms = usual_spelling(one), usual_spelling(other)
    first, second = diagnosis_levels(one), diagnosis_levels(other)
    if terms[0] == terms[1] or "other" in terms:
        return True
    if first is None or second is None:
        return False
    # The Archive has "Melanoma, NOS" beside its finer terms and not above them.
    shorter = min(len(first), len(second), MELANOMA_LEVEL if "melanoma" in terms else len(first))
    return first[:shorter] == second[:shorter]


def _foreign_sexes(table: Table, options: Options) -> str:
    """Return the letters of a column of sexes that make its M ambiguous, joined; "" if there are none."""
    column = table.fields(options.columns).get("sex")
    if column is None:
        return ""
    letters = {row.values[column].strip().lower() for row in table.rows}
    clear = "m" not in letters or not letters.isdisjoint({"f", "w"})
    return "" if clear else ", ".join(sorted(letters & OTHER_SEX_LETTERS)).upper()


def _codes_of_ages(table: Table, options: Options) -> list[str]:
    """Return the ages of a table, sorted, if all are of one digit, as the numbers of age groups are; [] if not."""
    column = table.fields({}).get("age_approx")
    if column is None or "age_approx" in options.columns:
        return []
    stated = [value for row in table.rows if (value := known(row.values[column])) is not None]
    codes = {value for value in stated if re.fullmatch(r"[0-9](\.0+)?", value, re.ASCII)}
    if len(stated) < FEW_AGES or len(codes) < 2 or codes != set(stated):
        return []
    return sorted(codes) if any(float(code) % 5 for code in codes) else []
