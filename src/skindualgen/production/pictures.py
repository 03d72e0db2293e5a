"""Finished chunks as folders of pictures: on disk before the chunk's record says so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from skindualgen.contracts import (
    HASH_FIELDS,
    IGNORED_DIR,
    IMAGES_DIR,
    MASKS_DIR,
    THUMBNAILS_DIR,
    InputError,
    PairRecord,
)
from skindualgen.files import atomic_write_bytes, sha256_bytes, sync
from skindualgen.folders import remove_leftovers
from skindualgen.production.chunk import ID_PREFIX, ChunkResult, FinishedPair
from skindualgen.production.journal import Journal, pair_line, refused_lines, thumbnail_name

SIZE_FIELDS = {"file_name": "image_bytes", "mask_file_name": "mask_bytes", "ignore_file_name": "ignore_bytes"}
"""Field of a record that names a file -> field of the chunk's line that holds the file's size."""
Finish = Callable[[bytes, PairRecord], bytes]
"""Last change of an encoded image, such as a signature."""


def hashed(pair: FinishedPair, finish: Finish | None) -> FinishedPair:
    """The pair with its image finished and the hashes of its files in its record."""
    pair = replace(pair, image=finish(pair.image, pair.record)) if finish else pair
    hashes = {HASH_FIELDS[field]: sha256_bytes(content) for field, content in pair.contents.items()}
    return replace(pair, record=pair.record.model_copy(update=hashes))


def write_thumbnails(out: Path, result: ChunkResult) -> None:
    """Write the small pictures of refused attempts, if they are kept."""
    kept = {thumbnail_name(reject): reject.thumbnail for reject in result.rejects}
    files = {out / name: picture for name, picture in kept.items() if name and picture}
    if files:
        (out / THUMBNAILS_DIR).mkdir(exist_ok=True)
    for path, picture in files.items():
        atomic_write_bytes(path, picture, durable=False)


class PictureFolder:
    """``images/``, ``masks/``, of ignored pixels ``masks_ignore/``, and of refused attempts ``rejected/``.

    Args:
        out: the data set folder.
        journal: of its chunks.
        chunk_pairs: pairs of a chunk.
        id_prefix: what the pairs' ids begin with.
        finish: last change of each image.
    """

    has_pictures = True

    def __init__(
        self, out: Path, journal: Journal, *, chunk_pairs: int, id_prefix: str = ID_PREFIX, finish: Finish | None = None
    ) -> None:
        self._out, self._journal, self._chunk_pairs, self._finish = out, journal, chunk_pairs, finish
        self._name = re.compile(rf"{re.escape(id_prefix)}_(\d{{7}})(?:_\d+)?\.png")
        for name in (IMAGES_DIR, MASKS_DIR):
            (out / name).mkdir(exist_ok=True)

    def resume(self) -> set[int]:
        """Clean up after an earlier run; return the chunks whose files are all there, with the recorded sizes.

        Raises:
            InputError: a file that no run has put there.
        """
        done = set()
        for chunk in self._journal.chunks():
            if self._intact(chunk):
                done.add(chunk)
            else:
                self._journal.forget(chunk)
        for name in (IMAGES_DIR, MASKS_DIR, IGNORED_DIR, THUMBNAILS_DIR):
            if (self._out / name).is_dir():
                remove_leftovers(self._out / name)
                self._remove_unfinished(self._out / name, done)
        return done

    def write(self, result: ChunkResult) -> None:
        """Write the files of a chunk and then its record; on a failure, take its files away again."""
        pairs = [hashed(pair, self._finish) for pair in result.pairs]
        files = {
            self._out / getattr(pair.record, field): pair.contents[field]
            for field in HASH_FIELDS
            for pair in pairs
            if field in pair.contents
        }
        try:
            for folder in {path.parent for path in files}:
                folder.mkdir(exist_ok=True)
            write_thumbnails(self._out, result)
            for path, data in files.items():
                atomic_write_bytes(path, data, durable=False)
            sync([*files, *{path.parent for path in files}])
            self._journal.write(result.index, self._lines(result, pairs))
        except BaseException:
            for path in files:
                path.unlink(missing_ok=True)
            raise

    def close(self) -> dict[str, Any]:
        """Nothing is left to be written; nothing to be reported."""
        return {}

    def _lines(self, result: ChunkResult, pairs: list[FinishedPair]) -> Iterator[dict[str, Any]]:
        for pair in pairs:
            yield pair_line(
                pair.record, **{SIZE_FIELDS[field]: len(content) for field, content in pair.contents.items()}
            )
        yield from refused_lines(result)

    def _intact(self, chunk: int) -> bool:
        try:
            for line in self._journal.read(chunk):
                if (pair := line.get("pair")) is not None:
                    for field in pair.keys() & SIZE_FIELDS.keys():
                        if (self._out / pair[field]).stat().st_size != line[SIZE_FIELDS[field]]:
                            return False
                elif (name := line.get("reject", {}).get("thumbnail")) and not (self._out / name).is_file():
                    return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def _remove_unfinished(self, folder: Path, done: set[int]) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if (match := self._name.fullmatch(entry.name)) is None:
                    raise InputError(
                        f"{entry.path}, which no run has put there",
                        "nothing but the pairs of this folder",
                        "move it elsewhere",
                    )
                if int(match[1]) // self._chunk_pairs not in done:
                    Path(entry.path).unlink()
