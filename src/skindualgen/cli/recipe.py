"""``skindualgen recipe``: the commands for a data set, and what was measured for one like it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recipe(
    data: Annotated[Path, typer.Option(help="Data set folder of `skindualgen prepare`; only read.")],
) -> None:
    """Print the commands for this data set, with what was measured of their gain, or that there was none."""
    from skindualgen.readiness.recipe import recipe as recipe_of

    typer.echo(recipe_of(data), nl=False)
