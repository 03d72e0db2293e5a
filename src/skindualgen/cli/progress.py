"""What the commands that draw have in common: a quiet pipeline and a progress line with an ETA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def item_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows (done, total) on stderr, with the time that is left; nothing is shown before."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(name, total=None)

    def show(done: int, total: int) -> None:
        progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def loading() -> Iterator[None]:
    """Show on stderr that libraries and weights are being loaded, which takes seconds."""
    with Console(stderr=True).status("Loading the model ..."):
        yield
