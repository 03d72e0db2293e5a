"""A benchmark as Markdown: one table of scores and two of differences for each task and amount of real pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skindualgen.benchmarking.results import (
    ArmResult,
    BenchmarkResult,
    MetricInfo,
    Reference,
    RegimeResult,
    Score,
    TaskResult,
)

TASK_TITLES = {"segment": "Segmentation", "classify": "Diagnosis"}
DIFFERENCES: dict[Reference, str] = {
    "real": "Difference to real",
    "best": "Difference to the best arm without synthetic",
}


def benchmark_markdown(result: BenchmarkResult) -> str:
    """Return a benchmark as Markdown; intervals are 95 %."""
    generated = f" and generated pairs of `{result.generated}`" if result.generated else ""
    lines = [
        "# Benchmark",
        "",
        f"Real pairs of `{result.real}`{generated}, {result.size_px} px, {result.seeds} seeds, tested on the real",
        f"split {result.test_split}. Mean over the seeds, with 95 % intervals over seeds and test items.",
        "",
        *(f"* **Leak, accepted:** {text}" for text in result.leaks),
        *(f"* {text}" for text in result.caveats),
    ]
    for task in result.tasks:
        lines += ["", f"## {TASK_TITLES[task.task]}", "", setting_sentence(task), *task_remarks(task)]
        for regime in task.regimes:
            lines += ["", f"### {regime_title(regime)}", "", *(f"* {v.text}" for v in regime.verdicts), ""]
            lines += _table(task.metrics, regime.arms, lambda arm, metric: arm.scores.get(metric))
            for reference, title in DIFFERENCES.items():
                shown = [arm for arm in regime.arms if reference in arm.differences]
                if shown:
                    lines += ["", f"{title}:", ""]
                    lines += _table(task.metrics, shown, _difference_to(reference), sign="+")
            lines += ["", *(f"* Left out, {arm.title}: {arm.reason}" for arm in regime.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def setting_sentence(task: TaskResult) -> str:
    """Say in one sentence what is equal in all arms of a task."""
    return (
        f"{task.network} ({task.parameters / 1e6:.1f} M parameters, from {task.weights} weights), in every arm "
        f"{task.steps} steps of {task.batch_size} at a peak rate of {task.learning_rate:g}, {task.precision}; "
        f"{task.test_items} test items of {task.test_groups} lesions or patients."
    )


def task_remarks(task: TaskResult) -> list[str]:
    """Return what limits a task's results, one bullet point each."""
    titles = [f"* Not measured: {name}, as {reason}." for name, reason in task.undefined.items()]
    return ["", *titles, *(f"* {text}" for text in task.caveats)] if titles or task.caveats else []


def regime_title(regime: RegimeResult) -> str:
    """Name a regime by its real pairs."""
    parts = ", ".join(f"{count} {name}" for name, count in regime.diagnoses.items())
    return f"{'All ' if regime.whole else ''}{regime.real_pairs} real pairs ({parts})"


def _difference_to(reference: Reference) -> Callable[[ArmResult, str], Score | None]:
    return lambda arm, metric: arm.differences.get(reference, {}).get(metric)


def _table(
    metrics: Sequence[MetricInfo],
    arms: Sequence[ArmResult],
    cell: Callable[[ArmResult, str], Score | None],
    *,
    sign: str = "",
) -> list[str]:
    heads = [f"{metric.title}{f', {metric.unit}' if metric.unit else ''}" for metric in metrics]
    rows = [
        f"| {arm.title} | " + " | ".join(_text(cell(arm, metric.name), metric, sign) for metric in metrics) + " |"
        for arm in arms
    ]
    return [f"| arm | {' | '.join(heads)} |", "| --- |" + " --- |" * len(metrics), *rows]


def _text(score: Score | None, metric: MetricInfo, sign: str) -> str:
    if score is None or score.value is None:
        return "–"
    digits = 1 if metric.unit else 3
    if score.low is None or score.high is None:
        return f"{score.value:{sign}.{digits}f}"
    return f"{score.value:{sign}.{digits}f} ({score.low:{sign}.{digits}f} to {score.high:{sign}.{digits}f})"
