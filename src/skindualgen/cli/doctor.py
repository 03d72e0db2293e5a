"""``skindualgen doctor``: what this machine can run, what is missing, how to fix it."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    quick: Annotated[bool, typer.Option("--quick", hidden=True, help="Deprecated: nothing is timed any more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, to paste into a bug report.")] = False,
) -> None:
    """Show what this machine can run, which bases fit and are on disk, what is missing, and what fixes it.

    Exit code 0 when the bundled model can run here, 1 when something it needs is missing.
    """
    import json
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    with Console(stderr=True).status("Examining this machine ..."):
        from skindualgen.doctor import examine
        from skindualgen.model.footprint import base_findings

        findings = [*examine(), *base_findings()]
    if quick:
        typer.echo("--quick is deprecated and does nothing: no speed is measured any more", err=True)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {"ok": "[green]✓[/]", "limited": "[yellow]●[/]", "missing": "[red]✗[/]"}
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        for finding in findings:
            text = escape(finding.found) + (f"\n[dim]→[/] [cyan]{escape(finding.remedy)}[/]" if finding.remedy else "")
            table.add_row(marks[finding.state], finding.topic, text)
        Console().print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)
