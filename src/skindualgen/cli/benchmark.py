"""``skindualgen benchmark``: do generated pairs help networks that are tested on real ones?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from skindualgen.benchmarking.execution import Done


def benchmark(
    real: Annotated[Path, typer.Option(help="Data set folder of real pairs: trained on its split train.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; run again to resume or extend.")],
    generated: Annotated[
        Path | None, typer.Option(help="Data set folder of generated pairs, of any generator.")
    ] = None,
    task: Annotated[Literal["segment", "classify", "both"], typer.Option(help="What to train for.")] = "both",
    test_split: Annotated[
        Literal["test", "val"] | None,
        typer.Option(help="Real split to test on.  (default: test where there is one, else val)"),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side in px to which all pictures are reduced.")] = 128,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm.")] = 5,
    repeats: Annotated[
        int, typer.Option(min=1, help="Trainings of each arm on each seed's part of the real pairs.")
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps, the same in all arms.")] = 300,
    level_off: Annotated[
        bool,
        typer.Option(
            "--level-off",
            help="Double the steps for each amount of real pairs while that gains the arm augment something on val.",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=2, help="Photographs a step.")] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak rate.  (default: 1e-3 to segment, 3e-4 to classify)")
    ] = None,
    ratios: Annotated[
        str, typer.Option(help="Generated pairs for each real one, of the hybrid arms.")
    ] = "0.25,0.5,1,2,5",
    replace: Annotated[
        str | None,
        typer.Option(help="Chances of arms in which a generated pair takes a real one's place, e.g. 0.1,0.5,1."),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="Arms to run, with commas; also augment-tuned, self-train, mixup, cutmix and NAME-norms.  "
            "(default: all others that can be built)"
        ),
    ] = None,
    class_allocation: Annotated[
        Literal["match", "balance", "even"] | None,
        typer.Option(
            help="Diagnoses of the generated pairs: match the real ones, balance them, the rare ones first, or even: "
            "classes drawn alike, with the same share of generated pairs in each.  "
            "(default: match to segment, balance to classify)"
        ),
    ] = None,
    fill: Annotated[Literal["match", "balance", "even"] | None, typer.Option(hidden=True)] = None,
    real_count: Annotated[str | None, typer.Option(help="Train on so many real pairs only, e.g. 25,50,100.")] = None,
    real_fraction: Annotated[
        str | None, typer.Option(help="The same as shares of the train split, e.g. 0.1,1.")
    ] = None,
    real_per_class: Annotated[
        str | None, typer.Option(help="Train on so many real pairs of each diagnosis, e.g. 20,50.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="A name of timm: classifier, or encoder of a U-Net.")
    ] = "tf_efficientnet_lite0",
    weights: Annotated[Literal["imagenet", "random"], typer.Option(help="What training starts from.")] = "imagenet",
    pair_weights: Annotated[bool, typer.Option(help="Draw pairs by the weight of their records.")] = True,
    ignored_pixels: Annotated[bool, typer.Option(help="Leave ignored pixels out of what is learnt.")] = True,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="auto is bf16 where the hardware computes in it.")
    ] = "auto",
    devices: Annotated[
        str | None, typer.Option(help="Where to train, e.g. cuda:0,cuda:1.  (default: the first accelerator, else cpu)")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trainings at a time.  (default: one a device)")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads a training.  (default: cores / jobs)")] = None,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Go on although the test part leaks; the report says so.")
    ] = False,
) -> None:
    """Train the same network on real, augmented, repeated, generated and mixed pairs; test it on real ones.

    Every arm has the same optimiser steps. Writes OUT/benchmark.html, benchmark.md, benchmark.json and trials/. Each
    training is kept by its content: the same command goes on where it was stopped, and a larger one uses what is there.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading the libraries ..."):
        from skindualgen.benchmarking.options import BenchmarkOptions
        from skindualgen.benchmarking.run import run_benchmark
        from skindualgen.judges.networks import Network
        from skindualgen.report.benchmark import write_benchmark_report

    if fill is not None:
        console.print("Warning: --fill is called --class-allocation; the earlier name works until 0.3.")
    options = BenchmarkOptions(
        tasks=("segment", "classify") if task == "both" else (task,),
        real=real,
        generated=generated,
        test_split=test_split,
        size_px=size,
        network=Network(network, weights),
        ratios=_listed("--ratios", ratios, float),
        replacements=_listed("--replace", replace, float),
        arms=_listed("--arms", arms, str) or None,
        class_allocation=class_allocation or fill,
        seeds=seeds,
        repeats=repeats,
        real_counts=_listed("--real-count", real_count, int),
        real_fractions=_listed("--real-fraction", real_fraction, float),
        real_per_class=_listed("--real-per-class", real_per_class, int),
        steps=steps,
        level_off=level_off,
        batch_size=batch_size,
        learning_rate=learning_rate,
        pair_weights=pair_weights,
        ignored_pixels=ignored_pixels,
        precision=precision,
        devices=_listed("--devices", devices, str),
        jobs=jobs,
        threads=threads,
        i_know=i_know,
    )
    with _progress(console) as shown:
        result = run_benchmark(options, out, say=lambda line: console.print(line, highlight=False), progress=shown)
    page = write_benchmark_report(result, out)
    for of_task in result.tasks:
        for regime in of_task.regimes:
            typer.echo(f"\n{of_task.task}, {regime.real_pairs} real pairs")
            for verdict in regime.verdicts:
                typer.echo(f"  {verdict.text}")
    typer.echo(f"\nReport: {page}")


def _listed(option: str, text: str | None, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Read a comma-separated option."""
    from skindualgen.contracts import InputError

    try:
        return tuple(kind(part.strip()) for part in (text or "").split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"{option} {text}", "numbers with commas between them", "fix the option") from error


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Done], None]]:
    """Yield a function that shows what has ended and the time left: a bar, or lines where there is no terminal."""
    from datetime import timedelta

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(done: Done) -> None:
            left = timedelta(seconds=round(done.seconds_left))
            bar.update(task, completed=done.done, total=done.total, description=f"about {left} left")
            if not console.is_terminal:
                notes = ", ".join(f"{name} {value}" for name, value in done.trial.notes.items())
                line = f"[{done.done}/{done.total}] {notes}: {done.seconds:.0f} s; about {left} left"
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield show
