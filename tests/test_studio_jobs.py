"""Jobs of the studio: commands that outlive the server, are found again, and are never taken for another process."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skindualgen.cli import EXIT_INTERRUPTED
from skindualgen.contracts import InputError
from skindualgen.jobs.command import EXIT_FILE, LOG_FILE, MAX_LINES, STOP_FILE, Screen
from skindualgen.jobs.job import GRACE_S, JOB_FILE, Job, Stage
from skindualgen.studio.jobs import Jobs
from skindualgen.studio.workspace import Workspace
from studio_jobs import jobs_of, wait_for


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "space")


@pytest.fixture
def jobs(workspace: Workspace) -> Iterator[Jobs]:
    with jobs_of(workspace) as jobs:
        yield jobs


def recorded(workspace: Workspace, *, pid: int, created: float, name: str = "train-20300131T093000Z-0a1b2c") -> Job:
    """A job as an earlier server has left it."""
    folder = workspace.root / "jobs" / name
    folder.mkdir()
    content = {
        "kind": "train",
        "arguments": ["train"],
        "about": {"run": "runs/a"},
        "pid": pid,
        "created": created,
        "started_utc": "2030-01-31T09:30:00+00:00",
    }
    (folder / JOB_FILE).write_text(json.dumps(content))
    (job,) = [each for each in Jobs(workspace).all("train") if each.folder == folder]
    return job


def test_a_command_that_ends_well_leaves_its_output_and_its_exit_code(jobs: Jobs) -> None:
    from skindualgen import __version__

    job = jobs.start("version", ["--version"], {})
    wait_for(lambda: not job.active)
    assert (job.state, job.exit_code, job.log()) == ("done", 0, f"skindualgen {__version__}\n")


def test_a_command_that_fails_says_why(jobs: Jobs) -> None:
    job = jobs.start("train", ["train", "--data", "datasets/none", "--out", "runs/a", "--set", "nothing=1"], {})
    wait_for(lambda: not job.active)
    assert (job.state, job.exit_code) == ("failed", 2)
    assert "nothing = 1" in job.log()


def test_a_second_of_a_kind_waits_and_both_are_found_again(jobs: Jobs, workspace: Workspace) -> None:
    job = jobs.start("doctor", ["doctor"], {"run": "runs/first"})
    with pytest.raises(InputError, match="runs/first"):
        jobs.start("doctor", ["doctor"], {})
    later = Jobs(workspace)
    assert later.running("doctor") == job
    assert later.latest("doctor") == job
    assert later.latest("train") is None
    assert "finishes what it is at" in job.stop()
    assert job.state in ("stopping", "stopped")
    wait_for(lambda: not job.active)
    assert job.state == "stopped"
    assert job.stop() == "It has ended already."
    assert job.exit_code in (-signal.SIGINT, EXIT_INTERRUPTED)  # while it starts, or later


def test_a_second_click_kills_only_after_the_grace_time(workspace: Workspace) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        job = recorded(workspace, pid=sleeper.pid, created=psutil.Process(sleeper.pid).create_time())
        job.stop()
        assert not (job.folder / "kill").exists()
        job.stop()
        assert not (job.folder / "kill").exists()
        before = time.time() - GRACE_S - 1
        os.utime(job.folder / STOP_FILE, (before, before))
        assert job.stop() == "It is killed."
        assert (job.folder / "kill").exists()
    finally:
        sleeper.communicate(b"\n")


def test_a_killed_command_ends_with_its_children(jobs: Jobs) -> None:
    job = jobs.start("doctor", ["doctor"], {})
    wait_for(lambda: bool(psutil.Process(job.pid).children()))
    command = psutil.Process(job.pid).children()[0]
    (job.folder / "kill").touch()
    wait_for(lambda: not job.active)
    assert job.exit_code is not None
    assert job.exit_code != 0
    assert not command.is_running()


def test_a_process_with_the_number_of_a_job_is_not_taken_for_it(workspace: Workspace) -> None:
    own = psutil.Process()
    assert recorded(workspace, pid=own.pid, created=own.create_time()).state == "running"
    reused = recorded(workspace, pid=own.pid, created=own.create_time() - 3600, name="train-20300131T093000Z-ffffff")
    assert reused.state == "lost"


def test_a_job_is_known_by_its_command_line_where_the_clock_was_set(workspace: Workspace) -> None:
    name = "train-20300131T093000Z-0a1b2c"
    folder = str(workspace.root / "jobs" / name)
    sleeper = subprocess.Popen([sys.executable, "-c", "input()", folder], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: folder in psutil.Process(sleeper.pid).cmdline())
        job = recorded(workspace, pid=sleeper.pid, created=psutil.Process(sleeper.pid).create_time() + 3600, name=name)
        assert job.state == "running"
    finally:
        sleeper.communicate(b"\n")


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({EXIT_FILE: "0\n"}, "done"),
        ({EXIT_FILE: "2\n"}, "failed"),
        ({EXIT_FILE: "0\n", STOP_FILE: ""}, "stopped"),
        ({EXIT_FILE: "-15\n", STOP_FILE: ""}, "stopped"),
        ({STOP_FILE: ""}, "stopped"),
        ({}, "lost"),
    ],
)
def test_states_are_read_from_the_folder(workspace: Workspace, files: dict[str, str], state: str) -> None:
    job = recorded(workspace, pid=psutil.Process().pid, created=0.0)
    for name, text in files.items():
        (job.folder / name).write_text(text)
    assert job.state == state


@pytest.mark.parametrize("argument", ["/etc/passwd", "../outside", "runs/../../a", "--set=cache=/tmp", "cache=../x"])
def test_arguments_that_lead_out_are_refused(jobs: Jobs, argument: str) -> None:
    with pytest.raises(InputError, match=re.escape(argument)):
        jobs.start("train", ["train", argument], {})
    assert jobs.all() == []


def test_what_is_no_job_is_passed_over(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.root / "jobs"
    recorded(workspace, pid=1, created=0.0)
    (folder / "train-20300131T093000Z-000000").mkdir()
    (folder / "train-20300131T093000Z-000001").mkdir()
    (folder / "train-20300131T093000Z-000001" / JOB_FILE).write_text("{}")
    (folder / "notes").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / JOB_FILE).write_text((folder / "train-20300131T093000Z-0a1b2c" / JOB_FILE).read_text())
    (folder / "train-20300131T093000Z-000002").symlink_to(outside)
    assert [job.name for job in Jobs(workspace).all()] == ["train-20300131T093000Z-0a1b2c"]


def test_modules_in_the_workspace_are_not_imported(jobs: Jobs, workspace: Workspace) -> None:
    (workspace.root / "typer.py").write_text("raise SystemExit(99)")
    (workspace.root / "psutil.py").write_text("raise SystemExit(99)")
    job = jobs.start("version", ["--version"], {})
    wait_for(lambda: not job.active)
    assert job.exit_code == 0


def test_progress_bars_are_read_from_the_log(workspace: Workspace) -> None:
    """What rich draws in the commands, read back: the test fails if either side changes its form."""
    stream, screen = io.StringIO(), Screen()
    console = Console(file=stream, force_terminal=True, no_color=True, width=96)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        console.print("Read 3/4 of it, 1/2 kept")
        for name, done, total in (("encoding", 40, 40), ("training the judge", 3, 7), ("measuring", 0, 1)):
            bars.update(bars.add_task(name, total=total), completed=done)
        bars.add_task("loading", total=None)
    screen.feed(stream.getvalue())
    job = recorded(workspace, pid=1, created=0.0)
    (job.folder / LOG_FILE).write_text(screen.text())
    known = [Stage("encoding", 40, 40), Stage("training the judge", 3, 7), Stage("measuring", 0, 1)]
    assert job.stages() == [*known, Stage("loading", 0, None)]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("a\nb\n", "a\nb\n"),
        ("10 %\r20 %\r100 %\ndone", "100 %\ndone\n"),
        ("long line\rhi", "hing line\n"),
        ("one\ntwo\x1b[1A\r\x1b[2Knew", "new\ntwo\n"),
        ("\x1b[1;31mred\x1b[0m\x1b[?25l", "red\n"),
        ("\x1b[9Aup", "up\n"),
        ("a\x1b", "a\n"),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_output_is_shown_as_a_terminal_shows_it(printed: str, shown: str, piece: int) -> None:
    screen = Screen()
    for start in range(0, len(printed), piece):
        screen.feed(printed[start : start + piece])
    assert screen.text() == shown


def test_a_live_display_leaves_its_last_state() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60)
    with Progress(console=console, auto_refresh=False) as bars:
        tasks = [bars.add_task(f"stage {number}", total=10) for number in range(3)]
        for done in range(11):
            for task in tasks:
                bars.update(task, completed=done, refresh=True)
            if done == 5:
                bars.print("half")
    screen = Screen()
    screen.feed(stream.getvalue())
    lines = screen.text().splitlines()
    assert lines[0] == "half"
    assert [line.split(" ━")[0] for line in lines[1:]] == ["stage 0", "stage 1", "stage 2"]
    assert all("100%" in line for line in lines[1:])


def test_only_the_end_of_a_long_log_is_kept() -> None:
    screen = Screen()
    screen.feed("".join(f"{number}\n" for number in range(3 * MAX_LINES)))
    lines = screen.text().splitlines()
    assert len(lines) == MAX_LINES - 1
    assert lines[-1] == str(3 * MAX_LINES - 1)
