"""A GPU's minutes in one script: what a pair, a step, a night cost there. No network, nothing to carry but the package.

    python benchmarks/gpu.py [--minutes 8] [--sections generation training] [--out docs/results/gpu.md]
    python benchmarks/gpu.py --device cpu --tiny --out /tmp/gpu.md     # small models: shows that everything runs

Sections: pairs beside plain images and LoRA steps beside an image-only recipe, both with the architecture of Stable
Diffusion 2.0 at 512 px and random weights, as neither speed nor memory depends on these; the bundled model; whether a
resumed run ends in the very bytes of a whole one; the tests that need CUDA. Each section is a process that ends when
its share of the minutes is over; what it has measured by then is kept and written after every section.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measured import heading, machine, table

from skindualgen.files import atomic_write_json, atomic_write_text, run_record

if TYPE_CHECKING:
    from gpu_tasks import Setup

SHARES = {"generation": 0.3, "training": 0.35, "bundled": 0.2, "resuming": 0.1, "tests": 0.05}
"""of the minutes; what a section leaves over is the next ones'"""
NIGHT_HOURS = 8
CUDA_TESTS = ["tests/test_pipeline.py", "-k", "moves_between_devices", "-n", "0", "-q", "--no-header", "-rs"]
TITLES = {
    "generation": "Generating: a pair beside a plain image",
    "training": "Training: a joint LoRA step beside an image-only one",
    "bundled": "The bundled model",
    "resuming": "Resuming",
    "tests": "Tests that need CUDA",
}


def run_section(name: str, setup: Setup, seconds: float) -> list[dict[str, Any]]:
    """Run a section in a process of its own, for as many seconds at most; the rows that it has finished by then."""
    if name == "tests":
        return _run_tests(seconds)
    rows_file = Path(setup.work) / f"{name}.jsonl"
    rows_file.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--section", name, "--setup", json.dumps(asdict(setup))]
    ended = ""
    try:
        done = subprocess.run(command, timeout=seconds, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            ended = (done.stderr.strip().splitlines() or ["no message"])[-1]
    except subprocess.TimeoutExpired:
        ended = f"its {seconds:.0f} s were over"
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.is_file() else []
    return [*rows, {"kind": "ended early", "failed": ended}] if ended else rows


def write_rows(name: str, setup: Setup) -> None:
    """What the process of a section does: a line of JSON for each row, once it is measured."""
    from gpu_tasks import SECTIONS

    with (Path(setup.work) / f"{name}.jsonl").open("a") as file:
        for row in SECTIONS[name](setup):
            file.write(json.dumps(row) + "\n")
            file.flush()


def measure(
    setup: Setup, sections: Sequence[str], minutes: float, out: Path, of: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Run the sections and write what they measure after each."""
    end = time.monotonic() + minutes * 60
    results: dict[str, list[dict[str, Any]]] = {}
    for place, name in enumerate(sections):
        share = SHARES[name] / sum(SHARES[rest] for rest in sections[place:])
        results[name] = run_section(name, setup, max(1.0, (end - time.monotonic()) * share))
        write_report(results, setup, out, of)
    return results


def write_report(results: dict[str, list[dict[str, Any]]], setup: Setup, out: Path, of: dict[str, Any]) -> None:
    """Write the page and, beside it, all numbers."""
    public = {name: value for name, value in asdict(setup).items() if name != "work"}
    record = run_record(machine=of, setup=public)
    command = " ".join(["python", *record["command"]])
    lines = heading("What a GPU does", command, of)
    size = "tiny models" if setup.tiny else "Stable Diffusion 2.0's architecture at full size, random weights"
    lines += [f"Device: {of['device']}. {size}, {setup.size} px, {setup.precision}.", ""]
    for name, rows in results.items():
        lines += [f"## {TITLES[name]}", "", *_rows_table(rows), ""]
    lines += ["## A night", "", *night(results), ""]
    atomic_write_text(out, "\n".join(lines))
    atomic_write_json(out.with_suffix(".json"), {**record, "sections": results})


def night(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the best of the measured speeds give in a night; nothing is said of what was not measured."""
    rows = []
    for name, kind, what in (
        ("training", "joint", "pairs learnt from, large model"),
        ("generation", "pair", "pairs generated, large model"),
        ("bundled", "pairs end to end, start-up included", "pairs generated, bundled model"),
    ):
        of_kind = [row for row in results.get(name, []) if row.get("kind") == kind and "per_second" in row]
        for passes in sorted({row.get("passes") for row in of_kind}, key=str):
            best = max(row["per_second"] for row in of_kind if row.get("passes") == passes)
            text = what if passes is None else f"{what}, {passes} passes"
            rows.append([text, f"{best:.2f}", f"{best * NIGHT_HOURS * 3600:,.0f}"])
    return table(["what", "a second", f"in {NIGHT_HOURS} hours"], rows) if rows else ["Nothing was measured."]


def _rows_table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return table(columns, [[_shown(row.get(name, "")) for name in columns] for row in rows])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run_tests(seconds: float) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pytest", *CUDA_TESTS]
    try:
        done = subprocess.run(
            command, timeout=seconds, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
    except subprocess.TimeoutExpired:
        return [{"kind": "tests", "failed": f"their {seconds:.0f} s were over"}]
    return [{"kind": "tests", "said": (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]}]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models, few repeats")
    parser.add_argument("--minutes", type=float, default=8, help="for all sections together")
    parser.add_argument("--sections", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    parser.add_argument("--pairs", type=int, help="generated by the bundled model; 10,000, or 2 with --tiny")
    parser.add_argument("--work", type=Path, help="folder for what is written on the way; a temporary one if not given")
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu.md"), help=".json goes beside it")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--setup", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    import torch
    from gpu_tasks import Setup

    if options.section:
        write_rows(options.section, Setup(**json.loads(options.setup)))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --tiny shows that everything runs")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        pairs = options.pairs or (2 if options.tiny else 10_000)
        setup = Setup(options.device, options.tiny, str(work.resolve()), pairs)
        measure(setup, options.sections, options.minutes, options.out, machine() | {"device": name})


if __name__ == "__main__":
    main()
