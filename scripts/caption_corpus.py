"""Captions that train the small vocabulary of the micro base's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from skindualgen.contracts import PairRecord
from skindualgen.data.appearance import COLOUR_WORDS, WORDS
from skindualgen.data.prompts import TEMPLATES, fields_of, fill, parse_template
from skindualgen.data.terms import ATTRIBUTE_WORDS, BEHAVIOURS, DIAGNOSES, SEXES, SITES


def caption_corpus() -> list[str]:
    """Every word and phrase that the built-in templates can produce, as captions, for training a small vocabulary.

    Each template is filled with each diagnosis, site, sex, behaviour and age (0 to 90 in steps of 5), other fields
    cycling, and with fields dropped; the words for shape, colour and structure follow. Sorted, without repetition.
    """
    captions = set(DIAGNOSES) | set(SITES)
    for template in TEMPLATES:
        parts = parse_template(template)
        for record in _corpus_records():
            values = fields_of(record)
            if all(p.optional or all(f in values for f in p.fields) for p in parts):
                captions.add(fill(parts, values))
    for line in ATTRIBUTE_WORDS:
        captions.add(line)
        captions.update(line.split(", "))
        captions.update(f"a dermoscopic image of a skin lesion, {words}" for words in line.split(", "))
    captions.update((*WORDS, *COLOUR_WORDS, "upper left", "lower right"))
    return sorted(captions)


def _corpus_records() -> Iterator[PairRecord]:
    longest = len(DIAGNOSES) * 2
    ages = range(0, 91, 5)
    for index in range(max(longest, len(ages) * len(SEXES))):
        full = PairRecord(
            file_name="-",
            isic_id="-",
            diagnosis=DIAGNOSES[index % len(DIAGNOSES)],
            anatom_site_general=SITES[index % len(SITES)],
            sex=SEXES[(index // len(ages)) % len(SEXES)],
            age_approx=ages[index % len(ages)],
            benign_malignant=BEHAVIOURS[index % len(BEHAVIOURS)],
        )
        yield full
        yield full.model_copy(update={"sex": None})
        yield full.model_copy(update={"age_approx": None})
        yield full.model_copy(update={"anatom_site_general": None, "benign_malignant": None})
