"""A command that runs apart from whoever started it, and is found again.

A job is a folder: ``job.json`` says what runs, and :mod:`skindualgen.jobs.command` keeps its log and its exit code
there. Nothing about a job is held in memory, so any process sees the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from skindualgen.files import atomic_write_json, atomic_write_text
from skindualgen.jobs.command import EXIT_FILE, KILL_FILE, LOG_FILE, STOP_FILE

JOB_FILE = "job.json"
GRACE_S = 20.0
"""Seconds that a command has to end by itself before it may be killed: a step, and the writing of a checkpoint."""
SAME_START_S = 2.0
"""Difference of two readings of a process's start time that rounding explains."""

State = Literal["running", "stopping", "done", "failed", "stopped", "lost"]
"""``lost``: the process is gone and left no exit code; it was killed, or the computer went down."""


class Stage(NamedTuple):
    """One progress bar of a log: its name, what is done and of how many (None where that is not known)."""

    name: str
    done: int
    total: int | None


BAR = re.compile(r"^\s*(?P<name>\S.*?)\s[━╸╺\s]{8,}(?P<done>\d+)/(?P<total>\d+|\?)(?:\s|$)")
"""As rich draws it: blank at 0, with gaps where the end is not known."""


@dataclass(frozen=True)
class Job:
    """A command, as its folder says.

    Attributes:
        folder: its own.
        kind: what it does.
        arguments: of ``skindualgen``.
        about: what else is known of it, for those who look.
        started_utc: date and time; empty if it never started.
        pid, created: of its runner: process id and start time in seconds since the epoch; 0 if it never started.
    """

    folder: Path
    kind: str
    arguments: tuple[str, ...]
    about: Mapping[str, str]
    started_utc: str = ""
    pid: int = 0
    created: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        """The job of a folder; None if that holds no record of one."""
        try:
            content: dict[str, Any] = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
            content["arguments"] = tuple(content["arguments"])
            return cls(folder, **content)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self) -> None:
        """Record it in its folder."""
        atomic_write_json(
            self.folder / JOB_FILE, {key: value for key, value in asdict(self).items() if key != "folder"}
        )

    def start(
        self, cwd: str | Path, environment: Mapping[str, str] | None = None
    ) -> tuple[Job, subprocess.Popen[bytes]]:
        """Start ``skindualgen ARGUMENTS``, going on with the log of an earlier run.

        Args:
            cwd: folder in which the command runs.
            environment: added to that of this process.

        Returns:
            The job with its process, recorded; and that process, a child of this one, which may wait for it.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with (self.folder / LOG_FILE).open("ab") as log:  # of the runner itself, should it not come up
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "skindualgen.jobs.command", str(self.folder.resolve()), *self.arguments],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C in the starter's terminal does not reach it
            )
        try:
            started = replace(self, started_utc=now, pid=child.pid, created=psutil.Process(child.pid).create_time())
            started.write()
        except BaseException:  # Ctrl-C, a full disk: nobody would find it again
            child.kill()
            child.wait()
            raise
        return started, child

    def stop(self) -> str:
        """Ask it to end; asked again after :data:`GRACE_S`, kill it. Return a sentence that says what happens."""
        if not self.active:
            return "It has ended already."
        if self.may_be_killed:
            atomic_write_text(self.folder / KILL_FILE, "")
            return "It is killed."
        if self.state == "stopping":
            return f"It is stopping; after {GRACE_S:.0f} seconds asking again kills it."
        atomic_write_text(self.folder / STOP_FILE, "")
        return "It is asked to stop, and finishes what it is at."

    @property
    def name(self) -> str:
        """Its id."""
        return self.folder.name

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command; None while it runs, and if it is lost."""
        try:
            return int((self.folder / EXIT_FILE).read_text())
        except (OSError, ValueError):
            return None

    @property
    def state(self) -> State:
        """What has become of it."""
        alive = self._alive()  # before the exit code is read: a runner writes it and ends
        code, asked = self.exit_code, (self.folder / STOP_FILE).exists()
        if code is not None:
            return "stopped" if asked else "failed" if code else "done"
        if alive:
            return "stopping" if asked else "running"
        return "stopped" if asked else "lost"

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self.state in ("running", "stopping")

    @property
    def may_be_killed(self) -> bool:
        """Whether it was asked to stop, and had its time to."""
        try:
            asked = (self.folder / STOP_FILE).stat().st_mtime
        except OSError:
            return False
        return time.time() - asked >= GRACE_S

    def log(self) -> str:
        """What the command has printed, its end if it is long."""
        try:
            return (self.folder / LOG_FILE).read_text(encoding="utf-8")
        except OSError:
            return ""

    def stages(self) -> list[Stage]:
        """The progress bars of its log, in their order."""
        bars = (BAR.match(line) for line in self.log().splitlines())
        return [
            Stage(bar["name"], int(bar["done"]), None if bar["total"] == "?" else int(bar["total"]))
            for bar in bars
            if bar
        ]

    def _alive(self) -> bool:
        """Whether the process that was started still runs, and is not another one with its number."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # The start time is read off the system's clock; where that was set since, the command line names the job.
            same_start = abs(process.create_time() - self.created) < SAME_START_S
            return same_start or str(self.folder.resolve()) in process.cmdline()
        except psutil.Error:
            return False
