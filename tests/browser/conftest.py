"""A real browser for each module, and one real studio for all.

What the page complains of, or asks of another host, fails the test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

pytest.importorskip("quick_gradio")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from studio_server import CHROMIUM_FLAGS, Server, find_browser, serve
from studio_workspace import write_workspace

PATIENCE_MS = 180_000
NEED = "SKINDUALGEN_NEED_BROWSER"
"""Set where a missing browser is a failure."""
LEFT = ("AbortError: signal is aborted", "Connection errored out")
"""What Gradio's client says of calls that wait for an answer when their page is left or loaded anew."""
NO_BROWSER = "no Chromium was found: install one (apt-get install chromium) or run `playwright install chromium`"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; its driver ends with the module, as other tests start event loops of their own."""
    with sync_playwright() as playwright:
        path = find_browser(playwright.chromium.executable_path)
        if path is None:
            (pytest.fail if os.environ.get(NEED) else pytest.skip)(NO_BROWSER)
        started = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The studio of all modules; it takes as long to start as most tests of a module together."""
    workspace = write_workspace(tmp_path_factory.mktemp("browser") / "work")
    with serve(workspace, tmp_path_factory.mktemp("log") / "studio.log") as running:
        yield running


@pytest.fixture(scope="module")
def server(browser: Browser, request: pytest.FixtureRequest) -> Server:
    """The running studio; without a browser it is not started."""
    running = request.getfixturevalue("shared_server")
    assert isinstance(running, Server)
    return running


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open the page as one more visitor, with options of the browser's context such as ``viewport``."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(**options: object) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: complaints.extend(_elsewhere(request.url, server.url)))
        context.on("weberror", lambda error: complaints.append(f"error on the page: {error.error}"))
        context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page = context.new_page()
        page.goto(server.url)
        # What the server fills in when a page is opened would replace what was chosen before; this comes last.
        expect(page.locator("#create-model")).to_contain_text("128 px")
        return page

    yield open_page
    for context in contexts:
        context.close()
    grave = [text for text in complaints if not any(said in text for said in LEFT)]
    assert not grave, "\n".join(grave)


@pytest.fixture
def page(visit: Callable[..., Page]) -> Page:
    """One visitor."""
    return visit()


def _elsewhere(address: str, own: str) -> list[str]:
    parts = urlsplit(address)
    there = parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(own).netloc
    return [f"a request to {address}"] if there else []
