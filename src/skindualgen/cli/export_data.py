"""``skindualgen export-data``: a data set folder in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import FormatOption, LinkOption, MasksOption, OriginName, SplitName


def export_data(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Data set folder of real or synthetic pairs.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder; it appears when all is written.")],
    format_name: FormatOption,
    split: Annotated[SplitName | None, typer.Option(help="This split only.")] = None,
    only: Annotated[OriginName | None, typer.Option(help="Pairs of this origin only.")] = None,
    require_masks: MasksOption = False,
    link: LinkOption = False,
    shard_size: Annotated[int, typer.Option(min=1, help="Pairs of one tar or Parquet file.")] = 1000,
    dataset_id: Annotated[int, typer.Option(min=1, max=999, help="Number of the nnU-Net data set.")] = 500,
    name: Annotated[str, typer.Option(help="Name of the data set, in formats that hold one.")] = "SkinDualGen",
) -> None:
    """Write pairs in a format that other tools load. Every file is checked against its recorded hash.

    Pairs that were rejected in review are left out.
    """
    from skindualgen.cli.running import item_progress
    from skindualgen.data.review import left_out_line
    from skindualgen.exchange.folders import unnamed_line
    from skindualgen.exchange.formats import ExchangeOptions
    from skindualgen.exchange.transfer import SIDECAR_FILE
    from skindualgen.exchange.transfer import export_data as export_folder

    with item_progress("writing") as report:
        options = ExchangeOptions(link=link, shard_size=shard_size, dataset_id=dataset_id, name=name, report=report)
        written = export_folder(
            source, out, format_name, options=options, split=split, only=only, require_masks=require_masks
        )
    typer.echo(f"{written.counts['records']} pairs in {out}")
    if (line := left_out_line({str(source): written.rejected})) is not None:
        typer.echo(line)
    if written.without_mask:
        typer.echo(f"{written.without_mask} photographs without a mask were left out")
    if written.ignored_lost:
        typer.echo(f"note: {format_name} has no place for the ignored pixels of {written.ignored_lost} pairs")
    if (line := unnamed_line(source, written.unnamed)) is not None:
        typer.echo(line)
    typer.echo(f"{format_name} does not hold: {written.loses}")
    if written.sidecar:
        typer.echo(f"{out / SIDECAR_FILE} holds the rest for `skindualgen import-data`")
