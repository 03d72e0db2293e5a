"""``skindualgen demo``: a show of everything on this machine, in one HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import AdapterOption, GuidanceOption, OpenOption, SeedOption, StepsOption


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report; new, or of an earlier demo.")] = Path("demo"),
    data: Annotated[
        Path | None,
        typer.Option(help="Your own folder of photographs (any layout of `prepare`); phantoms if not given."),
    ] = None,
    adapter: AdapterOption = "builtin",
    per_diagnosis: Annotated[int, typer.Option(min=1, max=1000, help="Pairs of each of three diagnoses.")] = 8,
    photographs: Annotated[int, typer.Option(min=1, max=1000, help="Photographs to read masks from.")] = 6,
    train_steps: Annotated[int, typer.Option(min=0, help="Steps of the short training; 0 leaves it out.")] = 160,
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    show: OpenOption = True,
) -> None:
    """Generate pairs, read masks, fill masks, train a little, and write it all into OUT/report.html."""
    import sys

    from rich.console import Console

    console = Console()
    with console.status("Loading the model ..."):
        from skindualgen.demo.run import ShowOptions, open_in_browser, run_show
        from skindualgen.model.bases import hide_loading_bars

        hide_loading_bars()
    options = ShowOptions(out, data, adapter, per_diagnosis, photographs, train_steps, seed, steps, guidance)
    report = run_show(options, console)
    console.print(
        f"\n[bold green]Done.[/] The report is in [bold]{report}[/], the pairs are in [bold]{out / 'pairs'}[/]."
    )
    if show and sys.stdout.isatty() and not open_in_browser(report):
        console.print("Open it in any browser.")
