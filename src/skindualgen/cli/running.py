"""What commands do alike: load the model, and show how far they are on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline

BAR_COLUMNS = 28


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows (stage, done, total), one line per stage; nothing shows before."""
    columns = (TextColumn("{task.description}"), BarColumn(BAR_COLUMNS), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        progress.start()
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total)
        progress.update(tasks[stage], completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def item_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows (done, total) of one stage; see `stage_progress`."""
    with stage_progress() as show:
        yield partial(show, name)


@contextmanager
def loading(what: str = "Loading the model ...") -> Iterator[None]:
    """Show that libraries and weights are being loaded, which takes seconds."""
    with Console(stderr=True).status(what):
        yield


def load_pipeline(adapter: str, base: str | None = None, *, allow_base_mismatch: bool = False) -> SkinDualGenPipeline:
    """Load an adapter and its base on the fastest device; the base is downloaded if it has to come from the hub."""
    from skindualgen.production.sampler import PipelineFactory, device_of

    return PipelineFactory(adapter, base, allow_base_mismatch=allow_base_mismatch).load().to(device_of(0))
