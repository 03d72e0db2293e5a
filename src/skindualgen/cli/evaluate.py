"""``skindualgen evaluate``: a report on anybody's generated pairs, compared with real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import (
    JudgeEncoderOption,
    JudgeSizeOption,
    JudgesOption,
    JudgeStepsOption,
    SeedOption,
    judge_settings,
)

EXIT_CONDITION_FAILED = 3


def evaluate(
    real: Annotated[Path, typer.Option(help="Data set folder of real pairs with a train and a val or test split.")],
    generated: Annotated[Path, typer.Option(help="Data set folder of generated pairs, of any generator.")],
    out: Annotated[Path, typer.Option(help="Folder of the report; new, or of an earlier evaluation.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="fidelity, masks, diagnosis, adherence, memorisation or skin_tone. Repeatable.  (default: all)"
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="Condition such as 'near_copy_rate>0.01': exit code 3 where it holds. Repeatable."),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Real split that no generator has seen.  (default: test, else val)")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="Side in px at which all is compared.  (default: the smaller one)")
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(help="Feature extractor, NAME or NAME=WEIGHTS.  Repeatable; the first searches for copies."),
    ] = None,
    judges: JudgesOption = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="A trained segmenter's file.  (default: the bundled one)")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A trained classifier's file.  (default: the bundled one)")
    ] = None,
    train_judges: Annotated[
        bool, typer.Option("--train-judges", help="Train judges on the real train split, in place of the bundled ones.")
    ] = False,
    site_classifier: Annotated[
        bool, typer.Option("--site-classifier", help="Train one for body sites too, to judge prompted sites.")
    ] = False,
    judge_steps: JudgeStepsOption = None,
    judge_encoder: JudgeEncoderOption = None,
    judge_size: JudgeSizeOption = None,
    device: Annotated[str, typer.Option(help="Where features are computed: cpu, cuda, mps.")] = "cpu",
    seed: SeedOption = 0,
) -> None:
    """Measure fidelity, masks, diagnoses, copies and skin tones of generated pairs; write OUT/report.html.

    Also OUT/report.json and OUT/pictures.csv. Where the bundled judges cannot judge these photographs, and with one of
    --train-judges, --judge-steps, --judge-encoder and --judge-size, judges are trained on the real train split, and
    kept for the next evaluation. Exit code 3: a --fail-if condition holds.
    """
    from skindualgen.cli.running import loading, stage_progress

    with loading("Loading ..."):
        from skindualgen.evaluation.conditions import parse_condition
        from skindualgen.evaluation.run import EvaluateOptions, section_names
        from skindualgen.evaluation.run import evaluate as run
        from skindualgen.judges.extractors import OFFLINE_DEFAULT
        from skindualgen.judges.trained import JudgeRecipe
        from skindualgen.report.evaluation_folder import claim_folder, write_evaluation
    given = judge_settings(judge_steps, judge_encoder, judge_size)
    recipe = JudgeRecipe(**given, seed=seed) if given or train_judges else None
    options = EvaluateOptions(
        real=real,
        generated=generated,
        sections=section_names(only or []),
        conditions=tuple(parse_condition(text) for text in fail_if or []),
        held_out=held_out,
        size_px=size,
        extractors=tuple(extractor or [OFFLINE_DEFAULT]),
        judges=judges,
        segmenter=segmenter,
        classifier=classifier,
        site_classifier=site_classifier,
        recipe=recipe,
        device=device,
        seed=seed,
    )
    with claim_folder(out), stage_progress() as progress:
        evaluation = run(options, progress)
        path = write_evaluation(evaluation, out)
    if evaluation.inputs.left_out is not None:
        typer.echo(evaluation.inputs.left_out)
    typer.echo(f"report: {path}")
    failed = [outcome for outcome in evaluation.report.conditions if outcome.failed]
    for outcome in failed:
        typer.secho(f"Failed: {outcome.condition} ({outcome.reason})", fg=typer.colors.RED, err=True)
    if failed:
        raise typer.Exit(EXIT_CONDITION_FAILED)
