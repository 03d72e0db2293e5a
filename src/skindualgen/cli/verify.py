"""``skindualgen verify``: is a data set folder still what it says it is?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from skindualgen.verify.deviations import Tally

EXIT_DEVIATIONS = 3


def verify(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="Data set folder: generated, prepared or merged; also in shards.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings to this file too.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and decode files.")] = 2,
    trust_anchors: Annotated[
        Path | None, typer.Option(help="PEM file of root certificates to trust signed images by.  (default: none)")
    ] = None,
) -> None:
    """Check hashes, manifest, pairs, embedded provenance and signatures, and name each deviation.

    Exit code 0: all as recorded; 3: deviations; 2: DIR is no data set folder.
    """
    from skindualgen.cli.running import item_progress
    from skindualgen.verify.deviations import Tally, recorded
    from skindualgen.verify.folder import verify_folder

    tally = Tally()
    with item_progress("verifying") as report:
        found = verify_folder(data, workers=workers, anchors=trust_anchors, tally=tally, report=report)
        for deviation in recorded(found, json_file, tally) if json_file else found:
            typer.echo(f"{deviation.kind}: {deviation}")
    _print_summary(tally)
    if tally.deviations:
        raise typer.Exit(EXIT_DEVIATIONS)


def _print_summary(tally: Tally) -> None:
    from rich.console import Console
    from rich.table import Table

    from skindualgen.verify.deviations import KINDS

    looked_at = {
        "records": tally.records,
        "of generated pairs": tally.synthetic,
        "images": tally.images,
        "masks": tally.masks,
        "files with the recorded hash": tally.hashes,
        "images with the mark of generated media": tally.marked,
        **{f"content credentials: {state}": number for state, number in sorted(tally.credentials.items())},
    }
    table = Table("what", "number", title="Looked at")
    for name, number in looked_at.items():
        table.add_row(name, str(number))
    console = Console()
    console.print(table)
    if not tally.deviations:
        console.print("All as recorded.")
        return
    table = Table("kind", "number", "what it is", title="Deviations")
    for kind, number in tally.deviations.most_common():
        table.add_row(kind, str(number), KINDS[kind])
    console.print(table)
