"""Paraphrases of prompts by any OpenAI-compatible endpoint, local servers included: cached, checked, or dropped.

A language model may vary how a caption speaks, never what it says: an answer that loses, changes or adds a diagnosis,
an attribute or a doubt is dropped, and the template's prompt stays. What leaves the machine is the prompt alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from skindualgen.contracts import PairRecord
from skindualgen.data.chat import API_KEY_VARIABLE, Answer, Endpoint
from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound
from skindualgen.data.terms import diagnosis_term, parse_terms

INSTRUCTION = (
    "You rewrite captions of dermoscopic photographs. Answer with one rewritten caption of at most 25 words on one "
    "line, in plain English, without quotation marks, comments or explanations. Keep every fact of the caption: the "
    "diagnosis in the same words, body site, age, sex, benign or malignant. Add nothing: no other diagnosis, no "
    "colour, shape, size, structure, side of the body, and no doubt or negation."
)
ATTEMPTS = 4
BACKOFF_SECONDS = 1.0
TIMEOUT_SECONDS = 60.0

CHATTER = re.compile(r"(?i:paraphras|rewrit|caption|\bsure\b|\bhere(?: i|')s\b)|\bI\b|</?\w+>|[`*#{}\[\]]")
"""Marks of an answer that talks about the caption, or formats it, where the bare caption was asked for."""
REASONS = {
    "diagnosis": "diagnosis",
    "anatom_site_general": "body site",
    "sex": "sex",
    "benign_malignant": "benign or malignant",
    "age_approx": "age",
    "appearance": "appearance",
    "hedge": "negation or doubt",
}


class Dropped(NamedTuple):
    """A paraphrase that was not used: the record's id, the prompt that stays, the answer if there was one, and why."""

    isic_id: str
    prompt: str
    paraphrase: str | None
    reason: str


@dataclass(frozen=True)
class Paraphrases:
    """Prompts in the order given (paraphrased, or the template's), how many were paraphrased, and what was dropped."""

    prompts: list[str]
    kept: int
    dropped_with_reasons: list[Dropped]
    requested: int
    """Prompts that the endpoint was asked for in this run; each distinct prompt is asked once."""
    cached: int
    """Distinct prompts whose answer was found on disk."""

    def reasons(self) -> dict[str, int]:
        """How often each reason (up to its colon) led to a drop, the most frequent first."""
        return dict(Counter(dropped.reason.split(":")[0] for dropped in self.dropped_with_reasons).most_common())


def paraphrase_prompts(
    prompts_and_records: Sequence[tuple[str, PairRecord]],
    url: str,
    model: str,
    cache_dir: Path,
    *,
    workers: int = 4,
    attempts: int = ATTEMPTS,
    backoff_seconds: float = BACKOFF_SECONDS,
    timeout_seconds: float = TIMEOUT_SECONDS,
    count_tokens: Callable[[str], int] = clip_token_bound,
    on_progress: Callable[[int, int], None] | None = None,
) -> Paraphrases:
    """Let a language model paraphrase prompts, and keep what says the same in at most 77 CLIP tokens.

    Answers are cached on disk by endpoint, model, instruction and prompt, before they are checked: a second run asks
    nothing again, and an interrupted one goes on. A prompt whose request fails keeps its template's wording.

    Args:
        prompts_and_records: Prompts and the records that they were made from.
        url: Base of the endpoint, as in ``http://localhost:11434/v1``; ``/chat/completions`` is appended.
        model: Name of the model at the endpoint.
        cache_dir: Folder of the cache; made if it is not there.
        workers: Requests under way at once.
        attempts: Tries for each prompt on time-outs, lost connections, 429, 5xx and answers that are not understood.
        backoff_seconds: Wait after the first try; doubles with each, and an answer's ``Retry-After`` can lengthen it.
        timeout_seconds: Longest silence of the endpoint.
        count_tokens: CLIP tokens of a text with start and end token; without a tokenizer an upper estimate.
        on_progress: Called with (distinct prompts done, all distinct prompts).

    Raises:
        InputError: The address is no HTTP address, nothing answers there, or the endpoint refuses the request (wrong
            key, model or path).
    """
    key = os.environ.get(API_KEY_VARIABLE)
    endpoint = Endpoint(url, model, INSTRUCTION, cache_dir, key, attempts, backoff_seconds, timeout_seconds)
    cache_dir.mkdir(parents=True, exist_ok=True)
    distinct = list(dict.fromkeys(prompt for prompt, _ in prompts_and_records))
    answers: dict[str, Answer] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="paraphrase")
    try:
        waiting = {pool.submit(endpoint.answer, prompt): prompt for prompt in distinct}
        for done, future in enumerate(as_completed(waiting), start=1):
            answers[waiting[future]] = future.result()
            if on_progress is not None:
                on_progress(done, len(distinct))
    finally:
        endpoint.stopped.set()
        pool.shutdown(cancel_futures=True)
        endpoint.client.close()
    prompts: list[str] = []
    dropped: list[Dropped] = []
    for prompt, record in prompts_and_records:
        text, failure, _ = answers[prompt]
        reason = failure if text is None else why_not(prompt, text, record, count_tokens=count_tokens)
        if text is None or reason is not None:
            dropped.append(Dropped(record.isic_id, prompt, text, reason or "no answer"))
        prompts.append(prompt if text is None or reason is not None else text)
    cached = sum(answer.cached for answer in answers.values())
    return Paraphrases(prompts, len(prompts) - len(dropped), dropped, endpoint.requested, cached)


def why_not(
    prompt: str, paraphrase: str, record: PairRecord, *, count_tokens: Callable[[str], int] = clip_token_bound
) -> str | None:
    """Why a paraphrase cannot stand for a prompt, or None if it says the same.

    Example:
        >>> record = PairRecord(file_name="a.png", isic_id="a", diagnosis="nevus")
        >>> why_not("a nevus on the posterior torso", "A mole seen on the back", record)
        >>> why_not("a nevus on the posterior torso", "A melanoma on the back", record)
        'diagnosis changed: nevus -> melanoma'
    """
    if not paraphrase or "\n" in paraphrase:
        return "not one line"
    if found := CHATTER.search(paraphrase):
        return f"comment or markup: {found[0]}"
    before, after = parse_terms(prompt), parse_terms(paraphrase)
    for kind, name in REASONS.items():
        if before[kind] != after[kind]:
            told = " -> ".join(", ".join(sorted(terms[kind])) or "nothing" for terms in (before, after))
            return f"{name} changed: {told}"
    term = diagnosis_term(record.diagnosis)
    if term is not None and term in prompt and not before["diagnosis"] and term not in paraphrase.lower():
        return f"diagnosis changed: {term} -> nothing"
    if (tokens := count_tokens(paraphrase)) > MAX_CLIP_TOKENS:
        return f"too long: up to {tokens} of {MAX_CLIP_TOKENS} CLIP tokens"
    return None
