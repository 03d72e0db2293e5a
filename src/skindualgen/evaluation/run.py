"""An evaluation from start to end: two folders in, measures and what a report shows next to them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError
from skindualgen.evaluation.adherence import adherence_section
from skindualgen.evaluation.conditions import Condition, judge_conditions, refuse_unknown
from skindualgen.evaluation.definitions import DEFINITIONS
from skindualgen.evaluation.diagnosis import diagnosis_section
from skindualgen.evaluation.evidence import Evidence, first_samples
from skindualgen.evaluation.fidelity import fidelity_section
from skindualgen.evaluation.inputs import Inputs, read_inputs
from skindualgen.evaluation.masks import masks_section
from skindualgen.evaluation.memorisation import memorisation_section
from skindualgen.evaluation.results import SECTION_TYPES, SECTIONS, EvaluationReport, Run, Section, SectionName
from skindualgen.evaluation.skin_tone import skin_tone_section
from skindualgen.files import run_record
from skindualgen.judges.extractors import OFFLINE_DEFAULT
from skindualgen.judges.features import CachedFeatures
from skindualgen.judges.trained import JudgeRecipe, Judges, Progress, cached_extractor, default_cache

SAMPLES = 12
"""Generated photographs of each diagnosis that a report shows: the first ones, not chosen."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What is asked of an evaluation; see the options of ``skindualgen evaluate``."""

    real: Path
    generated: Path
    sections: tuple[SectionName, ...] = SECTIONS
    conditions: tuple[Condition, ...] = ()
    held_out: str | None = None
    size_px: int | None = None
    extractors: tuple[str, ...] = (OFFLINE_DEFAULT,)
    judges: Path | None = None
    segmenter: Path | None = None
    classifier: Path | None = None
    site_classifier: bool = False
    recipe: JudgeRecipe | None = None
    """of judges that are trained; None: the bundled judges where they can judge these photographs"""
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The report, and what is shown next to its numbers."""

    report: EvaluationReport
    evidence: Evidence
    inputs: Inputs


def section_names(names: Sequence[str]) -> tuple[SectionName, ...]:
    """Return the sections of these names in their order; all of them if none is named.

    Raises:
        InputError: there is no such section.
    """
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        raise InputError(f"section {unknown[0]!r}", f"one of {', '.join(SECTIONS)}", "fix --only")
    return tuple(name for name in SECTIONS if not names or name in names)


def evaluate(options: EvaluateOptions, progress: Progress) -> Evaluation:
    """Compare a generated data set folder with a real one.

    Args:
        options: what to do.
        progress: is given how far each stage is.

    Raises:
        InputError: a folder cannot be used, a judge is missing or has seen the held-out photographs, or a condition
            names an unknown measure.
    """
    progress("reading both folders", 0, 1)
    inputs = read_inputs(options.real, options.generated, held_out=options.held_out, size_px=options.size_px)
    refuse_unknown(options.conditions, names=DEFINITIONS, groups=inputs.groups)
    progress("reading both folders", 1, 1)
    cache = options.judges or default_cache()
    extractors = {
        text.partition("=")[0]: cached_extractor(text, cache, device=options.device) for text in options.extractors
    }
    judges = Judges(
        inputs.train.data,
        inputs.held_out.ids,
        options.recipe,
        inputs.size_px,
        cache,
        progress,
        segmenter_file=options.segmenter,
        classifier_file=options.classifier,
    )
    evidence = Evidence(samples=first_samples(inputs.generated, SAMPLES))
    seed, first = options.seed, next(iter(extractors.values()))
    measure: dict[SectionName, Callable[[], Section]] = {
        "fidelity": lambda: fidelity_section(inputs, extractors, evidence, seed=seed),
        "masks": lambda: masks_section(inputs, judges, evidence, seed=seed),
        "diagnosis": lambda: diagnosis_section(inputs, judges, evidence, first, seed=seed),
        "adherence": lambda: adherence_section(inputs, judges, evidence, seed=seed, sites=options.site_classifier),
        "memorisation": lambda: memorisation_section(inputs, first, evidence),
        "skin_tone": lambda: skin_tone_section(inputs, evidence, seed=seed),
    }
    sections: dict[str, Section] = {}
    for name in SECTIONS:
        if name in options.sections:
            stage = f"measuring {name.replace('_', ' ')}"
            progress(stage, 0, 1)
            sections[name] = measure[name]()
            progress(stage, 1, 1)
        else:
            sections[name] = SECTION_TYPES[name](left_out="Not asked for.")
    report = EvaluationReport(
        run=_run(options, inputs, extractors, judges),
        real=inputs.real_info,
        generated=inputs.generated_info,
        caveats=[*inputs.caveats, *judges.not_bundled],
        definitions=DEFINITIONS,
        **sections,
    )
    outcomes = judge_conditions(options.conditions, list(report.measures()))
    return Evaluation(report.model_copy(update={"conditions": outcomes}), evidence, inputs)


def _run(options: EvaluateOptions, inputs: Inputs, extractors: Mapping[str, CachedFeatures], judges: Judges) -> Run:
    record: dict[str, Any] = run_record(
        seed=options.seed,
        size_px=inputs.size_px,
        held_out=inputs.held_out_split,
        n_train=len(inputs.train),
        n_held_out=len(inputs.held_out),
        n_generated=len(inputs.generated),
        extractors=[f"{extractor.name}: {extractor.preprocessing}" for extractor in extractors.values()],
        judge_recipes=judges.recipes,
    )
    return Run(**record)
