"""``skindualgen train``: adapt a base to pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from skindualgen.config import TrainConfig
    from skindualgen.training.sweep_settings import Sweep


def train(
    data: Annotated[Path | None, typer.Option(help="Data set folder of `skindualgen prepare`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an interrupted run's resumes it.")] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="micro, sd2-base, sd2, sd2.1-base, sd2.1, sd1.5, owner/name@revision or a path.  (default: micro)"
        ),
    ] = None,
    init_adapter: Annotated[
        str | None, typer.Option(help="'builtin', a run or an adapter folder to start from, not afresh.")
    ] = None,
    max_train_steps: Annotated[int | None, typer.Option(help="Optimiser steps.  (default: 1000)")] = None,
    train_batch_size: Annotated[int | None, typer.Option(help="Pairs per step and process.  (default: 8)")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's peak rate.  (default: 1e-4)")] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank.  (default: 32)")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side in px.  (default: the base's own)")] = None,
    mixed_precision: Annotated[
        str | None, typer.Option(help="auto (bf16 where the hardware has it), no (or fp32), bf16 or fp16.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.  (default: 0)")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; options win over it.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: name=value, e.g. lora.targets=all. Repeatable.")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of settings to try: a training for each choice, in OUT/trial-NNNN (extra 'sweep')."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of encoded pairs, for runs to share.  (default: OUT/cache)")
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="wandb, mlflow or trackio: show the run there too (extra 'track').")
    ] = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option("--allow-base-mismatch", help="Start from an --init-adapter of another base all the same.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on resuming: an error where OUT holds no run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the settings as TOML, what would be trained and the memory, and stop."),
    ] = False,
    steps: Annotated[int | None, typer.Option(hidden=True)] = None,
    batch_size: Annotated[int | None, typer.Option(hidden=True)] = None,
    size: Annotated[int | None, typer.Option(hidden=True)] = None,
    precision: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Adapt a base to image-mask pairs: LoRA and the new layers, one adapter for all three directions.

    Run the same command again to resume. Writes OUT/adapter, report.html, best/, metrics.jsonl, samples/,
    checkpoints/, tensorboard/, cache/. SIGINT and SIGTERM end it after the step, with a checkpoint and exit code 0.
    Several processes: accelerate launch -m skindualgen train ...
    """
    from rich.console import Console

    from skindualgen.config import load_train_config, parse_assignment

    named: dict[str, Any] = {
        "data": data,
        "out": out,
        "base": base,
        "init_adapter": init_adapter,
        "max_train_steps": max_train_steps,
        "resolution": resolution,
        "train_batch_size": train_batch_size,
        "learning_rate": learning_rate,
        "lora.rank": rank,
        "mixed_precision": mixed_precision,
        "seed": seed,
        "cache": cache,
        "track": track,
        "steps": steps,
        "size": size,
        "batch_size": batch_size,
        "precision": precision,  # the earlier names
    }
    overrides = {name: value for name, value in named.items() if value is not None}
    overrides |= {"allow_base_mismatch": True} if allow_base_mismatch else {}
    overrides |= dict(parse_assignment(text) for text in assignments or [])
    settings = load_train_config(config, overrides)
    planned = None
    if sweep is not None:
        from skindualgen.training.sweep_settings import load_sweep

        planned = load_sweep(sweep, config, overrides)
    if dry_run:
        if planned is not None:
            typer.echo(
                f"# {planned.settings.wanted} trainings over {', '.join(planned.settings.search)}, else of these:"
            )
        _show(settings)
        return
    if resume:
        _insist(settings.out, sweep=planned is not None)

    from skindualgen.cli.running import loading

    with loading():
        from skindualgen.model.bases import hide_loading_bars
        from skindualgen.report.training import HTML_FILE, train_with_report
        from skindualgen.training.stopping import TrainingStopped

        hide_loading_bars()

    console = Console()
    try:
        if planned is not None:
            _sweep(planned, console)
        else:
            train_with_report(settings, console=console)
    except TrainingStopped as stop:
        console.print(f"Stopped at step {stop.step}. To go on: {_command()}", soft_wrap=True, highlight=False)
        return
    console.print(f"Run folder: {settings.out}, page: {settings.out / HTML_FILE}", soft_wrap=True)


def _command() -> str:
    """The command that was typed, which resumes the run."""
    import shlex
    import sys

    return shlex.join(["skindualgen", *sys.argv[1:]])


def _insist(out: Path, *, sweep: bool) -> None:
    from skindualgen.contracts import InputError
    from skindualgen.training.run_folder import CONFIG_FILE
    from skindualgen.training.sweep_settings import SWEEP_FILE

    what = "sweep" if sweep else "run"
    if not (out / (SWEEP_FILE if sweep else CONFIG_FILE)).is_file():
        raise InputError(
            f"--resume with {out}, which holds no {what}", f"the folder of a {what}", "fix --out, or leave --resume out"
        )


def _sweep(planned: Sweep, console: Console) -> None:
    """Run a sweep, and print its trainings, the best first."""
    from rich.table import Column, Table

    from skindualgen.report.sweep import sweep_with_report
    from skindualgen.training.sweep import BEST_FILE, best_of, ranked

    attempts = sweep_with_report(planned, console=console)
    table = Table("training", "outcome", "score", "Dice", "agreement", "step", Column("settings", overflow="fold"))
    for each in ranked(attempts):
        numbers = ("-" if value is None else f"{value:.4f}" for value in (each.score, each.dice, each.agreement))
        table.add_row(each.folder.name, each.outcome, *numbers, str(each.step or "-"), each.said)
    console.print(table)
    if (best := best_of(attempts)) is None:
        console.print("No training has finished.")
        return
    console.print(f"Best: {best.folder}, settings: {planned.config.out / BEST_FILE}", soft_wrap=True, highlight=False)


def _show(settings: TrainConfig) -> None:
    """Print the effective settings, which ``--config`` reads back, and as comments what they would take."""
    import tomli_w

    typer.echo(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))

    from skindualgen.cli.running import loading

    with loading():
        from skindualgen.training.estimate import estimate

        lines = estimate(settings)
    for line in lines:
        typer.echo(f"# {line}")
