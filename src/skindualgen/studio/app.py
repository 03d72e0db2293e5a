"""The page as a whole, and the server that shows it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import gradio as gr
import gradio.http_server
import httpx
from PIL import Image
from starlette.middleware import Middleware

from skindualgen._version import __version__
from skindualgen.contracts import InputError
from skindualgen.files import BUILTIN, BUNDLED_ADAPTERS
from skindualgen.studio import api
from skindualgen.studio.components import html_block
from skindualgen.studio.guard import Guard
from skindualgen.studio.quick_import import without_proxies
from skindualgen.studio.state import Studio, open_studio
from skindualgen.studio.tabs import create, data, direct, evaluating, queue, training
from skindualgen.studio.theme import CSS_FILE, head, studio_theme
from skindualgen.studio.uploads import Limits
from skindualgen.studio.workspace import DATASETS_DIR, JOBS_DIR, QUEUE_DIR, REPORTS_DIR, RUNS_DIR

TABS: tuple[tuple[str, Callable[[Studio], None]], ...] = (
    ("Create", create.build),
    ("Direct", direct.build),
    ("Data", data.build),
    ("Train", training.build),
    ("Evaluate", evaluating.build),
    ("Queue", queue.build),
)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
AT_A_TIME = 4
"""Clicks of one kind that are served together; draws are served one by one."""
DISCLAIMER = "Research software, not a medical device"
IDLE_SECONDS = 3600
"""Uploads and downloads that are older than this are deleted while the server runs."""
PRELOAD_AFTER_S = 4.0
"""After the start, unless a page asks for the model before: importing torch would slow the first page."""
SWITCHED_OFF: dict[str, Any] = dict.fromkeys(
    ("inbrowser", "share", "show_error", "run_history", "enable_monitoring", "ssr_mode", "pwa", "mcp_server"),
    False,
)
"""What Gradio would offer."""
SESSIONS = 64
"""Visitors whose unsaved work is kept in memory."""

TOP = (
    '<header class="sdg-top"><div class="sdg-brand"><strong>skindualgen</strong><span>studio</span></div>'
    f'<p class="sdg-disclaimer">{DISCLAIMER}</p>'
    '<button type="button" class="sdg-quiet" data-theme aria-label="Use dark colours">Dark</button></header>'
)
FOOT = (
    f'<footer class="sdg-foot"><span>skindualgen {__version__}</span><span>{DISCLAIMER}. '
    "Not for diagnosis or for decisions about a person.</span>"
    '<a href="?view=api">HTTP API</a></footer>'
)


@dataclass(frozen=True)
class Options:
    """How the server is started.

    Attributes:
        workspace: folder that may be read and written.
        adapter: drawn with first.
        host, port: where it listens; without a port, the first free one from 7860.
        users: names and passwords; demanded where other machines can reach it.
        open_browser: show the page.
    """

    workspace: Path
    adapter: str = BUILTIN
    host: str = "127.0.0.1"
    port: int | None = None
    users: tuple[tuple[str, str], ...] = ()
    open_browser: bool = False


def build_app(studio: Studio) -> gr.Blocks:
    """Lay out the page: a tab for each module of ``tabs``, and the HTTP API."""
    # Read by gradio when components are made and files are uploaded.
    os.environ |= {"GRADIO_TEMP_DIR": str(studio.cache), "GRADIO_ANALYTICS_ENABLED": "False"}
    with gr.Blocks(
        analytics_enabled=False, title="skindualgen studio", fill_width=True, delete_cache=(IDLE_SECONDS, IDLE_SECONDS)
    ) as app:
        api.build(studio)  # before the tabs, whose listeners must not take the endpoints' names
        html_block(TOP, elem_id="studio-top")
        with gr.Tabs(elem_id="studio-tabs"):
            for title, build in TABS:
                with gr.Tab(title, elem_id=f"tab-{title.lower()}", id=title.lower()):
                    build(studio)
        html_block(FOOT, elem_id="studio-foot")
    return app.queue(max_size=studio.limits.waiting, default_concurrency_limit=AT_A_TIME, api_open=False)


def serve(options: Options, *, announce: Callable[[str], None], limits: Limits | None = None) -> None:
    """Show the page until Ctrl-C or SIGTERM; then remove what visitors did not save.

    Args:
        options: how.
        announce: called with the address when the page can be opened.
        limits: of visitors.

    Raises:
        InputError: the port is taken, other machines could reach the page without a password, another studio is open
            on the workspace, or ``options.adapter`` is none: noticed at once or when it is loaded.
    """
    _refuse_open_door(options)
    _refuse_no_adapter(options.adapter)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open_studio(options.workspace, adapter=options.adapter, limits=limits) as studio:
        page = build_app(studio)
        address = launch(page, studio, options)
        ended = threading.Event()
        problems: list[InputError] = []

        def end(problem: InputError) -> None:
            problems.append(problem)
            ended.set()

        preload = threading.Timer(PRELOAD_AFTER_S, studio.model.load_in_background, kwargs={"unusable": end})
        preload.daemon = True
        preload.start()
        announce(address)
        try:
            with suppress(KeyboardInterrupt):
                ended.wait()
        finally:
            preload.cancel()
            page.close(verbose=False)
        if problems:
            raise problems[0]


def launch(page: gr.Blocks, studio: Studio, options: Options) -> str:
    """Start serving in the background; return the address.

    Raises:
        InputError: nothing can listen there.
    """
    Image.MAX_IMAGE_PIXELS = studio.limits.upload_pixels  # also of what gradio itself decodes
    blocked = [studio.workspace.root / name for name in (DATASETS_DIR, RUNS_DIR, REPORTS_DIR, JOBS_DIR, QUEUE_DIR)]
    guard = Middleware(Guard, hosts=LOOPBACK_NAMES if is_loopback(options.host) else None)
    try:
        _bind(options.host, options.port)  # gradio would try a hundred ports, for seconds each
        # Where gradio looks first whether a port is free: a machine with IPv6 alone has no 127.0.0.1.
        gradio.http_server.LOCALHOST_NAME = "0.0.0.0"
        with without_proxies():
            _, address, _ = page.launch(
                server_name=_host_name(options.host),
                server_port=options.port,
                auth=list(options.users) or None,
                blocked_paths=[str(path) for path in blocked],
                max_file_size=studio.limits.upload_bytes,
                state_session_capacity=SESSIONS,
                theme=studio_theme(),
                css_paths=[CSS_FILE],
                head=head(),
                app_kwargs={"middleware": [guard]},
                allowed_paths=[],
                footer_links=[],
                quiet=True,
                prevent_thread_lock=True,
                **SWITCHED_OFF,
            )
    except (OSError, httpx.TransportError) as error:
        got = f"{options.host}:{options.port or '7860 and up'}, where nothing can listen ({error})"
        remedy = "choose another --port or --host (--host ::1 where this machine has IPv6 alone)"
        raise InputError(got, "an address of this machine with a free port", remedy) from error
    if options.open_browser:
        webbrowser.open(address)  # not by gradio: the browser keeps the environment's proxies
    return address


def _bind(host: str, port: int | None) -> None:
    """Bind to the address for a moment; raise OSError where none that the name stands for is this machine's."""
    problem: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return trial.bind(address)
            except OSError as error:
                problem = error
    raise problem or OSError(f"no address of {host}")


def _host_name(host: str) -> str:
    """An IPv6 address in brackets, as in an address of the web."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_no_adapter(adapter: str) -> None:
    """Refuse what is no folder; what the folder holds is seen when it is loaded, as that imports torch."""
    if adapter not in BUNDLED_ADAPTERS and not Path(adapter).is_dir():
        raise InputError(
            f"--adapter {adapter}, which is no folder",
            "'builtin', 'builtin-fast', a run folder of 'skindualgen train', or an adapter folder",
            "check the path",
        )


def _refuse_open_door(options: Options) -> None:
    if not is_loopback(options.host) and not options.users:
        raise InputError(
            f"--host {options.host} without a password",
            "a user and a password where other machines can reach the page",
            "write 'user:password' into a file and give it as --auth-file, or listen on 127.0.0.1",
        )
