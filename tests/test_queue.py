"""The queue: order, one runner a device, nothing lost with a runner or a computer, webhooks, the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from skindualgen._version import __version__
from skindualgen.cli import EXIT_INTERRUPTED, app
from skindualgen.contracts import InputError
from skindualgen.jobs import runner
from skindualgen.jobs.job import Job
from skindualgen.jobs.queue import Queue, Queued
from skindualgen.jobs.runner import run, visible_devices
from studio_jobs import wait_for

VERSION = ["--version"]
TARGET, RATIOS = "target.toml", "[diagnosis]\nmelanoma = 1.5\n"


@pytest.fixture
def long(tmp_path: Path, phantom_data: Path) -> list[str]:
    """A command that runs until `let_end`: the file that it reads is a pipe."""
    os.mkfifo(tmp_path / TARGET)
    return ["plan", "--data", str(phantom_data), "--target", TARGET, "--out", "plan.csv"]


def let_end(folder: Path) -> None:
    """Give the command of `long` what it waits for, as soon as it reads."""
    (folder / TARGET).write_text(RATIOS)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path / "queue")
    yield made
    for queued in made.all():
        if queued.job is not None and queued.job.active:
            end(queued.job.pid)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(runner, "WEBHOOK_PAUSE_S", 0.0)


def end(pid: int) -> None:
    """Kill a process and those that it started, as a power failure does."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        together = [process, *process.children(recursive=True)]
        for each in together:
            each.kill()
        psutil.wait_procs(together)


@contextmanager
def running(queue: Queue) -> Iterator[subprocess.Popen[bytes]]:
    """A runner of its own process, that has started a job."""
    command = [sys.executable, "-m", "skindualgen", "queue", "run", "--device", "cpu", "--folder", str(queue.folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: any(queued.state == "running" for queued in queue.open()))
            yield process
        finally:
            process.kill()


def states(queue: Queue) -> dict[int, str]:
    return {queued.number: queued.state for queued in queue.all()}


def only(queue: Queue) -> Queued:
    (queued,) = queue.all()
    return queued


def test_jobs_run_in_their_order_and_leave_their_logs(queue: Queue, tmp_path: Path) -> None:
    one, two, three = (queue.add(VERSION, cwd=tmp_path, name=name) for name in ("one", "two", "three"))
    wrong = queue.add(["train", "--out", "run"], cwd=tmp_path)
    queue.move(three, 1)
    assert queue.cancel(two) == "It is cancelled."
    assert [queued.number for queued in queue.open()] == [three, one, wrong]
    lines: list[str] = []
    run(queue, "cpu", once=True, say=lines.append)
    assert [line for line in lines if "running" not in line] == [
        f"job {three} (three): done, exit code 0 on cpu",
        f"job {one} (one): done, exit code 0 on cpu",
        f"job {wrong} (train): failed, exit code 2 on cpu",
    ]
    assert queue.open() == []
    assert states(queue) == {one: "done", two: "cancelled", three: "done", wrong: "failed"}
    logs = {queued.number: queued.job.log() for queued in queue.all() if queued.job is not None}
    assert logs[one] == f"skindualgen {__version__}\n" and "--data" in logs[wrong] and logs[two] == ""
    assert queue.add(VERSION, cwd=tmp_path) == wrong + 1  # a number is never given twice


def test_moving(queue: Queue, tmp_path: Path) -> None:
    numbers = [queue.add(VERSION, cwd=tmp_path) for _ in range(4)]

    def order() -> list[int]:
        return [numbers.index(queued.number) for queued in queue.open()]

    queue.move(numbers[3], 2)
    assert order() == [0, 3, 1, 2]
    queue.move(numbers[0], 4)
    assert order() == [3, 1, 2, 0]
    queue.move(numbers[2], 3)
    assert order() == [3, 1, 2, 0]
    for wrong in (0, 5):
        with pytest.raises(InputError, match="1 to 4"):
            queue.move(numbers[0], wrong)
    queue.cancel(numbers[1])
    with pytest.raises(InputError, match="does not wait"):
        queue.move(numbers[1], 1)
    with pytest.raises(InputError, match="job 99"):
        queue.move(99, 1)
    assert order() == [3, 2, 0]


def test_processes_add_at_once(queue: Queue, tmp_path: Path) -> None:
    """Threads with a connection each, as processes have: no number twice, no job lost, whatever is moved meanwhile."""
    first = queue.add(VERSION, cwd=tmp_path)
    numbers: list[int] = []
    adders = [
        threading.Thread(target=lambda: numbers.extend(queue.add(VERSION, cwd=tmp_path) for _ in range(5)))
        for _ in range(4)
    ]
    for adder in adders:
        adder.start()
    for _ in range(10):
        queue.move(first, 1)
    for adder in adders:
        adder.join()
    assert sorted(numbers) == list(range(first + 1, first + 21))
    assert sorted(queued.number for queued in queue.open()) == [first, *sorted(numbers)]


def test_a_killed_runner_loses_nothing_and_the_next_follows_what_it_left(
    queue: Queue, tmp_path: Path, long: list[str]
) -> None:
    queue.add(long, cwd=tmp_path)
    later = queue.add(VERSION, cwd=tmp_path)
    with running(queue) as process:
        with pytest.raises(InputError, match="second runner"):
            run(queue, "cpu", once=True)
        process.kill()
        process.wait()
        pid = queue.open()[0].job.pid  # type: ignore[union-attr]
        with pytest.raises(InputError, match="does not wait"):
            queue.move(queue.open()[0].number, 2)
    lines: list[str] = []
    threading.Timer(1.0, let_end, [tmp_path]).start()
    run(queue, "cpu", once=True, say=lines.append)
    ended = queue.all()
    assert [queued.state for queued in ended] == ["done", "done"]
    assert ended[0].job is not None and ended[0].job.pid == pid  # never started twice
    assert "plan.csv" in ended[0].job.log() and (tmp_path / "plan.csv").is_file()
    assert len(lines) == 3 and f"job {later}" in lines[1]


def test_a_job_that_goes_down_with_its_computer_or_with_ctrl_c_is_run_again(
    queue: Queue, tmp_path: Path, long: list[str]
) -> None:
    queue.add(long, cwd=tmp_path)
    queue.add(VERSION, cwd=tmp_path)
    with running(queue) as process:
        process.terminate()
        assert process.wait() == EXIT_INTERRUPTED
        job = queue.open()[0].job
        assert job is not None and not job.active and job.exit_code is None
    assert [queued.state for queued in queue.open()] == ["waiting", "waiting"]
    with running(queue) as process:
        end(process.pid)
        end(queue.open()[0].job.pid)  # type: ignore[union-attr]
    assert [queued.state for queued in queue.open()] == ["waiting", "waiting"]
    (tmp_path / TARGET).unlink()
    let_end(tmp_path)
    run(queue, "cpu", once=True)
    assert [queued.state for queued in queue.all()] == ["done", "done"]


def test_ctrl_c_while_a_job_is_being_started_ends_that_job(
    queue: Queue, tmp_path: Path, long: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add(long, cwd=tmp_path)
    start, children = Job.start, []

    def interrupted(job: Job, *arguments: Any) -> None:
        children.append(start(job, *arguments)[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(queue, "cpu", once=True)
    (child,) = children
    assert child.wait(timeout=30) != 0
    assert [queued.state for queued in queue.open()] == ["waiting"]


def test_a_process_that_cannot_be_recorded_is_ended(
    queue: Queue, tmp_path: Path, long: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add(long, cwd=tmp_path)
    popen, children = subprocess.Popen, []

    def started(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        children.append(popen(*arguments, **options))
        return children[-1]

    def full(_: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(Job, "write", full)
    with pytest.raises(KeyboardInterrupt):
        run(queue, "cpu", once=True)
    assert children[0].returncode == -signal.SIGKILL
    assert [queued.state for queued in queue.open()] == ["waiting"]


def test_cancelling_what_runs_ends_it_as_ctrl_c_does(queue: Queue, tmp_path: Path, long: list[str]) -> None:
    number = queue.add(long, cwd=tmp_path)
    after = queue.add(VERSION, cwd=tmp_path)
    thread = threading.Thread(target=run, args=(queue, "cpu"), kwargs={"once": True})
    thread.start()
    wait_for(lambda: states(queue)[number] == "running")
    assert "asked to stop" in queue.cancel(number)
    thread.join()
    assert states(queue) == {number: "cancelled", after: "done"}
    assert queue.all()[0].job.exit_code in (-signal.SIGINT, EXIT_INTERRUPTED)  # type: ignore[union-attr]
    assert queue.cancel(number) == queue.cancel(after) == "It has ended already."


def test_what_cannot_start_or_is_killed_by_others_has_failed(queue: Queue, tmp_path: Path, long: list[str]) -> None:
    gone = tmp_path / "gone"
    first, second = queue.add(VERSION, cwd=gone), queue.add(long, cwd=tmp_path)

    def kill(line: str) -> None:
        if f"job {second} (plan): running" in line:
            end(queue.open()[0].job.pid)  # type: ignore[union-attr]

    run(queue, "cpu", once=True, say=kill)
    assert states(queue) == {first: "failed", second: "failed"}
    jobs = [queued.job for queued in queue.all()]
    assert jobs[0] is not None and str(gone) in jobs[0].log()
    assert jobs[1] is not None and jobs[1].exit_code == runner.ENDED_BY_OTHERS


def test_another_device_leaves_what_runs_elsewhere_alone(queue: Queue, tmp_path: Path, long: list[str]) -> None:
    number = queue.add(long, cwd=tmp_path)
    with running(queue) as process:
        process.kill()
        process.wait()
        with queue.claimed("cuda:0") as queued:
            assert queued is None
        with queue.claimed("cpu") as queued:
            assert queued is not None and queued.number == number
            with queue.claimed("cpu") as again:
                assert again is None


@pytest.mark.parametrize(
    ("device", "before", "seen"),
    [("cpu", None, ""), ("cpu", "0,1", ""), ("cuda:1", None, "1"), ("cuda:1", "4,GPU-7", "GPU-7"), ("cuda:0", "", "0")],
)
def test_a_job_sees_its_device_alone(device: str, before: str | None, seen: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    assert visible_devices(device) == seen


@contextmanager
def web_server(*answers: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on loopback that keeps what it is sent, and answers with these codes, the last of them for ever."""
    received: list[dict[str, Any]] = []
    codes = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook?key=secret", received
        finally:
            server.shutdown()
            thread.join()


def test_an_address_is_told_of_start_end_and_failure(queue: Queue, tmp_path: Path) -> None:
    with web_server(503, 200) as (url, received):
        queue.add(VERSION, cwd=tmp_path, name="right", notify=url)
        queue.add(["train", "--nothing"], cwd=tmp_path, notify=url)
        run(queue, "cpu", once=True)
    assert received[0] == received[1]  # it was told again
    assert [(each["event"], each["id"], each["state"], each["exit_code"]) for each in received[1:]] == [
        ("start", 1, "running", None),
        ("end", 1, "done", 0),
        ("start", 2, "running", None),
        ("failure", 2, "failed", 2),
    ]
    assert received[0]["name"] == "right" and received[0]["command"] == ["skindualgen", *VERSION]
    assert Path(received[-1]["log"]).read_text() == queue.all()[-1].job.log()  # type: ignore[union-attr]
    assert "secret" not in "".join(path.read_text() for path in queue.folder.glob("jobs/*/*") if path.is_file())


def test_a_webhook_that_fails_fails_no_job(queue: Queue, tmp_path: Path) -> None:
    lines: list[str] = []
    with web_server(500) as (url, received):
        queue.add(VERSION, cwd=tmp_path, notify=url)
        run(queue, "cpu", once=True, say=lines.append)
    assert len(received) == 4 and only(queue).state == "done"
    queue.add(VERSION, cwd=tmp_path, notify=url)  # nothing listens there any more
    run(queue, "cpu", once=True, say=lines.append)
    assert [line.partition(" (")[0] for line in lines if "not told" in line] == [
        f"job {number}: 127.0.0.1 was not told of its {event}" for number in (1, 2) for event in ("start", "end")
    ]
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize("url", ["ftp://a.org", "a.org/hook", "http://", "https://[", ""])
def test_what_is_no_address_is_refused(queue: Queue, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="--notify"):
        queue.add(VERSION, cwd=tmp_path, notify=url)
    assert not queue.present


def test_a_device_that_is_not_there_is_refused(queue: Queue) -> None:
    with pytest.raises(InputError, match="cuda:99"):
        run(queue, "cuda:99", once=True)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def said(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["queue", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    assert "Nothing was added" in said("list")
    assert "holds no queue" in said("cancel", "1", code=2)
    assert "'trian'" in said("add", "trian", code=2) and "'ui'" in said("add", "--", "ui", code=2)
    assert "job 1 waits" in said("add", "--name", "first", "--", "train", "--config", "a b.toml")
    assert "job 2 waits" in said("add", "doctor", "--json")
    said("move", "2", "--to", "1")
    assert "cancelled" in said("cancel", "1")
    first, second = json.loads(said("list", "--json"))
    assert (first["id"], first["name"], first["state"]) == (1, "first", "cancelled")
    assert first["command"] == ["skindualgen", "train", "--config", "a b.toml"]
    assert (second["id"], second["state"], second["folder"]) == (2, "waiting", str(tmp_path.resolve()))
    assert second["exit_code"] is second["started_utc"] is second["device"] is None
    assert Path(second["log"]).parent == tmp_path.resolve() / "studio" / "queue" / "jobs" / "2"
    assert "train --config 'a b.toml'" in said("list")
    said("cancel", "2")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert said("run", "--once", "--device", "cpu") == ""
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(tmp_path) == ["studio"]  # noqa: PTH208
