"""How many steps of which solver the bundled adapter needs: docs/results/micro_steps.md, a row for each. One command:

    python studies/micro_steps.py --adapter runs/scheduled --real ../shared/data --cache ../judges --work ../micro_steps

``skindualgen schedule --adapter builtin --steps 4,6,8,10,20 --out runs/scheduled`` finds the timesteps of the rows
"found"; solvers of diffusers that take no timesteps of others have their own spacing alone. Every row is the same
captions of val photographs with the same seeds, one candidate each. Resumable: rows whose result lies in --work are not
made again.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from micro_judges import real_records
from micro_quality import photographs, wanted_records
from micro_sampling import Judged
from rich.console import Console
from study_text import table

from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import atomic_write_json, atomic_write_text, run_record
from skindualgen.planning.requests import requests_like
from skindualgen.production.generate import generate_pairs
from skindualgen.sample.pipeline import SkinDualGenPipeline

STEPS = (4, 6, 8, 10, 20, 50)
SOLVERS: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "DPM-Solver++ 2": (DPMSolverMultistepScheduler, {}),
    "DPM-Solver++ 3": (DPMSolverMultistepScheduler, {"solver_order": 3}),
    "UniPC 2": (UniPCMultistepScheduler, {}),
    "DEIS 2": (DEISMultistepScheduler, {}),
    "DDIM": (DDIMScheduler, {}),
}
COLUMNS = {
    "kid": "kernel distance",
    "frechet": "Frechet distance",
    "recall": "recall",
    "coverage": "coverage",
    "prompted": "prompted diagnosis",
    "dice_gap": "Dice short of real",
    "cpu_seconds": "CPU s a pair",
}

console = Console(stderr=True)


class Row(NamedTuple):
    """What a row draws by."""

    solver: str
    spacing: str
    steps: int


def rows_of(found: dict[str, list[int]] | None) -> Iterator[Row]:
    """Every solver in its own spacing, and in the timesteps found for so many steps where it takes them."""
    for solver, (kind, _) in SOLVERS.items():
        for steps in STEPS:
            yield Row(solver, "usual", steps)
            if kind is DPMSolverMultistepScheduler and str(steps) in (found or {}):
                yield Row(solver, "found", steps)


def draw(pipe: SkinDualGenPipeline, found: dict[str, list[int]] | None, row: Row, captions: Path, out: Path) -> float:
    """Generate the pairs of a row; returns the CPU seconds a pair, decoding included, start-up not."""
    kind, settings = SOLVERS[row.solver]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **{"solver_order": 2, **settings})
    pipe.register_to_config(schedules=found if row.spacing == "found" else None)
    requests = requests_like(captions, len(read_metadata(captions)), 0)
    start = time.process_time()
    generate_pairs(pipe, requests, out, num_inference_steps=row.steps, best_of=1)
    return (time.process_time() - start) / len(requests)


def markdown(results: dict[Row, dict[str, Any]], run: dict[str, Any]) -> str:
    """Return the text of micro_steps.md."""
    rows = [
        [row.solver, row.spacing, str(row.steps)]
        + [f"{found[key]:.4f}" if key == "kid" else f"{found[key]:.2f}" for key in COLUMNS]
        for row, found in results.items()
    ]
    pairs = next(iter(results.values()))["pairs"]
    return "\n".join(
        [
            "# Micro model: steps, solvers and schedules",
            "",
            *table(["solver, order", "timesteps", "steps", *COLUMNS.values()], rows),
            "",
            f"{pairs} pairs a row for the captions of val photographs, the same seeds in all, the adapter's guidance, "
            "one candidate each. Found timesteps: `skindualgen schedule`. Distances, recall and coverage are against "
            "the val photographs, on the part with their class proportions; prompted diagnosis: balanced accuracy of "
            "the classifier that also chooses among candidates; Dice short of real: with an independent segmenter, "
            "against what it reaches on real pairs.",
            "",
            "    " + shlex.join(["python", *run["command"]]),
            "",
            f"{run['date_utc']}, {run['platform']} with {run['cores']} cores. "
            "All numbers: [micro_steps.json](micro_steps.json).",
            "",
        ]
    )


def main(
    adapter: Annotated[str, typer.Option(help="builtin, or a folder; its found timesteps have rows of their own")],
    real: Annotated[Path, typer.Option(help="folder of the real data folders", envvar="SKINDUALGEN_REAL_DATA")],
    cache: Annotated[Path, typer.Option(help="folder that keeps the judges and features, outside the repository")],
    work: Annotated[Path, typer.Option(help="folder for the pairs and their results, outside the repository")],
    out: Annotated[Path, typer.Option(help="where micro_steps.md and .json go")] = Path("docs/results"),
) -> None:
    """Generate, measure and write docs/results/micro_steps.md."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    captions = work / "captions"
    captions.mkdir(parents=True, exist_ok=True)
    write_dataset(captions, wanted_records(real_records(real, "val"), 1, 1), made_by={"study": "micro_steps"})
    judged = Judged(real, cache)
    pipe = SkinDualGenPipeline.from_adapter(adapter)
    pipe.set_progress_bar_config(disable=True)
    found = pipe.config.schedules
    results: dict[Row, dict[str, Any]] = {}
    for row in rows_of(found):
        slug = "_".join([row.solver.replace(" ", "_").replace("+", "p"), row.spacing, str(row.steps)])
        file, folder = work / f"{slug}.json", work / slug
        if not file.is_file():
            seconds = draw(pipe, found, row, captions, folder)
            measured = judged(photographs(folder, read_metadata(folder)))
            atomic_write_json(file, measured | {"cpu_seconds": seconds})
        results[row] = json.loads(file.read_text())
        console.print(*row, {key: round(results[row][key], 3) for key in COLUMNS})
    run = run_record(seed=0, cores=os.cpu_count())
    atomic_write_json(out / "micro_steps.json", {"rows": [[*row, each] for row, each in results.items()], "run": run})
    atomic_write_text(out / "micro_steps.md", markdown(results, run))


if __name__ == "__main__":
    typer.run(main)
