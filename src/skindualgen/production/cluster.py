"""A Ray cluster, or a local Ray, generates chunks: an actor pool of Ray Data, one model per actor, streamed results."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterable
from types import ModuleType
from typing import Any

from skindualgen.contracts import InputError
from skindualgen.production.chunk import ChunkResult, ChunkSettings, Drew
from skindualgen.production.drawing import make_chunk
from skindualgen.production.source import ChunkReader
from skindualgen.production.workers import Factory, Failure, WorkerError

MAX_BLOCKS = 4096
"""Blocks that Ray has to keep in mind; where there are more chunks, a lost actor loses several of them."""

RESULT = "result"


class ChunkActor:
    """Generates chunks in a process of Ray's, with a model of its own.

    Args:
        factory: builds sampler and gate.
        reader: of the requests.
        settings: of the chunks.
    """

    def __init__(self, factory: Factory, reader: ChunkReader, settings: ChunkSettings) -> None:
        self._factory, self._reader, self._settings = factory, reader, settings
        self._parts: Any = None

    def __call__(self, batch: Any) -> Any:
        """Generate one chunk, tables of one row; an error is a result, as Ray would retry what fails each time."""
        import pyarrow

        (chunk,) = batch["item"].to_pylist()
        result: ChunkResult | Failure
        try:
            self._parts = self._parts or self._factory(0)  # Ray shows each actor its own GPU as the first one
            sampler, gate = self._parts
            result = make_chunk(sampler, gate, chunk, self._reader.read(chunk), self._settings)
        except Exception as error:
            result = Failure.of(error)
        return pyarrow.table({RESULT: pyarrow.array([pickle.dumps(result)], pyarrow.large_binary())})


class RayActors:
    """The engine of a Ray cluster: that of ``RAY_ADDRESS``, or one that is started on this machine.

    Lost actors are replaced and their chunks generated again. Ray keeps as many finished chunks as its object store has
    room for, and actors wait when the producer does not take them.

    Args:
        factory: builds sampler and gate in each actor; its files must be there on all machines.
        workers: number of actors.
        gpus: of each actor; None: one if the cluster has any.
    """

    def __init__(self, factory: Factory, workers: int, *, gpus: float | None = None) -> None:
        self._factory, self._count, self._gpus = factory, workers, gpus

    def __call__(
        self, reader: ChunkReader, chunks: Iterable[int], settings: ChunkSettings, drew: Drew
    ) -> Generator[ChunkResult, None, None]:
        """See `skindualgen.production.run.Engine`.

        Raises:
            InputError: Ray is not installed, or as an actor found it.
            WorkerError: an actor raised another error, or Ray itself failed.
        """
        missing = list(chunks)
        if not missing:
            return
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            self._connect(ray)
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # else it tells of each stage
        gpus = self._gpus if self._gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            rows = ray.data.from_items(missing, override_num_blocks=min(len(missing), MAX_BLOCKS))
            results = rows.map_batches(
                ChunkActor,
                fn_constructor_args=(self._factory, reader, settings),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(self._count, len(missing))),
                num_gpus=gpus or None,
                max_restarts=-1,
                max_task_retries=-1,
            )
            for batch in results.iter_batches(batch_size=1, batch_format="pyarrow"):
                (result,) = (pickle.loads(data) for data in batch[RESULT].to_pylist())
                if isinstance(result, Failure):
                    raise result.error()
                drew(reader.size(result.index))
                yield result
        except ray.exceptions.RayError as error:
            raise WorkerError(f"Ray failed: {error}") from error
        finally:
            if started:
                ray.shutdown()

    def _connect(self, ray: ModuleType) -> None:
        """Join the cluster that ``RAY_ADDRESS`` names, or start one here, with a processor slot an actor."""
        slots = max(self._count, os.cpu_count() or 1)
        here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": slots, "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(**here, log_to_driver=False, logging_level="WARNING", configure_logging=True)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process before the folder is in order


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"--engine ray without Ray ({error})", "its package", "pip install 'skindualgen[scale]'"
        ) from error
    return ray
