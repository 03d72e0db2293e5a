"""Our joint training step beside an image-only LoRA step of diffusers' own recipe: seconds and memory, in one run.

    python benchmarks/training.py [--base FOLDER|micro] [--size 256] [--rank 16] [--batch 1] [--repeats 5]

Same base, size, rank, LoRA layers, batch, threads, float32 and gradient checkpointing on both sides; the baseline is
in image_lora.py. Seconds: one process takes the three kinds of step in turns, and each joint step is divided by the
image-only step of its round. Memory: a process for each kind. Without --base it is Stable Diffusion 2.0's architecture
at full size with random weights, written to --work (5.2 GB). Writes docs/results/training_speed.md and .json.
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
    from training_tasks import Setup

HOUR_SECONDS = 3600
TARGETS = ("attention", "attention+ff")
"""LoRA layers to compare with: the example's, and our default"""
LIMITS = {"encoding": 1.05, "cached": 0.85, "resume": 0.02, "checkpoint": 1.1}
"""what is aimed at: joint over image-only step without and with caches; share of an hour; file over its tensors"""
Run = Callable[[str, "Setup"], tuple[dict[str, Any], Measured]]


@dataclass(frozen=True)
class Aim:
    """A number, the most that it should be, and whether it is."""

    name: str
    value: float
    limit: float

    @property
    def reached(self) -> bool:
        """Whether the number is no more than its limit."""
        return self.value <= self.limit


def run_task(task: str, setup: Setup) -> tuple[dict[str, Any], Measured]:
    """Run one measurement in a process of its own; its result is the last line that it prints."""
    measured = run_measured([sys.executable, __file__, "--task", task, "--setup", json.dumps(asdict(setup))])
    return json.loads(measured.output.splitlines()[-1]), measured


def measure(setup: Setup, targets: Sequence[str], run: Run = run_task) -> dict[str, Any]:
    """All measurements.

    Args:
        setup: shared by all, but for the layers with LoRA.
        targets: layers with LoRA to compare with, keys of ``LORA_TARGETS``.
        run: how a measurement is run.
    """
    from training_tasks import CACHED, ENCODING, IMAGE

    encoded, encoding = run("cache", setup)
    result: dict[str, Any] = {"encode_cache": {**encoded, "peak_gib": encoding.peak_gib}, "layers": {}}
    for name in targets:
        with_layers = replace(setup, targets=name)
        peaks, checkpoint = {}, {}
        for kind in (IMAGE, ENCODING, CACHED):
            left, measured = run(kind, with_layers)
            peaks[kind] = measured.peak_gib
            checkpoint |= left
        resumed, _ = run("resume", with_layers)
        timed, _ = run("time", with_layers)
        result["layers"][name] = {
            **timed,
            "ratios": {kind: ratios(timed["seconds"][kind], timed["seconds"][IMAGE]) for kind in (ENCODING, CACHED)},
            "peak_gib": peaks,
            "checkpoint": checkpoint,
            "resume": resumed,
        }
    return result


def ratios(joint: Sequence[float], image: Sequence[float]) -> dict[str, float]:
    """Joint over image-only step, pair by pair: median, least, most."""
    paired = [a / b for a, b in zip(joint, image, strict=True)]
    return {"median": statistics.median(paired), "min": min(paired), "max": max(paired)}


def aims(layers: dict[str, Any]) -> list[Aim]:
    """What one comparison says about the targets."""
    from training_tasks import CACHED, ENCODING

    resumed, checkpoint = layers["resume"], layers["checkpoint"]
    restart = sum(resumed[name] for name in ("start", "load_checkpoint", "open_cache"))
    return [
        Aim("joint / image-only step, without caches", layers["ratios"][ENCODING]["median"], LIMITS["encoding"]),
        Aim("joint / image-only step, with caches", layers["ratios"][CACHED]["median"], LIMITS["cached"]),
        Aim("restart of a stopped run, share of an hour", restart / HOUR_SECONDS, LIMITS["resume"]),
        Aim(
            "checkpoint / its tensors",
            checkpoint["checkpoint_bytes"] / checkpoint["tensor_bytes"],
            LIMITS["checkpoint"],
        ),
    ]


def report(result: dict[str, Any], setup: Setup) -> list[str]:
    """The tables as lines of Markdown."""
    side = "with" if setup.gradient_checkpointing else "without"
    lines = [
        f"{setup.size} px, batch {setup.batch}, rank {setup.rank}, float32, {side} gradient checkpointing, "
        f"threads {setup.threads}, seed {setup.seed}, {setup.repeats} rounds after one to warm up. Image only: VAE, "
        "text encoder, UNet with LoRA, MSE, AdamW, as diffusers' `examples/text_to_image/train_text_to_image_lora.py`; "
        "photographs are decoded and captions tokenised outside of its step. Joint: `Trainer.train_step` with the loss "
        "of `skindualgen train` and the moving average; *encoding in the step* makes latents, mask codes and text "
        "states anew each time, *from the cache* is what `skindualgen train` does, reading of the cache included. Peak "
        "memory is a process's resident set, libraries and memory-mapped weights included.",
        "",
    ]
    for name, layers in result["layers"].items():
        lines += [f"## LoRA on {name}", "", *_steps_table(layers), ""]
        rows = [
            [
                aim.name,
                f"{aim.value:.4f}" if aim.limit < 0.1 else f"{aim.value:.3f}",
                f"<= {aim.limit}",
                "yes" if aim.reached else "**no**",
            ]
            for aim in aims(layers)
        ]
        lines += [*table(["aim", "measured", "target", "reached"], rows), "", *_resume_lines(layers, setup), ""]
    cache = result["encode_cache"]
    lines.append(
        f"Filling the cache, once for all runs: {cache['seconds']:.1f} s for {setup.pairs} pairs of one view, peak "
        f"{cache['peak_gib']:.2f} GiB."
    )
    return lines


def _steps_table(layers: dict[str, Any]) -> list[str]:
    rows = []
    for kind, seconds in layers["seconds"].items():
        ratio = layers["ratios"].get(kind)
        spread = f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})" if ratio else "1"
        rows.append(
            [
                kind,
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                spread,
                f"{layers['peak_gib'][kind]:.2f}",
                f"{layers['trained'][kind]:,}",
            ]
        )
    head = [
        "step",
        "seconds, median (range)",
        "of image only, median of pairs (range)",
        "peak GiB",
        "trained parameters",
    ]
    return table(head, rows)


def _resume_lines(layers: dict[str, Any], setup: Setup) -> list[str]:
    resumed, checkpoint = layers["resume"], layers["checkpoint"]
    return [
        f"Restart: {resumed['start']:.1f} s to load and adapt the base, as any start; "
        f"{resumed['load_checkpoint']:.2f} s to check and load the checkpoint "
        f"({checkpoint['checkpoint_bytes'] / 1e6:.1f} MB), {resumed['open_cache']:.2f} s to check the cache of "
        f"{setup.pairs} pairs ({resumed['cache_bytes'] / 1e6:.1f} MB), files being in the system's cache. No batch is "
        "skipped over, as each is a function of its step."
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="as of skindualgen train; full-size random weights if not given")
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if not given")
    parser.add_argument("--size", type=int, default=256, help="side in px")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each kind")
    parser.add_argument("--pairs", type=int, default=8, help="phantoms to train on")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="layers with LoRA to compare with")
    parser.add_argument("--no-checkpointing", action="store_true", help="without gradient checkpointing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/training_speed.md"), help=".json goes beside it")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--setup", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    from training_tasks import TASKS, Setup

    if options.task:
        print(json.dumps(TASKS[options.task](Setup(**json.loads(options.setup)))))
        return
    of = machine()
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as work:
        folder = Path(work).resolve()
        if options.base is None:
            run_measured([sys.executable, str(Path(__file__).with_name("sd2_folder.py")), str(folder / "sd2")])
        setup = Setup(
            base=options.base or str(folder / "sd2"),
            work=str(folder),
            size=options.size,
            rank=options.rank,
            batch=options.batch,
            targets=options.targets[0],
            pairs=options.pairs,
            repeats=options.repeats,
            gradient_checkpointing=not options.no_checkpointing,
            threads=options.threads,
            seed=options.seed,
        )
        result = measure(setup, options.targets)
    base = "full-size Stable Diffusion 2.0 with random weights" if options.base is None else Path(options.base).name
    public = {**asdict(setup), "base": base, "targets": list(options.targets)}
    public.pop("work")
    record = run_record(machine=of, setup=public)
    command = " ".join(["python", *record["command"]])
    lines = [*heading("Speed and memory of training", command, of), f"Base: {base}.", ""]
    if base == "micro":
        lines += [
            "The targets are for Stable Diffusion: this autoencoder is one convolution, so caches save little.",
            "",
        ]
    lines += report(result, setup)
    atomic_write_text(options.out, "\n".join(lines) + "\n")
    atomic_write_json(options.out.with_suffix(".json"), {**record, **result})


if __name__ == "__main__":
    main()
