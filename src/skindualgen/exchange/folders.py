"""What of a data set folder no record names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from skindualgen.contracts import IGNORED_DIR, IMAGES_DIR, MASKS_DIR, PairRecord, listed
from skindualgen.data.sources.base import Tree

SHOWN = 5
"""Names of files in a line."""


def unnamed_files(root: Path, records: Iterable[PairRecord]) -> list[str]:
    """Return the files in a data set folder's folders of pictures that no record names, hidden ones left out.

    Args:
        root: the data set folder.
        records: all of its records.
    """
    named = {name for record in records for name in record.files}
    folders = tuple(f"{folder}/" for folder in (IMAGES_DIR, MASKS_DIR, IGNORED_DIR))
    return [file for file in Tree(root).files if file.startswith(folders) and file not in named]


def unnamed_line(root: Path, files: Sequence[str]) -> str | None:
    """Return a line that says which files were passed over; None without any."""
    if not files:
        return None
    return f"note: {len(files)} files of {root} that no record names: {listed(files, SHOWN)}"
