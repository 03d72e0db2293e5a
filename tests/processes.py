"""Child processes of tests, and limits of their own one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

LAUNCHED = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "NO_COLOR": "1", "TERM": "dumb"}
"""Environment of launched trainings: on the CPU (gloo), a thread each, plain text."""


@dataclass(frozen=True)
class Launched:
    """How a launch ended, and what its processes printed."""

    failed: bool
    stdout: str
    stderr: str


def launched(capfd: pytest.CaptureFixture[str], launcher: Callable[[], object]) -> Launched:
    """Call a launcher of trainings, which runs in this process: its own start says nothing and takes seconds."""
    capfd.readouterr()
    failed = False
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LAUNCHED.items():
            patch.setenv(name, value)
        try:
            launcher()
        except (SystemExit, subprocess.CalledProcessError, ChildFailedError):
            failed = True
    return Launched(failed, *capfd.readouterr())


def start_interruptible(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a child that Ctrl-C reaches even when a shell has started the tests in the background.

    Shells make background jobs ignore SIGINT, children inherit that, and Python then installs no handler. A handler, in
    contrast, is not inherited; so this process has one for the moment. (A ``preexec_fn`` would run Python in a fork of
    this process, which has threads.)
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """The real thing, as far as a process can have it: no file may grow beyond ``largest`` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
