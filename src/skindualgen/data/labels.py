"""What a prompt states, and whether labels agree: what is asked for as a melanoma must not be called a nevus."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from skindualgen.contracts import InputError
from skindualgen.data.terms import (
    BEHAVIOURS,
    DIAGNOSES,
    SEXES,
    SITES,
    age_years,
    diagnosis_term,
    known,
    parse_terms,
    plain_words,
    sex_term,
    site_term,
)

ATTRIBUTES = ("diagnosis", "benign_malignant", "age_approx", "sex", "anatom_site_general")
"""columns of a prompt file, and fields taken over from real records"""
TONE = "skin_tone"
TONES = ("dark", "brown", "tan", "intermediate", "light", "very light")
"""Categories of the Individual Typology Angle (Del Bino and Bernerd, 2013), as in `skindualgen.metrics.skin_tone`, of
which this room must not know."""
LABELS = (*ATTRIBUTES, TONE)
"""What a pair of a plan can be labelled with: columns of the plan, fields of its record."""
VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "diagnosis": DIAGNOSES,
    "benign_malignant": BEHAVIOURS,
    "sex": SEXES,
    "anatom_site_general": SITES,
    TONE: TONES,
}
MISSPELT = 0.85
"""Similarity (`difflib`'s ratio) from which on an unknown term counts as a known one misspelt: "melonoma" has 0.88 to
"melanoma"; own classes such as "neurofibroma" (0.69 to "dermatofibroma") stay below."""
SIMILAR = 0.6
"""Similarity from which on a known term is named as what may be meant."""
_SPELLINGS = {"diagnosis": diagnosis_term, "sex": sex_term, "anatom_site_general": site_term}
_TONE = re.compile(rf"\b({'|'.join(sorted(TONES, key=len, reverse=True))}) skin\b")


def label_value(name: str, text: str | int | None) -> str | int | None:
    """A label as plans hold it: the ISIC Archive's term for a code or spelling, an age in years; None where not known.

    Raises:
        ValueError: an age that is no number from 0 to 120.
    """
    label = None if text is None else str(text)
    return age_years(label) if name == "age_approx" else _SPELLINGS.get(name, known)(label)


def labels_of(prompt: str) -> dict[str, Any]:
    """Labels that a prompt states without doubt: kinds of which it names exactly one term."""
    stated = parse_terms(prompt)
    labels: dict[str, Any] = {}
    for name in ATTRIBUTES:
        if len(stated[name]) == 1:
            (term,) = stated[name]
            if name != "age_approx":
                labels[name] = term
            elif term.isdigit():
                labels[name] = int(term)
    return labels


@lru_cache(maxsize=1 << 10)
def stated(text: str) -> Mapping[str, frozenset[str]]:
    """Terms that a text states, by label: `parse_terms`, and the skin tone ("light skin")."""
    ages = frozenset(re.findall(r"\d+", text))
    found = _stated_but_numbers(re.sub(r"\d+", "0", text))  # prompts that differ in the age alone are parsed once
    return {**found, "age_approx": found["age_approx"] - {"0"} | ages}


def stated_labels(prompt: str) -> dict[str, Any]:
    """Labels that a prompt states without doubt: `labels_of`, and the skin tone."""
    tones = stated(prompt)[TONE]
    return labels_of(prompt) | ({TONE: next(iter(tones))} if len(tones) == 1 else {})


def states(prompt: str, name: str, value: str | int) -> bool:
    """Whether a prompt asks for what a label says, in the label's own words or others for it ("mole", "woman")."""
    if name == "age_approx":
        return str(value) in stated(prompt)[name]
    terms = _terms(name, str(value))
    if terms:
        return bool(terms & stated(prompt)[name])
    own = f"{value} skin" if name == TONE else str(value)
    return f" {plain_words(own)} " in f" {plain_words(prompt)} "


def contradiction(prompt: str, name: str, value: str | int) -> str | None:
    """What a prompt asks for instead of what a label says; None if it asks for the same, for nothing, or vaguely.

    A narrower or wider name ("atypical nevus" for "nevus") does not contradict, nor do words that are no term of
    the vocabulary ("scalp" for "head/neck").
    """
    if name == "age_approx":
        said = stated(prompt)[name] if re.search(r"\b(years?|aged?)\b", prompt.lower()) else frozenset()
        said = frozenset(age for age in said if age.isdigit())
    else:
        said = stated(prompt)[name] & set(VOCABULARY[name])
    if name == "benign_malignant":  # "benign keratosis" is a name
        said -= {word for diagnosis in stated(prompt)["diagnosis"] for word in diagnosis.split()}
    if not said or states(prompt, name, value):
        return None
    if name in ("diagnosis", "anatom_site_general"):
        own = set(plain_words(str(value)).split())
        if any(own <= set(plain_words(term).split()) or own >= set(plain_words(term).split()) for term in said):
            return None
    return " and ".join(sorted(said))


def check_labels(prompt: str, labels: Mapping[str, Any], where: str = "") -> None:
    """Refuse a label that contradicts the prompt, or is neither a known term nor stated by the prompt.

    So a class of one's own is taken where the prompt names it too, unless it looks like a known term misspelt.

    Args:
        prompt: the text.
        labels: keys out of ``LABELS``.
        where: the place of prompt and labels, for the message.

    Raises:
        InputError: the first such label.
    """
    place = f"{where}, " if where else ""
    for name, value in labels.items():
        if (other := contradiction(prompt, name, value)) is not None:
            got = f"{place}{name}: {value!r} with the prompt {prompt!r}, which asks for {other}"
            raise InputError(got, "a label and a prompt that agree", "fix either, or leave the label blank")
        if name == "age_approx" or value in VOCABULARY[name] or _terms(name, value):
            continue
        misspelt = difflib.get_close_matches(value, VOCABULARY[name], n=1, cutoff=MISSPELT)
        if misspelt or not states(prompt, name, value):
            near = misspelt or difflib.get_close_matches(value, VOCABULARY[name], n=1, cutoff=SIMILAR)
            own = "if it is a term of your own, name it in the prompt too"
            remedy = f"write {near[0]!r}, if that is meant" if near else own
            got = f"{place}{name}: {value!r}, which is not known"
            raise InputError(got, f"one of {', '.join(VOCABULARY[name])}", remedy)


def own_term(name: str, value: str) -> bool:
    """Whether a label is none of the known terms, nor another word for one."""
    return value not in VOCABULARY[name] and not _terms(name, value)


def _terms(name: str, value: str) -> frozenset[str]:
    """Known terms that a label is, or is another word for."""
    return frozenset({value}) & set(TONES) if name == TONE else stated(value)[name]


@lru_cache(maxsize=1 << 13)
def _stated_but_numbers(text: str) -> Mapping[str, frozenset[str]]:
    return {**parse_terms(text), TONE: frozenset(_TONE.findall(text.lower()))}
