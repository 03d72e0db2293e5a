"""Time pairs of the bundled adapters side by side in one process: four passes, the default, and 20 guided steps.

    python benchmarks/few_calls.py

Rounds alternate between the ways, so that another load on the machine meets all of them; writes
docs/results/few_calls.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from measured import heading, machine, table

from skindualgen.files import atomic_write_text
from skindualgen.sample.pipeline import SkinDualGenPipeline

PROMPT = "a dermoscopic image of a nevus"


def main(
    out: Annotated[Path, typer.Option(help="Where few_calls.md goes.")] = Path("docs/results"),
    rounds: Annotated[int, typer.Option(min=1, help="Of every way.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a round.")] = 8,
) -> None:
    """Time and write."""
    torch.set_num_threads(1)
    of = machine()
    fast, slow = (SkinDualGenPipeline.from_adapter(name) for name in ("builtin-fast", "builtin"))
    for pipe in (fast, slow):
        pipe.set_progress_bar_config(disable=True)
    usual = slow.config.default_steps
    ways = [
        (f"builtin-fast, {fast.config.default_steps} passes", fast, None),
        (f"builtin, {usual} guided steps, {2 * usual} passes", slow, None),
        ("builtin, 20 guided steps, 40 passes", slow, 20),
    ]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    for turn in range(rounds + 1):  # the first is for warming up
        for name, pipe, steps in ways:
            noise = [torch.Generator().manual_seed(batch * turn + place) for place in range(batch)]
            start = time.process_time()
            pipe([PROMPT] * batch, generator=noise, num_inference_steps=steps)
            seconds[name] += [(time.process_time() - start) / batch] if turn else []
    longest = seconds[ways[-1][0]]
    rows = []
    for name, taken in seconds.items():
        ratios = sorted(whole / own for whole, own in zip(longest, taken, strict=True))
        rows.append([name, f"{median(taken):.2f}", f"{median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"])
    command = f"python benchmarks/few_calls.py --rounds {rounds} --batch {batch}"
    lines = table(["way", "CPU seconds a pair", "times as fast as 20 guided steps"], rows)
    told = (
        f"Batches of {batch}, one thread, decoding included, start-up not; median of {rounds} rounds, the range of "
        "ratios within rounds."
    )
    atomic_write_text(
        out / "few_calls.md", "\n".join([*heading("Four passes: time", command, of), told, "", *lines, ""])
    )
    for row in rows:
        print(*row)


if __name__ == "__main__":
    typer.run(main)
