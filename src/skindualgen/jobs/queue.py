"""A queue of commands in a folder: what waits, in which order, what runs, and what has become of the rest.

A job stays in the queue (a table of huey's in SQLite, which any number of processes may use at once) until it has
ended, and its folder ``jobs/ID`` appears when it starts (:mod:`skindualgen.jobs.job`). A runner claims a job by a file
lock, which ends with the runner however that ends; so no job is lost with it. Huey's own consumer is not used: it takes
a task out of the table before it runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_text
from skindualgen.jobs.command import STOP_FILE
from skindualgen.jobs.job import Job

try:
    from huey.storage import SqliteStorage
except ImportError as error:
    raise InputError("no package huey", "the table of the queue", "pip install 'skindualgen[queue]'") from error

TABLE_FILE, CLAIM_FILE, JOBS_DIR = "queue.db", "claim", "jobs"
KIND = "queue"
BUSY_S = 60.0
"""Seconds that other processes may keep the table, each for milliseconds."""

State = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]


class Table(SqliteStorage):
    """Rows of JSON in the order of the queue."""

    def rows(self) -> list[dict[str, Any]]:
        """All of them."""
        return [json.loads(data) for data in self.enqueued_items()]

    @contextmanager
    def changed(self) -> Iterator[list[dict[str, Any]]]:
        """Yield all rows, and keep what the block makes of the list: one transaction, before which others wait."""
        with self.db(commit=True) as cursor:
            cursor.execute("select data from task where queue = ? order by priority desc, id", (self.name,))
            rows = [json.loads(data) for (data,) in cursor.fetchall()]
            yield rows
            cursor.execute("delete from task where queue = ?", (self.name,))
            cursor.executemany(
                "insert into task (queue, data) values (?, ?)", [(self.name, json.dumps(row).encode()) for row in rows]
            )


@dataclass(frozen=True)
class Queued:
    """A job of the queue.

    Attributes:
        number: its id, counted from 1 and never given again.
        name: for people.
        arguments: of ``skindualgen``.
        cwd: folder in which the command runs.
        notify: address that is told of its start and end.
        job: its folder's record; None if it never started.
    """

    number: int
    name: str
    arguments: tuple[str, ...]
    cwd: str
    notify: str | None
    job: Job | None

    @property
    def state(self) -> State:
        """What has become of it; one whose processes are gone without an exit code waits to be run again."""
        state = "lost" if self.job is None else self.job.state
        return "waiting" if state == "lost" else "cancelled" if state == "stopped" else state

    @property
    def told(self) -> str:
        """Its state, and how it failed, for people."""
        return f"{self.state}, exit code {self.job.exit_code}" if self.job and self.state == "failed" else self.state


@dataclass(frozen=True)
class Queue:
    """The queue of a folder; huey's table is opened for each call.

    Attributes:
        folder: made by `add`.
    """

    folder: Path

    @property
    def present(self) -> bool:
        """Whether anything was ever added."""
        return (self.folder / TABLE_FILE).is_file()

    def place(self, number: int) -> Path:
        """The folder of a job."""
        return self.folder / JOBS_DIR / str(number)

    def add(self, arguments: Sequence[str], *, cwd: Path, name: str | None = None, notify: str | None = None) -> int:
        """Append a command and return its number.

        Args:
            arguments: of ``skindualgen``, the first a command.
            cwd: folder in which it is to run.
            name: for people; the command's own without one.
            notify: http or https address that is told of start and end.

        Raises:
            InputError: ``notify`` is no such address.
        """
        if notify is not None and not _is_web_address(notify):
            raise InputError(f"--notify {notify}", "an address that begins with http:// or https://", "check it")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._table() as table:
            number = table.incr("number")
            row = {
                "number": number,
                "name": name or arguments[0],
                "arguments": list(arguments),
                "cwd": str(cwd.resolve()),
                "notify": notify,
            }
            table.enqueue(json.dumps(row).encode())
        return number

    def open(self) -> list[Queued]:
        """What has not ended, in the order of the queue."""
        if not self.present:
            return []
        with self._table() as table:
            return [self._queued(row) for row in table.rows()]

    def all(self) -> list[Queued]:
        """What has ended, in the order of the numbers, and then what has not, in the order of the queue."""
        still = self.open()
        numbers = {queued.number for queued in still}
        jobs = [Job.read(path) for path in (self.folder / JOBS_DIR).glob("*") if path.name.isdecimal()]
        ended = [
            Queued(int(job.name), job.about["name"], job.arguments, job.about["cwd"], None, job)
            for job in jobs
            if job is not None and int(job.name) not in numbers
        ]
        return [*sorted(ended, key=lambda queued: queued.number), *still]

    def move(self, number: int, to: int) -> None:
        """Put a job that waits at a place among those that wait.

        Args:
            number: of the job.
            to: 1 is the next to run.

        Raises:
            InputError: it does not wait, or there is no such place.
        """
        self._find(number)
        with self._table() as table, table.changed() as rows:
            waiting = [row for row in rows if self._queued(row).state == "waiting"]
            row = next((row for row in waiting if row["number"] == number), None)
            if row is None:
                raise InputError(f"job {number}, which does not wait", "one that waits", "see `skindualgen queue list`")
            if not 1 <= to <= len(waiting):
                raise InputError(f"place {to}", f"1 to {len(waiting)}, as many jobs wait", "choose one of them")
            waiting.remove(row)
            rows.remove(row)
            rows.insert(rows.index(waiting[to - 1]) if to <= len(waiting) else len(rows), row)

    def cancel(self, number: int) -> str:
        """Take a job that waits out of the queue, or end one that runs as Ctrl-C does; say what happens.

        Raises:
            InputError: there is no such job.
        """
        queued = self._find(number)
        place = self.place(number)
        if queued.job is not None and queued.state != "waiting":
            return queued.job.stop()
        place.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(place / CLAIM_FILE, timeout=0):
                if queued.job is None:
                    self.blank(queued).write()
                atomic_write_text(place / STOP_FILE, "")
                self.remove(number)
        except Timeout:  # a runner has taken it and is about to start it
            atomic_write_text(place / STOP_FILE, "")
        return "It is cancelled."

    @contextmanager
    def claimed(self, device: str) -> Iterator[Queued | None]:
        """Hold the first job that no living runner holds, so that no other can; None where there is none.

        Args:
            device: of the runner. What a dead runner has left running elsewhere is left to the next one there.
        """
        for queued in self.open():
            place = self.place(queued.number)
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place / CLAIM_FILE)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                now = next((each for each in self.open() if each.number == queued.number), None)
                elsewhere = now is not None and now.job is not None and now.job.about["device"] != device
                if now is not None and not (elsewhere and now.state in ("running", "stopping")):
                    yield now
                    return
            finally:
                lock.release()
        yield None

    def remove(self, number: int) -> None:
        """Take a job that has ended out of the table."""
        with self._table() as table, table.changed() as rows:
            rows[:] = [row for row in rows if row["number"] != number]

    def blank(self, queued: Queued, device: str = "") -> Job:
        """The record of a job that is to start on a device, or never was."""
        about = {"name": queued.name, "cwd": queued.cwd, "device": device}
        return Job(self.place(queued.number), KIND, queued.arguments, about)

    def _find(self, number: int) -> Queued:
        if not self.present:
            raise InputError(f"{self.folder}, which holds no queue", "a folder of `queue add`", "check --folder")
        found = next((each for each in self.all() if each.number == number), None)
        if found is None:
            raise InputError(f"job {number}, which is not there", "a job's number", "see `skindualgen queue list`")
        return found

    def _queued(self, row: dict[str, Any]) -> Queued:
        job = Job.read(self.place(row["number"]))
        return Queued(**{**row, "arguments": tuple(row["arguments"]), "job": job})

    @contextmanager
    def _table(self) -> Iterator[Table]:
        table = Table("jobs", filename=str(self.folder / TABLE_FILE), fsync=True, journal_mode="delete", timeout=BUSY_S)
        try:
            yield table
        finally:
            table.close()


def _is_web_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        return False
