"""Prompts from metadata: templates filled with the fields that are known, in the ISIC Archive's terms.

A template is text with fields in braces and optional groups in square brackets:
``a dermoscopic image of {a_diagnosis}[ on {site}][ in {patient}]``.

* A group is dropped when one of its fields is not known. Groups do not nest and hold at least one field.
* ``{diagnosis}``, ``{a_diagnosis}``, ``{lesion}`` and ``{a_lesion}`` outside a group say "skin lesion" when the
  diagnosis is not known. Any other field outside a group makes its template unusable for records that lack the field.
* No attribute is stated twice: a template whose fields repeat one (``{patient}`` holds age and sex) is refused.

How a diagnosis was established (``dx_type``) leaks the label and is not a field.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.terms import UNKNOWN_LESION, diagnosis_term, known

MAX_CLIP_TOKENS = 77
"""Positions of CLIP's text encoder, start and end token included (Radford et al. 2021, arXiv 2103.00020)."""

ADULT_YEARS = 18
SITE_PHRASES: Mapping[str, str] = {
    "oral/genital": "the oral/genital area",
    "genital": "the genital area",
    "acral": "acral skin",
}
"""How a site stands after "on" where "the <site>" is no English."""
TEMPLATES = (
    "a dermoscopic image of {a_diagnosis}[ on {site}][ in {patient}]",
    "a dermoscopic image of {a_diagnosis} on {site} of {patient}",
    "a dermoscopic image of {a_lesion}",
    "dermoscopy of {a_diagnosis}[ on {site}]",
    "dermoscopy of {a_lesion}[ in {patient}]",
    "a dermoscopy photograph of {a_lesion}[ on {site}][, {patient}]",
    "{diagnosis}",
    "{lesion}",
    "{diagnosis}[, {anatom_site_general}][, {bare_patient}]",
    "[{bare_patient}, ][{anatom_site_general}, ]{diagnosis}",
    "{a_diagnosis}[ on {site}][ in {patient}], dermoscopy",
    "{a_lesion}[ on {site}], dermoscopic image",
    "{patient} with {a_diagnosis}[ on {site}], dermoscopic image",
    "dermoscopic view of {site}[ of {patient}] showing {a_diagnosis}",
    "close-up of {a_lesion}[ on {site}][ in {patient}] under a dermatoscope",
    "the skin[ of {patient}] with {a_lesion}[ on {site}], dermoscopy",
    "dermoscopic photograph, {diagnosis}[, {benign_malignant}][, {anatom_site_general}][, {sex}]"
    "[, {age_approx} years old]",
    "dermoscopy: {diagnosis}[; site: {anatom_site_general}][; sex: {sex}][; age: {age_approx}]",
    "[{sex}, ][{age_approx} year old, ][{anatom_site_general}, ]dermoscopic image of {a_diagnosis}",
    "an image of {a_lesion} taken with a dermatoscope[, {patient}]",
    "{diagnosis}[ on {site}]",
    "a photo of {a_diagnosis}[ in {patient}]",
)
"""Long, short and reordered forms; every one states the diagnosis."""
_DERMOSCOPY = re.compile("dermos|dermat")
"""Templates of which a clinical photograph (the ISIC Archive's ``image_type``) must not be used."""

FIELD_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "diagnosis": frozenset({"diagnosis"}),
    "a_diagnosis": frozenset({"diagnosis"}),
    "lesion": frozenset({"diagnosis", "benign_malignant"}),
    "a_lesion": frozenset({"diagnosis", "benign_malignant"}),
    "benign_malignant": frozenset({"benign_malignant"}),
    "anatom_site_general": frozenset({"anatom_site_general"}),
    "site": frozenset({"anatom_site_general"}),
    "sex": frozenset({"sex"}),
    "person": frozenset({"sex"}),
    "age_approx": frozenset({"age_approx"}),
    "patient": frozenset({"age_approx", "sex"}),
    "bare_patient": frozenset({"age_approx", "sex"}),
}
"""Fields of a template and the record's attributes that each one states."""


class _Part(NamedTuple):
    """A stretch of a template: its text in format syntax, its fields, and whether it may be dropped."""

    text: str
    fields: tuple[str, ...]
    optional: bool


def prompt_for(record: PairRecord, *, seed: int = 0, templates: Sequence[str] | None = None) -> str:
    """State what is known of a lesion as a prompt: one of the templates, filled.

    Args:
        record: The pair. Values like "unknown" count as not known; a label is put in the ISIC Archive's term.
        seed: Chooses the template together with ``record.isic_id``; the result depends on nothing else.
        templates: Own templates (syntax: see the module) instead of `TEMPLATES`.

    Returns:
        A prompt of at most 77 CLIP tokens (`clip_token_bound`).

    Raises:
        InputError: An own template has an unknown or repeated field or bad brackets, no template fits what is known of
            the record, or the prompt is too long.

    Example:
        >>> record = PairRecord(file_name="images/a.png", isic_id="a", diagnosis="bcc", sex="female", age_approx=80)
        >>> prompt_for(record, templates=["dermoscopy of {a_diagnosis}[ on {site}][ in {patient}]"])
        'dermoscopy of a basal cell carcinoma in an 80 year old woman'
    """
    values = fields_of(record)
    parsed = [parse_template(template) for template in (TEMPLATES if templates is None else templates)]
    if templates is None and known(getattr(record, "image_type", None)) not in (None, "dermoscopic"):
        parsed = [parse_template(template) for template in TEMPLATES if not _DERMOSCOPY.search(template)]
    usable = [parts for parts in parsed if all(p.optional or all(f in values for f in p.fields) for p in parts)]
    usable = [parts for parts in usable if fill(parts, values)]
    if not usable:
        have = ", ".join(sorted(values))
        raise InputError(
            f"{len(parsed)} templates, none of which fits {record.isic_id!r} (known fields: {have})",
            "one template at least whose fields outside square brackets are known",
            "put fields that may be missing in square brackets, like '{diagnosis}[ on {site}]'",
        )
    digest = hashlib.sha256(f"{seed}:{record.isic_id}".encode()).digest()
    prompt = fill(usable[int.from_bytes(digest[:8], "big") % len(usable)], values)
    if clip_token_bound(prompt) > MAX_CLIP_TOKENS:
        raise InputError(
            f"a prompt that may need {clip_token_bound(prompt)} CLIP tokens: {prompt!r}",
            f"at most {MAX_CLIP_TOKENS} tokens, or the text encoder cuts the end off",
            "shorten the template or the labels",
        )
    return prompt


def fields_of(record: PairRecord) -> dict[str, str]:
    """Values of the template fields for a record; a field that is not known is absent, the diagnosis never is."""
    diagnosis = diagnosis_term(record.diagnosis)
    behaviour, sex = known(record.benign_malignant), known(record.sex)
    site = known(record.anatom_site_general)
    named = diagnosis or UNKNOWN_LESION
    lesion = named if behaviour is None or behaviour in named.split() else f"{behaviour} {named}"
    values = {
        "diagnosis": named,
        "a_diagnosis": _with_article(named),
        "lesion": lesion,
        "a_lesion": _with_article(lesion),
    }
    if behaviour is not None:
        values["benign_malignant"] = behaviour
    if site is not None:
        values["anatom_site_general"] = site
        values["site"] = SITE_PHRASES.get(site, f"the {site}")
    if sex is not None:
        values["sex"] = sex
        values["person"] = _person(sex, record.age_approx)
    if record.age_approx is not None:
        values["age_approx"] = str(record.age_approx)
    if sex is not None or record.age_approx is not None:
        person = values.get("person", "patient")
        bare = person if record.age_approx is None else f"{record.age_approx} year old {person}"
        values["bare_patient"], values["patient"] = bare, _with_article(bare)
    return values


@lru_cache(maxsize=1024)
def parse_template(template: str) -> tuple[_Part, ...]:
    """Split a template into its plain and optional parts.

    Raises:
        InputError: Unknown field, an attribute twice, brackets that nest or do not close, a group without a field.
    """
    parts: list[_Part] = []
    for index, text in enumerate(re.split(r"([\[\]])", template)[::2]):
        optional = index % 2 == 1
        fields = tuple(_field_names(text, template))
        if optional and not fields:
            raise _template_error(template, "a [group] without a field", "remove the brackets or name a field in them")
        parts.append(_Part(text, fields, optional))
    if "".join(re.findall(r"[\[\]]", template)) != "[]" * (len(parts) // 2):
        raise _template_error(
            template, "brackets that nest or do not close", "write groups one after another: [..][..]"
        )
    stated = list(itertools.chain.from_iterable(FIELD_ATTRIBUTES[f] for part in parts for f in part.fields))
    for attribute in stated:
        if stated.count(attribute) > 1:
            raise _template_error(template, f"{attribute} stated twice", "name each attribute in one field only")
    return tuple(parts)


def clip_token_bound(text: str) -> int:
    """Upper estimate of the CLIP tokens of a text, start and end token included, without CLIP's vocabulary.

    CLIP splits text into runs of letters, single digits and runs of other signs before it merges bytes. A run of
    letters is counted as one token for each two bytes begun (English and dermatological words stay below that), every
    other byte as one token.
    """
    runs = re.findall(r"[^\W\d_]+|[^\s]", text.lower())
    return 2 + sum((len(run.encode()) + 1) // 2 if run.isascii() else len(run.encode()) for run in runs)


def tokens_of(tokenizer: Any, prompt: str) -> int:
    """How many tokens a CLIPTokenizer makes of a prompt, start and end included, if nothing is cut."""
    return len(tokenizer(prompt, truncation=False, verbose=False).input_ids)


def refuse_long(prompt: str, count_tokens: Callable[[str], int], where: str = "") -> None:
    """Raise InputError for a prompt whose end the text encoder would cut off.

    Args:
        prompt: text of the pair.
        count_tokens: asked only where `clip_token_bound` is too much.
        where: what the message begins with.
    """
    if clip_token_bound(prompt) > MAX_CLIP_TOKENS and (tokens := count_tokens(prompt)) > MAX_CLIP_TOKENS:
        may = "which may need" if count_tokens is clip_token_bound else "of"
        got = f"{where}a prompt {may} {tokens} CLIP tokens: '{prompt[:40]} ...'"
        raise InputError(got, f"at most {MAX_CLIP_TOKENS}, or the text encoder cuts the end off", "shorten it")


def fill(parts: Iterable[_Part], values: Mapping[str, str]) -> str:
    """The text of a template's parts, with the values of a record's fields (`fields_of`)."""
    kept = (part.text.format_map(values) for part in parts if all(name in values for name in part.fields))
    return " ".join("".join(kept).split()).strip(" ,;")


def _field_names(text: str, template: str) -> Iterator[str]:
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise _template_error(template, f"braces that do not fit ({error})", "write fields like {diagnosis}") from error
    for _, name, specification, conversion in pieces:
        if name is None:
            continue
        if name not in FIELD_ATTRIBUTES or specification or conversion:
            wrong = name + (f"!{conversion}" if conversion else "") + (f":{specification}" if specification else "")
            raise _template_error(
                template,
                f"unknown field {{{wrong}}}",
                f"use one of {', '.join(FIELD_ATTRIBUTES)}",
            )
        yield name


def _template_error(template: str, what: str, remedy: str) -> InputError:
    return InputError(f"template {template!r} with {what}", "text with {fields} and [optional groups]", remedy)


def _with_article(noun: str) -> str:
    """English "a" or "an"; numbers by how they are said (an 8, an 11, an 18, an 80)."""
    number = re.match(r"\d+", noun)
    vowel = (
        number[0] in {"8", "11", "18"} or (len(number[0]) == 2 and number[0][0] == "8")
        if number
        else noun[0] in "aeiou"
    )
    return f"{'an' if vowel else 'a'} {noun}"


def _person(sex: str, age_years: int | None) -> str:
    child = age_years is not None and age_years < ADULT_YEARS
    names = {"female": ("woman", "girl"), "male": ("man", "boy")}
    return names[sex][child] if sex in names else f"{sex} patient"
