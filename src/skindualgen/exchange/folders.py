"""A folder that appears under its name only when it is complete."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.provenance import TEMPORARY_SUFFIX


@contextmanager
def new_folder(out: Path, *sources: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out``, which takes that name when the block ends well; on an error it is removed.

    Args:
        out: new or empty; the folders above it are made.
        sources: folders that are read, inside which ``out`` may not lie.

    Raises:
        InputError: ``out`` holds something, is a file, or lies inside a source.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}, which is not empty", "a new or empty folder", "choose another OUT")
    for source in sources:
        if out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{out} inside {source}", "a folder outside of what is read", "choose another OUT")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{out.name[:80]}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
    temporary.mkdir()
    try:
        yield temporary
        if out.is_dir():
            out.rmdir()
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
