"""What one server of the studio holds: the workspace, its limits, the model and the jobs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from skindualgen.contracts import InputError
from skindualgen.jobs.queue import Queue
from skindualgen.studio.jobs import Jobs
from skindualgen.studio.model import Model
from skindualgen.studio.uploads import Limits
from skindualgen.studio.workspace import QUEUE_DIR, Workspace

PRIVATE_DIR = ".studio"
"""The studio's own folder in the workspace; its name keeps it out of every list."""
LOCK_FILE = "lock"
CACHE_DIR, DRAWN_DIR = "cache", "drawn"


@dataclass(frozen=True)
class Studio:
    """One object a server, shared by all visitors.

    Attributes:
        workspace: what may be read and written.
        model: draws, one visitor at a time.
        jobs: trainings and evaluations that run as commands.
        limits: of what one visitor may ask for.
    """

    workspace: Workspace
    model: Model
    jobs: Jobs
    limits: Limits = field(default_factory=Limits)

    @property
    def cache(self) -> Path:
        """Where the server keeps uploads and downloads; nothing else is ever served by its path."""
        return self.workspace.root / PRIVATE_DIR / CACHE_DIR

    @property
    def queue(self) -> Queue:
        """What `skindualgen queue` runs; the page lists it, and does not add to it."""
        return Queue(self.workspace.root / QUEUE_DIR)

    def new_drawn_folder(self) -> Path:
        """Return a new empty folder for what a visitor draws; it goes when the server ends."""
        return _new_folder(self.workspace.root / PRIVATE_DIR / DRAWN_DIR)

    def new_download_folder(self) -> Path:
        """Return a new empty folder, with a name that cannot be guessed, for a file that a visitor may download."""
        return _new_folder(self.cache)


@contextmanager
def open_studio(folder: Path, *, adapter: str = "builtin", limits: Limits | None = None) -> Iterator[Studio]:
    """Hold a workspace as its only studio; what visitors uploaded and did not save is removed before and after.

    Raises:
        InputError: another studio is open there, or the folder cannot be written to.
    """
    workspace = Workspace.open(folder)
    private = workspace.root / PRIVATE_DIR
    private.mkdir(exist_ok=True)
    lock = FileLock(private / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder}, where another studio is open", "one studio a workspace", "use that one, or another --workspace"
        ) from None
    try:
        studio = Studio(workspace, Model(workspace, adapter), Jobs(workspace), limits or Limits())
        _clear(private)
        studio.cache.mkdir()
        yield studio
    finally:
        _clear(private)
        lock.release()


def _new_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    return Path(mkdtemp(dir=parent))


def _clear(private: Path) -> None:
    for name in (CACHE_DIR, DRAWN_DIR):
        shutil.rmtree(private / name, ignore_errors=True)
