"""What the values of tables and the names of folders say, in the fields and terms of a `PairRecord`."""

from __future__ import annotations

from collections.abc import Mapping

from skindualgen.contracts import Split
from skindualgen.data.archive_terms import LEVEL_FIELDS, SITE_FIELDS, known_diagnosis, site_of_levels, usual_spelling
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.terms import NOT_KNOWN, SEXES, age_years, diagnosis_term, known, sex_term, site_term

Fields = dict[str, str | int]
"""Fields of a `PairRecord` and their values."""
DERMOSCOPIC = "dermoscopic"
"""The ISIC Archive's image type that needs no mention: other photographs are none that dermoscopy made."""
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "test_v2": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Names of splits in published folders and tables, in lower case.

Those of ``datasets`` (datasets/data_files.py, SPLIT_KEYWORDS), for which "eval" and "evaluation" are the test split.
"""
BEHAVIOURS = ("benign", "malignant", "indeterminate", "indeterminate/benign", "indeterminate/malignant")


def known_value(value: str | None) -> str | None:
    """Return a table's value without surrounding blanks, None where it says "unknown" in one of the usual ways."""
    text = "" if value is None else " ".join(value.split())
    return None if text.lower() in NOT_KNOWN else text


def split_name(value: str | None) -> Split | None:
    """Return the split that a name stands for, None for an empty name.

    Raises:
        ItemError: ``unknown_split``.
    """
    text = known_value(value)
    if text is None:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise ItemError("unknown_split", f"{text!r}; expected one of {', '.join(sorted(SPLIT_NAMES))}")
    return SPLIT_NAMES[text.lower()]


def diagnosis_name(label: str | None, labels: Mapping[str, str], *, any_label: bool = False) -> str | None:
    """Return the diagnosis that a label stands for, in the ISIC Archive's terms.

    Args:
        label: as in the table.
        labels: the user's own label -> diagnosis.
        any_label: take labels outside the vocabulary as they are (the ISIC Archive is the vocabulary).

    Raises:
        ItemError: ``unknown_label``.
    """
    text = known_value(label)
    if text is None:
        return None
    if text in labels:
        return diagnosis_term(labels[text])
    if any_label and any(map(str.isalpha, text)):
        return diagnosis_term(text)
    if known_diagnosis(text):
        return usual_spelling(text)
    raise ItemError("unknown_label", f"diagnosis {text!r}; give --label '{text}=NAME' to use it as NAME")


def stated(**values: str | int | None) -> Fields:
    """Return the fields that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def clinical_fields(row: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
    """Return age, sex, site, behaviour, levels, lesion, patient, licence, source of a row whose keys are canonical.

    Values that say "unknown" are left out; values that cannot be read are left out and reported.
    """
    adjustments: list[Adjustment] = []
    in_levels = [row.get(name, "") for name in SITE_FIELDS]
    site = site_term(row.get("anatom_site_general"))
    if site is not None and not any(map(str.isalpha, site)):
        adjustments.append(Adjustment("anatom_site_general_dropped", f"{site!r}, a number, is no place on the body"))
        site = None
    site = site or site_of_levels(in_levels)
    names = ("lesion_id", "patient_id", "license", "source", *LEVEL_FIELDS, *SITE_FIELDS, "image_type")
    fields = stated(anatom_site_general=site, **{name: known_value(row.get(name)) for name in names})
    if fields.get("image_type") == DERMOSCOPIC:
        del fields["image_type"]
    for name, term, vocabulary in (
        ("sex", sex_term(row.get("sex")), SEXES),
        ("benign_malignant", known(row.get("benign_malignant")), BEHAVIOURS),
    ):
        if term is not None and term in vocabulary:
            fields[name] = term
        elif term is not None:
            adjustments.append(Adjustment(f"{name}_dropped", f"{row[name]!r} is none of {', '.join(vocabulary)}"))
    try:
        fields |= stated(age_approx=age_years(row.get("age_approx")))
    except ValueError as error:
        adjustments.append(Adjustment("age_approx_dropped", str(error)))
    return fields, adjustments
