"""The ISIC Archive's diagnoses and sites in levels, as its own package `isic-metadata` states them.

A diagnosis is a path of up to five levels, such as "Benign", "Benign melanocytic proliferations", "Nevus",
"Nevus, Spitz" (fields ``diagnosis_1`` to ``diagnosis_5``); a site is one too. Earlier downloads have a single column,
whose terms are those of `skindualgen.data.terms`; some of them have another name in the levels, or none.

Source: <https://github.com/ImageMarkup/isic-metadata>, ``diagnosis_hierarchical.py``, ``anatom_site_hierarchical.py``,
``fields.py``. The package is imported on first use only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from skindualgen.data.terms import DIAGNOSES, UNKNOWN_LESION, diagnosis_term, known

LEVEL_FIELDS = tuple(f"diagnosis_{level}" for level in range(1, 6))
SITE_FIELDS = tuple(f"anatom_site_{level}" for level in range(1, 6))
Levels = tuple[str, ...]

EARLIER_TERMS: Mapping[str, str | None] = {
    "actinic keratosis": "Solar or actinic keratosis",
    "adnexal tumor": None,
    "aimp": "Atypical intraepithelial melanocytic proliferation",
    "angiofibroma or fibrous papule": "Angiofibroma",
    "angioma": "Hemangioma",
    "acrochordon": "Fibroepithelial polyp",
    "atypical melanocytic proliferation": "Indeterminate melanocytic proliferations",
    "atypical nevus": "Nevus, Atypical, Dysplastic, or Clark",
    "benign keratosis": "Benign epidermal proliferations",
    "cafe-au-lait macule": "Cafe au lait macule or patch",
    "lichenoid keratosis": "Lichen planus like keratosis",
    "melanosis": "Flat melanotic pigmentations - not melanocytic nevus",
    "mucosal melanosis": "Mucosal melanotic macule",
    "other": None,
    "recurrent nevus": "Nevus, Recurrent or persistent",
    "reed or spitz nevus": "Nevus",
    "trichilemmoma": "Tricholemmoma",
    "vascular lesion": "Benign soft tissue proliferations - Vascular",
}
"""Terms of the Archive's earlier column and of published data sets that the levels call otherwise: their place there,
the nearest that holds all that the term may mean, or None."""
_TERM_OF_LEVEL = (
    (r"melanoma metastasis.*", "melanoma metastasis"),
    (r"melanoma.*", "melanoma"),
    (r"nevus.*", "nevus"),
    (r"squamous cell carcinoma.*", "squamous cell carcinoma"),
    (r"solar or actinic keratosis", "actinic keratosis"),
    (r"lichen planus like keratosis", "lichenoid keratosis"),
    (r"basal cell carcinoma.*", "basal cell carcinoma"),
)
"""Third level, or the second where there is no third -> the term of the earlier single column."""
_SITES = (
    (r"upper extremity:hand:palm of hand.*|lower extremity:foot:sole of foot.*", "palms/soles"),
    (r"head and neck:head:face:mouth.*|anogenital region.*", "oral/genital"),
    (r"head and neck.*", "head/neck"),
    (r"trunk:anterior trunk.*", "anterior torso"),
    (r"trunk:posterior trunk.*", "posterior torso"),
    (r"trunk:lateral trunk.*", "lateral torso"),
    (r"trunk", "torso"),
    (r"upper extremity.*", "upper extremity"),
    (r"lower extremity.*", "lower extremity"),
)
"""Site in levels -> the general site of earlier downloads."""
_PARTED = re.compile(r"\s*:+\s*|\s+[/>|]\s+")
"""What parts the levels of a path that is in one cell: "Benign:Nevus", "Benign / Nevus", "Benign > Nevus"."""


def diagnosis_levels(label: str | None) -> Levels | None:
    """Return the place of a diagnosis in the Archive's levels, in the Archive's spelling.

    Args:
        label: a term of any level, of the earlier column, a code (``bcc``), or a path of levels in one cell. Case,
            underscores, commas, the order of words ("Nevus, Spitz", "spitz nevus") and "NOS" do not matter.

    Returns:
        One to five levels from the widest on; None if the label has no place, is a path that the Archive has not, or
        a doubt ("melanoma?").

    Example:
        >>> diagnosis_levels("lentigo_simplex")
        ('Benign', 'Benign melanocytic proliferations', 'Lentigo simplex')
    """
    name = known(label)
    if name is None or "?" in name:
        return None
    *wider, last = [part for part in _PARTED.split(name) if part]
    term = diagnosis_term(last) or last
    found = _places().get(_words(EARLIER_TERMS.get(term) or term))
    if found is None:
        return None
    above = [_words(level) for level in found[:-1]]
    stated = [_words(part) for part in wider]
    return found if not stated or above[-len(stated) :] == stated else None


def is_path(label: str) -> bool:
    """Whether a label is a path of several levels in one cell."""
    return len([part for part in _PARTED.split(label) if part]) > 1


def known_diagnosis(label: str) -> bool:
    """Whether a label is a term or code of `skindualgen.data.terms`, or one that the ISIC Archive has or had."""
    return earlier_diagnosis(label) or diagnosis_levels(label) is not None


def earlier_diagnosis(label: str) -> bool:
    """Whether a label is a term of `skindualgen.data.terms` or of the earlier column, or a code of one."""
    term = diagnosis_term(label)
    return (term in DIAGNOSES and term != UNKNOWN_LESION) or term in EARLIER_TERMS


def usual_spelling(label: str) -> str | None:
    """Return a label's term; a term of the earlier column in other signs or another order is that one.

    Example:
        >>> usual_spelling("Basal-cell carcinoma"), usual_spelling("Nevus, NOS"), usual_spelling("Nevus, Spitz")
        ('basal cell carcinoma', 'nevus', 'nevus, spitz')
    """
    term = diagnosis_term(label)
    return term if term is None else _spellings().get(_words(term), term)


def archive_diagnosis(row: Mapping[str, str | int]) -> tuple[str | None, str | None]:
    """Return the diagnosis in the earlier column's terms, and the finer one, of a row.

    It has ``diagnosis`` (the earlier schema) or ``diagnosis_1`` to ``diagnosis_5`` (the present one).
    """
    old = _value(row.get("diagnosis"))
    if old is not None:
        return old, None
    for field in (LEVEL_FIELDS[2], LEVEL_FIELDS[1]):
        text = _value(row.get(field))
        if text is not None:
            lower = text.lower()
            return next((term for pattern, term in _TERM_OF_LEVEL if re.fullmatch(pattern, lower)), lower), text
    return None, None


def site_of_levels(levels: Sequence[str]) -> str | None:
    """Return the general site of earlier downloads for a site in levels ("Trunk", "Posterior trunk"), None for none."""
    path = ":".join(level.lower() for level in levels if known(level) is not None)
    return next((site for pattern, site in _SITES if re.fullmatch(pattern, path)), path.rpartition(":")[2] or None)


def _value(value: str | int | None) -> str | None:
    text = " ".join(str(value).split()) if value is not None else None
    return text if known(text) is not None else None


def _words(label: str) -> tuple[str, ...]:
    """Words in lower case and alphabetical order, without "NOS" (not otherwise specified)."""
    words = re.findall(r"[^\W_]+", label.lower().replace("naevus", "nevus"))
    return tuple(sorted(word for word in words if word != "nos"))


@lru_cache(maxsize=1)
def _spellings() -> Mapping[tuple[str, ...], str]:
    return {_words(term): term for term in (*EARLIER_TERMS, *DIAGNOSES)}


@lru_cache(maxsize=1)
def _places() -> Mapping[tuple[str, ...], Levels]:
    """Words of the last level -> levels. All last levels of the Archive differ in their words."""
    from isic_metadata.diagnosis_hierarchical import DiagnosisEnum

    paths = [tuple(member.value.split(":")) for member in DiagnosisEnum]
    return {_words(path[-1]): path for path in paths}
