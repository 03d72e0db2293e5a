"""The studio's server: what it serves and to whom, its HTTP API, errors as sentences, how it starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("quick_gradio")

import gradio as gr
import httpx
from gradio_client import Client, handle_file
from typer.testing import CliRunner

from skindualgen.cli.ui import ui
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.data.phantom import draw_phantom
from skindualgen.studio.access import AUTH_VARIABLE, read_users
from skindualgen.studio.app import Options, build_app, is_loopback, launch, serve
from skindualgen.studio.errors import DEFECT, NO_ROOM, as_sentence, sentence
from skindualgen.studio.guard import POLICY
from skindualgen.studio.state import Studio, open_studio
from skindualgen.studio.theme import CSS_FILE, SCRIPT_FILE, studio_theme
from skindualgen.studio.uploads import MEBIBYTE, Limits

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "studio_client.py"
ENDPOINTS = {"/generate", "/image_from_mask", "/mask_from_image", "/edit"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Iterator[Studio]:
    """A studio on the tiny adapter, with a data set folder and a secret beside the workspace."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "secret.txt").write_text("secret")
    with open_studio(folder / "work", adapter=str(tiny_adapter), limits=Limits(upload_bytes=MEBIBYTE)) as opened:
        (opened.workspace.root / "datasets" / "own.txt").write_text("own")
        yield opened


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    """The address of the running page."""
    page = build_app(studio)
    yield launch(page, studio, Options(studio.workspace.root))
    page.close(verbose=False)


@pytest.fixture(scope="module")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A Python client."""
    made = Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a photograph and its mask."""
    folder, drawn = tmp_path_factory.mktemp("phantom"), draw_phantom(1, diagnosis="nevus", size=64)
    Image.fromarray(drawn.image).save(folder / "image.png")
    Image.fromarray(drawn.mask).save(folder / "mask.png")
    return folder / "image.png", folder / "mask.png"


@pytest.fixture(autouse=True)
def _uploads_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that a test builds beside that of ``url`` leads this process's uploads elsewhere: only until it ends."""
    name = "GRADIO_TEMP_DIR"
    monkeypatch.setenv(name, os.environ.get(name, ""))


# The HTTP API


def test_the_api_is_these_endpoints(client: Client) -> None:
    told: dict[str, Any] = client.view_api(return_format="dict", print_info=False)
    assert set(told["named_endpoints"]) == ENDPOINTS and not told["unnamed_endpoints"]
    names = {
        endpoint: [parameter["parameter_name"] for parameter in facts["parameters"]]
        for endpoint, facts in told["named_endpoints"].items()
    }
    draw = ["prompt", "count", "seed", "steps", "guidance", "adapter"]
    assert names == {
        "/generate": draw,
        "/image_from_mask": ["mask", *draw],
        "/mask_from_image": ["image", "ensemble", "adapter"],
        "/edit": ["image", "mask", "image_strength", "mask_strength", "keep", *draw],
    }


def test_generate(client: Client, studio: Studio, tmp_path: Path) -> None:
    record, archive = client.predict("a melanoma", count=2, seed=7, steps=2, api_name="/generate")
    assert record["command"].startswith("skindualgen generate --out pairs")
    assert [pair["diagnosis"] for pair in record["pairs"]] == ["melanoma"] * 2
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path)
    records = read_metadata(tmp_path / "pairs")
    assert [pair["sha256"] for pair in record["pairs"]] == [each.sha256 for each in records]
    assert not list((studio.workspace.root / ".studio" / "drawn").iterdir())  # nothing is left behind


def test_other_directions(client: Client, phantom: tuple[Path, Path]) -> None:
    image, mask = (handle_file(path) for path in phantom)
    filled, _ = client.predict(mask=mask, prompt="a nevus", steps=2, api_name="/image_from_mask")
    assert len(filled["pairs"]) == 1
    read, found = client.predict(image=image, ensemble=1, api_name="/mask_from_image")
    with Image.open(found) as written:
        assert written.size == (64, 64) == (read["width"], read["height"])
    changed, _ = client.predict(
        image=image,
        mask=mask,
        image_strength=0.5,
        mask_strength=0,
        keep="skin",
        prompt="a nevus",
        steps=2,
        api_name="/edit",
    )
    assert changed["pairs"][0]["diagnosis"] == "nevus"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": " "}, "Got an empty prompt: write for example"),
        ({"prompt": "a nevus", "adapter": "../../secret"}, "choose it from the list"),
        ({"prompt": "melanoma " * 100}, "CLIP tokens"),
    ],
)
def test_errors_are_sentences(client: Client, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=re.escape(said)) as caught:
        client.predict(**arguments, steps=1, api_name="/generate")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("field", [{"count": 65}, {"count": 0}, {"steps": 201}, {"seed": -1}, {"guidance": 31}])
def test_the_limits_hold_for_the_api(client: Client, field: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"(?i)(less|greater|maximum|minimum|choose)"):
        client.predict("a nevus", **({"steps": 1} | field), api_name="/generate")


def test_bad_uploads_are_refused_in_a_sentence(client: Client, tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.new("RGB", (64, 64), "red").save(whole)
    files = {
        "cut.png": (whole.read_bytes()[:60], "save it again as PNG or JPEG"),
        "text.png": (b"not a picture", "save it again as PNG or JPEG"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "save the picture as PNG or JPEG"),
        "script.py": (b"print()", "save the picture as PNG or JPEG"),
    }
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Exception, match=said):
            client.predict(image=handle_file(tmp_path / name), api_name="/mask_from_image")


def test_large_uploads_are_refused(url: str) -> None:
    files = {"files": ("large.png", b"x" * (MEBIBYTE + 1))}
    assert httpx.post(f"{url}gradio_api/upload", files=files).status_code == 413


def test_a_draw_tells_of_its_steps_and_can_be_cancelled(client: Client, studio: Studio) -> None:
    job = client.submit("a nevus", count=8, seed=0, steps=200, api_name="/generate")
    wait_for(lambda: len(job.outputs()) > 1)
    assert job.outputs()[0] == ({"step": 1, "steps": 200, "finished": 0}, None)
    assert studio.model._stops
    job.cancel()
    wait_for(lambda: not studio.model._stops)
    assert len(job.outputs()) < 200


def test_the_example_runs(url: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--url", url, "--steps", "2", "--out", str(tmp_path / "pair")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400).stdout
    assert "the same without the studio: skindualgen generate" in said
    for name in ("image.png", "mask.png"):
        with Image.open(tmp_path / "pair" / name) as picture:
            assert picture.size == (64, 64)


# What is served, and to whom


def test_the_page_loads_nothing_from_elsewhere(url: str) -> None:
    page = httpx.get(url)
    assert page.status_code == 200 and page.headers["content-security-policy"] == POLICY
    loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)""", page.text)
    assert [address for address in loaded if not address.startswith(url)] == []
    assert "fonts.googleapis" not in page.text and 'analytics_enabled":true' not in page.text.replace(" ", "")
    assert "Research software, not a medical device" in page.text


def test_no_file_but_the_caches_own_is_served(url: str, studio: Studio) -> None:
    root = studio.workspace.root
    kept = studio.new_download_folder() / "mask.png"
    Image.new("L", (8, 8)).save(kept)
    assert httpx.get(f"{url}gradio_api/file={kept}").status_code == 200
    for path in (
        root.parent / "secret.txt",
        root / "datasets" / "own.txt",
        root / ".studio" / "lock",
        Path("/etc/passwd"),
        kept.parent / ".." / ".." / ".." / "datasets" / "own.txt",
        Path(__file__),
        Path("datasets/own.txt"),
    ):
        for prefix in ("gradio_api/file=", "file=", "gradio_api/file/"):
            answer = httpx.get(f"{url}{prefix}{str(path).replace('..', '%2e%2e')}")
            assert answer.status_code in (403, 404), path


@pytest.mark.parametrize("path", ["gradio_api/file=https://example.org/a.png", "gradio_api/proxy=https://example.org"])
def test_nothing_is_fetched_for_visitors(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 403


def test_other_names_of_the_server_are_refused(url: str) -> None:
    assert httpx.get(url, headers={"host": "rebound.example"}).status_code == 421
    port = httpx.URL(url).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert httpx.get(url, headers={"host": host}).status_code == 200


def test_listeners_of_the_page_are_not_part_of_the_api(url: str) -> None:
    config = json.loads(httpx.get(f"{url}config").text)
    public = {each["api_name"] for each in config["dependencies"] if each["api_visibility"] == "public"}
    assert {f"/{name}" for name in public} == ENDPOINTS


def test_every_field_has_a_label_and_a_name(url: str) -> None:
    config = json.loads(httpx.get(f"{url}config").text)
    kinds = {"textbox", "number", "slider", "dropdown", "radio", "checkbox", "checkboxgroup", "file"}
    hidden = {
        "prompt",
        "count",
        "seed",
        "steps",
        "guidance",
        "adapter",
        "image_strength",
        "mask_strength",
        "ensemble",
        "keep",
    }
    hidden |= {"image", "mask", "pairs"}
    fields = [each["props"] for each in config["components"] if each["type"] in kinds]
    assert len(fields) > 20
    assert not [props for props in fields if not props.get("label")]
    assert not [props["label"] for props in fields if not props.get("elem_id") and props["label"] not in hidden]
    names = [props["elem_id"] for props in fields if props.get("elem_id")]
    assert len(set(names)) == len(names)


# How it starts and ends


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_other_machines_need_a_password(host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a password"):
        serve(Options(tmp_path / "work", host=host), announce=print)
    assert not (tmp_path / "work").exists()


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")))


def test_with_a_password_nothing_is_shown_without_it(tmp_path: Path, tiny_adapter: Path) -> None:
    with open_studio(tmp_path / "work", adapter=str(tiny_adapter)) as opened:
        page = build_app(opened)
        address = launch(page, opened, Options(tmp_path, users=(("ann", "long enough"),)))
        try:
            kept = opened.new_download_folder() / "a.png"
            Image.new("L", (8, 8)).save(kept)
            assert httpx.get(f"{address}config").status_code == 401
            assert httpx.get(f"{address}gradio_api/file={kept}").status_code == 401
            assert httpx.post(f"{address}gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401
            wrong = httpx.post(f"{address}login", data={"username": "ann", "password": "guess"})
            assert wrong.status_code == 400
            with httpx.Client() as visitor:
                assert visitor.post(f"{address}login", data={"username": "ann", "password": "long enough"}).is_success
                assert visitor.get(f"{address}config").status_code == 200
        finally:
            page.close(verbose=False)


def test_passwords_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    assert read_users(None) == ()
    monkeypatch.setenv(AUTH_VARIABLE, "bob:with:colons")
    assert read_users(None) == (("bob", "with:colons"),)
    file = tmp_path / "users"
    file.write_text("ann:long enough\n\nbob:longer still\n")
    assert read_users(file) == (("ann", "long enough"), ("bob", "longer still"))
    file.write_bytes(b"\xef\xbb\xbfann:long enough\r\nbob:longer still\r\n")  # as editors of Windows write it
    assert read_users(file) == (("ann", "long enough"), ("bob", "longer still"))
    for content in ("", "ann", "ann:short", ":password1", "ann:password1\nann:password2"):
        file.write_text(content)
        with pytest.raises(InputError):
            read_users(file)
    with pytest.raises(InputError, match="check the path"):
        read_users(tmp_path / "none")


def test_one_studio_a_workspace_and_nothing_is_left(tmp_path: Path) -> None:
    with open_studio(tmp_path / "work") as opened:
        (opened.new_download_folder() / "a").write_text("a")
        (opened.new_drawn_folder() / "a").write_text("a")
        with pytest.raises(InputError, match="another studio is open"), open_studio(tmp_path / "work"):
            pass
        assert list(opened.cache.iterdir())
    assert [path.name for path in (tmp_path / "work" / ".studio").iterdir()] == ["lock"]
    with open_studio(tmp_path / "work") as opened:
        assert not opened.workspace.datasets()


def test_a_port_that_is_taken_is_told(url: str, tmp_path: Path) -> None:
    with open_studio(tmp_path / "work") as opened:
        page = build_app(opened)
        with pytest.raises(InputError, match="where nothing can listen"):
            launch(page, opened, Options(tmp_path, port=httpx.URL(url).port))


def test_the_page_opens_past_dead_proxies(studio: Studio, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": ""}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    page = build_app(studio)
    try:
        address = launch(page, studio, Options(studio.workspace.root))
        assert httpx.get(address, trust_env=False).status_code == 200
    finally:
        page.close(verbose=False)
    assert {name: os.environ[name] for name in proxies} == proxies  # what is downloaded goes through them


@pytest.mark.parametrize(("host", "shown"), [("::1", "http://[::1]:"), ("[::1]", "http://[::1]:")])
def test_the_page_opens_on_ipv6(studio: Studio, url: str, host: str, shown: str) -> None:
    page = build_app(studio)
    try:
        address = launch(page, studio, Options(studio.workspace.root, host=host))
        assert address.startswith(shown)
        assert httpx.get(address, trust_env=False).status_code == 200
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize("host", ["203.0.113.9", "no.such.name.invalid"])
def test_an_address_of_another_machine_is_refused_at_once(studio: Studio, url: str, host: str) -> None:
    page = build_app(studio)
    started = time.monotonic()
    with pytest.raises(InputError, match="nothing can listen"):
        launch(page, studio, Options(studio.workspace.root, host=host, users=(("u", "password"),)))
    assert time.monotonic() - started < 30


def test_no_adapter_is_told_before_the_page_opens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--adapter nowhere, which is no folder"):
        serve(Options(tmp_path / "work", adapter="nowhere"), announce=pytest.fail)
    assert not (tmp_path / "work").exists()


def test_an_adapter_that_cannot_be_loaded_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skindualgen.studio.app.PRELOAD_AFTER_S", 0.1)
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "empty").mkdir()
    told: list[str] = []
    try:
        with pytest.raises(InputError, match=r"empty' without adapter_model\.safetensors"):
            serve(Options(tmp_path / "work", adapter=str(tmp_path / "empty")), announce=told.append)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(told) == 1
    assert [path.name for path in (tmp_path / "work" / ".studio").iterdir()] == ["lock"]


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path, tiny_adapter: Path) -> None:
    command = [sys.executable, "-c", "import typer; from skindualgen.cli.ui import ui; typer.run(ui)"]
    command += ["--workspace", str(tmp_path / "work"), "--adapter", str(tiny_adapter), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.split()[2]
        assert httpx.get(address, timeout=120).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, problems = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in problems
    assert [path.name for path in (tmp_path / "work" / ".studio").iterdir()] == ["lock"]


def test_without_gradio_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    import typer

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    app = typer.Typer()
    app.command()(ui)
    result = CliRunner().invoke(app, ["--no-open"])
    assert isinstance(result.exception, InputError) and "skindualgen[ui]" in str(result.exception)


def test_the_quick_import_is_an_import_and_leaves_no_trace() -> None:
    code = (
        "import inspect; before = inspect.getfile; from skindualgen.studio.quick_import import import_gradio; "
        "import_gradio(); import gradio as gr; assert inspect.getfile is before; assert inspect.getfile(gr.Blocks); "
        "assert callable(gr.Button.click)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


# Errors and looks


def test_sentences_say_what_was_got_and_what_to_do() -> None:
    assert sentence(InputError("a  thing", "other", "fix\nit.")) == "Got a thing: fix it."


def test_errors_of_listeners(caplog: pytest.LogCaptureFixture) -> None:
    import errno

    def told(error: Exception) -> str:
        @as_sentence
        def fail(number: int) -> None:
            raise error

        @as_sentence
        def fail_late(number: int) -> Iterator[int]:
            yield number
            raise error

        with pytest.raises(gr.Error) as caught:
            fail(1)
        with pytest.raises(gr.Error) as late:
            list(fail_late(1))
        assert late.value.message == caught.value.message
        return str(caught.value.message)

    assert told(InputError("<b>this</b>", "that", "fix it")) == "Got &lt;b&gt;this&lt;/b&gt;: fix it."
    assert told(OSError(errno.ENOSPC, "full")) == NO_ROOM
    assert not caplog.records
    assert told(ZeroDivisionError("a secret")) == DEFECT
    assert "a secret" in caplog.text
    assert told(gr.Error("as it is")) == "as it is"


def test_the_looks_come_from_this_machine() -> None:
    css = studio_theme()._get_theme_css() + CSS_FILE.read_text() + SCRIPT_FILE.read_text()
    assert not re.search(r"@import|url\((?![\"']?data:)|https?:(?!//www.w3.org/2000/svg)", css)
    assert studio_theme()._stylesheets == []


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("#67625c", "#f6f4f1"),
        ("#a49d95", "#131211"),
        ("#ffffff", "#b4492f"),
        ("#1b1a19", "#f0876a"),
        ("#8a5a00", "#f6f4f1"),
        ("#963b25", "#f6f4f1"),
        ("#e8b75a", "#131211"),
        ("#67625c", "#ffffff"),
        ("#a49d95", "#1d1b1a"),
        ("#963b25", "#ffffff"),
    ],
)
def test_contrast_of_text_is_at_least_four_and_a_half(ink: str, paper: str) -> None:
    """WCAG 2.2, success criterion 1.4.3, of pairs of colours that the style sheet and the theme set text in."""
    known = (CSS_FILE.read_text() + studio_theme()._get_theme_css()).lower()
    assert ink in known and paper in known
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def wait_for(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
