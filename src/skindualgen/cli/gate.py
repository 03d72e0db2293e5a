"""``skindualgen gate``: thresholds from held-out real pairs, and pairs judged by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skindualgen.cli.options import (
    BaseOption,
    JudgeEncoderOption,
    JudgeSizeOption,
    JudgesOption,
    JudgeStepsOption,
    SeedOption,
    judge_settings,
)

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Calibrate a gate on held-out real pairs, or apply one to pairs that are there.",
)

AdapterOption = Annotated[
    str, typer.Option(help="Whose reading of masks is compared: 'builtin', a run folder, or an adapter folder.")
]


@app.command("calibrate")
def calibrate(
    real: Annotated[Path, typer.Option(help="Data set folder of real pairs with a train and a held-out split.")],
    out: Annotated[Path, typer.Option(help="Folder of the gate; new, or of an earlier calibration.")],
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    accept: Annotated[
        float, typer.Option(help="Share of the held-out real pairs that shall pass all thresholds together.")
    ] = 0.95,
    split: Annotated[str, typer.Option(help="Split of the held-out pairs; never train.")] = "val",
    use_test: Annotated[
        bool, typer.Option("--use-test", help="Allow --split test, which then is no test split any more.")
    ] = False,
    segmenter: Annotated[
        Path | None, typer.Option(help="A segmenter's file; without one, segmenter_agreement is left out.")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A classifier's file; without one, class_probability is left out.")
    ] = None,
    train_judges: Annotated[
        bool,
        typer.Option(
            "--train-judges", help="Train those that are not given on the train split, or take them from --judges."
        ),
    ] = False,
    judges: JudgesOption = None,
    judge_steps: JudgeStepsOption = None,
    judge_encoder: JudgeEncoderOption = None,
    judge_size: JudgeSizeOption = None,
    without: Annotated[list[str] | None, typer.Option(help="Score to leave out. Repeatable.")] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="Side in px of the pairs to judge.  (default: the adapter's)")
    ] = None,
) -> None:
    """Find the thresholds that a stated share of held-out real pairs passes; write OUT/gate.json and what it needs.

    Use it with `skindualgen generate --gate OUT/gate.json`. The folder can be copied to other machines as a whole; it
    holds small versions of the training photographs.
    """
    from dataclasses import replace

    from skindualgen.cli.running import item_progress, load_pipeline, loading

    with loading():
        from skindualgen.data.dataset import Dataset
        from skindualgen.data.training_items import read_training_items
        from skindualgen.gate.calibration import CalibrateOptions, claim_gate_folder
        from skindualgen.gate.calibration import calibrate as run
        from skindualgen.judges.pictures import in_terms
        from skindualgen.judges.trained import JudgeRecipe, default_cache, trained_judge
        from skindualgen.sample.reading import mask_predictor

        pipeline = load_pipeline(adapter, base)
    options = CalibrateOptions(
        real, size or pipeline.native_px, accept, split, use_test, tuple(without or []), segmenter, classifier
    )
    with claim_gate_folder(out):
        if train_judges:
            recipe = JudgeRecipe(**judge_settings(judge_steps, judge_encoder, judge_size)).within(options.size_px)
            cache, train = judges or default_cache(), in_terms(Dataset.open(real, "train"))
            with item_progress("training judges") as report:
                if segmenter is None and "segmenter_agreement" not in options.without:
                    options = replace(options, segmenter=trained_judge("segmenter", train, recipe, cache, report))
                if classifier is None and "class_probability" not in options.without:
                    options = replace(options, classifier=trained_judge("classifier", train, recipe, cache, report))
        with item_progress("scoring held-out real pairs") as report:
            file = run(
                options,
                out,
                read_masks=mask_predictor(pipeline),
                adapter=pipeline.config.provenance,
                trained_on=read_training_items(Path(pipeline.name_or_path)),
                report=report,
            )
    for caveat in file.caveats:
        typer.echo(f"note: {caveat}", err=True)
    for rule in file.rules:
        typer.echo(f"{rule.score}: refused at or below {'-' if rule.threshold is None else f'{rule.threshold:.4g}'}")
    held_back = file.held_back
    typer.echo(
        f"accepts {file.real.value:.1%} of {file.real.n} real pairs; of pairs that set no threshold "
        f"{held_back.value:.1%} ({held_back.low:.1%} to {held_back.high:.1%}): {out / 'gate.json'}"
    )


@app.command("apply")
def apply(
    gate: Annotated[Path, typer.Option(help="gate.json of a calibrated gate, or its folder.")],
    pairs: Annotated[Path, typer.Option(help="Data set folder of pairs, of any generator; it is not changed.")],
    out: Annotated[Path, typer.Option(help="Folder of the report; new, or of an earlier one.")],
    keep: Annotated[
        Path | None, typer.Option(help="New data set folder for the accepted pairs.  (default: none is written)")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(help="Data set folder of real pairs: what the gate does to variety, compared with them."),
    ] = None,
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    extractor: Annotated[
        str, typer.Option(help="Feature extractor of the variety, NAME or NAME=WEIGHTS.")
    ] = "efficientnet-lite0",
    judges: JudgesOption = None,
    seed: SeedOption = 0,
) -> None:
    """Judge the pairs of a folder: OUT/report.html, gate_report.json, gate.csv (all scores) and rejected.jsonl."""
    from skindualgen.cli.running import item_progress, load_pipeline, loading

    with loading():
        from skindualgen.gate.application import apply_gate, keep_accepted
        from skindualgen.gate.gate import load_gate, read_gate_file
        from skindualgen.judges.trained import cached_extractor, default_cache
        from skindualgen.report.gate import claim_folder, gate_report, real_pictures
        from skindualgen.sample.reading import mask_predictor

        file, _ = read_gate_file(gate)
    with claim_folder(out):
        with loading():
            if file.adapter is None:
                loaded = load_gate(gate)
            else:
                pipeline = load_pipeline(adapter, base)
                made_of = pipeline.config.provenance or {}
                loaded = load_gate(gate, mask_predictor(pipeline), adapter_sha256=made_of.get("adapter_sha256"))
        with item_progress("judging") as report:
            application = apply_gate(loaded, pairs, report)
        compared: dict[str, Any] = {}
        if real is not None:
            features = cached_extractor(extractor, judges or default_cache())
            compared = {"real": real_pictures(real, file), "extractor": features}
        results, page = gate_report(application, out, **compared, seed=seed)
    share = results.accepted
    typer.echo(f"accepted {round(share.value * share.n)} of {share.n} pairs ({share.low:.1%} to {share.high:.1%})")
    for reason in results.reasons:
        if reason.refused:
            typer.echo(f"  {reason.score}: {reason.refused} refused, {reason.alone} by nothing else")
    if keep is not None:
        typer.echo(f"{keep_accepted(application, keep)} accepted pairs: {keep}")
    typer.echo(f"report: {page}")
