"""The folder that the studio may read and write, and the names by which the page speaks of what is in it.

Nothing outside is ever read or written on a visitor's word: names are relative, and a name that leads out of the
folder, by "..", an absolute path or a link, is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skindualgen.contracts import METADATA_FILE, InputError

NAME_LENGTH = 64
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a visitor may call a new folder."""
DATASETS_DIR, RUNS_DIR, REPORTS_DIR, JOBS_DIR = "datasets", "runs", "reports", "jobs"
QUEUE_DIR = "queue"
"""Of `skindualgen queue`, which makes it."""
SEARCH_DEPTH = 3
"""Levels below the workspace that are searched for data sets, runs and reports."""
ADAPTER_CONFIG = "adapter_config.json"
REPORT_FILE = "report.json"
SKIPPED = {"checkpoints", "images", "masks", JOBS_DIR, QUEUE_DIR}
"""Folders that hold no data set, run or report of their own; neither do hidden ones."""


@dataclass(frozen=True)
class Workspace:
    """A folder and what it holds.

    Attributes:
        root: resolved path; made if it is not there.
    """

    root: Path

    @classmethod
    def open(cls, folder: Path) -> Workspace:
        """Make the folder and its parts where they are missing.

        Raises:
            InputError: ``folder`` is a file, or cannot be written to.
        """
        try:
            for name in (DATASETS_DIR, RUNS_DIR, REPORTS_DIR, JOBS_DIR):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            got = f"{folder} ({error.strerror})"
            raise InputError(got, "a folder with write access", "choose another --workspace") from error
        if not os.access(folder, os.W_OK):
            raise InputError(f"{folder}, which cannot be written to", "a folder with write access", "choose another")
        return cls(folder.resolve())

    def path(self, name: str) -> Path:
        """Return the path of something that is there, by its name relative to the workspace.

        Raises:
            InputError: no such thing, or one outside the workspace.
        """
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise _outside(name)
        found = self.root / pure
        if not found.exists():
            raise InputError(f"{name!r}, which is not there", "something in the workspace", "refresh the list")
        if not found.resolve().is_relative_to(self.root):
            raise _outside(name)
        return found

    def new_folder(self, kind: str, name: str) -> Path:
        """Return the path of a folder to be made in ``kind`` (``DATASETS_DIR``, ...); it is not made yet.

        Raises:
            InputError: a name that is none, one that is taken, or ``kind`` is a link that leads out of the workspace.
        """
        if not NAME_PATTERN.fullmatch(name):
            allowed = f"up to {NAME_LENGTH} letters, digits, '.', '_' and '-'"
            raise InputError(f"the name {name[:80]!r}", allowed, "choose a simpler name")
        place = self.root / kind / name
        if not place.parent.resolve().is_relative_to(self.root):
            raise _outside(kind)
        if place.exists() or place.is_symlink():
            raise InputError(f"the name {name!r}, which is taken", "a new name", "choose another")
        return place

    def name(self, path: Path) -> str:
        """Return the name of a path in the workspace, as the page shows it."""
        return path.relative_to(self.root).as_posix()

    def datasets(self) -> list[str]:
        """Names of the data set folders, in order."""
        return sorted(self.name(path) for path in self._folders() if (path / METADATA_FILE).is_file())

    def adapters(self) -> list[str]:
        """Names of the run folders that hold an adapter, in order."""
        return sorted(self.name(path) for path in self._folders() if (path / "adapter" / ADAPTER_CONFIG).is_file())

    def reports(self) -> list[str]:
        """Names of the folders of finished evaluations, in order."""
        return sorted(self.name(path) for path in self._folders() if _is_evaluation(path / REPORT_FILE))

    def _folders(self) -> Iterator[Path]:
        """Folders down to ``SEARCH_DEPTH``; links are not followed."""
        for folder, children, _ in os.walk(self.root, followlinks=False):
            here = Path(folder)
            children[:] = sorted(
                child
                for child in children
                if not child.startswith(".") and child not in SKIPPED and not (here / child).is_symlink()
            )
            if len(here.relative_to(self.root).parts) >= SEARCH_DEPTH:
                children.clear()
            yield here


def free_name(folder: Path, stem: str) -> str:
    """The first of ``stem-1``, ``stem-2``, ... that nothing in a folder has, whatever its ending."""
    taken = {path.name.partition(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem}-{number}") not in taken)


def _is_evaluation(path: Path) -> bool:
    try:
        return path.is_file() and "fidelity" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _outside(name: str) -> InputError:
    return InputError(f"{name[:80]!r}", "the name of something inside the workspace", "choose it from the list")
