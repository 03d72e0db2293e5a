"""Finished chunks as shards: buffered on disk until all chunks of a shard are there, then written in their order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from skindualgen.contracts import SHARDS_DIR, InputError, PairRecord
from skindualgen.exchange.formats import optional_package
from skindualgen.exchange.parquet import GENERATED_COLUMNS, generated_columns, picture, picture_schema, write_table
from skindualgen.exchange.webdataset import IGNORED_KEY, IMAGE_KEY, MASK_KEY, RECORD_KEY, samples, whole_tar, write_tar
from skindualgen.files import atomic_path, atomic_write_json, sha256_file
from skindualgen.folders import remove_leftovers
from skindualgen.production.chunk import ChunkResult, FinishedPair
from skindualgen.production.journal import Journal, pair_line, refused_lines
from skindualgen.production.pictures import Finish, hashed, write_thumbnails

BUFFER_DIR = "buffer"
PREFIX = "train-"
"""Loaders take it for the split."""

ShardFormat = Literal["webdataset", "parquet"]
SUFFIXES: dict[ShardFormat, str] = {"webdataset": ".tar", "parquet": ".parquet"}


class ShardFolder:
    """``shards/train-<first pair>.tar`` or ``.parquet``, each of a fixed number of chunks.

    Args:
        out: the data set folder.
        work: the factory's own folder in it.
        journal: of the chunks.
        chunks: numbers of all chunks that are to be made.
        chunk_pairs: pairs of a chunk.
        shard_format: of the files.
        shard_pairs: pairs of a shard, rounded up to whole chunks.
        finish: last change of each image.
    """

    has_pictures = False

    def __init__(
        self,
        out: Path,
        work: Path,
        journal: Journal,
        *,
        chunks: range,
        chunk_pairs: int,
        shard_format: ShardFormat,
        shard_pairs: int,
        finish: Finish | None = None,
    ) -> None:
        self._out, self._journal, self._finish = out, journal, finish
        self._chunks, self._chunk_pairs = chunks, chunk_pairs
        self._format = shard_format
        self._shard_chunks = -(-shard_pairs // chunk_pairs)
        self._folder, self._buffer, self._records = out / SHARDS_DIR, work / BUFFER_DIR, work / SHARDS_DIR
        for folder in (self._folder, self._buffer, self._records):
            folder.mkdir(exist_ok=True)
        self._done: set[int] = set()

    def resume(self) -> set[int]:
        """Clean up after an earlier run; return the chunks that are in a shard or in the buffer.

        Raises:
            InputError: a file that no run has put there.
        """
        remove_leftovers(self._folder, self._buffer, self._records)
        self._refuse_foreign()
        finished = set(self._journal.chunks())
        for shard in range(self._shards):
            written = self._written(shard)
            for chunk in self._chunks_of(shard):
                if chunk in finished and (written or self._buffered(chunk)):
                    self._done.add(chunk)
                elif chunk in finished:
                    self._journal.forget(chunk)
            if written:
                self._drop_buffer(shard)
            else:
                self._write_if_complete(shard)
        return set(self._done)

    def write(self, result: ChunkResult) -> None:
        """Write a chunk to the buffer and its record; and its shard, if that is the last chunk of it."""
        pairs = [hashed(pair, self._finish) for pair in result.pairs]
        write_thumbnails(self._out, result)
        path = self._buffer_path(result.index)
        with atomic_path(path) as temporary:
            write_pairs(temporary, "webdataset", [pairs])
        lines = [
            {"buffer_bytes": path.stat().st_size},
            *(pair_line(pair.record) for pair in pairs),
            *refused_lines(result),
        ]
        self._journal.write(result.index, lines)
        self._done.add(result.index)
        self._write_if_complete(self._chunks.index(result.index) // self._shard_chunks)

    def close(self) -> dict[str, Any]:
        """What is recorded of the shards: name, pairs, bytes and hash of each."""
        records = (self._record(shard) for shard in range(self._shards))
        return {"shards": [record for record in records if record and record["name"]]}

    @property
    def _shards(self) -> int:
        return -(-len(self._chunks) // self._shard_chunks)

    def _chunks_of(self, shard: int) -> range:
        return self._chunks[shard * self._shard_chunks : (shard + 1) * self._shard_chunks]

    def _write_if_complete(self, shard: int) -> None:
        chunks = self._chunks_of(shard)
        if not all(chunk in self._done for chunk in chunks):
            return
        path = self._folder / f"{PREFIX}{chunks[0] * self._chunk_pairs:07d}{SUFFIXES[self._format]}"
        pairs = 0

        def pairs_of(chunk: int) -> Iterator[FinishedPair]:
            nonlocal pairs
            for pair in read_pairs(self._buffer_path(chunk)):
                pairs += 1
                yield pair

        with atomic_path(path) as temporary:
            write_pairs(temporary, self._format, (pairs_of(chunk) for chunk in chunks))
        record = {"name": path.name, "pairs": pairs, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        atomic_write_json(self._records / f"{shard:07d}.json", record)
        self._drop_buffer(shard)

    def _written(self, shard: int) -> bool:
        record = self._record(shard)
        if record is None:
            return False
        path = self._folder / record["name"]
        return path.is_file() and path.stat().st_size == record["bytes"]

    def _record(self, shard: int) -> dict[str, Any] | None:
        path = self._records / f"{shard:07d}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _buffered(self, chunk: int) -> bool:
        try:
            size = self._journal.read(chunk)[0]["buffer_bytes"]
            return self._buffer_path(chunk).stat().st_size == size
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return False

    def _drop_buffer(self, shard: int) -> None:
        for chunk in self._chunks_of(shard):
            self._buffer_path(chunk).unlink(missing_ok=True)

    def _buffer_path(self, chunk: int) -> Path:
        return self._buffer / f"{chunk:07d}.tar"

    def _refuse_foreign(self) -> None:
        for path in self._folder.iterdir():
            if not path.name.startswith((".", PREFIX)):
                raise InputError(
                    f"{path}, which no run has put there", "nothing but the shards of this folder", "move it elsewhere"
                )


def write_pairs(path: Path, shard_format: ShardFormat, chunks: Iterable[Iterable[FinishedPair]]) -> None:
    """Write the pairs of chunks as one shard; equal pairs give equal bytes.

    A tar holds ``<id>.png``, ``<id>.mask.png`` and ``<id>.json`` of each, and ``<id>.ignore.png`` where pixels are
    ignored; Parquet a row group for each chunk.

    Raises:
        InputError: a package is not installed.
    """
    if shard_format == "webdataset":
        write_tar(path, map(_sample, chain.from_iterable(chunks)), mtime=0.0)
    else:
        value = optional_package("datasets").Value
        schema = picture_schema({name: value(kind) for name, kind in GENERATED_COLUMNS.items()})
        write_table(path, schema, ([_row(pair) for pair in chunk] for chunk in chunks))


def read_pairs(path: Path) -> Iterator[FinishedPair]:
    """Read back the pairs of a tar shard, one at a time.

    Raises:
        InputError: it was damaged.
    """
    for _, entries in samples(whole_tar(path, path.name)):
        content = {entry.ending: entry.content or b"" for entry in entries}
        record = PairRecord.model_validate_json(content[RECORD_KEY])
        yield FinishedPair(record, content[IMAGE_KEY], content[MASK_KEY], content.get(IGNORED_KEY))


def _sample(pair: FinishedPair) -> tuple[str, dict[str, bytes]]:
    record = pair.record.model_dump_json(exclude_none=True).encode()
    pictures = zip((IMAGE_KEY, MASK_KEY, IGNORED_KEY), pair.contents.values(), strict=False)
    return pair.record.isic_id, {**dict(pictures), RECORD_KEY: record}


def _row(pair: FinishedPair) -> dict[str, Any]:
    record = pair.record
    image = picture(Path(record.file_name).name, pair.image)
    return {
        "image": image,
        "mask": picture(Path(str(record.mask_file_name)).name, pair.mask),
        **generated_columns(record),
    }
