"""Options of the downstream studies' commands, and where their tables go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path, typer.Option(help="the real pairs, prepared")]
WorkOption = Annotated[Path, typer.Option(help="folder for what is made on the way, outside the repository")]
TaskOption = Annotated[str, typer.Option(help="segment, classify or both")]
OutOption = Annotated[Path, typer.Option(help="where the tables go")]
SeedOption = Annotated[int, typer.Option(help="of captions, pairs, subsets and adapters")]
WorkersOption = Annotated[int, typer.Option(min=1, help="processes that draw; the pairs are the same for any number")]
CoresOption = Annotated[
    int, typer.Option(min=1, help="threads of an adapter, processes that draw, trainings at a time")
]
PartOption = Annotated[str, typer.Option(help="I/N: every N-th setting, from the I-th")]
CountsOption = Annotated[str, typer.Option(help="how many masks, with commas; processes can share them out")]
StepsOption = Annotated[int, typer.Option(min=1, help="of every training")]

RESULTS = Path("docs/results")
