"""Several processes on one machine generate chunks, each with a model of its own; one that dies is replaced."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from skindualgen.contracts import InputError, SkinDualGenError
from skindualgen.production.chunk import ChunkResult, ChunkSettings, Drew, Gate, Sampler
from skindualgen.production.drawing import draw_chunks
from skindualgen.production.source import ChunkReader

Factory = Callable[[int], tuple[Sampler, Gate | None]]
"""Number of a worker -> its sampler and gate, built in the worker's process."""

CHUNKS_AHEAD = 2
"""Chunks that a worker holds: the one that it generates and the next, so that it never waits for work."""

DEATHS_OF_CHUNK = 3
"""Workers that may die over a chunk before it is taken for its fault."""


PATIENCE_SECONDS = 20
"""In which a worker that is told to end is expected to."""


class WorkerError(SkinDualGenError):
    """A worker raised an error that is no wrong input, or died again and again."""


@dataclass(frozen=True)
class Failure:
    """An error on its way to the producer; exceptions with arguments of their own do not all survive pickling.

    Args:
        wrong_input: the three parts of an `InputError`.
        told: of any other error, its traceback.
    """

    wrong_input: tuple[str, str, str] | None
    told: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The error that is being handled."""
        parts = (error.got, error.expected, error.remedy) if isinstance(error, InputError) else None
        return cls(parts, traceback.format_exc())

    def error(self) -> SkinDualGenError:
        """The error to be raised."""
        return InputError(*self.wrong_input) if self.wrong_input else WorkerError(f"a worker failed:\n{self.told}")


@dataclass
class _Worker:
    number: int
    process: BaseProcess
    connection: Connection
    chunks: deque[int] = field(default_factory=deque)


class WorkerProcesses:
    """The engine of several processes.

    Args:
        factory: builds sampler and gate in each of them; is pickled.
        workers: their number.
    """

    def __init__(self, factory: Factory, workers: int) -> None:
        self._factory, self._count = factory, workers

    def __call__(
        self, reader: ChunkReader, chunks: Iterable[int], settings: ChunkSettings, drew: Drew
    ) -> Generator[ChunkResult, None, None]:
        """See `skindualgen.production.run.Engine`.

        Raises:
            InputError: as a worker found it.
            WorkerError: see there.
        """
        missing = deque(chunks)
        deaths: Counter[int] = Counter()
        workers = [self._start(number, reader, settings) for number in range(min(self._count, len(missing)))]
        try:
            while missing or any(worker.chunks for worker in workers):
                for worker in workers:
                    _assign(worker, missing, deaths)
                ready = wait([worker.connection for worker in workers])
                for worker in [worker for worker in workers if worker.connection in ready]:
                    try:
                        message = worker.connection.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        missing.extendleft(reversed(_mourned(worker, deaths)))
                        if missing:
                            workers.append(self._start(worker.number, reader, settings))
                        continue
                    if isinstance(message, ChunkResult):
                        worker.chunks.remove(message.index)
                        yield message
                    elif isinstance(message, Failure):
                        raise message.error()
                    else:
                        drew(message)
        finally:
            for worker in workers:
                worker.connection.close()
                worker.process.terminate()
            for worker in workers:
                worker.process.join(PATIENCE_SECONDS)
                worker.process.kill()

    def _start(self, number: int, reader: ChunkReader, settings: ChunkSettings) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._factory, number, reader, settings)
        process = context.Process(target=_work, args=arguments, name=f"skindualgen worker {number}", daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()  # so that a dead worker's end is seen as closed
        return _Worker(number, process, ours)


def _assign(worker: _Worker, missing: deque[int], deaths: Counter[int]) -> None:
    """Give a worker chunks to generate; one that a worker has died over is its only one, to see whose fault it is."""
    while missing and len(worker.chunks) < CHUNKS_AHEAD:
        if worker.chunks and any(deaths[chunk] for chunk in (missing[0], *worker.chunks)):
            return
        chunk = missing.popleft()
        worker.chunks.append(chunk)
        try:
            worker.connection.send(chunk)
        except OSError:  # it has just died: the next look at its connection says so
            return


def _mourned(worker: _Worker, deaths: Counter[int]) -> list[int]:
    """The chunks that a dead worker held, which others generate now.

    Raises:
        WorkerError: others have died over one of them.
    """
    worker.process.join()
    deaths.update(worker.chunks)
    for chunk in worker.chunks:
        if deaths[chunk] >= DEATHS_OF_CHUNK:
            raise WorkerError(
                f"{deaths[chunk]} workers died while they drew chunk {chunk}, the last one with exit code "
                f"{worker.process.exitcode}; what is finished is kept. If memory ran out, run the same command with "
                "fewer --workers"
            )
    return list(worker.chunks)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a process that is started here ignore Ctrl-C, which a terminal sends to all: it is ended by us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, factory: Factory, number: int, reader: ChunkReader, settings: ChunkSettings) -> None:
    """What a worker does until its connection is closed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what libraries keep in the system is given back
    held = 0

    def tasks() -> Iterator[tuple[int, Any] | None]:
        nonlocal held
        while True:
            if held and not connection.poll():
                yield None
                continue
            chunk = connection.recv()
            held += 1
            yield chunk, reader.read(chunk)

    def drew(count: int) -> None:
        connection.send(count)

    try:
        sampler, gate = factory(number)
        for result in draw_chunks(sampler, gate, tasks(), settings, drew):
            connection.send(result)
            held -= 1
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the producer has gone; nobody wants what is still in the making
    except Exception as error:
        connection.send(Failure.of(error))
