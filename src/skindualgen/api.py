"""The package's functions for scripts and notebooks: what the commands do, on arguments instead of options.

Names and defaults are those of the commands; ``from skindualgen import prepare, check, train, generate`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset

if TYPE_CHECKING:
    from skindualgen.benchmarking.results import BenchmarkResult
    from skindualgen.evaluation.results import EvaluationReport
    from skindualgen.planning.anchors import Anchoring
    from skindualgen.planning.sampling import PlannedSet
    from skindualgen.planning.weak import WeakFor
    from skindualgen.readiness.results import Purpose, Readiness

__all__ = ["benchmark", "check", "evaluate", "generate", "plan", "prepare", "train"]


def prepare(source: str | Path, out: str | Path, *, workers: int | None = None, **options: Any) -> Dataset:
    """Read photographs and masks of any known layout into a checked data set folder with leak-safe splits.

    Args:
        source: folder of photographs, as it was downloaded (docs/data-layouts.md).
        out: new folder, or that of an interrupted run.
        workers: processes that decode; if not given, up to one per core.
        options: fields of `skindualgen.data.prepare_options.PrepareOptions`, such as ``size=256`` or
            ``split="70/15/15"``.

    Returns:
        The data set; items that were refused are in ``out/rejected.csv``.

    Raises:
        InputError: an unknown option, a layout that is not known, or nothing that can be used.
    """
    from skindualgen.data.prepare import prepare as prepare_folder
    from skindualgen.data.prepare_options import PrepareOptions

    prepare_folder(Path(source), Path(out), _options(PrepareOptions, options), workers=workers)
    return Dataset.open(out)


def check(data: str | Path, purpose: Purpose = "train", *, base: str = "micro", hours: bool = False) -> Readiness:
    """Say whether a data set is ready: ``verdict`` "go", "fix" or "stop", and ``problems`` with their remedies.

    Args:
        data: data set folder; it is only read.
        purpose: "train" or "benchmark".
        base: that will be trained, as `train` takes it: photographs are compared with its size.
        hours: also measure how long a training with the defaults takes on this machine.

    Raises:
        InputError: no data set folder, or no such base.
    """
    from skindualgen.readiness.check import check as check_folder

    return check_folder(Path(data), purpose, base=base, hours=hours)


def train(data: str | Path, out: str | Path, *, config: str | Path | None = None, **settings: Any) -> Path:
    """Adapt a base to image-mask pairs: LoRA and the new layers. The same call goes on where it was interrupted.

    Args:
        data: data set folder.
        out: run folder.
        config: TOML file of settings; arguments win over it.
        settings: fields of `skindualgen.config.TrainConfig`, such as ``base="sd2-base"``; nested ones as dicts:
            ``lora={"rank": 16}``.

    Returns:
        The run folder, for ``SkinDualGenPipeline.from_adapter``; ``report.html`` in it shows how the training went.

    Raises:
        InputError: an unknown setting, one out of range, or data that cannot be trained on.
    """
    from skindualgen.config import load_train_config
    from skindualgen.report.training import train_with_report

    overrides: dict[str, Any] = {"data": Path(data), "out": Path(out)}
    for name, value in settings.items():
        overrides |= (
            {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        )
    return train_with_report(load_train_config(None if config is None else Path(config), overrides))


def plan(
    data: str | Path,
    out: str | Path,
    *,
    target: str = "balanced",
    by: str = "diagnosis",
    count: int | None = None,
    weak_for: WeakFor | None = None,
    model: str | Path | None = None,
    clusters: int | None = None,
    plain_prompts: bool = False,
    max_ratio: float = 5.0,
    allow_novel: bool = False,
    templates: str | Path | None = None,
    wildcards: str | Path | None = None,
    seed: int = 0,
) -> PlannedSet:
    """Plan synthetic pairs for the training split of a data set, by counts or by what a judge is bad at.

    Args:
        data: data set folder.
        out: the plan, a CSV for ``generate(plan=...)``; an earlier one is overwritten, and none is written where there
            is nothing to add.
        target: "balanced", "uniform" with ``count``, or the path of a TOML file of ratios.
        by: what groups are made of: diagnosis, sex, site, tone, or several, with commas.
        count: pairs in all, for uniform and ``weak_for``; as many as real ones if not given.
        weak_for: "segment" or "classify": in place of counts, more of what this judge is bad at, by its loss on val.
        model: the judge's file: a segmenter or classifier trained on the real training split.
        clusters: of each diagnosis at most, for ``weak_for``; 4 if not given.
        plain_prompts: with ``weak_for``: no words for the looks of real pairs in prompts.
        max_ratio: synthetic pairs for each real one of a group, at most.
        allow_novel: fill combinations without any real pair too, marked as extrapolation.
        templates: text file of templates.
        wildcards: folder of the wildcards; the templates' if not given.
        seed: another one draws other records, prompts and seeds.

    Returns:
        ``rows`` of the plan, and ``groups`` with what each has and gets.

    Raises:
        InputError: arguments that say nothing together, data that cannot be planned for, or a judge that has seen val.
    """
    from skindualgen.metrics.skin_tone import tone_of
    from skindualgen.planning.plan import check_plan_path, write_plan
    from skindualgen.planning.sampling import plan_pairs
    from skindualgen.planning.targets import parse_by, target_named
    from skindualgen.planning.templates import templates_named
    from skindualgen.planning.tones import measure_tones
    from skindualgen.planning.weak import check_options

    place, attributes, file = Path(out), parse_by(by), None if model is None else Path(model)
    check_options(weak_for, file, clusters, plain_prompts=plain_prompts, target=target, by=by, allow_novel=allow_novel)
    check_plan_path(place)
    own = templates_named(*(None if path is None else Path(path) for path in (templates, wildcards)))
    limits: dict[str, Any] = {"max_ratio": max_ratio, "seed": seed, "templates": own}
    if weak_for is not None and file is not None:
        from skindualgen.judges.weakness import plan_for_judge

        looks = not plain_prompts
        _, planned = plan_for_judge(Path(data), weak_for, file, count=count, clusters=clusters, looks=looks, **limits)
    else:
        goal, records = target_named(target, count, attributes), Dataset.open(data, "train").records
        if "tone" in attributes:
            records = measure_tones(Path(data), records, tone_of)
        planned = plan_pairs(records, goal, by=attributes, allow_novel=allow_novel, **limits)
    if planned.pairs:
        write_plan(place, planned.rows)
    return planned


def generate(
    out: str | Path,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    plan: str | Path | None = None,
    like: str | Path | None = None,
    anchoring: Anchoring | None = None,
    per_pair: int | None = None,
    count: int | None = None,
    seed: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    batch_size: int = 8,
    workers: int = 1,
    license: str | None = None,
    complete_prompts: bool = True,
    **model: Any,
) -> Dataset:
    """Generate pairs into a data set folder. The same call goes on where it was interrupted.

    Exactly one of ``prompts``, ``plan``, ``like`` and ``anchoring``; prompts may go with masks to start from.

    Args:
        out: new folder, or that of an interrupted run.
        prompts: one or more prompts, taken in turn, or the `Path` of a file of prompts.
        plan: CSV of ``skindualgen plan``.
        like: data set folder whose training records give prompts and labels.
        anchoring: real pairs, or photographs, to start from, and how (`skindualgen.planning.anchors.Anchoring`).
        per_pair: variations of each real pair; 1 if not given.
        count: number of pairs, without a plan; 16 if not given.
        seed: another one generates other pairs, without a plan; 0 if not given.
        report: called with the number of pairs done and of all.
        batch_size: pairs generated together.
        workers: processes, each with a model.
        license: SPDX id that is recorded with each pair.
        complete_prompts: let prompts go on with words for looks, drawn from those of real pairs, if the adapter was
            trained with such and a prompt has none of its own.
        model: fields of `skindualgen.production.sampler.PipelineFactory`, such as ``adapter="runs/mine"``,
            ``steps=20``, ``guidance=2.0``, ``gate=Path("gate")``.

    Raises:
        InputError: an unknown option, prompts that are too long, a folder of other settings.
        ProductionStopped: SIGINT or SIGTERM.
    """
    from skindualgen.production.generate import GenerateOptions, generate_dataset
    from skindualgen.production.sampler import PipelineFactory
    from skindualgen.production.source import Sources

    model = {name: Path(value) if name == "gate" and value is not None else value for name, value in model.items()}
    factory = _options(PipelineFactory, {"threads": 1, "anchoring": anchoring} | model)
    texts = [prompts] if isinstance(prompts, str) else prompts
    sources = Sources(
        plan=None if plan is None else Path(plan),
        prompts=None if isinstance(texts, Path) or texts is None else tuple(texts),
        prompt_file=texts if isinstance(texts, Path) else None,
        like=None if like is None else Path(like),
        count=count,
        seed=seed,
        anchoring=anchoring,
        per_pair=per_pair,
    )
    options = GenerateOptions(factory, batch_size, workers=workers, license=license, complete_prompts=complete_prompts)
    generate_dataset(options, sources.open, Path(out), report)
    return Dataset.open(out)


def evaluate(
    real: str | Path, generated: str | Path, out: str | Path | None = None, **options: Any
) -> EvaluationReport:
    """Compare generated pairs with real ones: fidelity, variety, masks, diagnoses, copies, skin tone.

    Args:
        real: data set folder with the splits "train" and "val" or "test".
        generated: data set folder of generated pairs.
        out: folder for ``report.html``, ``report.json`` and ``pictures.csv``; nothing is written if not given.
        options: fields of `skindualgen.evaluation.run.EvaluateOptions`, such as ``sections=("fidelity",)``.

    Raises:
        InputError: an unknown option, or folders that cannot be compared.
    """
    from skindualgen.evaluation.run import EvaluateOptions
    from skindualgen.evaluation.run import evaluate as run
    from skindualgen.report.evaluation_folder import claim_folder, write_evaluation

    chosen = _options(EvaluateOptions, {"real": Path(real), "generated": Path(generated), **options})
    with claim_folder(Path(out)) if out is not None else nullcontext():
        evaluation = run(chosen, lambda stage, done, total: None)
        if out is not None:
            write_evaluation(evaluation, Path(out))
    return evaluation.report


def benchmark(
    real: str | Path,
    generated: str | Path | None,
    out: str | Path,
    *,
    tasks: Sequence[str] = ("segment", "classify"),
    **options: Any,
) -> BenchmarkResult:
    """Train the same network on real, augmented, repeated, generated and mixed pairs; test it on real ones.

    Args:
        real: data set folder with splits.
        generated: data set folder of generated pairs, or None.
        out: folder for the reports and the trainings, which the same call uses again.
        tasks: what to train for.
        options: fields of `skindualgen.benchmarking.options.BenchmarkOptions`, such as ``seeds=3``, ``steps=300``.

    Raises:
        InputError: an unknown option, one out of range, or data that leak.
    """
    from skindualgen.benchmarking.options import BenchmarkOptions
    from skindualgen.benchmarking.run import run_benchmark
    from skindualgen.report.benchmark import write_benchmark_report

    folder = None if generated is None else Path(generated)
    chosen = _options(BenchmarkOptions, {"tasks": tuple(tasks), "real": Path(real), "generated": folder, **options})
    result = run_benchmark(chosen, Path(out))
    write_benchmark_report(result, Path(out))
    return result


def _options(kind: Any, given: dict[str, Any]) -> Any:
    """Build options from keyword arguments.

    Raises:
        InputError: a name that is no option.
    """
    known = list(getattr(kind, "model_fields", None) or kind.__dataclass_fields__)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"the argument {unknown[0]!r}", f"one of {', '.join(known)}", "correct its name")
    return kind(**given)
