"""``skindualgen schedule``: the timesteps in which an adapter loses least with few steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skindualgen.cli.options import AdapterOption, BaseOption, BatchSizeOption, SeedOption

if TYPE_CHECKING:
    from rich.table import Table

    from skindualgen.sample.schedule_search import FoundSchedule


def schedule(
    adapter: AdapterOption,
    steps: Annotated[str, typer.Option(help="Numbers of steps to find a schedule for.")] = "4,6,8,10",
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the adapter with its schedules.  (default: they go into ADAPTER itself)"),
    ] = None,
    base: BaseOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts to search with, a file as `generate` takes it.  (default: as training pairs look)"),
    ] = None,
    trajectories: Annotated[
        int, typer.Option(min=1, help="Pairs that are searched on; as many others are measured.")
    ] = 32,
    teacher_steps: Annotated[
        int, typer.Option(min=3, help="Steps of these pairs, which fewer steps are to meet.")
    ] = 60,
    batch_size: BatchSizeOption = 8,
    seed: SeedOption = 0,
) -> None:
    """Find for each number of steps the timesteps that lose least, and write them into the adapter: no training.

    `generate --steps` and the pipeline then take them for these numbers of steps, wherever the image is drawn from
    noise. A schedule that comes no nearer to the pairs of many steps than the usual spacing is not written. The adapter
    becomes another file: search before a gate is calibrated or a data set begun with it, or give --out.
    """
    from skindualgen.cli.running import load_pipeline, loading, stage_progress
    from skindualgen.contracts import InputError

    try:
        numbers = [int(number) for number in steps.split(",")]
    except ValueError:
        raise InputError(f"--steps {steps}", "numbers with commas between them", "fix the option") from None
    with loading():
        import shutil

        from rich.console import Console

        from skindualgen.files import BUNDLED_ADAPTERS
        from skindualgen.folders import new_folder, refuse_filled
        from skindualgen.model.adapter import adapter_folder, read_header
        from skindualgen.planning.prompt_files import read_prompts
        from skindualgen.planning.requests import requests_from_file
        from skindualgen.sample.schedule_search import record_schedules, recorded_requests, search_schedules

        folder = adapter_folder(adapter)
        read_header(folder)  # a merged folder has none to write to
        if out is None and (adapter in BUNDLED_ADAPTERS or not Path(adapter).exists()):
            got = f"--adapter {adapter} without --out"
            raise InputError(got, "a new folder, as the package and the hub's cache stay as they are", "add --out")
        if out is not None:
            refuse_filled(out)
        pipeline = load_pipeline(adapter, base)
        if prompts is None:
            requests = recorded_requests(pipeline.config.appearances, 2 * trajectories, seed)
        else:
            requests = requests_from_file(read_prompts(prompts), 2 * trajectories, seed)
    with stage_progress() as report:
        found = search_schedules(
            pipeline, requests, numbers, teacher_steps=teacher_steps, batch_size=batch_size, report=report
        )
    Console().print(_table(found))
    if out is None:
        record_schedules(folder, found)
    else:
        with new_folder(out) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
            record_schedules(temporary, found)
    written = ", ".join(str(each.steps) for each in found if each.better) or "none"
    typer.echo(f"schedules written for steps: {written}; {out or folder}")


def _table(found: list[FoundSchedule]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("steps", "usual", "found", "timesteps found", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in found:
        remark = "" if each.better else " (not better: not written)"
        timesteps = " ".join(map(str, each.timesteps)) + remark
        table.add_row(str(each.steps), f"{each.usual_error:.4f}", f"{each.error:.4f}", timesteps)
    table.caption = (
        "relative L2 distance of images' latents from those of the teacher's steps, on pairs not searched on"
    )
    return table
