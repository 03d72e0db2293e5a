"""A folder that appears under its name only when it is complete, and what of a data set folder nothing names."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, InputError, PairRecord
from skindualgen.data.sources.base import Tree
from skindualgen.files import TEMPORARY_SUFFIX

SHOWN = 5
"""Names of files in a line."""


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


def unnamed_files(root: Path, records: Iterable[PairRecord]) -> list[str]:
    """Return the files in ``images/`` and ``masks/`` of a data set folder that no record names, hidden ones left out.

    Args:
        root: the data set folder.
        records: all of its records.
    """
    named = {name for record in records for name in (record.file_name, record.mask_file_name)}
    return [
        file for file in Tree(root).files if file.startswith((f"{IMAGES_DIR}/", f"{MASKS_DIR}/")) and file not in named
    ]


def unnamed_line(root: Path, files: Sequence[str]) -> str | None:
    """Return a line that says which files were passed over; None without any."""
    if not files:
        return None
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"note: {len(files)} files of {root} that no record names: {', '.join(files[:SHOWN])}{more}"
