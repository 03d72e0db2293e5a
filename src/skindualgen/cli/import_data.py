"""``skindualgen import-data``: a folder in the format of another tool as a data set folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skindualgen.cli.options import FormatOption, LinkOption, OriginName

if TYPE_CHECKING:
    from skindualgen.exchange.source import Account

SHOWN = 10
"""Lines of what was not used; all are in the table."""


def import_data(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder in the format; only read.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New data set folder; it appears when all is written.")],
    format_name: FormatOption,
    origin: Annotated[
        OriginName | None, typer.Option(help="Of pairs for which none is recorded.  (default: real)")
    ] = None,
    link: LinkOption = False,
    boxes: Annotated[
        bool,
        typer.Option("--boxes", help="Where a lesion has a box and no outline, take the photograph without a mask."),
    ] = False,
) -> None:
    """Read pairs from a format of another tool. Pictures are taken as they are: for others, `skindualgen prepare`.

    What was not used is listed in OUT/rejected.csv with its reason. Damaged files and annotations that contradict
    themselves are refused.
    """
    from skindualgen.cli.running import item_progress
    from skindualgen.exchange.formats import ExchangeOptions
    from skindualgen.exchange.transfer import import_data as import_folder

    accounts: list[Account] = []
    with item_progress("reading") as report:
        options = ExchangeOptions(link=link, boxes=boxes, report=report, told=accounts.append)
        records = import_folder(source, out, format_name, options=options, origin=origin)
    with_mask = sum(record.mask_file_name is not None for record in records)
    typer.echo(f"{len(records)} pairs in {out}, {with_mask} with a mask")
    for account in accounts:
        _say(account)


def _say(account: Account) -> None:
    for note in account.notes:
        typer.echo(f"note: {note}")
    if account.left_out:
        typer.secho(f"not used (rejected.csv): {len(account.left_out)}", fg=typer.colors.YELLOW)
    for item in account.left_out[:SHOWN]:
        name = f" ({item.isic_id})" if item.isic_id else ""
        typer.echo(f"  {item.file}{name}: {item.reason}: {item.detail}")
    if len(account.left_out) > SHOWN:
        typer.echo(f"  and {len(account.left_out) - SHOWN} more")
