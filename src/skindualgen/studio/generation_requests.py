"""From the page's fields to what is drawn: the prompt of the builder's choices, its labels, and checked numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.prompts import prompt_for
from skindualgen.planning.labels import stated_labels
from skindualgen.studio.drawn import SEED_LIMIT, GenerationRequest
from skindualgen.studio.uploads import Limits

TEMPLATE = "a dermoscopic image of {a_diagnosis}[ on {site}][ in {patient}]"
"""One of the templates of training."""
MAX_PROMPT_CHARACTERS = 2000
MAX_GUIDANCE = 30.0


def built_prompt(diagnosis: str, site: str, age: str, sex: str, tone: str) -> str:
    """The prompt of the builder's choices, of which empty ones are not stated."""
    record = PairRecord(
        file_name="-", isic_id="-", diagnosis=diagnosis or None, anatom_site_general=site or None, sex=sex or None,
        age_approx=int(age) if age else None,
    )  # fmt: skip
    prompt = prompt_for(record, templates=[TEMPLATE])
    return f"{prompt}, {tone} skin" if tone else prompt


def labels_of_text(text: str) -> dict[str, Any]:
    """What the first prompt of a text states: the labels that its pairs get, and the skin tone."""
    return stated_labels(prompts_of(text)[0]) if text.strip() else {}


def prompts_of(text: str) -> list[str]:
    """The prompts of a text, one a line."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def checked_request(
    limits: Limits, text: str, count: float, seed: float, steps: float, guidance: float
) -> GenerationRequest:
    """Bring the fields of a draw to numbers within the limits.

    Raises:
        InputError: which one is not.
    """
    prompts = prompts_of(text)
    if not prompts:
        raise InputError("an empty prompt", "what the picture shows", "write for example 'a melanoma'")
    if len(text) > MAX_PROMPT_CHARACTERS:
        got = f"a prompt of {len(text):,} characters"
        raise InputError(got, f"at most {MAX_PROMPT_CHARACTERS:,}", "shorten it")
    ranges: Mapping[str, tuple[float | None, float, float]] = {
        "number of pairs": (count, 1, limits.pairs),
        "seed": (seed, 0, SEED_LIMIT - 1),
        "number of steps": (steps, 1, limits.steps),
        "guidance": (guidance, 0, MAX_GUIDANCE),
    }
    for name, (value, low, high) in ranges.items():
        if value is None or not low <= value <= high:
            got = f"no {name}" if value is None else f"a {name} of {value:g}"
            raise InputError(got, f"{low:g} to {high:g}", f"choose {low:g} to {high:g}")
    return GenerationRequest(prompts, round(count), round(seed), round(steps), float(guidance))
