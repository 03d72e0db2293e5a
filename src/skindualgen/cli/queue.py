"""``skindualgen queue``: commands one after the other, through reboots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run commands one after the other on a device; what a reboot ends is gone on with.",
)

FolderOption = Annotated[Path, typer.Option(help="Folder of the queue: what waits, and logs.")]
NumberArgument = Annotated[int, typer.Argument(metavar="ID", help="Of the job, as `queue list` shows it.")]
FOLDER = Path("studio/queue")
NOT_QUEUED = ("queue", "ui")
"""Commands that have no end."""


@app.command("add", context_settings={"allow_interspersed_args": False})
def add(
    arguments: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND ...", help="A command, as after `skindualgen`.")
    ],
    folder: FolderOption = FOLDER,
    name: Annotated[str | None, typer.Option(help="What lists call it.  (default: the command)")] = None,
    notify: Annotated[
        str | None, typer.Option(metavar="URL", help="Address that gets JSON at start, end and failure (POST).")
    ] = None,
) -> None:
    """Append a command, which will run in the current folder."""
    from typer.main import get_command

    from skindualgen.cli import app as everything
    from skindualgen.contracts import InputError
    from skindualgen.jobs.queue import Queue

    known = [each for each in get_command(everything).commands if each not in NOT_QUEUED]  # type: ignore[attr-defined]
    if arguments[0] not in known:
        raise InputError(f"the command {arguments[0]!r}", f"one of {', '.join(known)}", "check its name")
    number = Queue(folder).add(arguments, cwd=Path.cwd(), name=name, notify=notify)
    typer.echo(f"job {number} waits; `skindualgen queue run --folder {folder}` runs it")


@app.command("list")
def list_jobs(
    folder: FolderOption = FOLDER, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show what has ended, then what runs and waits, in the order of the queue."""
    import json
    import shlex

    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from skindualgen.jobs.command import LOG_FILE
    from skindualgen.jobs.queue import Queue

    queue = Queue(folder)
    jobs = queue.all()
    if as_json:
        listed = [
            {
                "id": each.number,
                "name": each.name,
                "state": each.state,
                "exit_code": each.job.exit_code if each.job else None,
                "command": ["skindualgen", *each.arguments],
                "folder": each.cwd,
                "started_utc": each.job.started_utc or None if each.job else None,
                "device": each.job.about["device"] or None if each.job else None,
                "log": str((queue.place(each.number) / LOG_FILE).resolve()),
            }
            for each in jobs
        ]
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for title in ("id", "state", "name", "command"):
        table.add_column(title, overflow="fold")
    for each in jobs:
        table.add_row(str(each.number), each.told, escape(each.name), escape(shlex.join(each.arguments)))
    Console().print(table if jobs else f"Nothing was added to {folder}.")


@app.command("run")
def run(
    folder: FolderOption = FOLDER,
    device: Annotated[
        str | None, typer.Option(help="Device of the jobs: cuda:0, cpu, mps.  (default: the fastest)")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits any more.")] = False,
) -> None:
    """Run what waits, in order. Ctrl-C and SIGTERM end the job as well, which goes on with the next run.

    One runner a device; each job sees that device alone. A job that an earlier runner, which was killed, has left
    running is followed to its end; one that went down with the computer is run again.
    """
    import signal
    from datetime import datetime

    from skindualgen.jobs.queue import Queue
    from skindualgen.jobs.runner import run as run_queue

    def say(line: str) -> None:
        typer.echo(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_queue(Queue(folder), device, once=once, say=say)


@app.command("cancel")
def cancel(number: NumberArgument, folder: FolderOption = FOLDER) -> None:
    """Take a job out of the queue; one that runs ends as after Ctrl-C. Asked again after 20 seconds, kill it."""
    from skindualgen.jobs.queue import Queue

    typer.echo(Queue(folder).cancel(number))


@app.command("move")
def move(
    number: NumberArgument,
    to: Annotated[int, typer.Option(min=1, help="Place among the jobs that wait; 1 is the next to run.")],
    folder: FolderOption = FOLDER,
) -> None:
    """Put a job that waits at another place."""
    from skindualgen.jobs.queue import Queue

    Queue(folder).move(number, to)
