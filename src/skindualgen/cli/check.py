"""``skindualgen check``: is a prepared data set ready?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from skindualgen.readiness.results import Problem

EXIT_CODES = {"go": 0, "fix": 3, "stop": 2}
COLOURS = {"go": typer.colors.GREEN, "fix": typer.colors.YELLOW, "stop": typer.colors.RED}
SHOWN_IDS = 5


def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data set folder of `skindualgen prepare`; only read.")],
    purpose: Annotated[Literal["train", "benchmark"], typer.Option("--for", help="What it is needed for.")] = "train",
    base: Annotated[str, typer.Option(help="Base that will be trained, named as for `train`: for its size.")] = "micro",
    sheet: Annotated[
        Path | None, typer.Option(help="Write the 24 most suspicious pairs to this PNG, with their masks' outlines.")
    ] = None,
    hours: Annotated[
        bool, typer.Option("--hours/--no-hours", help="Measure how long a training would take on this machine.")
    ] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings to this file too.")] = None,
) -> None:
    """Say go, fix or stop, with the numbers that decide and what fixes each problem.

    Exit code 0: go; 3: fix, it can be used and would do better; 2: stop, or DATA is no data set folder.
    """
    from rich.console import Console

    from skindualgen.cli.running import stage_progress
    from skindualgen.files import atomic_path, atomic_write_json
    from skindualgen.readiness.check import check as check_folder
    from skindualgen.readiness.masks import suspects_sheet

    with stage_progress() as report:
        found = check_folder(data, purpose, base=base, hours=hours, report=report)
    Console().print(_table(found.counts))
    show_problems(found.problems)
    for note in found.notes:
        typer.echo(f"note: {note}")
    if json_file is not None:
        atomic_write_json(json_file, found.as_dict())
    if sheet is not None:
        picture = suspects_sheet(data, found.masks)
        with atomic_path(sheet) as temporary:
            picture.save(temporary, "PNG")
        typer.echo(f"most suspicious pairs: {sheet}")
    typer.secho(f"verdict: {found.verdict}", fg=COLOURS[found.verdict], bold=True)
    raise typer.Exit(EXIT_CODES[found.verdict])


def show_problems(problems: Iterable[Problem]) -> None:
    """Print each problem with its first records and its remedy."""
    from skindualgen.contracts import listed

    for problem in problems:
        typer.secho(f"{problem.level}: {problem.found}", fg=COLOURS[problem.level])
        if problem.ids:
            typer.echo(f"  {listed(problem.ids, SHOWN_IDS)}")
        typer.echo(f"  -> {problem.remedy}")


def _table(counts: Mapping[str, Any]) -> Table:
    from rich.table import Table

    without = counts["records"] - counts["with_mask"]
    splits = [name for name in ("train", "val", "test") if name in counts["split"]]
    table = Table("photographs", *splits, title=f"{counts['records']} photographs, {without} of them without a mask")
    of = counts["diagnosis"]
    for diagnosis in sorted({name for split in splits for name in of[split]}):
        table.add_row(diagnosis, *(str(of[split].get(diagnosis, 0)) for split in splits))
    table.add_row("all", *(str(counts["split"][split]) for split in splits), style="bold")
    return table
