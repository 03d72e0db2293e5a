"""``skindualgen segment``: masks for photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import (
    AdapterOption,
    BaseOption,
    BatchSizeOption,
    MismatchOption,
    SeedOption,
    StepsOption,
)
from skindualgen.sample import ENSEMBLE_SIZE


def segment(
    images: Annotated[Path, typer.Option(help="Folder of photographs, any size and aspect.")],
    out: Annotated[Path, typer.Option(help="New folder, or that of an interrupted run; masks go to OUT/masks.")],
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    allow_base_mismatch: MismatchOption = False,
    steps: StepsOption = None,
    ensemble: Annotated[int, typer.Option(min=1, help="Draws over flips that are averaged.")] = ENSEMBLE_SIZE,
    clean: Annotated[
        bool, typer.Option("--clean/--no-clean", help="Keep the largest region and fill its holes.")
    ] = True,
    batch_size: BatchSizeOption = 8,
    seed: SeedOption = 0,
) -> None:
    """Read the lesion's mask from photographs: OUT/masks/<stem>.png (0 / 255) at each photograph's own size.

    Masks that are there already stay. Interrupted: run it again. A research tool, not a medical device.
    """
    from skindualgen.cli.running import item_progress, load_pipeline, loading
    from skindualgen.contracts import InputError

    with loading():
        from skindualgen.sample.segmentation import segment_folder

        pipeline = load_pipeline(adapter, base, allow_base_mismatch=allow_base_mismatch)
    with item_progress("segmenting") as report:
        summary = segment_folder(
            pipeline,
            images,
            out,
            num_inference_steps=steps,
            ensemble_size=ensemble,
            clean=clean,
            batch_size=batch_size,
            seed=seed,
            report=report,
        )
    for name, reason in summary.not_used.items():
        typer.echo(f"not used {name}: {reason}", err=True)
    for name, reason in summary.refused.items():
        typer.echo(f"refused {name}: {reason}", err=True)
    if summary.refused and not summary.written + summary.kept:
        raise InputError(f"{images} without a photograph that can be read", "at least one", "see the lines above")
    typer.echo(
        f"{summary.written} masks written, {summary.kept} were there, {len(summary.refused)} photographs refused, "
        f"{len(summary.not_used)} other files not used: {out}"
    )
