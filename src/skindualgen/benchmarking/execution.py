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
from typing import Any

import numpy as np
import torch

from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.trials import Recipe, TaskData, Trial, TrialRecord, read_record, run_trial, write_record


@dataclass(frozen=True)
class Job:
    """A trial with its key, and what its record shall say of it besides the outcome."""

    key: str
    recipe: Recipe
    task: Task
    trial: Trial
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """Progress: a trial has ended; the time that is left is estimated from those that have."""

    job: Job
    done: int
    total: int
    seconds: float
    seconds_left: float


def run_jobs(
    jobs: Sequence[Job],
    data: Mapping[Task, TaskData],
    folder: Path,
    *,
    devices: Sequence[str],
    threads: int,
    progress: Callable[[Done], None] | None = None,
) -> None:
    """Run jobs and write their records into ``folder``.

    Args:
        jobs: each key once.
        data: pictures of each task.
        folder: of the records.
        devices: one entry for each training that runs at a time.
        threads: of the CPU, for each of them.
        progress: told of every trial that has ended.
    """
    start = time.monotonic()
    at_a_time = min(len(devices), len(jobs))
    ended = _in_this_process if at_a_time < 2 else _in_processes
    for count, (job, seconds) in enumerate(ended(jobs, data, folder, devices[:at_a_time], threads), start=1):
        if progress is not None:
            left = (time.monotonic() - start) / count * (len(jobs) - count)
            progress(Done(job, count, len(jobs), seconds, left))


def read_records(jobs: Sequence[Job], folder: Path) -> dict[str, TrialRecord]:
    """Return the records that are whole, by key."""
    found = {job.key: read_record(folder, job.key, job.task) for job in jobs}
    return {key: record for key, record in found.items() if record is not None}


def _run(job: Job, data: Mapping[Task, TaskData], folder: Path, device: str) -> float:
    record = run_trial(data[job.task], job.recipe, job.trial, device=device)
    write_record(folder, job.key, record, job.notes)
    return record.seconds


def _in_this_process(
    jobs: Sequence[Job], data: Mapping[Task, TaskData], folder: Path, devices: Sequence[str], threads: int
) -> Iterator[tuple[Job, float]]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for job in jobs:
            yield job, _run(job, data, folder, devices[0])
    finally:
        torch.set_num_threads(before)


def _in_processes(
    jobs: Sequence[Job], data: Mapping[Task, TaskData], folder: Path, devices: Sequence[str], threads: int
) -> Iterator[tuple[Job, float]]:
    context = get_context("spawn")  # a forked process cannot use CUDA
    free: Queue[str] = context.Queue()
    for device in devices:
        free.put(device)
    with tempfile.TemporaryDirectory(prefix="skindualgen-") as shared:
        _write_shared(data, Path(shared))
        pool = ProcessPoolExecutor(len(devices), context, _start_worker, (Path(shared), folder, free, threads))
        try:
            futures = {pool.submit(_run_in_worker, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process holds from its start to its end."""

    data: Mapping[Task, TaskData]
    folder: Path
    device: str


def _start_worker(shared: Path, folder: Path, free: Queue[str], threads: int) -> None:
    torch.set_num_threads(threads)
    _Worker.data, _Worker.folder, _Worker.device = _read_shared(shared), folder, free.get()


def _run_in_worker(job: Job) -> float:
    return _run(job, _Worker.data, _Worker.folder, _Worker.device)


def _write_shared(data: Mapping[Task, TaskData], folder: Path) -> None:
    """Write the pictures as plain files, which all processes map into memory without a copy of their own."""
    buffers: list[pickle.PickleBuffer] = []
    (folder / "head").write_bytes(pickle.dumps(dict(data), protocol=5, buffer_callback=buffers.append))
    for index, buffer in enumerate(buffers):
        (folder / f"{index}.raw").write_bytes(buffer.raw())


def _read_shared(folder: Path) -> Mapping[Task, TaskData]:
    paths = sorted(folder.glob("*.raw"), key=lambda path: int(path.stem))
    buffers = [np.memmap(path, mode="r") if path.stat().st_size else b"" for path in paths]
    data: Mapping[Task, TaskData] = pickle.loads((folder / "head").read_bytes(), buffers=buffers)
    return data
