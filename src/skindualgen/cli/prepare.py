"""``skindualgen prepare``: a source folder of any layout -> a checked, split data set folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from skindualgen.cli.options import MasksOption
from skindualgen.data.layouts import Layout

if TYPE_CHECKING:
    from skindualgen.data.audit import Audit
    from skindualgen.data.prepare import Summary

SHOWN_NEAR_DUPLICATES = 5

LayoutName = Literal["auto", Layout]


def prepare(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of photographs, masks, tables; only read.")],
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="New data set folder. Without it, --audit checks SRC, a data set folder."),
    ] = None,
    layout: Annotated[LayoutName, typer.Option(help="How SRC is laid out.")] = "auto",
    size: Annotated[int, typer.Option(help="Side of the new pictures in pixels.")] = 512,
    crop: Annotated[
        Literal["centre", "pad", "none"],
        typer.Option(help="centre: cut the middle square; pad: add black; none: short side to size, aspect kept."),
    ] = "centre",
    split: Annotated[str, typer.Option(help="Shares of train/val/test.")] = "70/15/15",
    split_file: Annotated[
        Path | None, typer.Option(help="Table with isic_id and split: use those items and splits only.")
    ] = None,
    keep_split: Annotated[
        bool, typer.Option("--keep-split", help="Keep SRC's split column even if it names one split only.")
    ] = False,
    ignore_official_split: Annotated[
        bool, typer.Option("--ignore-official-split", help="Split anew although SRC has splits.")
    ] = False,
    val_from_train: Annotated[
        float, typer.Option(help="Share of an official train part that becomes val where there is none; 0: leave it.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of splits and prompts.")] = 0,
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=COLUMN of the table, e.g. diagnosis=dx. Repeatable.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="LABEL=DIAGNOSIS, e.g. mal=melanoma. Repeatable.")] = None,
    diagnosis_level: Annotated[
        int | None,
        typer.Option(
            min=1, max=5, help="Level of the ISIC Archive's five that is the diagnosis.  (default: SRC's term)"
        ),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template, e.g. '{diagnosis}[ on {site}]'. Repeatable.")
    ] = None,
    llm_url: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible endpoint that paraphrases prompts, e.g. http://localhost:11434/v1."),
    ] = None,
    llm_model: Annotated[str | None, typer.Option(help="Name of the model at --llm-url.")] = None,
    llm_cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the model's answers; default the user's cache folder.")
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", help="Licence of items for which SRC names none.")
    ] = None,
    require_masks: MasksOption = False,
    annotator: Annotated[
        Literal["first", "majority", "random", "staple"] | None,
        typer.Option(help="Which of several masks of one photograph is used; all are kept in masks_annotators/."),
    ] = None,
    mask_class: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LEVEL of a class in SRC's masks, the lesion's first, e.g. lesion=1. Repeatable."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(help="Pixels (width x height) above which a file is refused unread.")
    ] = 120_000_000,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first rejected item.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; default up to one per core.")
    ] = None,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Write audit.csv: what crosses splits (exit 2), near-duplicates (warning)."),
    ] = False,
) -> None:
    """Read photographs and masks of any known layout into a checked data set folder with leak-safe splits.

    Rejected items are listed in OUT/rejected.csv, changed ones in OUT/adjusted.csv. Interrupted: run it again.
    """
    from skindualgen.contracts import InputError
    from skindualgen.data.audit import audit as audit_folder
    from skindualgen.data.prepare import prepare as prepare_folder
    from skindualgen.data.prepare_options import PrepareOptions

    if out is None:
        if not audit:
            raise InputError("SRC without OUT", "prepare SRC OUT, or prepare DIR --audit", "name the new folder")
        _report_audit(audit_folder(source), source)
        return
    options = PrepareOptions(
        layout=layout,
        size=size,
        crop=crop,
        split=split,
        split_file=split_file,
        keep_split=keep_split,
        ignore_official_split=ignore_official_split,
        val_from_train=val_from_train,
        seed=seed,
        columns=_pairs("column", column),
        labels=_pairs("label", label),
        diagnosis_level=diagnosis_level,
        templates=tuple(template or ()),
        llm_url=llm_url,
        llm_model=llm_model,
        llm_cache=llm_cache,
        license=license_name,
        require_masks=require_masks,
        annotator=annotator,
        mask_classes=_levels(mask_class),
        max_pixels=max_pixels,
    )
    summary = prepare_folder(source, out, options, strict=strict, workers=workers, with_audit=audit, show_progress=True)
    _report(summary)
    _report_readiness(out)
    if summary.audit is not None:
        _report_audit(summary.audit, out)


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    from skindualgen.contracts import InputError

    pairs: dict[str, str] = {}
    for value in values or []:
        left, equals, right = value.partition("=")
        if not (left and equals and right):
            raise InputError(f"--{option} {value!r}", f"--{option} LEFT=RIGHT", "write for example diagnosis=dx")
        if pairs.setdefault(left, right) != right:
            raise InputError(f"--{option} {left} twice", "each once", "remove one")
    return pairs


def _levels(values: list[str] | None) -> dict[str, int]:
    from skindualgen.contracts import InputError

    pairs = _pairs("mask-class", values)
    try:
        return {name: int(level) for name, level in pairs.items()}
    except ValueError:
        got = f"--mask-class {' '.join(f'{name}={level}' for name, level in pairs.items())}"
        raise InputError(got, "a whole number behind each =", "write for example lesion=1") from None


def _report(summary: Summary) -> None:
    typer.echo(f"{summary.out}: {summary.counts['records']} photographs, {summary.counts['with_mask']} masks")
    typer.echo(f"layout {summary.layout}; splits: {_counted(summary.counts['split'])}")
    for split, diagnoses in summary.counts["diagnosis"].items():
        typer.echo(f"  {split}: {_counted(diagnoses)}")
    for note in summary.notes:
        typer.echo(f"note: {note}")
    if summary.adjusted:
        typer.echo(f"adjusted (adjusted.csv): {_counted(summary.adjusted)}")
    if summary.rejected:
        typer.secho(f"rejected (rejected.csv): {_counted(summary.rejected)}", fg=typer.colors.YELLOW)


def _report_readiness(out: Path) -> None:
    """What `skindualgen check` would say of the records alone, which takes no time."""
    from shlex import quote

    from skindualgen.cli.check import show_problems
    from skindualgen.data.dataset import Dataset
    from skindualgen.readiness.records import record_problems
    from skindualgen.readiness.results import verdict_of

    problems = record_problems(Dataset.open(out), "train")
    show_problems(problems)
    check = f"skindualgen check {quote(str(out))}"
    typer.echo(f"records: {verdict_of(problems)}; to look at pictures and masks as well: {check}")


def _report_audit(findings: Audit, folder: Path) -> None:
    from skindualgen.contracts import InputError
    from skindualgen.data.audit import crossing_text
    from skindualgen.data.review import left_out_line

    across = sum(pair.across for pair in findings.near)
    if (line := left_out_line({str(folder): findings.rejected})) is not None:
        typer.echo(line)
    groups = {pair.group: pair.group_size for pair in findings.near}
    typer.echo(
        f"near-duplicates: {len(groups)} groups of {sum(groups.values())} pictures; pairs in {folder}/audit.csv: "
        f"{across} across splits, {len(findings.near) - across} within"
    )
    for pair in findings.near[:SHOWN_NEAR_DUPLICATES]:
        places = f"{pair.first} ({pair.first_split}), {pair.second} ({pair.second_split})"
        typer.secho(f"  warning: {places}: {pair.distance_bits} bits apart", fg=typer.colors.YELLOW)
    if findings.crossing:
        raise InputError(
            crossing_text(findings.crossing),
            "each group in one split",
            "see audit.csv, and split anew with `skindualgen prepare`",
        )
    typer.echo("no patient, lesion or picture is in two splits")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
