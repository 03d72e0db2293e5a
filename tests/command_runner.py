"""Runs commands one after the other in this process: ``python command_runner.py COMMANDS.json RESULTS.json``.

A test gives it the environment that they are to stand. Of each command it writes down the exit code and what it said.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from skindualgen.cli import app
from skindualgen.studio.quick_import import import_gradio


class Recorded(io.TextIOWrapper):
    """A stream of the process's own encoding, errors included, that keeps what is written."""

    def __init__(self, like: io.TextIOWrapper) -> None:
        super().__init__(io.BytesIO(), encoding=like.encoding, errors=like.errors, write_through=True)

    def said(self) -> str:
        """All that was written."""
        return self.buffer.getvalue().decode(self.encoding, "replace")  # type: ignore[attr-defined]


def run(arguments: list[str]) -> dict[str, object]:
    """Run a command as the shell would."""
    stdout, stderr = Recorded(sys.__stdout__), Recorded(sys.__stderr__)  # type: ignore[arg-type]
    code: object = None
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            app(arguments, prog_name="skindualgen")
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
    return {"arguments": arguments, "code": code, "stdout": stdout.said(), "stderr": stderr.said()}


def end_studio_when_open() -> None:
    """Let the studio's command fetch its own page once, and end as by Ctrl-C."""
    from skindualgen.studio import app as studio

    serve = studio.serve

    def fetch_and_interrupt(address: str) -> None:
        with build_opener(ProxyHandler({})).open(address, timeout=300) as page:
            assert page.status == 200
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        threading.Timer(0.5, signal.pthread_kill, [main_thread, signal.SIGINT]).start()

    studio.serve = lambda options, announce: serve(options, announce=fetch_and_interrupt)


def main(commands: str, results: str) -> None:
    """Run all of ``commands``, lists of arguments, and write down how each ended.

    Shells have what they run in the background ignore Ctrl-C, and tests hand that on; the studio's end needs it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []
    for arguments in json.loads(Path(commands).read_text(encoding="utf-8")):
        if arguments[0] == "ui":
            import_gradio()
            end_studio_when_open()
        done.append(run([os.fsdecode(argument.encode()) for argument in arguments]))
    Path(results).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
