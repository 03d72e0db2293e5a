"""``skindualgen train``: adapt a base to pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    data: Annotated[Path | None, typer.Option(help="Data set folder of `skindualgen prepare`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an interrupted run's resumes it.")] = None,
    base: Annotated[
        str | None, typer.Option(help="'micro', or the path of a diffusers folder.  [default: micro]")
    ] = None,
    init_adapter: Annotated[
        str | None, typer.Option(help="'builtin', a run or an adapter folder to start from, not afresh.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.  [default: 1000]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step and process.  [default: 8]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's peak rate.  [default: 1e-4]")] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank.  [default: 32]")] = None,
    size: Annotated[int | None, typer.Option(help="Side in px.  [default: the base's own]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto (measured), fp32, bf16 or fp16.  [default: auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.  [default: 0]")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; options win over it.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: name=value, e.g. lora.targets=all. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the effective settings as JSON and stop.")] = False,
) -> None:
    """Adapt a base to image-mask pairs: LoRA and the new layers, one adapter for all three directions.

    Run the same command again to resume. Writes OUT/adapter, metrics.jsonl, samples/, checkpoints/, tensorboard/.
    """
    from rich.console import Console

    from skindualgen.config import load_train_config, parse_assignment

    named: dict[str, Any] = {
        "data": data, "out": out, "base": base, "init_adapter": init_adapter, "steps": steps, "size": size,
        "batch_size": batch_size, "learning_rate": learning_rate, "lora.rank": rank, "precision": precision,
        "seed": seed,
    }  # fmt: skip
    overrides = {name: value for name, value in named.items() if value is not None}
    overrides |= dict(parse_assignment(text) for text in assignments or [])
    settings = load_train_config(config, overrides)
    if dry_run:
        typer.echo(settings.model_dump_json(indent=2))
        return

    from skindualgen.cli.progress import loading

    with loading():
        from skindualgen.train.loop import train as run

    console = Console()
    run(settings, console=console)
    console.print(f"Run folder: {settings.out}", soft_wrap=True)
