"""Prompts that go on with words for what the pair is to look like, drawn from those of real pairs of the diagnosis."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from skindualgen.contracts import PairRecord
from skindualgen.data.appearance import WORDS, form_of, with_appearance, with_form
from skindualgen.data.labels import TONE, labels_of, stated
from skindualgen.planning.requests import PairRequest

MOST_KEPT = 400
"""appearances of a diagnosis that an adapter takes along"""
UNKNOWN = ""
"""stands for the diagnosis where none is known"""
_SAID = re.compile(rf"\b({'|'.join(sorted(WORDS, key=len, reverse=True))})\b")


def appearances_of(records: Sequence[PairRecord]) -> dict[str, list[str]]:
    """Measured appearances of pairs by diagnosis, at most `MOST_KEPT` of each, drawn with seed 0 where there are more.

    Those of all diagnoses together are there for an unknown one, under "".
    """
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.appearance is not None:
            found[UNKNOWN].append(record.appearance)
            if record.diagnosis is not None:
                found[record.diagnosis].append(record.appearance)
    rng = np.random.default_rng(0)
    return {
        diagnosis: [words[place] for place in sorted(rng.permutation(len(words))[:MOST_KEPT].tolist())]
        for diagnosis, words in sorted(found.items())
    }


def completed(request: PairRequest, appearances: Mapping[str, Sequence[str]]) -> PairRequest:
    """A request whose prompt says what the pair is to look like, and that remembers it.

    A prompt that says so itself stays. The words are a function of the request's seed. For a photograph that is
    redrawn they are its own, for a given mask its own as to size, shape and place; one that is inpainted has none.
    """
    anchor = request.anchor
    if _SAID.search(request.prompt) or (anchor is not None and anchor.appearance is None):
        return request
    diagnosis = request.attributes.get("diagnosis") or labels_of(request.prompt).get("diagnosis", UNKNOWN)
    words = appearances.get(diagnosis) or appearances.get(UNKNOWN)
    if not words:
        return request
    drawn = words[int(np.random.default_rng([request.seed, 1]).integers(len(words)))]
    if anchor is not None and anchor.appearance is not None:
        only_form = anchor.appearance == form_of(anchor.appearance)
        drawn = with_form(drawn, anchor.appearance) if only_form else anchor.appearance
    if stated(request.prompt)[TONE]:
        drawn = _without_skin(drawn)
    attributes = {**request.attributes, "appearance": drawn}
    return replace(request, prompt=with_appearance(request.prompt, drawn), attributes=attributes)


def with_looks(prompt: str, record: PairRecord) -> str:
    """A prompt that goes on with the measured words for a real pair's looks, but those that would state a skin tone."""
    if record.appearance is None:
        return prompt
    longer = with_appearance(prompt, record.appearance)
    return with_appearance(prompt, _without_skin(record.appearance)) if stated(longer)[TONE] else longer


def _without_skin(words: str) -> str:
    parts = (part.split(" on ")[0] for part in words.split(", "))
    return ", ".join(part for part in parts if not part.endswith(" skin"))
