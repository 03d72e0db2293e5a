"""A producer's own files in its folder: settings, lock, and a record for each chunk once it is safely on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skindualgen.contracts import HASH_FIELDS, THUMBNAILS_DIR, PairRecord
from skindualgen.files import atomic_write_text
from skindualgen.folders import claim, only_writer, refuse_filled, remove_leftovers
from skindualgen.production.chunk import ID_PREFIX, ChunkResult, Reject

SETTINGS_FILE = "generate.json"
WORK_DIR = ".production"
"""Everything in the folder that is the producer's own."""
CHUNKS_DIR = "chunks"
SUFFIX = ".jsonl"


@contextmanager
def production_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Hold a folder as its only producer; yield the folder of the producer's own files in it.

    Args:
        out: a new or empty folder, or one of an earlier run of the same settings.
        settings: everything that decides the results, as JSON takes it.

    Raises:
        InputError: another producer is at work there; ``out`` holds results of other settings, or something else; or
            it cannot be written to.
    """
    work = out / WORK_DIR
    if not (out / SETTINGS_FILE).is_file() and not work.is_dir():
        refuse_filled(out)
    with only_writer(out, work):
        claim(out, SETTINGS_FILE, settings, ignored=(WORK_DIR,), defaults={"id_prefix": ID_PREFIX})
        remove_leftovers(out, work)
        yield work


class Journal:
    """Record files of chunks: a line for each pair, each refused attempt, and each pair that no attempt met.

    Args:
        work: the producer's own folder, see `production_folder`.
    """

    def __init__(self, work: Path) -> None:
        self.folder = work / CHUNKS_DIR
        self.folder.mkdir(exist_ok=True)
        remove_leftovers(self.folder)

    def write(self, chunk: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Note that a chunk is finished, entirely or not at all, and on disk."""
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        atomic_write_text(self._path(chunk), text)

    def chunks(self) -> list[int]:
        """Numbers of the finished chunks, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob(f"*{SUFFIX}"))

    def read(self, chunk: int) -> list[dict[str, Any]]:
        """Lines of a finished chunk.

        Raises:
            ValueError: the file was damaged.
        """
        text = self._path(chunk).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]  # not splitlines: a prompt may hold U+2028

    def forget(self, chunk: int) -> None:
        """Take a chunk as not finished."""
        self._path(chunk).unlink()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Lines of all finished chunks, in the order of the requests."""
        for chunk in self.chunks():
            yield from self.read(chunk)

    def records(self) -> Iterator[PairRecord]:
        """All finished pairs, in the order of their requests."""
        for line in self.lines():
            if "pair" in line:
                yield PairRecord.model_validate(line["pair"])

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:07d}{SUFFIX}"


def pair_line(record: PairRecord, **more: int) -> dict[str, Any]:
    """The line of a pair, with the sizes of its files."""
    return {"pair": record.model_dump(exclude_none=True), **more}


def refused_lines(result: ChunkResult) -> Iterator[dict[str, Any]]:
    """The lines of refused attempts and of pairs that no attempt met."""
    for reject in result.rejects:
        fields = reject.record.model_dump(exclude_none=True, exclude={*HASH_FIELDS, "split"})
        yield {"reject": {**fields, "reasons": list(reject.reasons), "thumbnail": thumbnail_name(reject)}}
    for name in result.unmet:
        yield {"unmet": name}


def thumbnail_name(reject: Reject) -> str | None:
    """Path of a refused attempt's small picture in the data set folder: the pair's id and the number of its attempt."""
    if reject.thumbnail is None:
        return None
    return f"{THUMBNAILS_DIR}/{reject.record.isic_id}_{reject.record.attempt}.png"
