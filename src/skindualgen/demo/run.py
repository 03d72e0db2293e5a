"""The show from start to end; the report is written after every part, so an interrupted show leaves what it has."""

from __future__ import annotations

import shutil
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from skindualgen.contracts import InputError, PairRecord, Report
from skindualgen.data.dataset import Dataset
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.data.prepare import PrepareOptions, prepare
from skindualgen.demo.page import build_report
from skindualgen.demo.results import Show
from skindualgen.demo.show import draw_pairs, fill_masks, read_photographs
from skindualgen.demo.training import train_briefly
from skindualgen.folders import refuse_foreign
from skindualgen.production.sampler import PipelineFactory
from skindualgen.report.render import write_report

REPORT_FILE = "report.html"
PAIRS_DIR, SOURCE_DIR, DATA_DIR, RUN_DIR = "pairs", "phantoms", "data", "run"
READ_DIR, READ_AGAIN_DIR = "read", "read_again"
MARKER = ".skindualgen-demo"
"""marks a folder as a demo's: only what it holds apart from this file may be removed"""
OWN_NAMES = frozenset({MARKER, REPORT_FILE, PAIRS_DIR, SOURCE_DIR, DATA_DIR, RUN_DIR, READ_DIR, READ_AGAIN_DIR})

PHANTOMS = 72
"""Phantoms drawn when no data are given: enough for the three parts of a split to hold every diagnosis."""

SHOWN_SIZE_PX = 256
"""Size in px of prepared photographs when the model's own is smaller: training scales them, the report shows more."""

FILLED_MASKS = 2


@dataclass(frozen=True)
class ShowOptions:
    """What is asked of a show; see the options of ``skindualgen demo``."""

    out: Path
    data: Path | None = None
    adapter: str = "builtin"
    per_diagnosis: int = 8
    photographs: int = 6
    train_steps: int = 160
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None


def run_show(options: ShowOptions, console: Console) -> Path:
    """Draw, read, fill, train, and write the report.

    Returns:
        The report's path.

    Raises:
        InputError: the output folder holds something else, the data folder cannot be used, or there is no such adapter.
    """
    if options.data is not None and options.data.resolve().is_relative_to(options.out.resolve()):
        raise InputError(f"--data {options.data} inside --out {options.out}", "two places", "give another --out")
    _refuse_foreign_files(options.out)
    pipe = PipelineFactory(options.adapter).load()
    _empty_own_folder(options.out)
    defaults = pipe.config
    show = Show(
        seed=options.seed,
        num_inference_steps=options.steps or defaults.default_steps,
        guidance_scale=defaults.default_guidance if options.guidance is None else options.guidance,
        source=_source_sentence(options.data),
    )
    out, data, native = options.out, options.out / DATA_DIR, pipe.native_px
    records = _prepare(options, native if options.data is None else max(native, SHOWN_SIZE_PX), show, console)
    # The short training sees the train split: the photographs to read are outside it, where there are such.
    chosen = spread([record for record in records if record.split != "train"] or records, options.photographs)

    def publish() -> None:
        write_report(build_report(show), out / REPORT_FILE)

    with _stage(console, "Drawing image-mask pairs") as report:
        draw_pairs(pipe, show, out / PAIRS_DIR, per_diagnosis=options.per_diagnosis, report=report)
    publish()
    with _stage(console, "Reading photographs") as report:
        show.readings = read_photographs(pipe, data, chosen, out / READ_DIR, seed=show.seed, report=report)
    publish()
    masks = [reading.given or reading.mask for reading in show.readings[:FILLED_MASKS]]
    with _stage(console, "Filling masks") as report:
        fill_masks(pipe, masks, show, report=report)
    publish()
    if options.train_steps:
        _train(options, records, chosen, show, console)
        publish()
    return out / REPORT_FILE


def _train(
    options: ShowOptions, records: Sequence[PairRecord], chosen: Sequence[PairRecord], show: Show, console: Console
) -> None:
    """Train briefly on what has masks, and read the chosen photographs again."""
    pairs = sum(record.mask_file_name is not None and record.split == "train" for record in records)
    if not pairs:
        show.remarks.append("No training: the folder holds no masks to learn from.")
        return
    data, run, again = (options.out / name for name in (DATA_DIR, RUN_DIR, READ_AGAIN_DIR))
    training = train_briefly(
        data, run, adapter=options.adapter, pairs=pairs, steps=options.train_steps, seed=show.seed, console=console
    )
    trained = PipelineFactory(run).load()
    with _stage(console, "Reading them once more") as report:
        readings = read_photographs(trained, data, chosen, again, seed=show.seed, report=report)
    held_out = all(record.split != "train" for record in chosen)
    show.training = replace(training, readings=readings, held_out=held_out)


def spread(records: Sequence[PairRecord], count: int) -> list[PairRecord]:
    """Choose up to ``count`` records: one of each diagnosis in turn, in the order of their ids."""
    queues: dict[str | None, list[PairRecord]] = {}
    for record in sorted(records, key=lambda record: record.isic_id):
        queues.setdefault(record.diagnosis, []).append(record)
    chosen: list[PairRecord] = []
    while len(chosen) < count and any(queues.values()):
        chosen += [queue.pop(0) for queue in queues.values() if queue]
    return chosen[:count]


def open_in_browser(path: Path) -> bool:
    """Show a file in the desktop's browser; return whether there was one."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser):
        return False  # a text browser would take the terminal over
    return browser.open(path.resolve().as_uri())


def _refuse_foreign_files(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier show, known by its marker: it is the user's."""
    expected = "a new folder, or one of an earlier demo"
    refuse_foreign(out, OWN_NAMES, expected, lambda folder: (folder / MARKER).is_file())


def _empty_own_folder(out: Path) -> None:
    """Mark the folder as a show's, and empty it of an earlier one."""
    _refuse_foreign_files(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()
    for path in out.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def _source_sentence(data: Path | None) -> str:
    if data is None:
        return (
            "The photographs are phantoms: drawn by rules, with exact masks, and unlike what the model was trained on."
        )
    return f"The photographs are from your folder {data.name}."


def _prepare(options: ShowOptions, size: int, show: Show, console: Console) -> list[PairRecord]:
    """Bring the user's folder, or phantoms, into the data set layout with the ordinary ``prepare``."""
    source = options.data
    if source is None:
        source = options.out / SOURCE_DIR
        with console.status(f"Drawing {PHANTOMS} phantom lesions to read and to train on ..."):
            write_phantom_folder(source, PHANTOMS, seed=options.seed, size=size)
    prepare_options = PrepareOptions(size=size, seed=options.seed)
    workers = None if options.data else 1  # starting processes takes longer than reading the phantoms
    summary = prepare(source, options.out / DATA_DIR, prepare_options, workers=workers, show_progress=True)
    rejected = sum(summary.rejected.values())
    if rejected:
        show.remarks.append(f"{rejected} items of the folder were left out; reasons in {DATA_DIR}/rejected.csv.")
    return Dataset.open(options.out / DATA_DIR).records


@contextmanager
def _stage(console: Console, title: str) -> Iterator[Report]:
    """Show a line with a bar and the time left while a part runs."""
    columns = (TextColumn("{task.description:<26}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
