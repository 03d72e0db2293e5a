"""Runs trials that are not on disk yet, one after another or in several processes, and keeps each as it ends."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch

from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.learning import run_trial
from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.trials import TaskData, TrialRecord, read_record, write_record
from skindualgen.data.journal import end_with_parent

Data = Mapping[Task, TaskData]


@dataclass(frozen=True)
class Done:
    """Progress: a trial has ended; the time that is left is estimated from those that have."""

    trial: Trial
    done: int
    total: int
    seconds: float
    seconds_left: float


def run_trials(
    trials: Mapping[str, Trial],
    data: Data,
    folder: Path,
    *,
    devices: Sequence[str],
    threads: int,
    progress: Callable[[Done], None] | None = None,
) -> None:
    """Run trials and write their records into ``folder``.

    Args:
        trials: by key.
        data: pictures of each task.
        folder: of the records.
        devices: one entry for each training that runs at a time.
        threads: of the CPU, for each of them.
        progress: is given every trial that has ended.
    """
    start = time.monotonic()
    at_a_time = min(len(devices), len(trials))
    if at_a_time < 2:
        ended = _in_this_process(trials, data, folder, devices[0], threads)
    else:
        ended = _in_processes(trials, data, folder, devices[:at_a_time], threads)
    for count, (key, seconds) in enumerate(ended, start=1):
        if progress is not None:
            left = (time.monotonic() - start) / count * (len(trials) - count)
            progress(Done(trials[key], count, len(trials), seconds, left))


def read_records(trials: Mapping[str, Trial], folder: Path) -> dict[str, TrialRecord]:
    """Return the records that are whole, by key."""
    found = {key: read_record(folder, key, trial.task) for key, trial in trials.items()}
    return {key: record for key, record in found.items() if record is not None}


def _run(key: str, trial: Trial, data: Data, folder: Path, device: str) -> tuple[str, float]:
    record = run_trial(data[trial.task], trial, device=device)
    write_record(folder, key, record, trial.notes)
    return key, record.seconds


def _in_this_process(
    trials: Mapping[str, Trial], data: Data, folder: Path, device: str, threads: int
) -> Iterator[tuple[str, float]]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for key, trial in trials.items():
            yield _run(key, trial, data, folder, device)
    finally:
        torch.set_num_threads(before)


def _in_processes(
    trials: Mapping[str, Trial], data: Data, folder: Path, devices: Sequence[str], threads: int
) -> Iterator[tuple[str, float]]:
    context = get_context("spawn")  # a forked process cannot use CUDA
    free: Queue[str] = context.Queue()
    for device in devices:
        free.put(device)
    with tempfile.TemporaryDirectory(prefix="skindualgen-") as shared:
        _write_shared(data, Path(shared))
        pool = ProcessPoolExecutor(len(devices), context, _start_worker, (Path(shared), folder, free, threads))
        try:
            for future in as_completed([pool.submit(_run_in_worker, *item) for item in trials.items()]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process holds from its start to its end."""

    data: Data
    folder: Path
    device: str


def _start_worker(shared: Path, folder: Path, free: Queue[str], threads: int) -> None:
    end_with_parent()
    torch.set_num_threads(threads)
    _Worker.data, _Worker.folder, _Worker.device = _read_shared(shared), folder, free.get()


def _run_in_worker(key: str, trial: Trial) -> tuple[str, float]:
    return _run(key, trial, _Worker.data, _Worker.folder, _Worker.device)


def _write_shared(data: Data, folder: Path) -> None:
    """Write the pictures as plain files, which all processes map into memory without a copy of their own."""
    buffers: list[pickle.PickleBuffer] = []
    (folder / "head").write_bytes(pickle.dumps(dict(data), protocol=5, buffer_callback=buffers.append))
    for index, buffer in enumerate(buffers):
        (folder / f"{index}.raw").write_bytes(buffer.raw())


def _read_shared(folder: Path) -> Data:
    paths = sorted(folder.glob("*.raw"), key=lambda path: int(path.stem))
    buffers = [np.memmap(path, mode="r") if path.stat().st_size else b"" for path in paths]
    data: Data = pickle.loads((folder / "head").read_bytes(), buffers=buffers)
    return data
