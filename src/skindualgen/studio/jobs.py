"""Commands that run apart from the studio: they go on when the page is closed or the server ends, and are found again.

A job is a folder of the workspace: ``job.json`` says what runs, and :mod:`skindualgen.studio.job_runner` keeps its log
and its exit code there. Nothing about a job is held in memory, so any page and any later server sees the same.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import psutil
from filelock import FileLock

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_json, atomic_write_text
from skindualgen.studio.job_runner import EXIT_FILE, KILL_FILE, LOG_FILE, STOP_FILE
from skindualgen.studio.workspace import JOBS_DIR, Workspace

JOB_FILE = "job.json"
LOCK_FILE = ".lock"
ID_PATTERN = re.compile(r"[a-z]+-\d{8}T\d{6}Z-[0-9a-f]{6}")
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
    """A command that was started, as its folder says.

    Attributes:
        folder: its own.
        kind: what it does; one of a kind runs at a time.
        arguments: of ``skindualgen``.
        about: names of the workspace that it works on, for the page.
        started_utc: date and time.
        pid, created: of its runner: process id and start time in seconds since the epoch.
    """

    folder: Path
    kind: str
    arguments: tuple[str, ...]
    about: Mapping[str, str]
    started_utc: str
    pid: int
    created: float

    @property
    def name(self) -> str:
        """Its id, which begins with the kind and the time."""
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
            return same_start or any(self.name in part for part in process.cmdline())
        except psutil.Error:
            return False


@dataclass
class Jobs:
    """The jobs of a workspace.

    Attributes:
        workspace: commands run in its root, so their arguments are names of it.
    """

    workspace: Workspace
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def folder(self) -> Path:
        """Where they are recorded."""
        return self.workspace.root / JOBS_DIR

    def start(self, kind: str, arguments: Sequence[str], about: Mapping[str, str]) -> Job:
        """Start ``skindualgen ARGUMENTS``.

        Args:
            kind: letters; no other job of this kind may run.
            arguments: with names of the workspace only: the caller has checked them.
            about: what the page says it is about.

        Raises:
            InputError: one of this kind runs already, or an argument leads out of the workspace.
        """
        _refuse_outside(arguments)
        with FileLock(self.folder / LOCK_FILE):
            if (running := self.running(kind)) is not None:
                shown = ", ".join(running.about.values()) or running.name
                raise InputError(f"a second job of the kind '{kind}'", f"one at a time ({shown} runs)", "stop it first")
            now = datetime.now(UTC)
            folder = self.folder / f"{kind}-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
            folder.mkdir()
            with (folder / LOG_FILE).open("wb") as log:  # of the runner itself, should it not come up
                child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "skindualgen.studio.job_runner", str(folder), *arguments],
                    cwd=self.workspace.root,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in the server's terminal does not reach it
                )
            self._children.append(child)
            created = psutil.Process(child.pid).create_time()
            job = Job(
                folder, kind, tuple(arguments), dict(about), now.isoformat(timespec="seconds"), child.pid, created
            )
            atomic_write_json(folder / JOB_FILE, {key: value for key, value in asdict(job).items() if key != "folder"})
        return job

    def stop(self, job: Job) -> str:
        """Ask a job to end; asked again after :data:`GRACE_S`, kill it. Return a sentence that says what happens."""
        if not job.active:
            return "It has ended already."
        if job.may_be_killed:
            atomic_write_text(job.folder / KILL_FILE, "")
            return "It is killed."
        if job.state == "stopping":
            return f"It is stopping; after {GRACE_S:.0f} seconds another click kills it."
        atomic_write_text(job.folder / STOP_FILE, "")
        return "It is asked to stop, and finishes what it is at."

    def all(self, kind: str | None = None) -> list[Job]:
        """The jobs, of one kind if that is given, the newest first; what is no record of a job is passed over."""
        self._children = [child for child in self._children if child.poll() is None]
        folders = sorted(
            (path for path in self.folder.iterdir() if ID_PATTERN.fullmatch(path.name) and not path.is_symlink()),
            key=lambda path: path.name.partition("-")[2],
            reverse=True,
        )
        wanted = (path for path in folders if kind is None or path.name.startswith(f"{kind}-"))
        return [job for path in wanted if (job := _read(path)) is not None]

    def latest(self, kind: str) -> Job | None:
        """The newest job of a kind."""
        return next(iter(self.all(kind)), None)

    def running(self, kind: str) -> Job | None:
        """The job of a kind that runs, if one does."""
        return next((job for job in self.all(kind) if job.active), None)


def _refuse_outside(arguments: Sequence[str]) -> None:
    for argument in arguments:
        path = PurePath(argument.rpartition("=")[2])
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{argument[:80]!r}", "names of the workspace", "choose something in the workspace")


def _read(folder: Path) -> Job | None:
    try:
        content: dict[str, Any] = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        content["arguments"] = tuple(content["arguments"])
        return Job(folder, **content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
