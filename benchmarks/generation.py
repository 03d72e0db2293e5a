"""What a pair costs beside an image alone, beside a dual-stream design, and beside its own sampling loop, in one run.

    python benchmarks/generation.py [--only full|micro] [--sd2 FOLDER] [--gate FOLDER] [--repeats 5] [--quick]

Same base, scheduler, steps, guidance, size, batch, threads and float32 on all sides. Two bases: Stable Diffusion 2.0's
architecture at full size with random weights (256 px, few steps, batch 2; 5.2 GB in --work), and micro with the bundled
adapter (128 px, 20 steps, batch 8). Seconds: one process draws in turns, and each pair is divided by the others of its
round. Memory: a process for each kind. Writes docs/results/generation.md and .json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measured import Measured, heading, machine, run_measured, table

from skindualgen.files import atomic_write_json, atomic_write_text, run_record

if TYPE_CHECKING:
    from generation_tasks import Setup

TIME_LIMIT, MEMORY_LIMIT, DUAL_LIMIT, PRODUCTION_LIMIT = 1.05, 1.05, 1.8, 1.15
"""what is aimed at: pair over image, in seconds and in memory; dual stream over pair; production over bare loop"""
FULL, MICRO = "Stable Diffusion 2.0, full size, random weights", "micro, bundled adapter"
NAMES = {FULL: "full", MICRO: "micro"}
Run = Callable[[str, "Setup"], tuple[dict[str, Any], Measured]]


@dataclass(frozen=True)
class Aim:
    """A ratio and its limit, the most that it should be, or with ``at_least`` the least."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the ratio keeps its limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def run_task(task: str, setup: Setup) -> tuple[dict[str, Any], Measured]:
    """Run one measurement in a process of its own; its result is the last line that it prints."""
    measured = run_measured([sys.executable, __file__, "--task", task, "--setup", json.dumps(asdict(setup))])
    return json.loads(measured.output.splitlines()[-1]), measured


def measure(setup: Setup, *, production: bool, run: Run = run_task) -> dict[str, Any]:
    """All measurements on one base.

    Args:
        setup: shared by all.
        production: whether to measure end-to-end production as well.
        run: how a measurement is run.
    """
    from generation_tasks import BARE, DECODED, DUAL, IMAGE, PAIR, PRODUCED

    peaks = {kind: run(kind, setup)[1].peak_gib for kind in (IMAGE, PAIR, DUAL)}
    seconds = run("time", setup)[0]["seconds"]
    result: dict[str, Any] = {
        "setup": asdict(setup),
        "seconds": seconds,
        "peak_gib": peaks,
        "pair_over_image": ratios(seconds[PAIR], seconds[IMAGE]),
        "dual_over_pair": ratios(seconds[DUAL], seconds[PAIR]),
        "profile": run("profile", setup)[0],
    }
    if production:
        # A thread draws and another one judges, encodes and writes: as `generate` runs by default.
        timed, measured = run("production", replace(setup, threads=1))
        parts = timed["seconds"]
        result["production"] = {
            **timed,
            "peak_gib": measured.peak_gib,
            "over_bare": ratios(parts[PRODUCED], parts[BARE]),
            "over_decoded": ratios(parts[PRODUCED], parts[DECODED]),
        }
    return result


def ratios(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """One kind's seconds over another's, round by round: median and quartiles."""
    paired = [a / b for a, b in zip(ours, other, strict=True)]
    lower, median, upper = statistics.quantiles(paired, n=4, method="inclusive") if len(paired) > 1 else paired * 3
    return {"median": median, "lower": lower, "upper": upper}


def aims(result: dict[str, Any]) -> list[Aim]:
    """What the measurements on one base say about the targets."""
    from generation_tasks import IMAGE, PAIR

    peaks = result["peak_gib"]
    found = [
        Aim("pair / image only, seconds", result["pair_over_image"]["median"], TIME_LIMIT),
        Aim("pair / image only, peak memory", peaks[PAIR] / peaks[IMAGE], MEMORY_LIMIT),
        Aim("dual stream / pair, seconds", result["dual_over_pair"]["median"], DUAL_LIMIT, at_least=True),
    ]
    if "production" in result:
        over_bare = result["production"]["over_bare"]["median"]
        found.append(Aim("production / bare sampling loop, seconds", over_bare, PRODUCTION_LIMIT))
    return found


def report(name: str, result: dict[str, Any]) -> list[str]:
    """The tables of one base as lines of Markdown."""
    from generation_tasks import DUAL, IMAGE, PAIR

    setup = result["setup"]
    lines = [
        f"## {name}",
        "",
        f"{setup['size']} px, {setup['steps']} steps, guidance {setup['guidance']:g}, batch {setup['batch']}, float32, "
        f"threads {setup['threads']}, seed {setup['seed']}, {setup['repeats']} rounds after one to warm up.",
        "",
    ]
    lines += table(
        ["drawn", "seconds a call, median (range)", "peak GiB"],
        [[kind, _spread(result["seconds"][kind]), f"{result['peak_gib'][kind]:.2f}"] for kind in (IMAGE, PAIR, DUAL)],
    )
    rows = [
        [
            aim.name,
            f"{aim.value:.3f}",
            f"{'>=' if aim.at_least else '<='} {aim.limit}",
            "yes" if aim.reached else "**no**",
        ]
        for aim in aims(result)
    ]
    lines += ["", *table(["aim", "measured, median", "target", "reached"], rows), ""]
    lines.append(
        f"Quartiles of the rounds: pair / image only {_quartiles(result['pair_over_image'])}; dual stream / pair "
        f"{_quartiles(result['dual_over_pair'])}."
    )
    if "production" in result:
        lines += ["", *_production_lines(result["production"], setup)]
    return [*lines, "", *_profile_lines(result["profile"]), ""]


def _production_lines(production: dict[str, Any], setup: dict[str, Any]) -> list[str]:
    gate = "with a calibrated gate" if setup["gate"] else "without a gate"
    kinds = production["seconds"]
    return [
        f"### Production of {production['pairs']} pairs, {gate}, one thread drawing and one behind it, "
        f"{setup['production_rounds']} rounds",
        "",
        *table(["done", "seconds, median (range)"], [[kind, _spread(seconds)] for kind, seconds in kinds.items()]),
        "",
        f"All three draw the same batches, {production['draws']} pairs, those in place of {production['refused']} "
        "refused ones included. The bare loop ends with latents; production decodes, judges, encodes PNG with record "
        "and XMP, writes, forces to disk, and writes the manifest. "
        f"Over the bare loop {_quartiles(production['over_bare'])}, over the loop with decoding "
        f"{_quartiles(production['over_decoded'])}; peak {production['peak_gib']:.2f} GiB.",
    ]


def _profile_lines(profile: dict[str, Any]) -> list[str]:
    total = profile["total"]
    parts = sorted(profile["parts"].items(), key=lambda part: -part[1])
    rows = [[name, f"{1000 * seconds:.2f}", f"{seconds / total:.1%}"] for name, seconds in parts]
    return [
        "### Where the time of a pair goes",
        "",
        *table(["part", "ms a pair", "share"], rows),
        "",
        f"{1000 * total:.1f} ms a pair, mean over {profile['pairs']}, one part after the other: in production the "
        "gate, encoding, writing and fsync of a batch overlap the drawing of the next.",
    ]


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _quartiles(of: dict[str, float]) -> str:
    return f"{of['median']:.3f} ({of['lower']:.3f} to {of['upper']:.3f})"


def setups(options: argparse.Namespace, work: Path) -> dict[str, Setup]:
    """What is measured, by the name of its base; with --quick micro alone, and hardly any of it."""
    from generation_tasks import Setup

    shared = {"threads": options.threads, "seed": options.seed, "repeats": options.repeats}
    micro = Setup("micro", "builtin", size=128, steps=20, guidance=3.0, batch=8, gate=options.gate, **shared)
    if options.quick:
        return {MICRO: replace(micro, steps=2, batch=2, repeats=2, batches=2)}
    full = Setup(
        str(options.sd2 or work / "sd2"),
        None,
        size=256,
        steps=options.full_steps,
        guidance=3.0,
        batch=options.full_batch,
        **shared,
    )
    both = {FULL: full, MICRO: micro}
    return {name: setup for name, setup in both.items() if options.only in (None, NAMES[name])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd2", type=Path, help="diffusers folder in place of random weights")
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if not given")
    parser.add_argument("--gate", help="folder of a calibrated gate; production is measured without one if not given")
    parser.add_argument("--full-steps", type=int, default=4, help="denoising steps at full size")
    parser.add_argument("--full-batch", type=int, default=2, help="pairs in a call at full size")
    parser.add_argument("--only", choices=list(NAMES.values()), help="one of the two bases")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="micro only, 2 steps: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("docs/results/generation.md"), help=".json goes beside it")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--setup", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.task:
        from generation_tasks import TASKS, Setup

        print(json.dumps(TASKS[options.task](Setup(**json.loads(options.setup)))))
        return
    of = machine()
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as work:
        folder = Path(work).resolve()
        if not options.quick and options.sd2 is None and options.only != NAMES[MICRO]:
            run_measured([sys.executable, str(Path(__file__).with_name("sd2_folder.py")), str(folder / "sd2")])
        results = {name: measure(setup, production=name == MICRO) for name, setup in setups(options, folder).items()}
    for result in results.values():  # names of files, no paths of this machine
        result["setup"] |= {
            key: Path(result["setup"][key]).name for key in ("base", "gate") if result["setup"][key] is not None
        }
    record = run_record(machine=of)
    command = " ".join(["python", *record["command"]])
    lines = [*heading("Speed and memory of generation", command, of), *_intro()]
    for name, result in results.items():
        lines += report(name, result)
    atomic_write_text(options.out, "\n".join(lines).rstrip() + "\n")
    atomic_write_json(options.out.with_suffix(".json"), {**record, "bases": results})


def _intro() -> list[str]:
    return [
        "*Image only*: diffusers' `StableDiffusionPipeline` on the same base. *Pair*: `SkinDualGenPipeline`. *Dual "
        "stream*: photograph and mask picture as two rows of one batch of the stock UNet, the mask decoded by the "
        "image autoencoder, without the attention that would couple them. Peak memory is a process's resident set, "
        "libraries and memory-mapped weights included.",
        "",
    ]


if __name__ == "__main__":
    main()
