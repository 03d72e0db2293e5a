"""An OpenAI-compatible chat endpoint, local servers included, that is asked again where it fails; answers are kept."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_bytes

API_KEY_VARIABLE = "SKINDUALGEN_LLM_API_KEY"
"""Environment variable of the endpoint's key; a name of our own, so that no other service's key is ever sent."""

MAX_WAIT_SECONDS = 60.0
MAX_FAILURES_IN_A_ROW = 8
"""After so many prompts without an answer the endpoint is taken for down and the rest is not asked."""

PASSING_STATUS = frozenset({408, 409, 425, 429})
"""Client error codes that ask to come again; other codes below 500 say that the request is wrong."""


class Answer(NamedTuple):
    """The text, or why there is none, and whether the text was on disk."""

    text: str | None
    failure: str | None = None
    cached: bool = False


class Endpoint:
    """A chat endpoint with its cache; used by several threads at once."""

    def __init__(
        self,
        url: str,
        model: str,
        instruction: str,
        cache_dir: Path,
        key: str | None,
        attempts: int,
        backoff_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.address, self.model, self.instruction = _chat_address(url), model, instruction
        self.cache_dir, self.key = cache_dir, key
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

    def answer(self, prompt: str) -> Answer:
        """The model's wording for a prompt, from the cache or by asking."""
        entry = {"address": self.address, "model": self.model, "instruction": self.instruction, "prompt": prompt}
        digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        path = self.cache_dir / f"{digest}.json"
        if path.is_file() and (text := _cached_text(path, entry)) is not None:
            return Answer(text, cached=True)
        if self.stopped.is_set() or self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            return Answer(None, f"not asked: the endpoint failed {MAX_FAILURES_IN_A_ROW} times in a row")
        text, failure = self._ask(prompt)
        if text is not None:
            entry["paraphrase"] = text
            atomic_write_bytes(path, json.dumps(entry, ensure_ascii=False, indent=1).encode(), durable=False)
        with self.lock:
            self.failures_in_a_row = 0 if text is not None else self.failures_in_a_row + 1
        return Answer(text, failure)

    def _ask(self, prompt: str) -> tuple[str | None, str | None]:
        """Ask, again if need be: the text, or why there is none."""
        messages = [{"role": "system", "content": self.instruction}, {"role": "user", "content": prompt}]
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
