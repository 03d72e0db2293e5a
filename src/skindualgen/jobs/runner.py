"""The runner of a queue: one job after the other on a device, each resumed until it has ended."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_text
from skindualgen.jobs.command import EXIT_FILE, LOG_FILE
from skindualgen.jobs.job import Job
from skindualgen.jobs.queue import Queue, Queued

DEVICES_DIR = "devices"
LOOK_EVERY_S = 1.0
WEBHOOK_S, WEBHOOK_TRIES, WEBHOOK_PAUSE_S = 10.0, 2, 1.0
"""Seconds that an address has to answer, times that it is told, seconds between them."""
ENDED_BY_OTHERS = -int(signal.SIGTERM)
"""Exit code of a job whose process somebody ended while its runner went on."""


def run(queue: Queue, device: str | None = None, *, once: bool = False, say: Callable[[str], None] = print) -> None:
    """Run what waits, in order, until Ctrl-C; what ran then, or when the computer went down, is run again next time.

    Args:
        queue: of jobs.
        device: torch device that the jobs see as their only one of its kind; the fastest without one.
        once: return when nothing waits any more.
        say: takes a line of the runner's own log.

    Raises:
        InputError: this machine has no such device, or another runner of the queue has it.
        KeyboardInterrupt: Ctrl-C; the job that ran has been ended likewise and waits again.
    """
    from skindualgen.hardware import available_devices

    devices = available_devices()
    device = device or devices[0]
    if device not in devices:
        raise InputError(f"--device {device}", f"one of {', '.join(devices)}", "choose one that is there")
    locks = queue.folder / DEVICES_DIR
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / device.replace(":", "-"), timeout=0):
            _run(queue, device, once, say)
    except Timeout:
        raise InputError(
            f"a second runner of {queue.folder} on {device}", "one runner a device", "use that one, or another --device"
        ) from None


def _run(queue: Queue, device: str, once: bool, say: Callable[[str], None]) -> None:
    while True:
        with queue.claimed(device) as queued:
            if queued is not None:
                _work(queue, queued, device, say)
        if queued is None:
            if once:
                return
            time.sleep(LOOK_EVERY_S)


def _work(queue: Queue, queued: Queued, device: str, say: Callable[[str], None]) -> None:
    """Run a claimed job to its end, or follow one that an earlier runner has left running."""
    try:
        job = _followed(queue, queued, device, say)
    except KeyboardInterrupt:
        started = Job.read(queue.place(queued.number))  # from its folder: it may have been on its way to us
        if started is not None:
            if started.active:
                os.kill(started.pid, signal.SIGTERM)
            _wait_for(started)
        raise
    if job.state == "lost":
        atomic_write_text(job.folder / EXIT_FILE, f"{ENDED_BY_OTHERS}\n")
    _report(queued, job, "failure" if job.state == "failed" else "end", say)
    queue.remove(queued.number)


def _followed(queue: Queue, queued: Queued, device: str, say: Callable[[str], None]) -> Job:
    """Start a job if it waits, and return it when it has ended."""
    job = queued.job
    if job is not None and queued.state != "waiting":
        _wait_for(job)
        return job
    job = queue.blank(queued, device)
    environment = {} if device == "mps" else {"CUDA_VISIBLE_DEVICES": visible_devices(device)}
    try:
        job, child = job.start(queued.cwd, environment)
    except OSError as error:  # above all: its folder is gone
        job.write()
        atomic_write_text(job.folder / LOG_FILE, f"{error}\n")
        atomic_write_text(job.folder / EXIT_FILE, "1\n")
        return job
    _report(queued, job, "start", say)
    _wait_for(job)
    child.wait()
    return job


def _wait_for(job: Job) -> None:
    while job.active:
        time.sleep(LOOK_EVERY_S)


def visible_devices(device: str) -> str:
    """The value of CUDA_VISIBLE_DEVICES by which a child sees this device alone."""
    if device == "cpu":
        return ""
    index = int(device.partition(":")[2])
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",")[index] if seen else str(index)


def _report(queued: Queued, job: Job, event: str, say: Callable[[str], None]) -> None:
    """Say what has become of a job, also to its address."""
    state = replace(queued, job=job).state
    code = "" if job.exit_code is None else f", exit code {job.exit_code}"
    say(f"job {queued.number} ({queued.name}): {state}{code} on {job.about['device']}")
    if queued.notify is None:
        return
    content = {
        "event": event,
        "id": queued.number,
        "name": queued.name,
        "command": ["skindualgen", *queued.arguments],
        "folder": queued.cwd,
        "device": job.about["device"],
        "state": state,
        "exit_code": job.exit_code,
        "started_utc": job.started_utc,
        "log": str(job.folder.resolve() / LOG_FILE),
    }
    problem = post(queued.notify, content)
    if problem is not None:
        say(f"job {queued.number}: {urlsplit(queued.notify).hostname} was not told of its {event} ({problem})")


def post(url: str, content: dict[str, Any]) -> str | None:
    """Send JSON to an address, again if it fails; return why it failed the last time, None if it did not."""
    body = json.dumps(content).encode()
    problem = None
    for attempt in range(WEBHOOK_TRIES):
        time.sleep(WEBHOOK_PAUSE_S if attempt else 0)
        try:
            with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=WEBHOOK_S):
                return None
        except HTTPError as error:
            problem = str(error)
            error.close()
        except (OSError, HTTPException, ValueError) as error:
            problem = str(error)
    return problem
