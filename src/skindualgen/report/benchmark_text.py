"""A benchmark as Markdown: one table of scores and two of differences for each task and amount of real pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from skindualgen.benchmarking.results import (
    ArmResult,
    BenchmarkResult,
    MetricInfo,
    Reference,
    RegimeResult,
    TaskResult,
)
from skindualgen.metrics.intervals import Estimate

TASK_TITLES = {"segment": "Segmentation", "classify": "Diagnosis"}
DIFFERENCES: dict[Reference, str] = {
    "real": "Difference to real",
    "augment-tuned": "Difference to tuned augmentation",
    "self-train": "Difference to the same pictures with the segmenter's own masks",
    "best": "Difference to the best arm without synthetic",
}

Rows = Sequence[tuple[ArmResult, Mapping[str, Estimate]]]


def benchmark_markdown(result: BenchmarkResult) -> str:
    """Return a benchmark as Markdown; intervals are 95 %."""
    generated = f" and generated pairs of `{result.generated}`" if result.generated else ""
    seeds = f"{result.seeds} seeds" + (f" of {result.repeats} trainings" if result.repeats > 1 else "")
    lines = [
        "# Benchmark",
        "",
        f"Real pairs of `{result.real}`{generated}, {result.size_px} px, {seeds}, tested on the real",
        f"split {result.test_split}. Mean over the seeds, with 95 % intervals over seeds and test items.",
        "",
        *(f"* **Leak, accepted:** {text}" for text in result.leaks),
        *(f"* {text}" for text in result.caveats),
    ]
    for task in result.tasks:
        lines += ["", f"## {TASK_TITLES[task.task]}", "", setting_sentence(task), *task_remarks(task)]
        for regime in task.regimes:
            lines += ["", f"### {regime_title(regime)}", "", *(f"* {v.text}" for v in regime.verdicts)]
            for title, rows in score_tables(regime):
                lines += ["", *([f"{title}:", ""] if title else []), *_table(task.metrics, rows, "+" if title else "")]
            lines += ["", *(f"* Left out, {arm.title}: {arm.reason}" for arm in regime.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def setting_sentence(task: TaskResult) -> str:
    """Say in one sentence what is equal in all arms of a task."""
    levelled = any(regime.steps is not None for regime in task.regimes)
    steps = (
        "as many steps as the control takes to level off on val, batches of" if levelled else f"{task.steps} steps of"
    )
    return (
        f"{task.network} ({task.parameters / 1e6:.1f} M parameters, from {task.weights} weights), in every arm "
        f"{steps} {task.batch_size} at a peak rate of {task.learning_rate:g}, {task.precision}; "
        f"{task.test_items} test items of {task.test_groups} lesions or patients."
    )


def task_remarks(task: TaskResult) -> list[str]:
    """Return what limits a task's results, one bullet point each."""
    titles = [f"* Not measured: {name}, as {reason}." for name, reason in task.undefined.items()]
    return ["", *titles, *(f"* {text}" for text in task.caveats)] if titles or task.caveats else []


def regime_title(regime: RegimeResult) -> str:
    """Name a regime by its real pairs."""
    parts = ", ".join(f"{count} {name}" for name, count in regime.diagnoses.items())
    steps = "" if regime.steps is None else f", {regime.steps} steps"
    return f"{'All ' if regime.whole else ''}{regime.real_pairs} real pairs ({parts}){steps}"


def score_tables(regime: RegimeResult) -> Iterator[tuple[str, Rows]]:
    """Yield the scores of a regime's arms, and each kind of difference that there is with its heading."""
    yield "", [(arm, arm.scores) for arm in regime.arms]
    for reference, heading in DIFFERENCES.items():
        rows = [(arm, arm.differences[reference]) for arm in regime.arms if reference in arm.differences]
        if rows:
            yield heading, rows


def _table(metrics: Sequence[MetricInfo], rows: Rows, sign: str) -> list[str]:
    lines = [[arm.title, *(_text(found.get(metric.name), metric, sign) for metric in metrics)] for arm, found in rows]
    heads = ["arm", *(metric.heading for metric in metrics)]
    return [f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines]]


def _text(score: Estimate | None, metric: MetricInfo, sign: str) -> str:
    if score is None or math.isnan(score.value):
        return "–"
    value, low, high = (f"{number:{sign}.{metric.digits}f}" for number in (score.value, score.low, score.high))
    return value if math.isnan(score.low) else f"{value} ({low} to {high})"
