"""Stable Diffusion 2.0 at full size on this machine: the ordinary commands, their time and peak memory. One command:

    python studies/full_size_sd2.py [--work DIR]

It writes the full-size architecture with random weights as a diffusers folder, prepares phantoms, then runs `train` (2
steps), `generate` (one pair), `export`, and loads what was exported, each in a process of its own. With real weights:
--base FOLDER. With --work it can be interrupted: what is measured is not measured again by the same command. It writes
full_size_sd2.md and .json to docs/results. Takes 11 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from measured import heading, machine, run_measured, table

from skindualgen.data.phantom import write_phantom_folder
from skindualgen.files import atomic_write_json, atomic_write_text, run_record

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_GIB = 20.0
PHANTOMS = 8
TRAIN_STEPS, DRAW_STEPS = 2, 2
DRY_RUN, TRAIN = "train --dry-run", f"train, {TRAIN_STEPS} steps"
DRAW_MERGED = "load the merged folder, draw the pair"
DRAW_LORA = "load the LoRA in StableDiffusionPipeline, draw"
PROMPT = "a dermoscopic image of a melanoma"
MEASURED_FILE = "measured.json"
ESTIMATE = re.compile(r"memory, estimated: ([\d.]+) GiB")
CLI = (sys.executable, "-m", "skindualgen")


@dataclass(frozen=True)
class Stage:
    """A command to measure.

    Args:
        name: of the row.
        command: with absolute paths.
        leaves: folder that it writes in --work, removed before it is begun.
    """

    name: str
    command: tuple[str, ...] = field(repr=False)
    leaves: str | None = None


def stages(work: Path, base: Path | None, size: int, rank: int, seed: int) -> list[Stage]:
    """The commands, in their order; without ``base`` the first one writes it."""
    w = {name: str(work / name) for name in ("sd2", "phantoms", "data", "run", "pair", "merged", "lora")}
    of_base = str(base) if base else w["sd2"]
    train = (
        *CLI,
        "train",
        "--base",
        of_base,
        "--data",
        w["data"],
        "--out",
        w["run"],
        "--resolution",
        str(size),
        "--max-train-steps",
        str(TRAIN_STEPS),
        "--train-batch-size",
        "1",
        "--rank",
        str(rank),
        "--mixed-precision",
        "fp32",
        "--seed",
        str(seed),
        "--set",
        f"lora.alpha={rank}",
        *"--set gradient_checkpointing=true --set views=1 --set lr_warmup_steps=1".split(),
        "--set",
        f"sampling.default_steps={DRAW_STEPS}",
        "--set",
        "sampling.default_guidance=1",
    )
    draw = (
        *CLI,
        "generate",
        "--adapter",
        w["run"],
        "--out",
        w["pair"],
        "--prompt",
        PROMPT,
        "-n",
        "1",
        "--steps",
        str(DRAW_STEPS),
        "--size",
        str(size),
        "--seed",
        str(seed),
    )
    export = (*CLI, "export", "--adapter", w["run"], "--format")
    checks = ("--work", str(work), "--base", of_base, "--size", str(size), "--seed", str(seed))
    again = (sys.executable, str(Path(__file__).resolve()), *checks, "--check")
    build = (sys.executable, str(REPOSITORY / "benchmarks" / "sd2_folder.py"), w["sd2"], "--seed", str(seed))
    return [
        *([] if base else [Stage("build the base", build, "sd2")]),
        Stage(
            "prepare phantoms",
            (*CLI, "prepare", w["phantoms"], w["data"], "--size", str(size), "--split", "75/25/0"),
            "data",
        ),
        Stage(DRY_RUN, (*train, "--dry-run")),
        Stage(TRAIN, train, "run"),
        Stage(f"generate one pair, {DRAW_STEPS} steps", draw, "pair"),
        Stage("export --format merged", (*export, "merged", "--out", w["merged"]), "merged"),
        Stage(DRAW_MERGED, (*again, "merged"), "pair-again"),
        Stage("export --format diffusers-lora", (*export, "diffusers-lora", "--out", w["lora"]), "lora"),
        Stage(DRAW_LORA, (*again, "lora")),
    ]


def measure(work: Path, todo: Sequence[Stage], seed: int, size: int) -> list[dict[str, Any]]:
    """Run the stages that are not in ``work/measured.json`` yet; one row for each."""
    path = work / MEASURED_FILE
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    if not (work / "phantoms").is_dir():
        write_phantom_folder(work / "phantoms", PHANTOMS, seed=seed, size=size)
    rows = []
    for stage in todo:
        known = [row for row in done if row["command"] == list(stage.command)]
        if not known:
            if stage.leaves and stage.leaves != "sd2":  # a base is whole or absent, and takes a minute
                shutil.rmtree(work / stage.leaves, ignore_errors=True)
            print(f"{stage.name} ...", file=sys.stderr)
            measured = run_measured(stage.command)
            known = [
                {
                    "name": stage.name,
                    "command": list(stage.command),
                    "seconds": measured.seconds,
                    "peak_gib": measured.peak_gib,
                    "output": measured.output,
                }
            ]
            done += known
            atomic_write_json(path, done)
        rows += known
    return rows


def check_merged(work: Path, size: int, seed: int) -> dict[str, int]:
    """Draw the pair again from the merged folder and count what differs from the one of ``generate``."""
    import numpy as np
    from PIL import Image

    from skindualgen.planning.requests import requests_from_prompts
    from skindualgen.production.generate import generate_pairs
    from skindualgen.sample.pipeline import SkinDualGenPipeline

    pipeline = SkinDualGenPipeline.from_pretrained(work / "merged")
    pipeline.set_progress_bar_config(disable=True)
    requests = requests_from_prompts([(PROMPT, {})], 1, seed)
    (record,) = generate_pairs(pipeline, requests, work / "pair-again", num_inference_steps=DRAW_STEPS, size=size)
    different = {}
    for name in (record.file_name, record.mask_file_name):
        first, again = (np.asarray(Image.open(work / folder / name)) for folder in ("pair", "pair-again"))
        different[name.partition("/")[0]] = int((first != again).sum())
    return different


def check_lora(work: Path, base: Path, size: int, seed: int) -> dict[str, float]:
    """Draw with plain diffusers, without and with the LoRA: layers that it has, and how far the latents move."""
    import torch
    from diffusers import StableDiffusionPipeline
    from peft.tuners.lora import LoraLayer

    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> torch.Tensor:
        return pipeline(
            PROMPT,
            height=size,
            width=size,
            num_inference_steps=DRAW_STEPS,
            guidance_scale=1.0,
            output_type="latent",
            generator=torch.Generator().manual_seed(seed),
        ).images

    before = draw()
    pipeline.load_lora_weights(str(work / "lora"))
    layers = sum(isinstance(module, LoraLayer) for module in pipeline.unet.modules())
    return {"layers": layers, "latents_moved": float((draw() - before).abs().max())}


def findings(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the commands say, beside their time and memory."""
    by_name = {row["name"]: row for row in rows}
    merged, lora = (json.loads(by_name[name]["output"].splitlines()[-1]) for name in (DRAW_MERGED, DRAW_LORA))
    largest = max(rows, key=lambda row: row["peak_gib"])
    return {
        "largest_peak_gib": largest["peak_gib"],
        "largest_peak_of": largest["name"],
        "fits": largest["peak_gib"] <= LIMIT_GIB,
        "train_estimated_gib": float(ESTIMATE.search(by_name[DRY_RUN]["output"])[1]),
        "train_peak_gib": by_name[TRAIN]["peak_gib"],
        "merged_differs": merged,
        "lora": lora,
    }


def report(rows: Sequence[dict[str, Any]], found: dict[str, Any], counts: dict[str, int]) -> list[str]:
    """The tables as lines of Markdown."""
    estimate, taken = found["train_estimated_gib"], found["train_peak_gib"]
    merged, lora = found["merged_differs"], found["lora"]
    fits = "fits" if found["fits"] else "**does not fit**"
    names = {"unet": "UNet", "vae": "autoencoder", "text_encoder": "text encoder"}
    return [
        *table(["part", "parameters"], [[names[part], f"{count / 1e6:.2f}M"] for part, count in counts.items()]),
        "",
        *table(
            ["command", "seconds", "peak GiB"],
            [[row["name"], f"{row['seconds']:.0f}", f"{row['peak_gib']:.2f}"] for row in rows],
        ),
        "",
        "Each command is a process of its own: start, imports and loading count, and its peak is its resident set with "
        "libraries and memory-mapped weights. `train` also encodes the pairs, and validates and draws at its end.",
        "",
        f"* The largest peak, {found['largest_peak_gib']:.2f} GiB ({found['largest_peak_of']}), {fits} in "
        f"{LIMIT_GIB:.0f} GiB.",
        f"* `train --dry-run` estimates {estimate:.2f} GiB; `train` took {taken:.2f} GiB, {taken / estimate:.2f} times "
        "that.",
        f"* The pair drawn from the merged folder differs from that of `generate` in {merged['images']} values of the "
        f"photograph and {merged['masks']} pixels of the mask.",
        f"* Plain diffusers finds LoRA for {lora['layers']} layers in the exported file; with it, latents move by up "
        f"to {lora['latents_moved']:.2g}.",
    ]


def public_rows(rows: Sequence[dict[str, Any]], work: Path, base: Path | None) -> list[dict[str, Any]]:
    """The rows without output, and without paths of this machine."""
    places = [(sys.executable, "python"), (str(work), "WORK"), (str(base), "BASE"), (f"{REPOSITORY}/", "")]
    shown = []
    for row in rows:
        command = " ".join(row["command"])
        for place, name in places:
            command = command.replace(place, name)
        shown.append({"name": row["name"], "command": command, "seconds": row["seconds"], "peak_gib": row["peak_gib"]})
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, run the commands, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder to keep and to go on in; a temporary one if not given")
    parser.add_argument("--base", type=Path, help="diffusers folder to take instead of random weights")
    parser.add_argument("--size", type=int, default=256, help="side in px")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of weights, phantoms, training and pictures")
    parser.add_argument("--out", type=Path, default=Path("docs/results/full_size_sd2.md"), help=".json goes beside it")
    parser.add_argument("--check", choices=("merged", "lora"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.check == "merged":
        print(json.dumps(check_merged(options.work, options.size, options.seed)))
    elif options.check == "lora":
        print(json.dumps(check_lora(options.work, options.base, options.size, options.seed)))
    else:
        _study(options)


def _study(options: argparse.Namespace) -> None:
    of = machine()
    base = options.base.resolve() if options.base else None
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        work.mkdir(parents=True, exist_ok=True)
        todo = stages(work, base, options.size, options.rank, options.seed)
        rows = measure(work, todo, options.seed, options.size)
        shown, found = public_rows(rows, work, base), findings(rows)
        from sd2_folder import count_parameters  # imports torch, which the measured processes must not inherit

        counts = count_parameters(base or work / "sd2")
    record = run_record(machine=of, size=options.size, rank=options.rank, seed=options.seed, parameters=counts)
    command = " ".join(["python", *record["command"]])
    weights = "weights as given" if base else "random weights"
    lines = heading("Stable Diffusion 2.0 at full size", command, of)
    lines += [
        f"Seed {options.seed}, {weights}; {options.size} px, float32, batch 1, LoRA of rank {options.rank} on "
        "attention and feed-forward, gradient checkpointing.",
        "",
        *report(rows, found, counts),
    ]
    atomic_write_text(options.out, "\n".join(lines) + "\n")
    atomic_write_json(options.out.with_suffix(".json"), {**record, "findings": found, "commands": shown})


if __name__ == "__main__":
    main()
