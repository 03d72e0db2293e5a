"""Rounds in a process of their own, which is watched: nothing else ends a decoder that hangs, grows or crashes."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from fuzzing.rounds import Find, play
from fuzzing.target import Case, Target

HANG_S = 20.0
"""Seconds that a case may take, of the process's time: other work on the machine is no fault of a reader."""
WAITS = 4
"""Times as many seconds that it may take on the clock."""
MAX_GROWTH = 1 << 30
"""Bytes by which a case may let the process grow."""
HARD_LIMIT = 8 << 30
"""Bytes of addresses of a worker: what keeps the machine from running out."""
START_S = 120.0
"""Seconds that a worker may take to import."""
CASES_PER_ROUND = 60
_PROC = Path("/proc/self")

if sys.platform == "linux":
    import resource


@dataclass
class Tally:
    """What fuzzing came to: cases by outcome, and finds by target and kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: dict[tuple[str, str], Find] = field(default_factory=dict)


def fuzz(
    names: Sequence[str],
    *,
    number: int,
    seconds: float,
    tell: Callable[[Find], None],
    most: int | None = None,
    hang_s: float = HANG_S,
    table: str = "fuzzing.targets",
) -> Tally:
    """Play rounds of the targets in turn until the time is up.

    Args:
        names: of the targets.
        number: seed of the first round; each further round has the next one.
        seconds: how long; the round that is played then is left.
        tell: told of each find as it comes, and again when a smaller case of it is found.
        most: number of finds that are enough.
        hang_s: seconds after which a case counts as hanging.
        table: module whose ``TARGETS`` holds them; by name, as strategies do not go from one process to another.
    """
    tally, end, first = Tally(), time.monotonic() + seconds, number
    while time.monotonic() < end and (most is None or len(tally.finds) < most):
        ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        known = list(tally.finds)
        worker = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, table, names, first, known, end), daemon=True
        )
        worker.start()
        theirs.close()
        first = _watch(worker, ours, tally, tell, most, hang_s) + 1
    return tally


def _watch(
    worker: BaseProcess, news: Connection, tally: Tally, tell: Callable[[Find], None], most: int | None, hang_s: float
) -> int:
    """Take in a worker's news until it ends or has to be ended; return the number of its last round."""
    trying: tuple[int, str, Case] | None = None
    last = 0

    def keep(find: Find) -> None:
        tally.finds[find.target, find.kind] = find
        tell(find)

    while True:
        try:
            if not _answers(worker, news, hang_s if trying else START_S):
                worker.kill()
                if trying:
                    keep(Find(trying[1], f"no end within {hang_s:g} s", trying[2], "The worker was ended."))
                break
            kind, what = news.recv()
        except EOFError:
            worker.join()
            if trying and worker.exitcode:
                keep(
                    Find(trying[1], f"the process ended with {worker.exitcode}", trying[2], "No exception was raised.")
                )
            break
        if kind == "trying":
            trying, last = what, what[0]
        elif kind == "find":
            keep(what)
            if most is not None and len(tally.finds) >= most:
                worker.kill()
                break
        else:
            tally.outcomes += what
            trying = None
    worker.join()
    return last


def _answers(worker: BaseProcess, news: Connection, seconds: float) -> bool:
    """Wait for news until the worker has used that many seconds, or the clock has gone on by `WAITS` times as many."""
    before = _used_s(worker)
    for _ in range(WAITS):
        if news.poll(seconds):
            return True
        if _used_s(worker) - before >= seconds * 0.9:  # it was asked a little before the case began
            return False
    return False


def _used_s(worker: BaseProcess) -> float:
    """Seconds of processor time that a process has used; 0 for one that has ended."""
    try:
        times = psutil.Process(worker.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _work(
    news: Connection, table: str, names: Sequence[str], first: int, known: Sequence[tuple[str, str]], end: float
) -> None:
    """Play rounds and tell of each case before it is tried."""
    targets: Mapping[str, Target] = import_module(table).TARGETS
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (HARD_LIMIT, HARD_LIMIT))
    seen = set(known)
    for number in count(first):
        target = targets[names[number % len(names)]]
        grown = _Growth()

        def go_on(case: Case, number: int = number, name: str = target.name, grown: _Growth = grown) -> bool:
            grown.note(case)
            news.send(("trying", (number, name, case)))
            return time.monotonic() < end

        kinds = {kind for name, kind in seen if name == target.name}
        played = play(target, number=number, cases=CASES_PER_ROUND, known=kinds, go_on=go_on)
        for find in (*played.finds.values(), *grown.finds(target.name)):
            seen.add((find.target, find.kind))
            news.send(("find", find))
        news.send(("played", played.outcomes))
        if time.monotonic() >= end:
            return


class _Growth:
    """The most memory that a case took: the peak since the one before it, above what the process held then."""

    def __init__(self) -> None:
        self._case: Case | None = None
        self._held = 0
        self._worst: tuple[int, Case] | None = None

    def note(self, case: Case | None) -> None:
        """Take in the peak of the case before, and begin with this one."""
        peak = _peak_bytes()
        if self._case is not None and (self._worst is None or peak - self._held > self._worst[0]):
            self._worst = peak - self._held, self._case
        self._case = case
        if sys.platform == "linux":
            (_PROC / "clear_refs").write_text("5", encoding="ascii")  # the peak is what is held now: proc(5)
        self._held = _peak_bytes()

    def finds(self, name: str) -> list[Find]:
        """The case that took the most, where it took too much."""
        self.note(None)
        if self._worst is None or self._worst[0] <= MAX_GROWTH:
            return []
        return [Find(name, f"more than {MAX_GROWTH >> 30} GiB", self._worst[1], f"{self._worst[0] >> 20} MiB")]


def _peak_bytes() -> int:
    """Most memory that this process has held since the peak was reset; 0 where that is not measured."""
    path = _PROC / "status"
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)
