"""What keeps the tests themselves from hanging and from flickering: no forks, and numbers that no order changes."""

from __future__ import annotations

import multiprocessing
import os
import random

import numpy as np
import pytest
import torch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_of_this_process_is_refused() -> None:
    with pytest.raises(RuntimeError, match="was to be forked"):
        leave_if_child(os.fork())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
def test_a_forked_worker_is_refused_and_a_spawned_one_is_not() -> None:
    with pytest.raises(RuntimeError, match="was to be forked"):
        multiprocessing.get_context("fork").Process(target=os.getpid).start()
    spawned = multiprocessing.get_context("spawn").Process(target=os.getpid)
    spawned.start()
    spawned.join(60)
    assert spawned.exitcode == 0


def leave_if_child(pid: int) -> None:
    if pid == 0:
        os._exit(0)


@pytest.mark.parametrize("turn", range(2))
def test_global_generators_begin_alike_in_every_test(turn: int) -> None:
    """And these are their first values, so an earlier test cannot have drawn."""
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=generator))
    assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002 - the global one is meant
    assert random.random() == random.Random(0).random()
