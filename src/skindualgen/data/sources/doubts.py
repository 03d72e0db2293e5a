"""What the columns of a table may mean otherwise than their names say: asked, noted, or not read."""

from __future__ import annotations

from collections import defaultdict

from skindualgen.contracts import InputError, listed
from skindualgen.data.archive_terms import diagnosis_levels, known_diagnosis, usual_spelling
from skindualgen.data.images import ItemError
from skindualgen.data.sources.base import Listing, Options
from skindualgen.data.sources.tables import ALIASES, Row, Table, diagnosis_columns, marked_diagnosis
from skindualgen.data.sources.values import known_value
from skindualgen.data.splits import link_value
from skindualgen.data.terms import BEHAVIOURS, OTHER_SEX_LETTERS, known, parse_terms

AMBIGUOUS_SITE = "site"
"""Column that is a place on the body in some tables, and the hospital in others."""
MELANOMA_LEVEL = 2
"""The Archive's level at which all melanomas are one."""
SHOWN = 4


def unread_fields(listing: Listing, table: Table, options: Options) -> dict[str, str]:
    """Return the fields that a table's columns do not say, each with "", and note them: sexes in letters, hospitals."""
    unread: dict[str, str] = {}
    name, fields = table.path.name, table.fields(options.columns)
    if letters := _foreign_sexes(table, options):
        listing.notes.append(f"{name}: the sex is not read, as M may be male or mujer next to {letters}")
        unread["sex"] = ""
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
