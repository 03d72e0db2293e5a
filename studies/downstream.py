"""What generated pairs are worth to networks trained on them: the studies behind docs/results/downstream_*.md.

    python studies/downstream.py draw  --data ../pairs --work ../downstream          # pairs of the bundled adapter
    python studies/downstream.py main  --data ../pairs --work ../downstream          # all arms, all real pairs
    python studies/downstream.py even  --data ../pairs --work ../downstream          # a lever, tried afterwards
    python studies/downstream.py low   --data ../pairs --work ../downstream          # another, after main and sweep
    python studies/downstream.py few   --data ../pairs --work ../downstream          # 25, 50, 100 masks
    python studies/downstream.py read  --data ../pairs --work ../downstream          # a lever, tried afterwards
    python studies/downstream.py chosen --data ../pairs --work ../downstream         # another lever
    python studies/downstream.py sweep --data ../pairs --work ../downstream          # guidance and steps
    python studies/downstream.py overview                                            # all results in one table

Every command can be stopped and run again; each goes through the ordinary commands of skindualgen. The data folder is
the real pairs as prepared by scripts/train_micro.py (WORK/pairs). Its part "val", which the bundled generator has not
seen, is the test part of all but ``sweep``, which chooses, so it judges on a part of the train split.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import typer
from downstream_few import MASKS_GUIDANCE, arms, chosen, few, for_masks, read
from downstream_options import (
    RESULTS,
    CoresOption,
    DataOption,
    OutOption,
    PartOption,
    SeedOption,
    TaskOption,
    WorkersOption,
    WorkOption,
)
from downstream_overview import fill_overview, overview_page, read_mixtures
from downstream_runs import (
    DRAWN,
    PAIR_STEPS,
    SIZES_PX,
    class_sizes,
    compare,
    draw_pairs,
    hybrids,
    keep_results,
    lesion_of,
    pairs_needed,
    train_records,
)
from downstream_sets import captions, link_pairs
from downstream_sweep import sweep_table
from micro_quality import run_command

from skindualgen.benchmarking.subsets import nested_subset
from skindualgen.contracts import DATASET_FILE
from skindualgen.data.manifest import read_metadata
from skindualgen.files import atomic_write_json, atomic_write_text, run_record

app = typer.Typer(add_completion=False, no_args_is_help=True)
for command in (few, read, chosen):
    app.command()(command)

MAIN_RATIOS = "0.25,0.5,1,2,5"
"""Times as many generated pairs as real ones."""
LOW_RATIOS = "0.25,0.5,1,2"
DRAWS = (("SDG", "2"), ("SDH", "5"))
"""Ids' prefix, and the ratio that this part of the pairs of ``main`` goes up to from where the one before ends."""
MAIN_STEPS = 300
"""Optimiser steps of every arm: on two cores, five seeds are worth more than longer runs."""
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
DRAW_STEPS = (10, 25, 50)
CENTRE = (10, 2.0)
"""steps of the settings of other guidance (few: a core draws a pair a second), guidance of those of other steps"""
SWEEP_REAL, SWEEP_JUDGED, SWEEP_RATIO, SWEEP_STEPS, SWEEP_SEEDS = 100, 234, 2.0, 100, 3


@app.command()
def draw(data: DataOption, work: WorkOption, seed: SeedOption = 0, workers: WorkersOption = 1) -> None:
    """Draw the pairs of ``main`` with the bundled adapter, enough for its largest ratios, in the parts of ``DRAWS``."""
    records = train_records(data)
    sizes = class_sizes(records)
    drawn = ["--steps", str(PAIR_STEPS), "--workers", str(workers)]
    parts, had = [], Counter[str]()
    for place, (prefix, ratio) in enumerate(DRAWS):
        needed = Counter(pairs_needed(sizes, dict.fromkeys(SIZES_PX, ratio)))
        rows = captions(records, needed - had, seed=seed + place)
        part = work / f"main_pairs_{ratio}"
        parts.append(draw_pairs(part, rows, "builtin", seed + place, "--id-prefix", prefix, *drawn))
        had |= needed
    if not (work / "main_pairs" / DATASET_FILE).is_file():
        run_command("merge", *map(str, parts), "--out", str(work / "main_pairs"), "--link")


@app.command(name="main")
def main_study(
    data: DataOption, work: WorkOption, task: TaskOption = "both", out: OutOption = RESULTS, cores: CoresOption = 1
) -> None:
    """Compare all arms on all real pairs."""
    for name in SIZES_PX if task == "both" else (task,):
        compare(data, work / "main_pairs", work / f"main_{name}", name, MAIN_RATIOS, MAIN_STEPS, cores=cores)
        title = f"All real pairs: what the bundled model's pairs are worth ({name})"
        keep_results(work / f"main_{name}", out, f"downstream_{name}", title, f"main --task {name}")


@app.command()
def even(data: DataOption, work: WorkOption, out: OutOption = RESULTS, cores: CoresOption = 1) -> None:
    """Classification once more, with the same share of generated pairs in every class; decided on after ``main``.

    Run after ``main --task classify``, whose trainings without generated pairs it uses.
    """
    trials = work / "main_classify"
    options = ["--class-allocation", "even", "--arms", f"augment,oversample,replay,{hybrids(MAIN_RATIOS)}"]
    compare(data, work / "main_pairs", trials, "classify", MAIN_RATIOS, MAIN_STEPS, *options, cores=cores)
    title = "All real pairs, the same share of generated ones in every class (classify)"
    keep_results(trials, out, "downstream_classify_even", title, "even")


@app.command()
def low(
    data: DataOption, work: WorkOption, out: OutOption = RESULTS, seed: SeedOption = 0, cores: CoresOption = 1
) -> None:
    """Segmentation once more, with pairs of the guidance that ``sweep`` chose for it; decided on after both.

    Run after ``main --task segment``, whose trainings without generated pairs it uses.
    """
    records = train_records(data)
    needed = pairs_needed(class_sizes(records), {"segment": LOW_RATIOS})
    pairs = draw_pairs(work / "low_pairs", captions(records, needed, seed=seed), "builtin", seed, *for_masks(cores))
    trials = work / "main_segment"
    compare(data, pairs, trials, "segment", LOW_RATIOS, MAIN_STEPS, "--arms", arms(LOW_RATIOS), cores=cores)
    title = f"All real pairs, generated ones of guidance {MASKS_GUIDANCE:g} (segment)"
    keep_results(trials, out, "downstream_segment_low", title, "low", pairs=f"{DRAWN} at guidance {MASKS_GUIDANCE:g}")


def sweep_folder(data: Path, work: Path, seed: int) -> Path:
    """Make a data set folder out of the train split alone: some pairs for training, others, of other lesions, to judge.

    The generator has seen both parts; the part for testing of the other studies stays out of every choice.
    """
    records = train_records(data)
    groups = [lesion_of(record) for record in records]
    ids, diagnoses = [record.isic_id for record in records], [record.diagnosis for record in records]
    judged = set(nested_subset(diagnoses, ids, count=SWEEP_JUDGED, seed=seed + 1, groups=groups).tolist())
    seen = {groups[i] for i in judged}
    free = [i for i in range(len(records)) if groups[i] not in seen]
    chosen = nested_subset([diagnoses[i] for i in free], [ids[i] for i in free], count=SWEEP_REAL, seed=seed)
    kept = [records[free[i]] for i in chosen]
    kept += [records[i].model_copy(update={"split": "test"}) for i in sorted(judged)]
    return link_pairs(data, kept, work / "sweep_real", made_by={"study": "downstream sweep", "seed": seed})


def sweep_settings() -> list[tuple[int, float]]:
    """Return steps and guidance of each setting: a cross through ``CENTRE``, as a CPU cannot do the whole grid."""
    settings = [(CENTRE[0], guidance) for guidance in GUIDANCES]
    return sorted({*settings, *((steps, CENTRE[1]) for steps in DRAW_STEPS)})


@app.command()
def overview(out: OutOption = RESULTS) -> None:
    """Put what all studies found into downstream.md, and the longest trainings into the table of overview.md."""
    studies = read_mixtures(out)
    atomic_write_text(out / "downstream.md", overview_page(studies))
    fill_overview(out / "overview.md", studies)


@app.command()
def sweep(
    data: DataOption, work: WorkOption, out: OutOption = RESULTS, seed: SeedOption = 0, part: PartOption = "1/1"
) -> None:
    """Guidance and steps: use to a segmenter and a classifier against distance to real photographs, on the train split.

    The pairs of all settings have the same captions and seeds. Parts 1/2 and 2/2 can run side by side: each takes every
    second setting, and the last to end writes the whole table.
    """
    real = sweep_folder(data, work, seed)
    sizes = class_sizes(read_metadata(real, "train"))
    needed = pairs_needed(sizes, dict.fromkeys(SIZES_PX, f"{SWEEP_RATIO:g}"))
    rows = captions(train_records(data), needed, seed=seed)
    number, parts = map(int, part.split("/"))
    for steps, guidance in sweep_settings()[number - 1 :: parts]:
        name = f"sweep_{steps}_{guidance:g}"
        drawn = ["--steps", str(steps), "--guidance", str(guidance)]
        pairs = draw_pairs(work / f"{name}_pairs", rows, "builtin", seed, *drawn)
        chosen = f"augment,hybrid-{SWEEP_RATIO:g},synthetic"
        for task in SIZES_PX:
            trials = work / f"sweep_{task}_{number}"  # one folder: the arm without generated pairs is trained once
            # The generator has seen the judged part, as said above: --i-know.
            options = ["--arms", chosen, "--i-know"]
            compare(real, pairs, trials, task, f"{SWEEP_RATIO:g}", SWEEP_STEPS, *options, seeds=SWEEP_SEEDS)
            shutil.copyfile(trials / "benchmark.json", work / f"{name}_{task}.json")
        report = work / f"{name}_report"
        only = ["--only", "fidelity", "--held-out", "test", "--size", "128"]
        run_command("evaluate", "--real", str(real), "--generated", str(pairs), "--out", str(report), *only)
        write_sweep(work, out, seed)


def write_sweep(work: Path, out: Path, seed: int) -> None:
    """Write downstream_sweep.md and .json from what the settings gave so far."""
    settings: list[dict[str, Any]] = []
    for steps, guidance in sweep_settings():
        name = f"sweep_{steps}_{guidance:g}"
        files = {task: work / f"{name}_{task}.json" for task in SIZES_PX}
        files["fidelity"] = work / f"{name}_report" / "report.json"
        if all(path.is_file() for path in files.values()):
            results = {key: json.loads(path.read_text()) for key, path in files.items()}
            settings.append({"steps": steps, "guidance": guidance, **results})
    record = run_record(seed=seed, pairs=SWEEP_REAL, steps=SWEEP_STEPS, seeds=SWEEP_SEEDS)
    rows, text = sweep_table(settings, record)
    atomic_write_json(out / "downstream_sweep.json", {"run": record, "rows": rows})
    atomic_write_text(out / "downstream_sweep.md", text)


if __name__ == "__main__":
    app()
