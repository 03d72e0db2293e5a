"""The studio as its users start it, `skindualgen ui`, in a process of its own and with the network off; its browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 120.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""The last one is the network off: no name is resolved."""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: whatever the server fetches from elsewhere fails."""


def find_browser(own: str) -> str | None:
    """Path of a Chromium: the system's, or Playwright's ``own`` where that is installed."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return found or (own if Path(own).is_file() else None)


@dataclass(frozen=True)
class Server:
    """A running studio.

    Attributes:
        url: of its page.
        workspace: its folder.
        log: what it has printed.
    """

    url: str
    workspace: Path
    log: Path


@contextmanager
def serve(workspace: Path, log: Path) -> Iterator[Server]:
    """Run the studio on a workspace; in the end it is told to leave, and must do so without a stack trace."""
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "skindualgen",
        "ui",
        "--workspace",
        str(workspace),
        "--port",
        str(port),
        "--no-open",
    ]
    proxies = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | proxies)
    try:
        end = time.monotonic() + PATIENCE_S
        while "studio at " not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield Server(f"http://127.0.0.1:{port}/", workspace, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0 and "Traceback" not in log.read_text(), log.read_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
