"""Paraphrases: asked from a real HTTP server on loopback, cached, and dropped whenever they say something else."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from caption_corpus import caption_corpus
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data import paraphrase
from skindualgen.data.chat import API_KEY_VARIABLE, MAX_FAILURES_IN_A_ROW
from skindualgen.data.paraphrase import INSTRUCTION, Paraphrases, paraphrase_prompts, why_not
from skindualgen.data.terms import parse_terms

PROMPT = "a dermoscopic image of a melanoma on the posterior torso in a 55 year old man"
GOOD = "Dermatoscopic view of a melanoma on the back of a 55-year-old male"
RECORD = PairRecord(
    file_name="images/x.png",
    isic_id="ISIC_1",
    diagnosis="melanoma",
    sex="male",
    age_approx=55,
    anatom_site_general="posterior torso",
)

Reply = tuple[int, bytes, dict[str, str]]


def chat(text: str) -> Reply:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode(), {}


class Server:
    """An endpoint on loopback that records requests and replies as told."""

    def __init__(self, reply: Callable[[str, int], Reply]) -> None:
        self.requests: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = {"path": self.path, "body": body, "key": self.headers.get("Authorization")}
                prompt = body["messages"][-1]["content"]
                before = sum(each["body"]["messages"][-1]["content"] == prompt for each in server.requests)
                server.requests.append(asked)
                status, data, headers = reply(prompt, before)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(data)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client gave up waiting, as the slow answer's test wants

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output quiet."""

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/v1"

    def close(self) -> None:
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str, int], Reply]], Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    servers: list[Server] = []

    def start(reply: Callable[[str, int], Reply]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(server: Server, cache: Path, prompts: list[str] | None = None, **options: Any) -> Paraphrases:
    items = [(prompt, RECORD) for prompt in ([PROMPT] if prompts is None else prompts)]
    return paraphrase_prompts(items, server.url, "small", cache, backoff_seconds=0.01, **options)


def test_a_faithful_paraphrase_is_used(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: chat(f' "{GOOD}"\n'))
    result = ask(server, tmp_path / "cache")
    assert result == Paraphrases([GOOD], kept=1, dropped_with_reasons=[], requested=1, cached=0)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] is None
    assert request["body"] == {
        "model": "small",
        "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": PROMPT}],
    }


def test_the_cache_answers_without_a_request_and_without_the_key(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "secret-key")
    server = serve(lambda prompt, before: chat(GOOD))
    first = ask(server, tmp_path)
    second = ask(server, tmp_path)
    assert (first.prompts, second.prompts) == ([GOOD], [GOOD])
    assert (second.requested, second.cached, len(server.requests)) == (0, 1, 1)
    assert server.requests[0]["key"] == "Bearer secret-key"
    (entry,) = tmp_path.iterdir()
    assert "secret-key" not in entry.read_text()


def test_another_model_address_or_instruction_is_asked_anew(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = serve(lambda prompt, before: chat(GOOD)), serve(lambda prompt, before: chat(GOOD))
    ask(server, tmp_path)
    paraphrase_prompts([(PROMPT, RECORD)], server.url, "large", tmp_path)
    ask(other, tmp_path)
    monkeypatch.setattr(paraphrase, "INSTRUCTION", "Rewrite.")
    ask(server, tmp_path)
    assert (len(server.requests), len(other.requests), len(list(tmp_path.iterdir()))) == (3, 1, 4)


def test_a_damaged_cache_entry_is_asked_for_again(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: chat(GOOD))
    ask(server, tmp_path)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    for damaged in (whole[:40], b"[]", b"\xff", whole.replace(b"melanoma", b"nevus")):
        entry.write_bytes(damaged)
        assert ask(server, tmp_path).requested == 1
        assert entry.read_bytes() == whole


def test_equal_prompts_are_asked_once_and_order_is_kept(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: chat(prompt.replace("dermoscopic image", "dermatoscopic view")))
    prompts = [f"a dermoscopic image of a melanoma in a {age} year old man" for age in (30, 40, 30, 50, 40, 60) * 5]
    seen: list[tuple[int, int]] = []
    result = ask(server, tmp_path, prompts, on_progress=lambda done, count: seen.append((done, count)))
    assert result.prompts == [prompt.replace("dermoscopic image", "dermatoscopic view") for prompt in prompts]
    assert (result.kept, result.requested, len(server.requests)) == (30, 4, 4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "failing",
    [
        (500, b"oops", {}),
        (503, b"", {}),
        (429, b"{}", {"Retry-After": "0"}),
        (200, b"{not json", {}),
        (200, b'{"choices": []}', {}),
        (200, b'{"choices": [{"message": {"content": null}}]}', {}),
        (200, b"[]", {}),
        (200, b"\xff\xfe\xfd", {}),
    ],
)
def test_passing_failures_are_tried_again(failing: Reply, serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: failing if before < 2 else chat(GOOD))
    assert ask(server, tmp_path).prompts == [GOOD]
    assert len(server.requests) == 3


def test_retry_after_lengthens_the_wait(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: (429, b"", {"Retry-After": "1"}) if before == 0 else chat(GOOD))
    start = time.monotonic()
    assert ask(server, tmp_path).prompts == [GOOD]
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ((500, b"oops", {}), "endpoint failed: HTTP 500 (after 3 attempts)"),
        ((200, b"{", {}), "malformed answer: no choices[0].message.content (after 3 attempts)"),
    ],
)
def test_lasting_failures_leave_the_template_and_are_not_cached(
    failing: Reply, reason: str, serve: Any, tmp_path: Path
) -> None:
    server = serve(lambda prompt, before: failing)
    result = ask(server, tmp_path, attempts=3)
    assert (result.prompts, result.kept) == ([PROMPT], 0)
    assert result.dropped_with_reasons == [("ISIC_1", PROMPT, None, reason)]
    assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_slow_answer_times_out_and_is_tried_again(serve: Any, tmp_path: Path) -> None:
    def reply(prompt: str, before: int) -> Reply:
        if before == 0:
            time.sleep(1.5)
        return chat(GOOD)

    server = serve(reply)
    assert ask(server, tmp_path, timeout_seconds=0.7).prompts == [GOOD]
    assert len(server.requests) == 2


def test_an_endpoint_that_is_always_slow_is_reported(serve: Any, tmp_path: Path) -> None:
    def reply(prompt: str, before: int) -> Reply:
        time.sleep(0.6)
        return chat(GOOD)

    slow = serve(reply)
    result = ask(slow, tmp_path, attempts=2, timeout_seconds=0.2)
    assert result.reasons() == {"time-out": 1}


def test_an_endpoint_that_is_down_is_not_asked_for_ever(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: (502, b"", {}))
    prompts = [f"melanoma, {age} year old man" for age in range(18, 58)]
    result = ask(server, tmp_path, prompts, attempts=1, workers=1)
    assert result.prompts == prompts
    assert len(server.requests) == MAX_FAILURES_IN_A_ROW
    assert result.reasons() == {"not asked": 32, "endpoint failed": 8}


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
def test_a_refusal_stops_at_once(status: int, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "secret-key")
    server = serve(lambda prompt, before: (status, b"bad key secret-key", {"Location": "http://127.0.0.1:9/"}))
    with pytest.raises(InputError, match=rf"HTTP {status} .*bad key \*\*\*") as error:
        ask(server, tmp_path)
    assert "secret-key" not in str(error.value)
    assert len(server.requests) == 1


def test_nothing_listening_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match="start the server, or correct --llm-url"):
        paraphrase_prompts([(PROMPT, RECORD)], f"http://127.0.0.1:{port}", "m", tmp_path, attempts=2, backoff_seconds=0)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434",
        "ftp://host/v1",
        "http://",
        "http://h/v1/chat/completions",
        "http://u:p@h/v1",
        "",
        "http://h:x",
    ],
)
def test_a_wrong_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="http://localhost:11434/v1"):
        paraphrase_prompts([(PROMPT, RECORD)], url, "m", tmp_path)


def test_no_prompts_no_requests(serve: Any, tmp_path: Path) -> None:
    server = serve(lambda prompt, before: chat(GOOD))
    assert ask(server, tmp_path, []) == Paraphrases([], 0, [], 0, 0)
    assert server.requests == []


def test_an_unfaithful_paraphrase_is_dropped_counted_and_cached(serve: Any, tmp_path: Path) -> None:
    wrong = GOOD.replace("melanoma", "nevus")
    server = serve(lambda prompt, before: chat(wrong))
    for _ in range(2):
        result = ask(server, tmp_path)
        assert result.prompts == [PROMPT]
        assert result.dropped_with_reasons == [("ISIC_1", PROMPT, wrong, "diagnosis changed: melanoma -> nevus")]
        assert result.reasons() == {"diagnosis changed": 1}
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "A fifty-five-year-old man's back, where dermoscopy shows a melanoma",
        "Melanoma of the posterior trunk: male patient, aged 55",
        "Dermoscopy reveals melanoma on the back; he is 55",
    ],
)
def test_other_words_for_the_same_are_kept(text: str) -> None:
    assert why_not(PROMPT, text, RECORD) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A lesion on the back of a 55-year-old man", "diagnosis changed: melanoma -> nothing"),
        ("A melanoma or basal cell carcinoma on the back of a 55-year-old man", "diagnosis changed: melanoma -> basal"),
        ("A melanoma near a mole on the back of a 55-year-old man", "diagnosis changed: melanoma -> melanoma, nevus"),
        ("A melanoma in situ on the back of a 55-year-old man", "diagnosis changed: melanoma -> melanoma in situ"),
        ("A melanoma on the back of a 55-year-old woman", "sex changed: male -> female"),
        ("A melanoma on the back of a 55-year-old", "sex changed: male -> nothing"),
        ("A melanoma on the back of a 45-year-old man", "age changed: 55 -> 45"),
        ("A melanoma on the back of a man in his fifties", "age changed: 55 -> fifties"),
        ("A melanoma on the back of an elderly 55-year-old man", "age changed: 55 -> 55, elderly"),
        ("A melanoma on the leg of a 55-year-old man", "body site changed: posterior torso -> lower extremity"),
        ("A melanoma on the lower back of a 55-year-old man", "body site changed: posterior torso -> lower back"),
        ("A melanoma on the left back of a 55-year-old man", "body site changed: posterior torso -> left"),
        ("A malignant melanoma on the back of a 55-year-old man", "benign or malignant changed: nothing -> malignant"),
        ("A dark melanoma on the back of a 55-year-old man", "appearance changed: nothing -> dark"),
        ("Not a melanoma on the back of a 55-year-old man", "negation or doubt changed: nothing -> not"),
        ("A suspected melanoma on the back of a 55-year-old man", "negation or doubt changed: nothing -> suspected"),
        ("Sure! " + GOOD, "comment or markup: Sure"),
        ("Here is a paraphrase: " + GOOD, "comment or markup"),
        ("**" + GOOD + "**", "comment or markup: *"),
        (GOOD + "\n" + GOOD, "not one line"),
        ("", "not one line"),
        (GOOD + " as seen through the polarised optics of contact instruments" * 2, "too long: up to"),
    ],
)
def test_whatever_says_something_else_is_dropped(text: str, reason: str) -> None:
    got = why_not(PROMPT, text, RECORD)
    assert got is not None
    assert got.startswith(reason)


def test_a_diagnosis_outside_the_vocabulary_must_stay_literally() -> None:
    record = PairRecord(file_name="a.png", isic_id="a", diagnosis="clear_cell_acanthoma")
    prompt = "a dermoscopic image of a clear cell acanthoma"
    assert why_not(prompt, "Dermoscopy of a Clear cell acanthoma", record) is None
    assert (
        why_not(prompt, "Dermoscopy of a skin lesion", record) == "diagnosis changed: clear cell acanthoma -> nothing"
    )


def test_the_exact_token_count_can_be_given() -> None:
    assert why_not(PROMPT, GOOD, RECORD, count_tokens=lambda text: 77) is None
    assert why_not(PROMPT, GOOD, RECORD, count_tokens=lambda text: 78) == "too long: up to 78 of 77 CLIP tokens"


def test_every_built_in_caption_says_the_same_as_itself() -> None:
    for caption in caption_corpus():
        assert why_not(caption, caption, RECORD.model_copy(update={"diagnosis": None})) is None


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("nevi and naevi, moles", "diagnosis", {"nevus"}),
        ("pigmented benign keratosis", "diagnosis", {"pigmented benign keratosis"}),
        ("the head/neck", "anatom_site_general", {"head/neck"}),
        ("on the head and neck", "anatom_site_general", {"head/neck"}),
        ("her forearm", "anatom_site_general", {"forearm"}),
        ("a woman", "sex", {"female"}),
        ("a human", "sex", set()),
        ("a ninety year old", "age_approx", {"90"}),
        ("a two-year-old", "age_approx", {"2"}),
        ("sixteen years old", "age_approx", {"16"}),
        ("one lesion", "age_approx", set()),
        ("a 70 year old man", "age_approx", {"70"}),
        ("an old man", "age_approx", {"old man"}),
        ("non-pigmented", "hedge", {"non"}),
        ("grey, asymmetrical", "appearance", {"gray", "asymmetric"}),
    ],
)
def test_terms_are_read_in_all_their_words(text: str, kind: str, expected: set[str]) -> None:
    assert parse_terms(text)[kind] == expected
