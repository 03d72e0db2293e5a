"""Time and peak memory of the commands that go through whole data sets, and how both grow with the number of pairs.

    python benchmarks/scaling.py [--sizes 1000,10000,50000] [--only prepare,verify] [--out docs/results/scaling.md]

Pairs are 64 x 64 px: what is measured is what a pair costs besides its pixels. Each run is a process of its own, as a
user starts it, with start-up. The exponent k of seconds ~ n^k is between the two largest sizes, after the seconds of
the smallest data set (start-up and what does not grow) are taken away; n log n has 1.1 there. A command that has taken
longer than --limit seconds is not run at larger sizes, and the table says so.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measured import heading, machine, run_measured, table
from PIL import Image

SIDE_PX = 64
LEAST = 100
"""pairs of the data set that stands for start-up"""
GROUPS = 2
"""photographs of a lesion"""
STEEPEST = 1.2
"""exponent up to which seconds count as growing no faster than n log n"""


@dataclass(frozen=True)
class Sets:
    """Folders that commands are given, of one size."""

    source: Path
    real: Path
    made: Path
    work: Path


Command = Callable[[Sets], list[str]]
COMMANDS: dict[str, Command] = {
    "prepare": lambda at: ["prepare", str(at.source), str(at.work / "prepared"), "--size", str(SIDE_PX)],
    "prepare --audit": lambda at: ["prepare", str(at.real), "--audit"],
    "check": lambda at: ["check", str(at.real), "--no-hours"],
    "verify": lambda at: ["verify", str(at.real)],
    "export-data, WebDataset": lambda at: _export(at, "webdataset"),
    "export-data, Parquet": lambda at: _export(at, "parquet"),
    "export-data, COCO": lambda at: _export(at, "coco"),
    "merge": lambda at: ["merge", str(at.real), str(at.made), "--out", str(at.work / "merged")],
    "evaluate": lambda at: [
        *("evaluate", "--real", str(at.real), "--generated", str(at.made), "--out", str(at.work / "report")),
        *("--judges", str(at.work / "judges"), "--only", "fidelity", "--only", "memorisation"),
    ],
    "benchmark": lambda at: [
        *("benchmark", "--real", str(at.real), "--generated", str(at.made), "--out", str(at.work / "benchmark")),
        *("--task", "segment", "--size", "32", "--seeds", "1", "--steps", "1", "--arms", "augment,hybrid-1"),
        *("--ratios", "1"),
    ],
}


def _export(at: Sets, name: str) -> list[str]:
    return ["export-data", str(at.real), str(at.work / name), "--format", name]


def write_pairs(root: Path, count: int, *, first: int = 0) -> None:
    """Write pairs of a spot on noise, each of its own, and their table; 50,000 phantoms take 20 minutes."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    lines = ["image_id,diagnosis,lesion_id,age,sex"]
    for index in range(first, first + count):
        generator = np.random.default_rng(index)
        centre, radius = generator.uniform(24, 40, 2), generator.uniform(8, 20)
        lesion = np.hypot(x - centre[0], y - centre[1]) < radius
        skin = generator.integers(170, 220, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        name = f"l{index:06d}.png"
        Image.fromarray(np.where(lesion[..., None], skin // 2, skin)).save(root / "images" / name, compress_level=1)
        Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0))).save(root / "masks" / name, compress_level=1)
        diagnosis = "melanoma" if index // GROUPS % 5 == 0 else "nevus"
        lines.append(f"l{index:06d},{diagnosis},L{index // GROUPS},{index % 90},female")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_sets(folder: Path, count: int) -> Sets:
    """``count`` pairs as they came and prepared, and as many other ones, prepared, in place of generated pairs."""
    at = Sets(*(folder / name for name in ("source", "real", "made", "work")))
    write_pairs(at.source, count)
    write_pairs(folder / "more", count, first=count)
    for source, out, more in ((at.source, at.real, []), (folder / "more", at.made, ["--split", "100/0/0"])):
        line = [*skindualgen(), "prepare", str(source), str(out), "--size", str(SIDE_PX), *more]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    at.work.mkdir()
    return at


def skindualgen() -> list[str]:
    """Start of a command line."""
    return [sys.executable, "-m", "skindualgen"]


def exponent(sizes: Sequence[int], seconds: Sequence[float], start: float) -> float | None:
    """Exponent of growth between the two largest sizes; None where that cannot be told from start-up."""
    if len(seconds) < 2:
        return None
    low, high = (value - start for value in seconds[-2:])
    if low < 0.1 * start:
        return None
    return math.log(high / low) / math.log(sizes[len(seconds) - 1] / sizes[len(seconds) - 2])


def measure(
    sizes: Sequence[int], names: Sequence[str], limit: float, folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """Seconds and peak MiB of each command, at `LEAST` pairs first."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for count in (LEAST, *sizes):
        wanted = [name for name in names if not found[name] or found[name][-1][0] <= limit]
        if not wanted:
            break
        at = write_sets(folder / str(count), count)
        for name in wanted:
            done = run_measured([*skindualgen(), *COMMANDS[name](at)])
            found[name].append((done.seconds, done.peak_gib * 1024))
            print(f"{name}, {count:,} pairs: {done.seconds:.1f} s, {done.peak_gib * 1024:.0f} MiB", flush=True)
    return found


def report(sizes: Sequence[int], found: dict[str, list[tuple[float, float]]], line: str, limit: float) -> str:
    """The page."""
    head = ["command", f"{LEAST} pairs", *(f"{count:,}" for count in sizes), "exponent", "MiB, first and last size"]
    rows = []
    for name, runs in found.items():
        (start, _), *rest = runs
        times = [f"{seconds:.1f} s" for seconds, _ in rest]
        times += [f"not run: over {limit:g} s before"] * (len(sizes) - len(times))
        grows = exponent(sizes, [seconds for seconds, _ in rest], start)
        shown = "start-up is most of it" if grows is None else f"{grows:.2f}" + (" (!)" if grows > STEEPEST else "")
        memory = f"{rest[0][1]:.0f}, {rest[-1][1]:.0f}" if rest else "-"
        rows.append([name, f"{start:.1f} s", *times, shown, memory])
    text = [
        *heading("How commands scale", line, machine()),
        f"Pairs of {SIDE_PX} x {SIDE_PX} px, two photographs a lesion; wall seconds with start-up, peak resident",
        "memory of the process. Exponent: of seconds between the two largest sizes, less those of the smallest data",
        "set; n log n has 1.1.",
        "`evaluate` measures fidelity and copies; `benchmark` trains for one step: what grows is no training.",
        "",
        *table(head, rows),
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,50000")
    parser.add_argument("--only", help=f"commands, with commas: {', '.join(COMMANDS)}")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds above which a command is not run at more pairs"
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    sizes = sorted(int(count) for count in arguments.sizes.split(","))
    names = arguments.only.split(",") if arguments.only else list(COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(sizes, names, arguments.limit, Path(folder))
    line = f"python benchmarks/scaling.py --sizes {arguments.sizes}" + (
        f" --only {arguments.only}" if arguments.only else ""
    )
    text = report(sizes, found, line, arguments.limit)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
