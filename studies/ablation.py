"""What each choice of the adapter's training is worth, on the micro base and the real pairs. One command, resumable:

    python studies/ablation.py --real ../shared/data/dermoscopy --data ../pairs --cache ../judges --work ../ablation

Every arm changes one setting of the default; every arm is trained with each seed for the same number of steps, on the
train part, and judged on the val part: Dice of image -> mask, agreement of an independent segmenter with the masks of
generated pairs, feature-KID. A row is kept for each run, so the command goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ablation_variants import VARIANTS, variant
from micro_judges import load_segmenter, real_records
from micro_measures import Photographs, class_matched, mask_scores
from micro_quality import SIZE_PX, photographs
from rich.console import Console
from scipy import stats

from skindualgen.config import load_train_config
from skindualgen.data.prompts import prompt_for
from skindualgen.files import atomic_write_json, atomic_write_text, run_record
from skindualgen.judges.features import CachedFeatures, ImageNetFeatures
from skindualgen.metrics.fidelity import kernel_distance
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.loop import train
from skindualgen.training.progress import METRICS_FILE

ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "rank 8": {"lora.rank": 8, "lora.alpha": 8},
    "rank 64": {"lora.rank": 64, "lora.alpha": 64},
    "attention only": {"lora.targets": "attention"},
    "attention + feed-forward": {"lora.targets": "attention+ff"},
    "no dice": {"loss.dice": 0},
    "no bce": {"loss.bce": 0},
    "no mask terms but denoising": {"loss.dice": 0, "loss.bce": 0},
    "lesion weight 1": {"loss.lesion": 1.0},
    "consistency 0.1": {"loss.consistency": 0.1},
    "no min-SNR": {"loss.snr_gamma": 1e6},
    "tied noise levels": {"noise.equal": 1.0, "noise.mask_given": 0, "noise.image_given": 0, "noise.independent": 0},
    **{arm: {} for arm in VARIANTS},
}
"""What each arm changes about the default: rank 32 on all layers, all terms, four ways of noising, signed-distance code
and velocity for the mask. What the last ones change is in ``ablation_variants``."""
EARLIER_ARMS = ("no boundary",)
"""Arms whose setting is gone. Their rows stay in the table; the default of these rows had ``loss.boundary`` = 0.1."""
MEASURES = {
    "read_dice": ("image -> mask Dice", True),
    "agreement_dice": ("segmenter's Dice on generated pairs", True),
    "kid": ("feature-KID", False),
    "val_loss": ("validation loss", False),
}
"""name -> heading, and whether higher is better; losses of arms that change the loss do not compare"""
STEPS, WARMUP_STEPS, BATCH_SIZE, SEEDS = 150, 30, 32, 3
PAIRS, DRAW_STEPS = 120, 10
DRAW_BATCH = 24
CONFIDENCE = 0.95

console = Console(stderr=True)


def train_arm(arm: str, further: dict[str, Any], seed: int, data: Path, work: Path, steps: int, threads: int) -> Path:
    """Train one arm with one seed, with further settings that its variant needs; encoded pairs are shared by all."""
    out = work / "runs" / f"{arm.replace(' ', '_').replace('>', '')}-{seed}"
    overrides = {
        "data": data,
        "out": out,
        "cache": work / "cache",
        "max_train_steps": steps,
        "train_batch_size": BATCH_SIZE,
    }
    overrides |= {"seed": seed, "threads": threads, "validation_steps": steps, "checkpointing_steps": 100}
    overrides |= {"checkpoints_total_limit": 1, "lr_warmup_steps": WARMUP_STEPS, **ARMS[arm], **further}
    return train(load_train_config(Path(__file__).with_name("ablation.toml"), overrides), console=console)


def draw(pipeline: SkinDualGenPipeline, val: list[Any], pairs: int, seed: int) -> Photographs:
    """Draw pairs for captions of the val part, as many as asked, in one random order for all arms."""
    order = np.random.default_rng(0).permutation(len(val))
    wanted = [val[order[i % len(val)]] for i in range(pairs)]
    images, masks = [], []
    for start in range(0, pairs, DRAW_BATCH):
        part = wanted[start : start + DRAW_BATCH]
        generators = [torch.Generator().manual_seed(seed * 100_003 + start + i) for i in range(len(part))]
        prompts = [prompt_for(record) for record in part]
        out = pipeline(prompts, num_inference_steps=DRAW_STEPS, generator=generators)
        images += [np.asarray(image) for image in out.images]
        masks += [np.asarray(mask) > 127 for mask in out.masks]
    return Photographs(np.stack(images), np.stack(masks), [str(record.diagnosis) for record in wanted])


def read(pipeline: SkinDualGenPipeline, val: Photographs) -> list[float]:
    """Dice of the masks that the model reads from photographs in one draw."""
    dices: list[float] = []
    for start in range(0, len(val.images), DRAW_BATCH):
        x = torch.from_numpy(val.images[start : start + DRAW_BATCH]).permute(0, 3, 1, 2).float() / 255
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(x))]
        masks = [np.asarray(mask) > 127 for mask in pipeline(image=x, generator=generators).masks]
        dices += [s["dice"] for s in mask_scores(masks, list(val.masks[start : start + len(masks)]))]
    return dices


def judge(
    run: Path, val_records: list[Any], val: Photographs, segmenter: Any, extractor: Any, seed: int
) -> dict[str, float]:
    """The numbers of one run."""
    pipeline = SkinDualGenPipeline.from_adapter(run)
    pipeline.set_progress_bar_config(disable=True)
    made = draw(pipeline, val_records, PAIRS, seed)
    made = made[class_matched(made.diagnoses, val.diagnoses, seed=seed)]
    agreements = [score["dice"] for score in mask_scores(segmenter.masks(made.images), made.masks)]
    last = json.loads((run / METRICS_FILE).read_text().splitlines()[-1])
    return {
        "read_dice": float(np.mean(read(pipeline, val))),
        "agreement_dice": float(np.mean(agreements)),
        "kid": float(kernel_distance(real=extractor(val.images), generated=extractor(made.images))),
        "val_loss": float(last["val_loss"]),
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    spread = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * spread)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: each arm's mean, and its difference to the default over the seeds that both have."""
    by = {(row["arm"], row["seed"]): row for row in rows}
    headings = [heading for heading, _ in MEASURES.values()]
    lines = [
        "| arm | seeds | " + " | ".join(headings) + " |",
        "| --- | --- | " + " | ".join("---" for _ in headings) + " |",
    ]
    for arm in (*ARMS, *EARLIER_ARMS):
        seeds = sorted(seed for name, seed in by if name == arm)
        if not seeds:
            continue
        cells = []
        for name in MEASURES:
            mean, half = interval([by[arm, seed][name] for seed in seeds])
            cell = f"{mean:.3f}" if arm != "default" else f"{mean:.3f} ± {half:.3f}"
            paired = [by[arm, seed][name] - by["default", seed][name] for seed in seeds if ("default", seed) in by]
            if arm != "default" and paired:
                difference, half = interval(paired)
                cell += f" ({difference:+.3f} ± {half:.3f})"
            cells.append(cell)
        lines.append(f"| {arm} | {len(seeds)} | " + " | ".join(cells) + " |")
    return lines


def write(work: Path, out: Path, steps: int) -> None:
    """Write ablation.md and ablation.json from the rows that there are."""
    rows = [json.loads(path.read_text()) for path in sorted((work / "rows").glob(f"*-{steps}.json"))]
    record = run_record(steps=steps, batch_size=BATCH_SIZE, pairs=PAIRS, size_px=SIZE_PX, cores=os.cpu_count())
    atomic_write_json(out / "ablation.json", {"run": record, "arms": ARMS, "rows": rows})
    text = [
        "# Ablation of the adapter's training on the micro base",
        "",
        f"Real pairs (ISIC 2017), {SIZE_PX} px; {steps} steps of {BATCH_SIZE} each, far from convergence, so "
        "speed of learning counts; judged on the 234 val pairs and on "
        f"{PAIRS} generated pairs of {DRAW_STEPS} steps, one step for image -> mask. In brackets the difference to the "
        "default, paired by seed, with Student's 95 % interval over seeds (nan for one seed, wide for three). "
        f"Written by `studies/ablation.py` on {record['date_utc'][:10]}, {record['cores']} cores, "
        f"{record['platform']}.",
        "",
        f"{len(rows)} of {len(ARMS) * SEEDS} runs are done.",
        "",
        *table(rows),
        "",
        "A validation loss compares only between arms of the same loss.",
        "",
    ]
    atomic_write_text(out / "ablation.md", "\n".join(text))


def row_file(work: Path, arm: str, seed: int, steps: int) -> Path:
    """Return where the row of a run is kept."""
    return work / "rows" / f"{arm.replace(' ', '_')}-{seed}-{steps}.json"


def restore_rows(work: Path, out: Path, steps: int) -> None:
    """Take over the rows of an earlier table of as many steps, so that another machine goes on with it."""
    table_file = out / "ablation.json"
    if table_file.is_file() and (earlier := json.loads(table_file.read_text()))["run"]["steps"] == steps:
        for row in earlier["rows"]:
            file = row_file(work, row["arm"], row["seed"], steps)
            if row["arm"] in (*ARMS, *EARLIER_ARMS) and not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                atomic_write_json(file, row)


def main(
    real: Annotated[Path, typer.Option(help="folder of the real pairs", envvar="SKINDUALGEN_REAL_DATA")],
    data: Annotated[Path, typer.Option(help="the same, as prepared by scripts/train_micro.py (WORK/pairs)")],
    cache: Annotated[Path, typer.Option(help="folder that keeps the judges and features, outside the repository")],
    work: Annotated[Path, typer.Option(help="folder of runs and rows, outside the repository")],
    out: Annotated[Path, typer.Option(help="where ablation.md and ablation.json go")] = Path("docs/results"),
    arms: Annotated[list[str] | None, typer.Option(help="some of the arms; all if not given")] = None,
    seeds: Annotated[int, typer.Option(help="number of seeds; 0 writes the table of what is there")] = SEEDS,
    steps: Annotated[int, typer.Option(help="optimiser steps of every run")] = STEPS,
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
    keep_runs: Annotated[bool, typer.Option(help="keep the run folders")] = False,
) -> None:
    """Train, judge and tabulate."""
    torch.set_num_threads(threads)
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    restore_rows(work, out, steps)
    write(work, out, steps)
    val_records = real_records(real, "val")
    val = photographs(real, val_records)
    segmenter = load_segmenter(real, cache)
    extractor = CachedFeatures(ImageNetFeatures(), cache / "features")
    for seed in range(seeds):  # seed by seed, so that a run cut short compares all arms with fewer seeds
        for arm in arms or ARMS:
            file = row_file(work, arm, seed, steps)
            if file.is_file():
                continue
            with variant(arm, "micro", data) as further:
                run = train_arm(arm, further, seed, data, work, steps, threads)
                row = {"arm": arm, "seed": seed} | judge(run, val_records, val, segmenter, extractor, seed)
            file.parent.mkdir(exist_ok=True)
            atomic_write_json(file, row)
            console.print(row)
            if not keep_runs:
                shutil.rmtree(run)
            write(work, out, steps)


if __name__ == "__main__":
    typer.run(main)
