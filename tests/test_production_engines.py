"""The same bytes from one process, from several, and from Ray's actors, even when some of them are killed at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from producer import BATCH, DiscSampler, PictureGate, contents, factory, requests_of, run
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.production.chunk import ChunkSettings
from skindualgen.production.source import ChunkReader
from skindualgen.production.workers import WorkerError, WorkerProcesses

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From one process; read-only."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(out)
    return out


def child(out: Path, **keywords: Any) -> subprocess.Popen[str]:
    """A producer of its own process."""
    command = [sys.executable, str(TESTS / "producer.py"), str(out), json.dumps(keywords)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def working(producer: subprocess.Popen[str], out: Path) -> list[psutil.Process]:
    """Wait until a chunk is finished; return the processes below the producer."""
    deadline = time.monotonic() + 600
    while not list((out / ".production" / "chunks").glob("0*.jsonl")):
        assert producer.poll() is None, producer.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return psutil.Process(producer.pid).children(recursive=True)


def kill_one(producer: subprocess.Popen[str], words: str, out: Path) -> None:
    """Once a chunk is finished, kill one of the processes below the producer whose command line holds ``words``."""
    below = working(producer, out)
    found = [process for process in below if words in " ".join(process.cmdline())]
    assert len(found) == 2, [process.cmdline() for process in below]
    found[0].kill()


@pytest.mark.skipif(os.name != "posix", reason="kills another process")
@pytest.mark.parametrize(
    ("engine", "words"),
    [("processes", "spawn_main"), pytest.param("ray", "ChunkActor", marks=pytest.mark.slow)],
)
def test_a_killed_worker_is_replaced(whole: Path, tmp_path: Path, engine: str, words: str) -> None:
    out = tmp_path / "out"
    producer = child(out, engine=engine, seconds=0.1)
    kill_one(producer, words, out)
    told, said = producer.communicate(timeout=600)
    assert producer.returncode == 0, said
    assert "Outcome(" in told
    assert contents(out) == contents(whole)


@pytest.mark.skipif(os.name != "posix", reason="signals another process")
@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_signal_ends_all_in_order(tmp_path: Path, engine: str) -> None:
    """Guards against Ray's own handler, which ends the process before the folder is in order."""
    out = tmp_path / "out"
    producer = child(out, engine=engine, seconds=0.2)
    below = working(producer, out)
    producer.terminate()
    _, said = producer.communicate(timeout=600)
    assert "ProductionStopped: stopped with" in said
    assert len(read_metadata(out)) >= 1
    assert not psutil.wait_procs(below, timeout=300)[1]


@pytest.mark.skipif(os.name != "posix", reason="kills another process")
def test_workers_end_with_their_producer(tmp_path: Path) -> None:
    """Guards against processes that go on drawing for nobody."""
    out = tmp_path / "out"
    producer = child(out, engine="processes", seconds=0.1)
    assert producer.stdout is not None
    producer.stdout.readline()
    deadline = time.monotonic() + 400
    while len(workers := psutil.Process(producer.pid).children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    producer.kill()
    producer.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=300)
    assert gone and not alive


class BrokenSampler(DiscSampler):
    """Fails, or dies, at a request of the second chunk."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def sample(self, requests: Any) -> Any:
        if any(request.index == 20 for request in requests):
            if self.how == "wrong input":
                raise InputError("a thing", "another", "change it")
            if self.how == "defect":
                raise ZeroDivisionError("of the sampler")
            os._exit(9)
        return super().sample(requests)


def wrong_input(worker: int) -> tuple[BrokenSampler, PictureGate]:
    return BrokenSampler("wrong input"), PictureGate()


def defect(worker: int) -> tuple[BrokenSampler, PictureGate]:
    return BrokenSampler("defect"), PictureGate()


def death(worker: int) -> tuple[BrokenSampler, PictureGate]:
    return BrokenSampler("death"), PictureGate()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (wrong_input, InputError, "got a thing; expected another; change it"),
        (defect, WorkerError, "ZeroDivisionError: of the sampler"),
        (death, WorkerError, "3 workers died while they drew chunk 1, the last one with exit code 9"),
    ],
)
def test_errors_of_workers_come_through(make: Any, error: type[Exception], said: str) -> None:
    settings = ChunkSettings(2, 2.0, batch_size=BATCH)
    reader = ChunkReader(requests_of(40), settings.chunk_pairs)
    with pytest.raises(error, match=said):
        list(WorkerProcesses(make, 1)(reader, [0, 1, 2], settings, lambda count: None))


def test_workers_report_what_they_draw() -> None:
    settings = ChunkSettings(2, 2.0, batch_size=BATCH)
    reader = ChunkReader(requests_of(40), settings.chunk_pairs)
    drawn: list[int] = []
    results = list(WorkerProcesses(factory, 2)(reader, [0, 1, 2], settings, drawn.append))
    assert sorted(result.index for result in results) == [0, 1, 2]
    assert sum(drawn) == 40 and set(drawn) == {BATCH}


@pytest.fixture(scope="module")
def by_command(tiny_v_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """A command that lacks its folder and engine, and what the real model generates by it in this process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    arguments = ["generate", "--adapter", str(tiny_v_adapter), "--prompt", "a nevus", "-n", "4", "--steps", "2"]
    arguments += ["--batch-size", "1", "--out"]
    alone = CliRunner().invoke(app, [*arguments, str(out)])
    assert alone.exit_code == 0, alone.output
    expected = contents(out)
    assert len(expected) > 8
    return arguments, expected


@pytest.mark.slow
def test_the_command_with_workers(by_command: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    """The real model in two processes: the same bytes."""
    arguments, expected = by_command
    processes = CliRunner().invoke(app, [*arguments, str(tmp_path / "processes"), "--workers", "2"])
    assert processes.exit_code == 0, processes.output
    assert contents(tmp_path / "processes") == expected


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_with_ray(by_command: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    """The real model in an actor: the same bytes.

    Two actors that share work are above, with a sampler that needs no libraries. Here Ray starts half a dozen
    processes, and two of them import all that a model needs: minutes on a busy core.
    """
    arguments, expected = by_command
    command = [sys.executable, "-m", "skindualgen", *arguments, str(tmp_path / "ray"), "--engine", "ray"]
    actor = subprocess.run(command, capture_output=True, text=True, check=False)
    assert actor.returncode == 0, actor.stderr
    assert contents(tmp_path / "ray") == expected
