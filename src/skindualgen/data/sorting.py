"""Lines in order, of any number: what does not fit in memory is sorted in pieces on disk, which are merged."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

SORTED_BYTES = 8 << 20
"""Text that is sorted in memory; more is sorted in pieces on disk."""

MERGED_FILES = 64
"""Pieces on disk that are merged at once: far below a process's limit of open files."""


def sorted_lines(lines: Iterable[str], files: ExitStack, spill: Path | None) -> Iterator[str]:
    """Sort lines: in memory if they are few, else in pieces on disk that are merged."""
    block: list[str] = []
    pieces: list[IO[str]] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size > SORTED_BYTES:
            pieces.append(_spilled(sorted(block), files, spill))
            block, size = [], 0
            if len(pieces) == MERGED_FILES:
                pieces, merged = [], pieces
                pieces.append(_spilled(_merged(merged), files, spill))
                for piece in merged:
                    piece.close()
    block.sort()
    return heapq.merge(block, _merged(pieces))


def _spilled(lines: Iterable[str], files: ExitStack, spill: Path | None) -> IO[str]:
    file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=spill)  # noqa: SIM115
    files.enter_context(file)
    file.writelines(line + "\n" for line in lines)
    file.seek(0)
    return file


def _merged(pieces: Sequence[IO[str]]) -> Iterator[str]:
    return heapq.merge(*((line[:-1] for line in piece) for piece in pieces))
