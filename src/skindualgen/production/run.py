"""Production of a folder: what is missing is drawn by an engine and written behind its back, until nothing is."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from skindualgen.contracts import InputError, Report
from skindualgen.files import atomic_write_bytes, found_no_room
from skindualgen.production.chunk import ChunkResult, ChunkSettings, Drew, Gate, Sampler
from skindualgen.production.drawing import draw_chunks
from skindualgen.production.finish import Outcome, finish_folder
from skindualgen.production.journal import Journal, production_folder
from skindualgen.production.pictures import Finish, PictureFolder
from skindualgen.production.shards import ShardFolder, ShardFormat
from skindualgen.production.source import MAX_PAIRS, ChunkReader, RequestSource

WAITING_CHUNKS = 2
"""Finished chunks that may wait to be written before drawing waits for the disk."""


class Engine(Protocol):
    """Draws chunks, wherever it does that."""

    def __call__(
        self, reader: ChunkReader, chunks: Iterable[int], settings: ChunkSettings, drew: Drew
    ) -> Generator[ChunkResult, None, None]:
        """Results of the chunks of these numbers, in any order, each once."""


class InProcess:
    """The engine that draws here."""

    def __init__(self, sampler: Sampler, gate: Gate | None = None) -> None:
        self._sampler, self._gate = sampler, gate

    def __call__(
        self, reader: ChunkReader, chunks: Iterable[int], settings: ChunkSettings, drew: Drew
    ) -> Generator[ChunkResult, None, None]:
        """See `Engine`."""
        tasks = ((chunk, reader.read(chunk)) for chunk in chunks)
        return draw_chunks(self._sampler, self._gate, tasks, settings, drew)


@dataclass(frozen=True)
class Layout:
    """What is written where.

    Args:
        part, parts: which of how many parts of the chunks this folder is for, counted from 1.
        shards: format of the shards; None: a file for each picture.
        shard_pairs: pairs of a shard, rounded up to whole chunks.
    """

    part: int = 1
    parts: int = 1
    shards: ShardFormat | None = None
    shard_pairs: int = 1000

    def chunks(self, reader: ChunkReader) -> range:
        """Numbers of the chunks of this part.

        Raises:
            InputError: no such part, or nothing is left for it.
        """
        if not 1 <= self.part <= self.parts:
            raise InputError(f"part {self.part} of {self.parts}", "1 to the number of parts", "fix --part")
        chunks = range(self.part - 1, reader.chunks, self.parts)
        if not chunks:
            raise InputError(
                f"part {self.part} of {self.parts} with {reader.chunks} chunks in all",
                "at least one chunk for each part",
                "use fewer parts, or smaller batches",
            )
        return chunks

    def described(self) -> dict[str, Any]:
        """The settings that differ from those of a whole folder of pictures."""
        part: dict[str, Any] = {} if self.parts == 1 else {"part": f"{self.part}/{self.parts}"}
        return part | ({} if self.shards is None else {"shards": self.shards, "shard_pairs": self.shard_pairs})


class ProductionStopped(KeyboardInterrupt):
    """Production was stopped by SIGINT or SIGTERM; the folder holds what was finished, and can be gone on with.

    Args:
        pairs: that are in the folder.
        asked: pairs that were asked for.
    """

    def __init__(self, pairs: int, asked: int) -> None:
        self.pairs, self.asked = pairs, asked
        super().__init__(f"stopped with {pairs} of {asked} pairs")


def produce(
    source: RequestSource,
    out: Path,
    engine: Engine,
    settings: ChunkSettings,
    *,
    described: Mapping[str, Any],
    layout: Layout | None = None,
    beside: Mapping[str, bytes] | None = None,
    finish: Finish | None = None,
    report: Report = lambda done, total: None,
) -> Outcome:
    """Draw all pairs of a source into a folder, or go on where an earlier run of the same settings ended.

    Chunks are cut by the requests' places, not by what is left, and each is a function of its requests and the
    settings: whatever interrupts a run, and however many draw, the files are the same in the end. Whatever ends it but
    a kill, the folder loads with the pairs that are there.

    Args:
        source: what to draw.
        out: new folder, or one of an interrupted run.
        engine: where to draw.
        settings: of the chunks.
        described: everything else that decides the results; recorded, and compared when a run goes on.
        layout: what is written where.
        beside: name -> content of small files that go with the pairs from the start.
        finish: last change of each encoded image, such as a signature.
        report: progress.

    Raises:
        InputError: ``out`` holds something else, another producer is at work there, or the disk is full.
        ProductionStopped: SIGINT or SIGTERM.
    """
    layout = layout or Layout()
    if source.pairs > MAX_PAIRS:
        raise InputError(f"{source.pairs:,} pairs", f"at most {MAX_PAIRS:,} in a plan", "cut the plan")
    reader = ChunkReader(source, settings.chunk_pairs)
    chunks = layout.chunks(reader)
    claimed = {
        "steps": settings.steps,
        "guidance": settings.guidance,
        "batch_size": settings.batch_size,
        "id_prefix": settings.id_prefix,
        **settings.made_with,
        **settings.further_guidance,
        **_optional(settings),
        **described,
        "pairs": source.pairs,
        **layout.described(),
    }
    with production_folder(out, claimed) as work:
        for name, content in (beside or {}).items():
            atomic_write_bytes(out / name, content)
        journal = Journal(work)
        sink = _sink(out, work, journal, chunks, settings, layout, finish)

        def end() -> Outcome:
            return finish_folder(out, journal, settings=claimed, more=sink.close(), pictures=sink.has_pictures)

        try:
            with _stop_signals():
                _produce_missing(reader, chunks, engine, settings, sink, report)
            return end()
        except KeyboardInterrupt:
            asked = sum(reader.size(chunk) for chunk in chunks)
            raise ProductionStopped(end().pairs, asked) from None
        except Exception as error:
            with suppress(OSError):  # an error here must not hide what went wrong
                end()
            if found_no_room(error):
                raise InputError(
                    f"a full disk at {out}: no room for the next pairs (those that are finished are kept)",
                    "room for the pairs that are missing",
                    "free some and run the same command again",
                ) from error
            raise


def _produce_missing(
    reader: ChunkReader,
    chunks: range,
    engine: Engine,
    settings: ChunkSettings,
    sink: PictureFolder | ShardFolder,
    report: Report,
) -> None:
    """Draw the chunks that are not done; one thread writes them while the next ones are drawn."""
    done = sink.resume()
    asked = sum(reader.size(chunk) for chunk in chunks)
    ready = sum(reader.size(chunk) for chunk in done)
    report(ready, asked)

    def drew(count: int) -> None:
        nonlocal ready
        ready += count  # more than there are, where a lost worker's chunk is drawn again
        report(min(ready, asked), asked)

    missing = [chunk for chunk in chunks if chunk not in done]
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "write") as writer, closing(engine(reader, missing, settings, drew)) as results:
        for result in results:
            pending.append(writer.submit(sink.write, result))
            while pending and (pending[0].done() or len(pending) > WAITING_CHUNKS):
                pending.popleft().result()
        for future in pending:
            future.result()


def _sink(
    out: Path,
    work: Path,
    journal: Journal,
    chunks: range,
    settings: ChunkSettings,
    layout: Layout,
    finish: Finish | None,
) -> PictureFolder | ShardFolder:
    if layout.shards is None:
        return PictureFolder(
            out, journal, chunk_pairs=settings.chunk_pairs, id_prefix=settings.id_prefix, finish=finish
        )
    return ShardFolder(
        out,
        work,
        journal,
        chunks=chunks,
        chunk_pairs=settings.chunk_pairs,
        finish=finish,
        shard_format=layout.shards,
        shard_pairs=layout.shard_pairs,
    )


def _optional(settings: ChunkSettings) -> dict[str, Any]:
    """Settings that stand in the record only where they are used."""
    used = {"thumbnails": settings.thumbnails, "watermark": settings.watermark, "license": settings.license}
    return {name: value for name, value in used.items() if value}


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a KeyboardInterrupt of the main thread; a second one is not caught.

    Nothing is asked of the code that is interrupted: what it leaves unfinished is drawn again.
    """
    before: dict[int, Any] = {}

    def stop(number: int, _frame: object) -> NoReturn:
        signal.signal(number, before[number])
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:  # as a shell has it for its background jobs
                continue
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
