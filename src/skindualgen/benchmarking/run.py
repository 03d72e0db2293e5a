"""The benchmark: what training on generated pairs does to networks that are tested on real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.comparison import metrics_of, regime_result, undefined_of
from skindualgen.benchmarking.execution import Done, Job, read_records, run_jobs
from skindualgen.benchmarking.options import FILLS, BenchmarkOptions
from skindualgen.benchmarking.pictures import load_pictures
from skindualgen.benchmarking.plan import Regime, origin_caveats, plan, task_data
from skindualgen.benchmarking.results import BenchmarkResult, MetricInfo, TaskResult
from skindualgen.benchmarking.trials import Recipe, TaskData, TrialRecord, build_network, measure_bfloat16, trial_key
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata
from skindualgen.data.review import count_rejected, left_out_line, read_used
from skindualgen.data.training_items import read_training_items
from skindualgen.files import atomic_write_json, run_record, sha256_bytes
from skindualgen.judges.leaks import find_leaks, knowledge_caveats, provenance_caveats, refuse_leaks

TRIALS_DIR = "trials"
PRECISION_FILE = "precision.json"
RESULT_FILE = "benchmark.json"

USUAL_SEEDS = 5
"""Fewer make wide intervals that hang on Student's t; the results then carry a caveat."""


def run_benchmark(
    options: BenchmarkOptions,
    out: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[Done], None] | None = None,
) -> BenchmarkResult:
    """Train and test all arms, and write ``benchmark.json``; what an earlier run has in ``out`` is used again.

    Args:
        options: what to compare.
        out: folder of the records of the trials and of the results.
        say: is given lines for the user.
        progress: is told of every training that has ended.

    Raises:
        InputError: wrong options or data, or a leak that ``options.i_know`` does not accept.
    """
    options.check()
    # 1. The parts, and that the test part is new to all that is trained.
    parts = _parts(options)
    if (line := _rejected_line(options, parts)) is not None:
        say(line)
    generator_items = read_training_items(options.generated) if options.generated else None
    say("Looking for leaks and reading pictures ...")
    leaks = refuse_leaks(
        find_leaks(
            test=parts["test"],
            train=parts["train"],
            generated=parts["generated"] if options.generated else None,
            generator_items=generator_items,
        ),
        known=options.i_know,
    )
    # 2. All pictures, once, at one size.
    pictures = {name: load_pictures(part.root, part.records, options.size_px) for name, part in parts.items()}
    tasks, caveats, plans = {}, {}, {}
    for task in options.tasks:
        tasks[task], caveats[task] = task_data(task, **pictures)
        plans[task] = plan(options, tasks[task])
        caveats[task] = caveats[task] + origin_caveats(tasks[task], plans[task])
        if options.generated:
            amounts = [regime.real_pairs for regime in plans[task]]
            caveats[task] = caveats[task] + knowledge_caveats(generator_items, amounts)
    # 3. The trials: those of earlier runs are read, the others run.
    out.mkdir(parents=True, exist_ok=True)
    recipes = {task: _recipe(options, data, out) for task, data in tasks.items()}
    jobs = {task: _jobs(tasks[task], recipes[task], plans[task]) for task in tasks}
    for line in _left_out_lines(plans):
        say(line)
    records = _run_missing(
        [job for of_task in jobs.values() for job in of_task.values()], tasks, options, out, say, progress
    )
    # 4. The comparison.
    say("Comparing the arms ...")
    result = BenchmarkResult(
        real=options.real.resolve().name,
        generated=options.generated.resolve().name if options.generated else None,
        test_split=parts["test"].records[0].split,
        seeds=options.seeds,
        size_px=options.size_px,
        threads=options.threads_a_worker(),
        devices=options.workers(),
        leaks=leaks,
        caveats=[*(provenance_caveats(generator_items) if options.generated else []), *_seed_caveats(options.seeds)],
        tasks=[
            _task_result(options, tasks[task], recipes[task], plans[task], jobs[task], records, caveats[task])
            for task in tasks
        ],
        record=run_record(),
    )
    atomic_write_json(out / RESULT_FILE, result.model_dump(mode="json"))
    return result


def _parts(options: BenchmarkOptions) -> dict[str, Dataset]:
    train = read_used(options.real, "train")
    split = options.test_split
    if split is None:
        present = {record.split for record in read_used(options.real)}
        split = "test" if "test" in present else "val"
    if split == "train":
        raise InputError("the split train as test part", "test or val", "change --test-split")
    test = read_used(options.real, split)
    generated: list[PairRecord] = read_used(options.generated) if options.generated else []
    return {
        "train": Dataset(options.real, train),
        "test": Dataset(options.real, test),
        "generated": Dataset(options.generated or options.real, generated),
    }


def _rejected_line(options: BenchmarkOptions, parts: dict[str, Dataset]) -> str | None:
    """The line that says how many pairs of the splits that are used, and of the generated ones, were rejected."""
    splits = {parts[name].records[0].split for name in ("train", "test")}
    real = [record for record in read_metadata(options.real) if record.split in splits]
    rejected = {options.real.resolve().name: count_rejected(real)}
    if options.generated:
        rejected[options.generated.resolve().name] = count_rejected(read_metadata(options.generated))
    return left_out_line(rejected)


def _recipe(options: BenchmarkOptions, data: TaskData, out: Path) -> Recipe:
    budget = options.budget(data.task)
    device = options.workers()[0]
    kept = out / PRECISION_FILE
    if options.precision == "auto" and device != "mps":
        what = {"task": data.task, "network": options.network.name, "size": options.size_px}
        what |= {"batch": budget.batch_size, "device": device.partition(":")[0]}
        key = sha256_bytes(json.dumps(what).encode())[:16]
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        if key not in known:
            known[key] = measure_bfloat16(data, options.network, budget, options.size_px, device)
            atomic_write_json(kept, known)
        bfloat16 = bool(known[key])
    else:
        bfloat16 = options.precision == "bf16"
    return Recipe(options.network, budget, options.size_px, bfloat16)


def _jobs(data: TaskData, recipe: Recipe, regimes: Sequence[Regime]) -> dict[tuple[int, str, int], Job]:
    """Return the job of each regime (by its position), arm and seed; a seed's arms follow each other."""
    jobs = {}
    for index, regime in enumerate(regimes):
        for (arm, seed), trial in sorted(regime.trials.items(), key=lambda item: item[0][1]):
            notes = {"task": data.task, "arm": arm, "seed": seed, "real_pairs": regime.real_pairs}
            jobs[index, arm, seed] = Job(trial_key(data, recipe, trial), recipe, data.task, trial, notes)
    return jobs


def _run_missing(
    jobs: Sequence[Job],
    data: dict[Task, TaskData],
    options: BenchmarkOptions,
    out: Path,
    say: Callable[[str], None],
    progress: Callable[[Done], None] | None,
) -> dict[str, TrialRecord]:
    unique = list({job.key: job for job in reversed(jobs)}.values())[::-1]  # equal pools share the first arm's training
    records = read_records(unique, out / TRIALS_DIR)
    missing = [job for job in unique if job.key not in records]
    say(f"{len(missing)} trainings to run, {len(records)} from an earlier run.")
    if missing:
        run_jobs(
            missing,
            data,
            out / TRIALS_DIR,
            devices=options.workers(),
            threads=options.threads_a_worker(),
            progress=progress,
        )
        records |= read_records(missing, out / TRIALS_DIR)
    return records


def _task_result(
    options: BenchmarkOptions,
    data: TaskData,
    recipe: Recipe,
    regimes: Sequence[Regime],
    jobs: dict[tuple[int, str, int], Job],
    records: dict[str, TrialRecord],
    caveats: list[str],
) -> TaskResult:
    network = build_network(data, recipe.network, seed=0)
    undefined = undefined_of(data)
    infos = [
        MetricInfo(
            name=metric.name,
            title=metric.title,
            definition=metric.definition,
            higher_is_better=metric.higher_is_better,
            unit=metric.unit,
        )
        for metric in metrics_of(data).values()
        if metric.name not in undefined
    ]
    return TaskResult(
        task=data.task,
        network=recipe.network.name,
        weights=recipe.network.weights,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        precision="bf16" if recipe.bfloat16 else "fp32",
        steps=recipe.budget.steps,
        batch_size=recipe.budget.batch_size,
        learning_rate=recipe.budget.learning_rate,
        fill=options.fill or FILLS[data.task],
        classes=data.classes,
        test_items=len(data.test),
        test_groups=len(set(data.test.groups)),
        generated_items=len(data.generated),
        metrics=infos,
        undefined=undefined,
        caveats=caveats,
        regimes=[
            regime_result(data, regime, {key: records[jobs[index, *key].key] for key in regime.trials})
            for index, regime in enumerate(regimes)
        ],
    )


def _left_out_lines(plans: dict[Task, list[Regime]]) -> list[str]:
    return [
        f"Left out: {task}, {regime.real_pairs} real pairs, arm {arm.name}: {reason}"
        for task, regimes in plans.items()
        for regime in regimes
        for arm, reason in regime.left_out
    ]


def _seed_caveats(seeds: int) -> list[str]:
    if seeds == 1:
        return ["One seed: the intervals are over the test items only, and say nothing of another training."]
    return [f"{seeds} seeds: fewer than {USUAL_SEEDS} make wide intervals."] if seeds < USUAL_SEEDS else []
