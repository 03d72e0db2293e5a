"""``skindualgen merge``: one training set of several data set folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import LinkOption


def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Data set folders.")],
    out: Annotated[Path, typer.Option(help="New data set folder; it appears when all is written.")],
    link: LinkOption = False,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Go on although a generator has seen val or test pairs; recorded.")
    ] = False,
) -> None:
    """Merge real and synthetic pairs, or parts of one production. Synthetic pairs go to the train split alone.

    Pairs rejected in review are left out: of one folder alone, the result is the rest of it.

    Refused: a pair in two folders, a patient or lesion in two splits, held-out pairs that a generator has seen.
    """
    from skindualgen.cli.running import item_progress
    from skindualgen.data.review import left_out_line
    from skindualgen.exchange.folders import unnamed_line
    from skindualgen.exchange.merge import merge as merge_folders

    with item_progress("merging") as report:
        merged = merge_folders(sources, out, link=link, known_leaks=i_know, report=report)
    origins = ", ".join(f"{count} {origin}" for origin, count in merged.counts["origin"].items())
    splits = ", ".join(f"{count} {split}" for split, count in merged.counts["split"].items())
    typer.echo(f"{merged.counts['records']} pairs in {out}: {origins}; {splits}")
    if (line := left_out_line(merged.rejected)) is not None:
        typer.echo(line)
    for root, files in merged.unnamed.items():
        if (line := unnamed_line(root, files)) is not None:
            typer.echo(line)
    for own, term in merged.respelt.items():
        typer.echo(f"note: the diagnosis {own!r} is written as {term!r}, as other pairs have it")
    for leak in merged.known_leaks:
        typer.secho(f"warning: {leak}", fg=typer.colors.YELLOW)
