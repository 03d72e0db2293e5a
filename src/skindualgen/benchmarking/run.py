"""The benchmark: what training on generated pairs does to networks that are tested on real ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skindualgen.benchmarking.arms import CLASS_ALLOCATIONS, TUNED, Task
from skindualgen.benchmarking.comparison import metrics_of, regime_result
from skindualgen.benchmarking.execution import Done, read_records, run_trials
from skindualgen.benchmarking.levelling import CONTROL, level_off
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import Plan, origin_caveats, plan, task_data
from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.results import BenchmarkResult, MetricInfo, Regime, TaskResult
from skindualgen.benchmarking.trials import Recipe, TaskData, TrialRecord, trial_key
from skindualgen.contracts import InputError, listed
from skindualgen.data.dataset import Dataset
from skindualgen.data.review import count_rejected, left_out_line, used, used_of_split
from skindualgen.data.training_items import read_training_items
from skindualgen.files import atomic_write_json, run_record, sha256_bytes
from skindualgen.hardware import training_precision
from skindualgen.judges.leaks import find_leaks, knowledge_caveats, provenance_caveats, real_caveats, refuse_leaks
from skindualgen.judges.pictures import read_pictures

TRIALS_DIR = "trials"
PRECISION_FILE = "precision.json"
"""What earlier versions measured; trials are kept by their precision, so it decides in a folder that has it."""
RESULT_FILE = "benchmark.json"

SHOWN = 5
"""Ids in a message."""
USUAL_SEEDS = 5
"""Fewer make wide intervals that hang on Student's t; the results then carry a caveat."""

Say = Callable[[str], None]


def run_benchmark(
    options: BenchmarkOptions,
    out: Path,
    *,
    say: Say = lambda line: None,
    progress: Callable[[Done], None] | None = None,
) -> BenchmarkResult:
    """Train and test all arms, and write ``benchmark.json``; what an earlier run has in ``out`` is used again.

    Args:
        options: what to compare.
        out: folder of the records of the trials and of the results.
        say: is given lines for the user.
        progress: is given every training that has ended.

    Raises:
        InputError: wrong options or data, or a leak that ``options.i_know`` does not accept.
    """
    options.check()
    # 1. The parts, and that the test part is new to all that is trained.
    parts, left_out = parts_of(options)
    if found_synthetic := synthetic_among(parts):
        raise InputError(found_synthetic, "real ones", "take them out of --real, and give them as --generated")
    if left_out is not None:
        say(left_out)
    generator_items = read_training_items(options.generated) if options.generated else None
    say("Looking for leaks and reading pictures ...")
    found = find_leaks(
        test=parts["test"],
        train=Dataset(parts["train"].root, [record for name in ("train", "val") for record in parts.get(name, [])]),
        generated=parts["generated"] if options.generated else None,
        generator_items=generator_items,
    )
    leaks = refuse_leaks(found, known=options.i_know)
    # 2. All pictures, once, at one size.
    pictures = {name: read_pictures(part, options.size_px) for name, part in parts.items()}
    if not options.ignored_pixels:
        pictures |= {name: replace(pictures[name], ignored=None) for name in ("train", "generated")}
    tasks: dict[Task, TaskData] = {}
    plans: dict[Task, Plan] = {}
    caveats: dict[Task, list[str]] = {}
    for task in options.tasks:
        recipe = Recipe(options.network, options.budget(task), options.size_px, _bfloat16(options, task, out))
        tasks[task], caveats[task] = task_data(task, recipe, **pictures)
        plans[task] = plan(options, tasks[task])
        caveats[task] += origin_caveats(tasks[task], plans[task])
        if options.generated:
            caveats[task] += knowledge_caveats(generator_items, [regime.real_pairs for regime, _ in plans[task]])
    # 3. The trials: those of earlier runs are read, the others run.
    out.mkdir(parents=True, exist_ok=True)
    for task, of_task in plans.items():
        for regime, _ in of_task:
            for arm in regime.left_out:
                say(f"Left out: {task}, {regime.real_pairs} real pairs, arm {arm.name}: {arm.reason}")
    if options.level_off:

        def train(data: TaskData, trials: Sequence[Trial]) -> list[TrialRecord]:
            made = _records(options, {data.task: data}, {data.task: trials}, out, say, progress)
            return [made[trial_key(data, trial)] for trial in trials]

        for task, data in tasks.items():
            controls = plan(options.model_copy(update={"arms": (CONTROL,)}), data)
            plans[task] = level_off(data, plans[task], controls, train)
            for regime, _ in plans[task]:
                say(f"{task}, {regime.real_pairs} real pairs: {regime.steps} steps")
    planned = {task: [trial for _, trials in of_task for trial in trials] for task, of_task in plans.items()}
    records = _records(options, tasks, planned, out, say, progress)
    # 4. The comparison.
    say("Comparing the arms ...")
    result = BenchmarkResult(
        real=options.real.resolve().name,
        generated=options.generated.resolve().name if options.generated else None,
        test_split=parts["test"][0].split,
        seeds=options.seeds,
        repeats=options.repeats,
        size_px=options.size_px,
        threads=options.threads_a_worker(),
        devices=options.workers(),
        leaks=leaks,
        caveats=[
            *(provenance_caveats(generator_items) if options.generated else []),
            *real_caveats(parts["generated"]),
            *_seed_caveats(options.seeds),
            *([] if options.pair_weights else ["All pairs are drawn alike, whatever their records' weights."]),
            *([] if options.ignored_pixels else ["Networks learnt from ignored pixels too."]),
        ],
        tasks=[_task_result(options, tasks[task], plans[task], records, caveats[task]) for task in tasks],
        record=run_record(),
    )
    atomic_write_json(out / RESULT_FILE, result.model_dump(mode="json"))
    return result


def parts_of(options: BenchmarkOptions) -> tuple[dict[str, Dataset], str | None]:
    """Return the parts "train", "test" and "generated", and the line that counts what a reviewer has rejected of them.

    Where an arm or the number of steps is chosen on it, and it is not tested on, the part "val" is there too.

    Raises:
        InputError: no data set folder, or nothing in the train or test part that was not rejected.
    """
    real = Dataset.open(options.real, rejected=True)
    split = options.test_split or ("test" if "test" in Dataset(real.root, used(real)).splits else "val")
    if split == "train":
        raise InputError("the split train as test part", "test or val", "change --test-split")
    names = {"train": "train", "test": split}
    parts = {part: Dataset(real.root, used_of_split(real.root, real.records, name)) for part, name in names.items()}
    chooses = options.level_off or TUNED in (options.arms or ())
    if chooses and split != "val" and "val" in Dataset(real.root, used(real)).splits:
        parts["val"] = Dataset(real.root, used_of_split(real.root, real.records, "val"))
    rejected = {real.root.resolve().name: count_rejected(record for record in real if record.split in ("train", split))}
    generated = Dataset.open(options.generated, rejected=True) if options.generated else Dataset(real.root, [])
    if options.generated:
        rejected[generated.root.resolve().name] = count_rejected(generated)
    return parts | {"generated": Dataset(generated.root, used(generated))}, left_out_line(rejected)


def synthetic_among(parts: Mapping[str, Dataset]) -> str | None:
    """Return in words how many synthetic pairs are among those that models train on as real and are tested on."""
    ids = [record.isic_id for name in ("test", "train") for record in parts[name] if record.origin == "synthetic"]
    return f"{len(ids)} synthetic pairs among the real ones: {listed(ids, SHOWN)}" if ids else None


def _bfloat16(options: BenchmarkOptions, task: Task, out: Path) -> bool:
    """Whether to train in bfloat16: as an earlier version measured in this folder, else as the hardware has it."""
    if options.precision != "auto":
        return options.precision == "bf16"
    device, measured = options.workers()[0], out / PRECISION_FILE
    if measured.is_file():
        what = {"task": task, "network": options.network.name, "size": options.size_px}
        what |= {"batch": options.batch_size, "device": device.partition(":")[0]}
        found = json.loads(measured.read_text(encoding="utf-8")).get(sha256_bytes(json.dumps(what).encode())[:16])
        if found is not None:
            return bool(found)
    return training_precision(device) == "bf16"


def _records(
    options: BenchmarkOptions,
    data: Mapping[Task, TaskData],
    planned: Mapping[Task, Sequence[Trial]],
    out: Path,
    say: Say,
    progress: Callable[[Done], None] | None,
) -> dict[str, TrialRecord]:
    """Return the records of all trials by key; those that are not on disk are made, a seed's arms after each other."""
    trials: dict[str, Trial] = {}
    for task, of_task in planned.items():
        for trial in sorted(of_task, key=lambda trial: (trial.real_pairs, trial.seed)):
            trials.setdefault(trial_key(data[task], trial), trial)  # equal pools share the first arm's training
    folder = out / TRIALS_DIR
    records = read_records(trials, folder)
    missing = {key: trial for key, trial in trials.items() if key not in records}
    say(f"{len(missing)} trainings to run, {len(records)} from an earlier run.")
    if missing:
        threads = options.threads_a_worker()
        run_trials(missing, data, folder, devices=options.workers(), threads=threads, progress=progress)
        records |= read_records(missing, folder)
    return records


def _task_result(
    options: BenchmarkOptions, data: TaskData, plans: Plan, records: Mapping[str, TrialRecord], caveats: list[str]
) -> TaskResult:
    recipe = data.recipe
    metrics, undefined = metrics_of(data)
    results = [(regime, [(trial, records[trial_key(data, trial)]) for trial in trials]) for regime, trials in plans]
    return TaskResult(
        task=data.task,
        network=recipe.network.name,
        weights=recipe.network.weights,
        parameters=sum(parameter.numel() for parameter in data.build_network(seed=0).parameters()),
        precision="bf16" if recipe.bfloat16 else "fp32",
        steps=recipe.budget.steps,
        batch_size=recipe.budget.batch_size,
        learning_rate=recipe.budget.learning_rate,
        fill=options.class_allocation or CLASS_ALLOCATIONS[data.task],
        classes=data.classes,
        test_items=len(data.test),
        test_groups=len(set(data.test.groups)),
        generated_items=len(data.generated),
        metrics=[MetricInfo.model_validate(metric) for metric in metrics.values()],
        undefined=undefined,
        caveats=[*caveats, *_choices(results)],
        regimes=[regime_result(data, regime, of_regime) for regime, of_regime in results],
    )


def _choices(results: Iterable[tuple[Regime, list[tuple[Trial, TrialRecord]]]]) -> list[str]:
    """Say which augmentation was best on the validation part, and how often."""
    lines = []
    for regime, of_regime in results:
        chosen = Counter(record.chosen for trial, record in of_regime if trial.arm.tuned)
        if chosen:
            often = ", ".join(f"{name} {count}" for name, count in chosen.most_common())
            lines.append(f"With {regime.real_pairs} real pairs, augmentation chosen on val by so many seeds: {often}.")
    return lines


def _seed_caveats(seeds: int) -> list[str]:
    if seeds == 1:
        return ["One seed: the intervals are over the test items only, and say nothing of another training."]
    return [f"{seeds} seeds: fewer than {USUAL_SEEDS} make wide intervals."] if seeds < USUAL_SEEDS else []
