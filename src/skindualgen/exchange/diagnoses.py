"""Classes of other formats, and the diagnoses that they stand for."""

from __future__ import annotations

import re
from typing import Any

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import ItemError
from skindualgen.data.sources.names import folder_name
from skindualgen.data.sources.survey import is_denial
from skindualgen.data.sources.values import BEHAVIOURS, diagnosis_name
from skindualgen.data.terms import UNKNOWN_LESION, diagnosis_term
from skindualgen.exchange.source import Source

ANY_LESION = frozenset({UNKNOWN_LESION, "skin lesions", "lesion", "lesions"})
"""Classes that say no diagnosis."""
NO_CLASSES = re.compile(
    r"\d+|\d+[ ._-].*|(images?|imgs?|masks?|labels?|annotations?|segmentations?|ground ?truth|gt|captions?|background|"
    r"train(ing)?|val(id|idation)?|dev|test(ing)?) ?\d*"
)
"""Names of folders and classes that mean a number, a kind of file or a split, and no diagnosis."""
NO_LESIONS = re.compile(
    r"((healthy|normal|surrounding|bare|clear) )?skin|hairs?|(air )?bubbles?|rulers?|scales?|gel|ink|"
    r"((pen|skin|surgical) )?mark(er|ing)?s?|(dark )?(corner|border|frame|vignette|circle)s?|"
    r"(colou?r )?(chart|patch|patche|sticker)s?|plasters?|tapes?|artefacts?|artifacts?|reflections?|glare|"
    r"clothes|nails?|person|face|hands?"
)
"""Names of classes that are drawn beside lesions: their outlines are no lesion's."""


def class_name(record: PairRecord) -> str:
    """Return the class of a pair in formats that have classes: the ISIC Archive's term, "skin lesion" if not known."""
    return diagnosis_term(record.diagnosis) or UNKNOWN_LESION


def class_fields(name: str) -> dict[str, Any]:
    """Return the fields that a class stands for: diagnosis, behaviour, or nothing for a lesion of any kind."""
    term = diagnosis_term(name)
    if term is None or term in ANY_LESION:
        return {}
    return {"benign_malignant" if term in BEHAVIOURS else "diagnosis": term}


def stated_class(source: Source, name: str, where: str) -> dict[str, Any]:
    """Return `class_fields` of a class that somebody has written; one that the ISIC Archive does not have is noted.

    Args:
        source: takes the note.
        name: of the class, in any case, with blanks or underscores.
        where: what has this class, for the message.

    Raises:
        InputError: the name means a number, a split, a kind of file, what is no lesion, or says what the lesion is not.
    """
    words = name.replace("-", " ")  # as names of files and projects write it
    fields = class_fields(words)
    if NO_CLASSES.fullmatch(fields.get("diagnosis", "")):
        raise InputError(f"the class {name!r} of {where}", "the name of a diagnosis", "rename the class")
    if NO_LESIONS.fullmatch(fields.get("diagnosis", "")):
        remedy = 'take its outlines out, or call it "lesion" if that is what they are'
        raise InputError(f"the class {name!r} of {where}", "lesions", remedy)
    if "diagnosis" in fields:
        try:
            diagnosis_name(words, {})
        except ItemError:
            if is_denial(folder_name(name)):
                got, remedy = f"the class {name!r} of {where}", 'call it "lesion", or take its pictures out'
                raise InputError(got, "the name of a diagnosis, not of what is none", remedy) from None
            fields = class_fields(name)
            source.note(f"the class {name!r} is no diagnosis of the ISIC Archive; taken as it is")
    return fields
