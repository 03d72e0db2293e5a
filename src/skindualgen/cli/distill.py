"""``skindualgen distill``: an adapter that takes a few single passes in place of many guided steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from skindualgen.cli.options import AdapterOption, BaseOption

PresetName = Literal["micro", "sd2"]


def distill(
    adapter: AdapterOption,
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run's resumes it. OUT is then an adapter.")],
    calls: Annotated[int, typer.Option(min=2, help="Steps of the student, each a single pass.")] = 4,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="micro: two cores, 90 minutes; sd2: rank 64, one GPU, hours.  (default: by the adapter's base)"
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End after so many, over all calls.  (default: the preset's)")
    ] = None,
    max_train_steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many optimiser steps.  (default: the preset's)")
    ] = None,
    base: BaseOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts to learn from, a file as `generate` takes it.  (default: as training pairs look)"),
    ] = None,
    teacher_steps: Annotated[
        int | None, typer.Option(min=3, help="Guided steps of the teacher.  (default: the preset's)")
    ] = None,
    trajectories: Annotated[
        int | None, typer.Option(min=1, help="Pairs of the teacher kept at a time.  (default: the preset's)")
    ] = None,
    train_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pairs per optimiser step.  (default: the preset's)")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's peak rate.  (default: the preset's)")] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="LoRA rank, the teacher's or more.  (default: the preset's)")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu.  (default: the fastest)")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.  (default: 0)")] = None,
) -> None:
    """Teach an adapter to take a few steps, each a single pass, for what it takes many guided ones for.

    It learns from its own pairs: no photographs are needed. The result is an adapter like any other; `generate`,
    `segment` and the page take it in the steps that it was made for. Run the same command again to resume.
    """
    from skindualgen.cli.running import loading, stage_progress

    with loading():
        from dataclasses import replace

        from skindualgen.hardware import available_devices
        from skindualgen.model.adapter import adapter_folder, read_header
        from skindualgen.model.bases import hide_loading_bars
        from skindualgen.training.distill import distill as run
        from skindualgen.training.distill_settings import PRESETS
        from skindualgen.training.stopping import TrainingStopped

        hide_loading_bars()
        own = "micro" if read_header(adapter_folder(adapter))["base_id"] == "micro" else "sd2"
    settings, length = PRESETS[preset or own]
    given: dict[str, Any] = {
        "calls": calls,
        "teacher_steps": teacher_steps,
        "trajectories": trajectories,
        "train_batch_size": train_batch_size,
        "learning_rate": learning_rate,
        "rank": rank,
        "seed": seed,
    }
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if minutes is not None or max_train_steps is not None:
        length = {"minutes": minutes, "max_train_steps": max_train_steps}
    try:
        with stage_progress() as report:
            run(
                adapter,
                out,
                settings,
                base=base,
                prompts=prompts,
                device=device or available_devices()[0],
                say=typer.echo,
                report=report,
                **length,
            )
    except TrainingStopped as stop:
        typer.echo(f"Stopped at step {stop.step}. The same command goes on.")
        return
    typer.echo(f"Distilled adapter: {out}")
