"""Runs a command, in its own process: ``python -m skindualgen.jobs.command FOLDER ARGUMENTS ...``.

It outlives whoever started it. What the command prints is kept in the folder's ``log.txt`` as a terminal would show it,
its exit code in ``exit_code``; a file ``stop`` that appears in the folder ends it as Ctrl-C does, a file ``kill`` at
once. SIGTERM to this process ends the command as Ctrl-C does too, but leaves no exit code: it is to be run again.
"""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil

from skindualgen.files import atomic_write_text

LOG_FILE, EXIT_FILE, STOP_FILE, KILL_FILE = "log.txt", "exit_code", "stop", "kill"
LOOK_EVERY_S = 0.5
"""Seconds between looks at the command, and so between writings of its log."""
DRAIN_S = 5.0
"""Seconds that the last output may take to arrive: a process that the command left behind can hold the pipe open."""
MAX_LINES = 1000
"""Lines of a log that are kept: its end."""
INTERRUPT = signal.SIGINT if os.name == "posix" else signal.SIGTERM
"""What Ctrl-C sends; Windows sends it to a console only."""
TERMINAL = {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "96", "LINES": "60"}
"""Environment that makes rich draw its progress bars, which it leaves out where there is no terminal."""
TOKENS = re.compile(
    r"\x1b\[(?P<number>\d*)(?P<letter>[A-Z])|\x1b\[[?\d;]*[a-zA-Z]|(?P<control>[\r\n])|[^\x1b\r\n]+|\x1b"
)
UNFINISHED = re.compile(r"\x1b(\[[?\d;]*)?\Z")


class Screen:
    """Lines as a terminal shows them: what progress bars draw over is drawn over here too."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take in output: text, line ends, carriage returns, cursor up, erase line; other sequences are dropped."""
        text = self._rest + text
        cut = UNFINISHED.search(text)
        self._rest = cut[0] if cut else ""
        for token in TOKENS.finditer(text[: cut.start()] if cut else text):
            if token["control"] == "\n":
                self._new_line()
            elif token["control"] == "\r":
                self.column = 0
            elif token["letter"] == "A":
                self.row = max(0, self.row - int(token["number"] or 1))
            elif token["letter"] == "K":
                self.lines[self.row] = ""
            elif not token[0].startswith("\x1b"):
                self._write(token[0])

    def text(self) -> str:
        """All lines, without the empty ones at the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip() + "\n"

    def _new_line(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")
        dropped = max(0, len(self.lines) - MAX_LINES)
        del self.lines[:dropped]
        self.row -= dropped

    def _write(self, text: str) -> None:
        line = self.lines[self.row]
        self.lines[self.row] = line[: self.column].ljust(self.column) + text + line[self.column + len(text) :]
        self.column += len(text)


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Run ``skindualgen ARGUMENTS`` in the current folder and return its exit code (negative: ended by that signal).

    What an earlier run has left in the log stays above.
    """
    given_back: list[int] = []
    # A handler is not inherited, so Ctrl-C reaches the command also where a shell has had this process ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: given_back.append(number))
    # -P keeps the current folder, which visitors can put files into, out of the places that modules are imported from.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "skindualgen", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PYTHONWARNINGS": "ignore", **os.environ, **TERMINAL, "PYTHONUNBUFFERED": "1"},
    )
    screen, interrupted, written = Screen(), False, ""
    screen.feed((folder / LOG_FILE).read_text(encoding="utf-8"))
    reader = threading.Thread(target=_read, args=(process.stdout, screen), daemon=True)
    reader.start()
    code: int | None = None
    while code is None:
        try:
            code = process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if (folder / KILL_FILE).exists():
                _kill(process.pid)
            elif not interrupted and (given_back or (folder / STOP_FILE).exists()):
                process.send_signal(INTERRUPT)
                interrupted = True
        else:
            reader.join(DRAIN_S)
        if (text := screen.text()) != written:
            atomic_write_text(folder / LOG_FILE, text)
            written = text
    if not given_back:
        atomic_write_text(folder / EXIT_FILE, f"{code}\n")
    return code


def _read(stream: IO[bytes], screen: Screen) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := os.read(stream.fileno(), 1 << 16):
        screen.feed(decoder.decode(data))


def _kill(pid: int) -> None:
    """End a process and those that it started."""
    try:
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            each.kill()
    except psutil.NoSuchProcess:
        pass


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
