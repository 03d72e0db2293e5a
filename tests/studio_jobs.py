"""Jobs in a test: none of their processes outlives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from skindualgen.studio.jobs import Jobs
from skindualgen.studio.workspace import Workspace

PATIENCE_S = 600.0


@contextmanager
def jobs_of(workspace: Workspace) -> Iterator[Jobs]:
    """Jobs whose processes are ended, and waited for, with the block."""
    jobs = Jobs(workspace)
    try:
        yield jobs
    finally:
        for job in jobs.all():
            if job.active:
                runner = psutil.Process(job.pid)
                for process in (*runner.children(recursive=True), runner):
                    process.kill()
        for child in jobs._children:
            child.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
