"""The benchmark's report: a self-contained page and a Markdown file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from skindualgen.benchmarking.results import (
    CONTROLS,
    ArmResult,
    BenchmarkResult,
    MetricInfo,
    RegimeResult,
    TaskResult,
    Verdict,
)
from skindualgen.files import atomic_write_text
from skindualgen.metrics.intervals import Estimate
from skindualgen.report import benchmark_figures as figures
from skindualgen.report.benchmark_text import (
    TASK_TITLES,
    benchmark_markdown,
    regime_title,
    score_tables,
    setting_sentence,
)
from skindualgen.report.figures import figure_svg
from skindualgen.report.page import Cell, Column, Headline, Plot, Report, Section, Step, Table
from skindualgen.report.render import write_report

PAGE_FILE, MARKDOWN_FILE = "benchmark.html", "benchmark.md"

DRAWN = {"segment": ("dice",), "classify": ("balanced_accuracy", "macro_auroc")}
"""Metrics with figures, and in the answer at the top; the others are in the tables."""

VERDICT_COLUMNS = (
    Column("Helped", "helped"),
    Column("Closest hybrid", "closest"),
    Column("Minus replay", "difference", digits=3),
    Column("Minus augmentation", "difference", digits=3),
)
POOL_COLUMNS = (
    Column("Real pairs", "items", digits=0),
    Column("Generated pairs", "items", digits=0),
    Column("Share of draws", "draws", digits=2),
    Column("Training loss", "loss", digits=3),
    Column("Seconds", "seconds", digits=0),
)

DEFINITIONS = {
    "arm": (
        "Arm",
        "One way of training. All arms have the same network, the same number of optimiser steps of the same batch "
        "size, and the same schedule: an arm with more pictures does not train for longer.",
    ),
    "interval": (
        "Interval",
        "95 %, of the mean over the seeds; over the choice of seeds and of test items (Obuchowski and Rockette 1995).",
    ),
    "difference": (
        "Difference",
        "Score of the arm minus score of the other, for the same seeds and test items. An interval that excludes 0 "
        "shows a difference; it is not widened for the number of arms that are compared.",
    ),
    "best": (
        "Best arm without generated pairs",
        "The one whose mean over the seeds is best by this metric. It is chosen on the test part itself, which "
        "flatters it: the other arms look worse next to it than they are, rather than better.",
    ),
    "helped": (
        "Helped",
        "Yes if a hybrid arm is better than BOTH real replay and classical augmentation, and than tuned augmentation "
        "and the segmenter's own masks where these have run, and all 95 % intervals "
        'exclude 0. Several ratios are tried; "after Holm too": the p-values stay below 0.05 when adjusted for them.',
    ),
    "closest": (
        "Closest hybrid",
        "The hybrid arm whose smallest gain over these is largest; of those that helped, if there are any.",
    ),
    "draws": ("Share of the draws", "Of the photographs in the batches, those that are generated."),
    "items": ("Different pairs", "That the arm trains on, mean over the seeds."),
    "loss": ("Training loss", "Mean of the last tenth of the steps and over the seeds; arms see different pictures."),
    "seconds": ("Seconds", "Of one training, mean over the seeds."),
}


def write_benchmark_report(result: BenchmarkResult, out: Path) -> Path:
    """Write ``benchmark.html`` and ``benchmark.md`` into ``out``, and return the page."""
    atomic_write_text(out / MARKDOWN_FILE, benchmark_markdown(result))
    write_report(benchmark_report(result), out / PAGE_FILE)
    return out / PAGE_FILE


def benchmark_report(result: BenchmarkResult) -> Report:
    """Arrange a benchmark as a page."""
    generated = f"{result.generated}" if result.generated else "no generated pairs"
    return Report(
        title="Do generated pairs help?",
        subtitle=f"Networks trained on real pairs ({result.real}), on generated ones ({generated}) and on both, each "
        f"with the same optimiser steps, and tested on real photographs (split {result.test_split}).",
        hero=(),
        headlines=_headlines(result),
        sections=[_answer(result), *(_task_section(task) for task in result.tasks)],
        definitions=_definitions(result),
        next_steps=_next_steps(result),
        record=_record(result),
        eyebrow="Benchmark",
    )


def _headlines(result: BenchmarkResult) -> list[Headline]:
    shown = []
    for task in result.tasks:
        metric = _drawn(task)[0]
        verdicts = [regime.verdict(metric.name).helped for regime in task.regimes]
        tested = [helped for helped in verdicts if helped is not None]
        if tested:
            amounts = "amount" if len(tested) == 1 else "amounts"
            label = f"{amounts} of real pairs at which generated pairs helped, by {metric.title}"
            shown.append(Headline(f"{sum(tested)} of {len(tested)}", label, "helped"))
    shown.append(Headline(f"{result.seeds}", "seeds of each arm" if result.seeds > 1 else "seed of each arm", "arm"))
    items = max(task.test_items for task in result.tasks)
    return [*shown, Headline(f"{items}", f"test items (split {result.test_split})")]


def _answer(result: BenchmarkResult) -> Section:
    rows: list[tuple[str, Sequence[Cell]]] = [
        (
            f"{TASK_TITLES[task.task]}, {regime.real_pairs} real pairs",
            [metric.title, *_verdict_cells(regime, regime.verdict(metric.name))],
        )
        for task in result.tasks
        for regime in task.regimes
        for metric in _drawn(task)
    ]
    return Section(
        "answer",
        "The answer",
        "Generated pairs help where a mixture of real and generated pairs beats both what costs nothing: classical "
        "augmentation, and repeating the real pairs.",
        tables=[Table("Task", [Column("Metric"), *VERDICT_COLUMNS], rows)],
        caveats=[*(f"The test part leaks, and this was accepted: {text}" for text in result.leaks), *result.caveats],
    )


def _task_section(task: TaskResult) -> Section:
    left_out = [
        f"Left out with {regime.real_pairs} real pairs, {arm.title}: {arm.reason}."
        for regime in task.regimes
        for arm in regime.left_out
    ]
    undefined = [f"Not measured: {name}, as {reason}." for name, reason in task.undefined.items()]
    return Section(
        task.task,
        TASK_TITLES[task.task],
        setting_sentence(task),
        plots=[plot for metric in _drawn(task) for plot in _plots(task, metric)],
        tables=[table for regime in task.regimes for table in _tables(task, regime)],
        caveats=[*task.caveats, *undefined, *left_out],
    )


def _plots(task: TaskResult, metric: MetricInfo) -> list[Plot]:
    plots, name = [], f"{task.task}-{metric.name}"
    if (figure := figures.dose_response(task, metric)) is not None:
        caption = f"{metric.title} over the number of generated pairs for each real one. Lines are 95 % intervals."
        svg = figure_svg(figure, f"dose-{name}")
        plots.append(Plot(svg, f"{metric.title} over the ratio of generated pairs", caption, _key(task, metric)))
    for regime in task.regimes:
        if (figure := figures.forest(regime, metric)) is not None:
            caption = (
                f"{metric.title}, {regime.real_pairs} real pairs: difference of each arm, with 95 % intervals. "
                "Filled dots: the interval excludes 0."
            )
            svg = figure_svg(figure, f"forest-{name}-{regime.real_pairs}")
            plots.append(Plot(svg, f"differences in {metric.title}", caption, "difference"))
    return plots


def _tables(task: TaskResult, regime: RegimeResult) -> list[Table]:
    title = regime_title(regime)
    terms = {arm.title: _arm_key(task, arm) for arm in regime.arms}
    columns = [Column(metric.heading, _key(task, metric), digits=metric.digits) for metric in task.metrics]
    scores = [
        Table(
            "Arm",
            columns,
            [(arm.title, [_cell(found.get(metric.name)) for metric in task.metrics]) for arm, found in rows],
            title=f"{title}: {heading.lower() or 'scores'}",
            terms=terms,
        )
        for heading, rows in score_tables(regime)
    ]
    verdicts = [(metric.title, _verdict_cells(regime, regime.verdict(metric.name))) for metric in task.metrics]
    helped = Table("Metric", VERDICT_COLUMNS, verdicts, title=f"{title}: did generated pairs help?")
    pools: list[tuple[str, Sequence[Cell]]] = [
        (arm.title, [arm.real_items, arm.synthetic_items, arm.synthetic_share, arm.final_loss, arm.seconds])
        for arm in regime.arms
    ]
    return [*scores, helped, Table("Arm", POOL_COLUMNS, pools, title=f"{title}: what the arms train on", terms=terms)]


def _cell(score: Estimate | None) -> Cell:
    if score is None:
        return math.nan
    return score.value if math.isnan(score.low) else Estimate(score.value, score.low, score.high)


def _definitions(result: BenchmarkResult) -> dict[str, tuple[str, str]]:
    definitions = dict(DEFINITIONS)
    for task in result.tasks:
        for metric in task.metrics:
            definitions[_key(task, metric)] = (metric.title, metric.definition)
        for regime in task.regimes:
            for arm in regime.arms:
                definitions.setdefault(_arm_key(task, arm), (arm.title, arm.definition))
    return definitions


def _record(result: BenchmarkResult) -> dict[str, str]:
    record = {
        "Command": " ".join(result.record["command"]),
        "Date": result.record["date_utc"],
        "Size": f"{result.size_px} px",
        "Devices": f"{', '.join(result.devices)}; {result.threads} CPU threads a training",
    }
    for task in result.tasks:
        record[TASK_TITLES[task.task]] = (
            f"{task.network}, {task.weights} weights, {_steps(task)} steps of {task.batch_size}, {task.precision}, "
            f"diagnoses of generated pairs: {task.fill}, {task.generated_items} generated pairs at hand"
        )
    return record | {name: str(version) for name, version in result.record["versions"].items()}


def _steps(task: TaskResult) -> str:
    """The steps of the task, or those found for each amount of real pairs."""
    return ", ".join(dict.fromkeys(str(regime.steps or task.steps) for regime in task.regimes))


def _next_steps(result: BenchmarkResult) -> list[Step]:
    folders = f"--real {result.real} --generated {result.generated or 'GENERATED'}"
    return [
        Step(
            "Find out why",
            "Fidelity, variety, masks and memorisation of the generated pairs, each next to what real ones reach.",
            f"skindualgen evaluate {folders} --out evaluation",
        ),
        Step(
            "Extend this",
            "Trainings are kept by content: more seeds, ratios or amounts of real pairs run only what is new.",
            f"skindualgen benchmark {folders} --out benchmark --seeds {result.seeds + 5}",
        ),
    ]


def _drawn(task: TaskResult) -> list[MetricInfo]:
    return [metric for metric in task.metrics if metric.name in DRAWN[task.task]] or task.metrics[:1]


def _verdict_cells(regime: RegimeResult, verdict: Verdict) -> list[Cell]:
    answer = {True: "yes", False: "no", None: "not tested"}[verdict.helped]
    if verdict.winners_holm:
        answer += ", after Holm too"
    arm = regime.arm(verdict.closest)
    if arm is None:
        return [answer, "–", math.nan, math.nan]
    return [answer, arm.title, *(_cell(arm.differences[control][verdict.metric]) for control in CONTROLS)]


def _key(task: TaskResult, metric: MetricInfo) -> str:
    return f"{task.task}-{metric.name}"


def _arm_key(task: TaskResult, arm: ArmResult) -> str:
    return f"{task.task}-arm-{arm.name}".replace(".", "_")
