"""``skindualgen generate``: a data set of synthetic pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from skindualgen.cli.options import (
    AdapterOption,
    BaseOption,
    BatchSizeOption,
    GuidanceOption,
    MismatchOption,
    StepsOption,
)
from skindualgen.production import DEFAULT_COUNT

if TYPE_CHECKING:
    from skindualgen.planning.anchors import Anchoring, Region, Way
    from skindualgen.production.finish import Outcome

EXIT_UNMET = 3


def generate(
    out: Annotated[Path, typer.Option(help="New folder, or that of an interrupted run.")],
    adapter: AdapterOption = "builtin",
    base: BaseOption = None,
    allow_base_mismatch: MismatchOption = False,
    plan: Annotated[
        Path | None, typer.Option(help="CSV of prompts, labels, counts and seeds, as `skindualgen plan` writes it.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Prompt; several are taken in turn. Repeatable.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file, one prompt per line, # comments; or .csv, .tsv, .jsonl: prompt, labels, seed."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Data set folder: prompts and labels as in its training split.")
    ] = None,
    redraw: Annotated[
        Path | None, typer.Option(help="Data set folder: variations of its training pairs, photograph and mask alike.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Data set folder, or folder of masks: photographs for its masks.")
    ] = None,
    inpaint: Annotated[
        Literal["lesion", "skin"] | None,
        typer.Option(help="Draw this part of --onto's photographs anew; the rest keeps its own pixels."),
    ] = None,
    onto: Annotated[Path | None, typer.Option(help="Data set folder, with --inpaint.")] = None,
    read: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs, or data set folder: its training photographs, with masks read of them."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=2, help="With --read: of each photograph, over flips.  (default: 8)")
    ] = None,
    agree: Annotated[
        float | None,
        typer.Option(
            help="With --read: pixels where a smaller share of the draws agrees are ignored.  (default: 0.75)"
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How far --redraw goes: near 0 the same picture, 1 a new one.  (default: 0.3)")
    ] = None,
    keep_mask: Annotated[bool, typer.Option("--keep-mask", help="With --redraw: the mask stays as it is.")] = False,
    relabel: Annotated[
        str | None,
        typer.Option(help="With --redraw: towards this diagnosis; the record holds the shares of both labels."),
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(help="With --masks: deform them, by affine, elastic or affine,elastic.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Start from this real pair only. Repeatable.  (default: all)")
    ] = None,
    per_pair: Annotated[
        int | None, typer.Option(min=1, help="Variations of each real pair, in place of --count.  (default: 1)")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=1, help=f"Number of pairs, without a plan.  (default: {DEFAULT_COUNT})"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed gives other pairs, without a plan.  (default: 0)")
    ] = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    guidance_rescale: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share to which guided contrast is taken back.  (default: the adapter's)"),
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH", help="Noise levels, 0 clean to 1 noise, that are guided.  (default: the adapter's)"
        ),
    ] = None,
    prompt_noise: Annotated[
        float | None,
        typer.Option(min=0, help="CADS: noise on the prompt at first, for variety; try 0.1.  (default: the adapter's)"),
    ] = None,
    mask_guidance: Annotated[
        float | None,
        typer.Option(
            min=0, help="How far images are led towards their masks; 1 is as trained.  (default: the adapter's)"
        ),
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option(help="Weaker adapter of the same base to lead away from, instead of the empty prompt."),
    ] = None,
    best_of: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Candidates of each pair: a classifier keeps the best for its diagnosis.  (default: the adapter's)",
        ),
    ] = None,
    best_of_threshold: Annotated[
        float | None,
        typer.Option(
            help="With --best-of: a candidate of this probability needs no further one.  (default: 1, draw all)"
        ),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Classifier that --best-of chooses by.  (default: the bundled one)")
    ] = None,
    batch_size: BatchSizeOption = 8,
    size: Annotated[
        int | None, typer.Option(min=64, help="Side in px, a multiple of 8.  (default: the base's)")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Calibrated gate: pairs that it refuses are replaced.  (default: none)")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at a pair at most, with a gate.")] = 4,
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Keep small pictures of refused pairs in OUT/rejected.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes, or actors of Ray's, each with a model.")] = 1,
    engine: Annotated[
        Literal["process", "ray"], typer.Option(help="This machine, or Ray: RAY_ADDRESS's cluster or a local one.")
    ] = "process",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option(help="Of the model; half precision is for GPUs.")
    ] = "fp32",
    threads: Annotated[
        int, typer.Option(min=1, help="Of each process on the CPU. Another number changes the last bits.")
    ] = 1,
    gpus: Annotated[
        float | None, typer.Option(min=0, help="Of each actor of Ray's.  (default: 1 if the cluster has any)")
    ] = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Generate only part I of N, into a folder of its own: for job arrays.")
    ] = "1/1",
    shards: Annotated[
        Literal["webdataset", "parquet"] | None,
        typer.Option(help="Write OUT/shards instead of a file for each picture."),
    ] = None,
    shard_pairs: Annotated[int, typer.Option(min=1, help="Pairs of a shard, rounded up to whole chunks.")] = 1000,
    sign: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Sign images: content credentials (C2PA) with this certificate."),
    ] = None,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="Add an invisible watermark to images, never to masks.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="SPDX id of the pairs' licence, recorded with each.  (default: none)")
    ] = None,
    plain_prompts: Annotated[
        bool,
        typer.Option("--plain-prompts", help="Leave prompts as they are: no words for looks are drawn and added."),
    ] = False,
    id_prefix: Annotated[
        str,
        typer.Option(help="What ids begin with: letters, digits, - and _; at most 16. To merge runs, one for each."),
    ] = "SDG",
) -> None:
    """Generate image-mask pairs from a plan or prompts into OUT, which loads with `datasets` and everything here.

    Exactly one of --plan, --prompt, --prompts, --like, --redraw, --masks, --inpaint and --read. Interrupted in any way:
    run it again. Exit code 3: the gate refused every attempt at some pair.
    """
    from skindualgen.cli.running import item_progress, loading
    from skindualgen.production.source import Sources

    anchoring = _anchoring(
        redraw, masks, (inpaint, onto), (read, draws, agree), strength, keep_mask, relabel, jitter, only
    )
    texts = tuple(prompt or ()) or None
    sources = Sources(plan, texts, prompts, like, count, seed, anchoring, per_pair)  # refuses before torch is loaded
    with loading():
        from skindualgen.production.generate import GenerateOptions, generate_dataset
        from skindualgen.production.run import Layout, ProductionStopped
        from skindualgen.production.sampler import PipelineFactory

        factory = PipelineFactory(
            adapter,
            base,
            allow_base_mismatch=allow_base_mismatch,
            steps=steps,
            guidance=guidance,
            size=size,
            gate=gate,
            threads=threads,
            precision=precision,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            prompt_noise=prompt_noise,
            mask_guidance=mask_guidance,
            guide=guide,
            anchoring=anchoring,
            best_of=best_of,
            best_of_threshold=best_of_threshold,
            classifier=classifier,
        )
        options = GenerateOptions(
            factory,
            batch_size,
            attempts,
            engine,
            workers,
            gpus,
            Layout(*_part(part), shards, shard_pairs),
            keep_rejected,
            sign,
            watermark,
            license,
            id_prefix,
            not plain_prompts,
        )
    with item_progress("generating") as report:
        try:
            outcome = generate_dataset(options, partial(sources.open, tell=typer.echo), out, report)
        except ProductionStopped as stop:
            _tell_stopped(stop.pairs, stop.asked, out)
            raise typer.Exit(130) from None
    _tell(outcome, out, shards is not None)
    if outcome.unmet:
        raise typer.Exit(EXIT_UNMET)


def _anchoring(
    redraw: Path | None,
    masks: Path | None,
    inpaint: tuple[Region | None, Path | None],
    reading: tuple[Path | None, int | None, float | None],
    strength: float | None,
    keep_mask: bool,
    relabel: str | None,
    jitter: str | None,
    only: list[str] | None,
) -> Anchoring | None:
    """How pairs are made from real ones, as the options say; None without such an option."""
    from skindualgen.contracts import InputError
    from skindualgen.planning.anchors import DEFAULT_AGREE, DEFAULT_DRAWS, DEFAULT_STRENGTH, Anchoring, Jitter

    (region, onto), (read, draws, agree) = inpaint, reading
    if (region is None) != (onto is None):
        raise InputError("one of --inpaint and --onto", "both: what is drawn anew, and the folder", "add the other")
    if len(given := [path for path in (redraw, masks, onto, read) if path is not None]) > 1:
        raise InputError(
            "several of --redraw, --masks, --inpaint and --read", "one of them", "run the command for each"
        )
    if redraw is None and (strength is not None or keep_mask or relabel is not None):
        raise InputError("--strength, --keep-mask or --relabel without --redraw", "them with it", "leave them out")
    if masks is None and jitter is not None:
        raise InputError("--jitter without --masks", "it with --masks", "leave it out")
    if read is None and (draws is not None or agree is not None):
        raise InputError("--draws or --agree without --read", "them with it", "leave them out")
    ways = tuple(jitter.split(",")) if jitter is not None else ()
    if not set(ways) <= set(get_args(Jitter)):
        raise InputError(f"--jitter {jitter}", f"one or both of {','.join(get_args(Jitter))}", "correct it")
    if not given and only:
        raise InputError("--only without real pairs", "a folder that has them", "add --redraw or another way")
    if not given:
        return None
    way: Way = "redraw" if redraw else "masks" if masks else "read" if read else "inpaint"
    return Anchoring(
        way,
        given[0],
        DEFAULT_STRENGTH if strength is None else strength,
        keep_mask,
        region,
        relabel,
        cast("tuple[Jitter, ...]", ways),
        DEFAULT_DRAWS if draws is None else draws,
        DEFAULT_AGREE if agree is None else agree,
        tuple(only or ()),
    )


def _part(text: str) -> tuple[int, int]:
    from skindualgen.contracts import InputError

    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise InputError(f"--part {text}", "I/N such as 3/16", "fix it")
    return int(part), int(parts)


def _tell_stopped(pairs: int, asked: int, out: Path) -> None:
    import shlex
    import sys

    command = shlex.join(["skindualgen", *sys.argv[1:]])
    typer.secho(f"Stopped with {pairs} of {asked} pairs in {out}. To go on: {command}", fg="yellow", err=True)


def _tell(outcome: Outcome, out: Path, in_shards: bool) -> None:
    from skindualgen.contracts import REJECTS_FILE, SHARDS_DIR, SHEET_FILE

    where = f"shards in {out / SHARDS_DIR}" if in_shards else f"contact sheet {out / SHEET_FILE}"
    typer.echo(f"{outcome.pairs} pairs in {out}, {where}")
    if outcome.refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in outcome.reasons.items())
        typer.echo(f"{outcome.refused} attempts refused by the gate ({reasons}): {out / REJECTS_FILE}")
    if outcome.unmet:
        typer.echo(
            f"{outcome.unmet} pairs not met: each attempt at them was refused; more --attempts need a new folder"
        )
    if outcome.unchosen:
        typer.echo(
            f"{outcome.unchosen} of them were drawn once: they name no diagnosis that the classifier knows to choose by"
        )
    if outcome.without_lesion:
        typer.echo(
            f"{outcome.without_lesion} of them show no lesion (mask_area_fraction 0 in their scores), "
            f"first {outcome.first_without_lesion}: leave these out of a training set"
        )
