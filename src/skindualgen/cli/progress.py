"""What the commands that draw have in common: a quiet pipeline and a progress line with an ETA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline


@contextmanager
def item_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows (done, total) on stderr, with the time that is left."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def loading() -> Iterator[None]:
    """Show on stderr that libraries and weights are being loaded, which takes seconds."""
    with Console(stderr=True).status("Loading the model ..."):
        yield


def load_pipeline(adapter: str, base: str | None) -> SkinDualGenPipeline:
    """Load an adapter on the fastest device, without progress bars of its own."""
    import torch
    from diffusers.utils.logging import disable_progress_bar
    from transformers.utils.logging import disable_progress_bar as disable_transformers_bar

    from skindualgen.sample.pipeline import SkinDualGenPipeline

    disable_progress_bar()
    disable_transformers_bar()
    pipeline = SkinDualGenPipeline.from_adapter(adapter if adapter == "builtin" else Path(adapter), base)
    if torch.cuda.is_available():
        pipeline.to("cuda")
    elif torch.backends.mps.is_available():
        pipeline.to("mps")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
