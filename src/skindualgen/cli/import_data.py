"""``skindualgen import-data``: a folder in the format of another tool as a data set folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.export_data import FormatName, OriginName


def import_data(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder in the format; only read.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New data set folder; it appears when all is written.")],
    format_name: Annotated[FormatName, typer.Option("--format", help="Whose format; docs/formats.md describes them.")],
    origin: Annotated[
        OriginName | None, typer.Option(help="Of pairs for which none is recorded.  (default: real)")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies (imagefolder).")] = False,
) -> None:
    """Read pairs from a format of another tool. Pictures are taken as they are: for others, `skindualgen prepare`."""
    from skindualgen.cli.progress import item_progress
    from skindualgen.exchange.formats import ExchangeOptions
    from skindualgen.exchange.transfer import import_data as import_folder

    with item_progress("reading") as report:
        records = import_folder(
            source, out, format_name.value, options=ExchangeOptions(link=link, report=report),
            origin=origin.value if origin is not None else None,
        )  # fmt: skip
    with_mask = sum(record.mask_file_name is not None for record in records)
    typer.echo(f"{len(records)} pairs in {out}, {with_mask} with a mask")
