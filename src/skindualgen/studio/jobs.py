"""The jobs of a workspace: commands that go on when the page is closed or the server ends, and are found again."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath

from filelock import FileLock

from skindualgen.contracts import InputError
from skindualgen.jobs.job import Job
from skindualgen.studio.workspace import JOBS_DIR, Workspace

LOCK_FILE = ".lock"
ID_PATTERN = re.compile(r"[a-z]+-\d{8}T\d{6}Z-[0-9a-f]{6}")


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
            folder = self.folder / f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
            folder.mkdir()
            job, child = Job(folder, kind, tuple(arguments), dict(about)).start(self.workspace.root)
            self._children.append(child)
        return job

    def all(self, kind: str | None = None) -> list[Job]:
        """The jobs, of one kind if that is given, the newest first; what is no record of a job is passed over."""
        self._children = [child for child in self._children if child.poll() is None]
        folders = sorted(
            (path for path in self.folder.iterdir() if ID_PATTERN.fullmatch(path.name) and not path.is_symlink()),
            key=lambda path: path.name.partition("-")[2],
            reverse=True,
        )
        wanted = (path for path in folders if kind is None or path.name.startswith(f"{kind}-"))
        return [job for path in wanted if (job := Job.read(path)) is not None]

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
