"""Paraphrases of prompts by any OpenAI-compatible endpoint, local servers included: cached, checked, or dropped.

A language model may vary how a caption speaks, never what it says: an answer that loses, changes or adds a diagnosis,
an attribute or a doubt is dropped, and the template's prompt stays. What leaves the machine is the prompt alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound
from skindualgen.data.terms import diagnosis_term, parse_terms
from skindualgen.files import atomic_write_bytes

API_KEY_VARIABLE = "SKINDUALGEN_LLM_API_KEY"
"""Environment variable of the endpoint's key; a name of our own, so that no other service's key is ever sent."""

INSTRUCTION = (
    "You rewrite captions of dermoscopic photographs. Answer with one rewritten caption of at most 25 words on one "
    "line, in plain English, without quotation marks, comments or explanations. Keep every fact of the caption: the "
    "diagnosis in the same words, body site, age, sex, benign or malignant. Add nothing: no other diagnosis, no "
    "colour, shape, size, structure, side of the body, and no doubt or negation."
)
ATTEMPTS = 4
BACKOFF_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
MAX_FAILURES_IN_A_ROW = 8
"""After so many prompts without an answer the endpoint is taken for down and the rest is not asked."""

PASSING_STATUS = frozenset({408, 409, 425, 429})
"""Client error codes that ask to come again; other codes below 500 say that the request is wrong."""

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


class _Answer(NamedTuple):
    text: str | None
    failure: str | None = None
    cached: bool = False


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
    endpoint = _Endpoint(_chat_address(url), model, cache_dir, key, attempts, backoff_seconds, timeout_seconds)
    cache_dir.mkdir(parents=True, exist_ok=True)
    distinct = list(dict.fromkeys(prompt for prompt, _ in prompts_and_records))
    answers: dict[str, _Answer] = {}
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


class _Endpoint:
    """A chat endpoint with its cache; used by several threads at once."""

    def __init__(
        self,
        address: str,
        model: str,
        cache_dir: Path,
        key: str | None,
        attempts: int,
        backoff_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.address, self.model, self.cache_dir, self.key = address, model, cache_dir, key
        self.attempts, self.backoff_seconds = attempts, backoff_seconds
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self.client = httpx2.Client(headers=headers, timeout=timeout_seconds)
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            raise InputError(
                f"a proxy in the environment that cannot be used ({error})",
                "http://host:port",
                "fix http_proxy, https_proxy and all_proxy, or unset them",
            ) from error
        self.stopped, self.lock = threading.Event(), threading.Lock()
        self.requested = self.failures_in_a_row = 0
        self.ever_answered = False

    def answer(self, prompt: str) -> _Answer:
        """The model's wording for a prompt, from the cache or by asking."""
        entry = {"address": self.address, "model": self.model, "instruction": INSTRUCTION, "prompt": prompt}
        digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        path = self.cache_dir / f"{digest}.json"
        if path.is_file() and (text := _cached_text(path, entry)) is not None:
            return _Answer(text, cached=True)
        if self.stopped.is_set() or self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            return _Answer(None, f"not asked: the endpoint failed {MAX_FAILURES_IN_A_ROW} times in a row")
        text, failure = self._ask(prompt)
        if text is not None:
            entry["paraphrase"] = text
            atomic_write_bytes(path, json.dumps(entry, ensure_ascii=False, indent=1).encode(), durable=False)
        with self.lock:
            self.failures_in_a_row = 0 if text is not None else self.failures_in_a_row + 1
        return _Answer(text, failure)

    def _ask(self, prompt: str) -> tuple[str | None, str | None]:
        """Ask, again if need be: the text, or why there is none."""
        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
        with self.lock:
            self.requested += 1
        failure = "endpoint failed"
        for attempt in range(self.attempts):
            wait_seconds = self.backoff_seconds * 2**attempt
            try:
                response = self.client.post(self.address, json={"model": self.model, "messages": messages})
            except httpx2.ConnectError as error:
                failure = f"no connection: {error}"
            except httpx2.TimeoutException:
                failure = "time-out: no answer"
            except httpx2.TransportError as error:
                failure = f"connection lost: {error}"
            else:
                self.ever_answered = True
                if response.status_code == httpx2.codes.OK:
                    text = _text_of(response)
                    if text is not None:
                        return text, None
                    failure = "malformed answer: no choices[0].message.content"
                else:
                    self._refuse_if_final(response)
                    failure = f"endpoint failed: HTTP {response.status_code}"
                    wait_seconds = max(wait_seconds, _retry_after_seconds(response))
            if attempt + 1 < self.attempts and self.stopped.wait(min(wait_seconds, MAX_WAIT_SECONDS)):
                break
        if failure.startswith("no connection") and not self.ever_answered:
            raise InputError(
                f"no connection to {self.address} ({failure.partition(': ')[2]})",
                "an OpenAI-compatible endpoint that is running",
                "start the server, or correct --llm-url",
            )
        return None, f"{failure} (after {self.attempts} attempts)"

    def _refuse_if_final(self, response: httpx2.Response) -> None:
        """Raise for a status that says that no request of this run can succeed."""
        if response.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR or response.status_code in PASSING_STATUS:
            return
        said = " ".join(response.text.split())[:200]
        raise InputError(
            f"HTTP {response.status_code} from {self.address}: {said.replace(self.key, '***') if self.key else said}",
            "an OpenAI-compatible endpoint that accepts the key and knows the model",
            f"check --llm-url, the model name {self.model!r} and the key in {API_KEY_VARIABLE}",
        )


def _chat_address(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host and not (parsed.query or parsed.userinfo)
    except httpx2.InvalidURL:
        usable = False
    if not usable or parsed.path.rstrip("/").endswith("/chat/completions"):
        raise InputError(
            f"endpoint address {url!r}",
            "the base of an OpenAI-compatible endpoint, without /chat/completions, key or query",
            "write it like http://localhost:11434/v1",
        )
    return f"{url.rstrip('/')}/chat/completions"


def _cached_text(path: Path, entry: dict[str, str]) -> str | None:
    """The text of a cache entry; None if the file is not the entry it is named for, so that it is asked for again."""
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(stored, dict) or any(stored.get(name) != value for name, value in entry.items()):
        return None
    text = stored.get("paraphrase")
    return text if isinstance(text, str) else None


def _text_of(response: httpx2.Response) -> str | None:
    """The answer's text without blanks and quotation marks around it; None if the answer has not the agreed form."""
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content.strip().strip("\"'“”").strip() if isinstance(content, str) else None


def _retry_after_seconds(response: httpx2.Response) -> float:
    """The wait that the endpoint asks for in seconds; its other form, a date, counts as none."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0
