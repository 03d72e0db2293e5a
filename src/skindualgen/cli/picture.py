"""``skindualgen picture``: what an adapter does, in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skindualgen.cli.options import (
    AdapterOption,
    BaseOption,
    BatchSizeOption,
    GuidanceOption,
    JudgesOption,
    SeedOption,
    StepsOption,
)

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Draw a walk between two prompts, a grid of prompts and seeds, or pairs beside their nearest real ones.",
)

PngOption = Annotated[Path, typer.Option(help="PNG file to write; an earlier one is replaced.")]


@app.command("walk")
def walk(
    out: Annotated[Path, typer.Option(help="GIF file to write; an earlier one is replaced.")],
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    start: Annotated[str, typer.Option(help="First prompt.")] = "a dermoscopic image of a nevus",
    end: Annotated[str, typer.Option(help="Last prompt.")] = "a dermoscopic image of a melanoma",
    frames: Annotated[int, typer.Option(min=2, help="Pairs on the way.")] = 24,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    seed: SeedOption = 0,
    batch_size: BatchSizeOption = 8,
) -> None:
    """Draw one lesion from a prompt's wording to another's: one noise, the text between; with outlines."""
    from skindualgen.cli.running import load_pipeline, loading

    _suffix(out, ".gif")
    with loading():
        from skindualgen.files import atomic_write_bytes
        from skindualgen.sample import tours

        pipeline = load_pipeline(adapter, base)
    pairs = tours.walk(pipeline, start, end, frames=frames, seed=seed, batch_size=batch_size, **_call(steps, guidance))
    atomic_write_bytes(out, tours.walk_gif(*pairs))
    typer.echo(f"{frames} pairs: {out}")


@app.command("grid")
def grid(
    out: PngOption,
    prompt: Annotated[list[str], typer.Option(help="Prompt of a row. Repeatable.")],
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Columns: seeds SEED, SEED + 1, ...")] = 4,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    seed: SeedOption = 0,
    batch_size: BatchSizeOption = 8,
) -> None:
    """Draw each prompt with each seed: a row for each prompt, a column for each seed."""
    from skindualgen.cli.running import load_pipeline, loading

    _suffix(out, ".png")
    with loading():
        from skindualgen.files import atomic_write_bytes, png_bytes
        from skindualgen.sample import tours

        pipeline = load_pipeline(adapter, base)
    columns = range(seed, seed + seeds)
    sheet = tours.grid(pipeline, prompt, columns, batch_size=batch_size, **_call(steps, guidance))
    atomic_write_bytes(out, png_bytes(sheet))
    typer.echo(f"{len(prompt)} prompts, {seeds} seeds: {out}")


@app.command("neighbours")
def neighbours(
    out: PngOption,
    generated: Annotated[Path, typer.Option(help="Data set folder of generated pairs.")],
    real: Annotated[Path, typer.Option(help="Data set folder of real pairs; of all splits.")],
    count: Annotated[int, typer.Option(min=1, help="Nearest real pairs of each.")] = 3,
    pairs: Annotated[int, typer.Option(min=1, help="Generated pairs that are shown, the first ones.")] = 8,
    size: Annotated[int, typer.Option(min=32, help="Side in px at which they are compared and drawn.")] = 128,
    extractor: Annotated[
        str | None, typer.Option(help="Feature extractor, NAME or NAME=WEIGHTS.  (default: one that is packaged)")
    ] = None,
    judges: JudgesOption = None,
) -> None:
    """Draw generated pairs beside the real ones that are nearest to them, with their distances."""
    from skindualgen.cli.running import loading

    _suffix(out, ".png")
    with loading("Loading the pictures ..."):
        from skindualgen.data.dataset import Dataset
        from skindualgen.files import atomic_write_bytes, png_bytes
        from skindualgen.judges.extractors import OFFLINE_DEFAULT
        from skindualgen.judges.pictures import read_pictures
        from skindualgen.judges.trained import cached_extractor, default_cache
        from skindualgen.report.neighbours import neighbour_sheet

        made = read_pictures(Dataset.open(generated)[:pairs], size)
        features = cached_extractor(extractor or OFFLINE_DEFAULT, judges or default_cache())
        known = read_pictures(Dataset.open(real), size)
    sheet = neighbour_sheet(generated=made, real=known, extractor=features, count=count)
    atomic_write_bytes(out, png_bytes(sheet))
    typer.echo(f"{len(made)} generated pairs: {out}")


def _suffix(out: Path, suffix: str) -> None:
    from skindualgen.contracts import InputError

    if out.suffix.lower() != suffix:
        raise InputError(f"--out {out}", f"a name that ends in {suffix}", "rename it")
    out.parent.mkdir(parents=True, exist_ok=True)


def _call(steps: int | None, guidance: float | None) -> dict[str, Any]:
    return {"num_inference_steps": steps, "guidance_scale": guidance}
