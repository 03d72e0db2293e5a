"""Diagnoses of candidates of any layout: in the ISIC Archive's levels where known, at the level asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from skindualgen.contracts import InputError
from skindualgen.data.archive_terms import (
    LEVEL_FIELDS,
    Levels,
    archive_diagnosis,
    diagnosis_levels,
    earlier_diagnosis,
    is_path,
)
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.sources.base import Listing, Options
from skindualgen.data.sources.values import BEHAVIOURS, Fields, diagnosis_name, stated

MAX_LEVEL = len(LEVEL_FIELDS)
OPPOSITE = {"benign": "malignant", "malignant": "benign"}


def settle_diagnoses(listing: Listing, options: Options) -> None:
    """Complete what the candidates of a listing say of their diagnoses, and reject or report what contradicts itself.

    * Levels that the source states are kept, and give the diagnosis where the source has no column for it. A path of
      levels in one cell is taken apart. A term that only the Archive's levels know gets its levels.
    * "benign", "malignant" and "indeterminate" are no diagnoses and become ``benign_malignant``.
    * With ``options.diagnosis_level``, the diagnosis is that level of the Archive's path, in lower case, or the finest
      above it that is known. A diagnosis without a place in the levels stays, and is reported.

    Raises:
        InputError: the level is not from 1 to 5.
    """
    level = options.diagnosis_level
    if level is not None and not 1 <= level <= MAX_LEVEL:
        raise InputError(f"diagnosis level {level}", f"1 to {MAX_LEVEL}", "use for example 3")
    settled = []
    for candidate in listing.candidates:
        try:
            fields, changes = _settled(candidate.fields, options.labels)
        except ItemError as error:
            listing.reject(candidate.isic_id, candidate.image, error.code, error.detail)
            continue
        adjustments = (*candidate.adjustments, *changes)
        if level is not None and ("diagnosis" in fields or _stated(fields)):
            fields, adjustment = _at_level(fields, level)
            adjustments += (adjustment,) if adjustment is not None else ()
        settled.append(replace(candidate, fields=fields, adjustments=adjustments))
    listing.candidates[:] = settled


def _settled(given: Mapping[str, str | int], labels: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
    fields = dict(given)
    _refuse_other_levels(fields)
    label = str(fields.get("diagnosis", ""))
    if label and is_path(label) and (path := diagnosis_levels(label)) is not None:
        del fields["diagnosis"]
        fields |= dict(zip(LEVEL_FIELDS, path, strict=False))
    elif label and not _stated(fields) and not earlier_diagnosis(label) and label not in BEHAVIOURS:
        fields |= dict(zip(LEVEL_FIELDS, diagnosis_levels(label) or (), strict=False))
    if "diagnosis" not in fields:
        term, detail = archive_diagnosis(fields)
        fields |= stated(diagnosis=diagnosis_name(term, labels, any_label=True), diagnosis_detail=detail)
    if (word := fields.get("diagnosis")) in BEHAVIOURS:
        del fields["diagnosis"]
        if fields.setdefault("benign_malignant", word) == OPPOSITE.get(str(word)):
            raise ItemError("contradicting_labels", f"both {fields['benign_malignant']} and {word}")
    return fields, list(_doubts(fields))


def _refuse_other_levels(fields: Fields) -> None:
    """Refuse columns named as the Archive's levels that hold something else: several opinions, their order, codes.

    Raises:
        ItemError: the first level is not one of the Archive's, or without it another one is not at its place.
    """
    stated = {name: str(fields[name]) for name in LEVEL_FIELDS if name in fields}
    first = stated.pop(LEVEL_FIELDS[0], None)
    if first is not None and first.lower() not in BEHAVIOURS:
        raise ItemError("unknown_label", f"{LEVEL_FIELDS[0]} {first!r}; expected Benign, Malignant or Indeterminate")
    for name, value in stated.items() if first is None else ():
        path = diagnosis_levels(value)
        if path is None or LEVEL_FIELDS[len(path) - 1] != name:
            raise ItemError("unknown_label", f"{name} {value!r}, which is not at that level of the ISIC Archive's")


def _doubts(fields: Fields) -> Iterator[Adjustment]:
    """Complete ``benign_malignant`` and report what contradicts it or the levels; nothing is changed.

    The archive itself calls some collisions with a malignant part benign: such rows are no reason to leave a
    photograph out.
    """
    place = diagnosis_levels(str(fields.get("diagnosis", ""))) or ("",)
    top = str(fields.get(LEVEL_FIELDS[0], "")).lower()
    if top in BEHAVIOURS:
        fields.setdefault("benign_malignant", top)
        if place[0].lower() == OPPOSITE.get(top):
            detail = f"{fields['diagnosis']} is {place[0].lower()} in the ISIC Archive's levels, the row says {top}"
            yield Adjustment("diagnosis_doubtful", detail)
    behaviour = str(fields.get("benign_malignant", ""))
    if (top or place[0].lower()) == OPPOSITE.get(behaviour):
        detail = f"{behaviour}, while the diagnosis is {OPPOSITE[behaviour]} in the ISIC Archive's levels"
        yield Adjustment("benign_malignant_doubtful", detail)


def _stated(fields: Mapping[str, str | int]) -> Levels:
    return tuple(str(fields[name]) for name in LEVEL_FIELDS if name in fields)


def _at_level(fields: Fields, level: int) -> tuple[Fields, Adjustment | None]:
    """Return the fields with the diagnosis at a level; what could not be done is reported."""
    levels = _stated(fields)
    label = str(fields.get("diagnosis", ""))
    path = diagnosis_levels(levels[-1] if levels else label)
    if path is None and len(levels) > 1 and all(name in fields for name in LEVEL_FIELDS[: len(levels)]):
        path = levels  # of a newer edition of the Archive than the installed package knows
    if path is None:
        return fields, Adjustment("diagnosis_without_level", f"{label!r} has no place in the ISIC Archive's levels")
    if level > 1 and len(path) == 1:
        return {name: value for name, value in fields.items() if name != "diagnosis"}, None
    return {**fields, "diagnosis": path[:level][-1].lower()}, None
