"""``skindualgen plan``: what to generate so that a data set becomes what is wanted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from skindualgen.cli.options import SeedOption
from skindualgen.cli.plan_weak import weak_lines, weak_table

if TYPE_CHECKING:
    from rich.table import Table

    from skindualgen.contracts import PairRecord
    from skindualgen.planning.sampling import PlannedSet
    from skindualgen.planning.targets import GroupPlan

SHOWN_EMPTY = 6
"""Combinations without a real pair that are named, of those that there are."""
TONE_CAUTION = (
    "Caution: prompts state the skin tone (', light skin'). An adapter whose training captions did not state tones "
    "cannot be expected to follow; `skindualgen evaluate --only skin_tone` measures whether it did."
)
ORIGIN_CAUTION = (
    "Caution: all of {} stay real while other diagnoses get generated pairs. A classifier may learn that looking "
    "generated means another diagnosis: see docs/planning.md, and `skindualgen benchmark --class-allocation even`."
)


def plan(
    data: Annotated[Path, typer.Option(help="Data set folder; of its training split only.")],
    out: Annotated[Path, typer.Option(help="The plan, a CSV; an earlier plan there is overwritten.")],
    target: Annotated[
        str,
        typer.Option(
            help="balanced: fill every group up; uniform: as many for each (--count); or a TOML file of ratios."
        ),
    ] = "balanced",
    by: Annotated[str, typer.Option(help="Groups: diagnosis, sex, site, tone, or several, with commas.")] = "diagnosis",
    count: Annotated[
        int | None,
        typer.Option(
            "-n", "--count", min=1, help="Pairs in all, for uniform and --weak-for (default: as many as real ones)."
        ),
    ] = None,
    weak_for: Annotated[
        Literal["segment", "classify"] | None,
        typer.Option(help="Instead of counts: more of what this judge (--model) is bad at, by its loss on val."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Judge's file: a segmenter or classifier trained on the real training split.")
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(min=1, help="Clusters of each diagnosis at most, for --weak-for.  (default: 4)")
    ] = None,
    plain_prompts: Annotated[
        bool, typer.Option("--plain-prompts", help="With --weak-for: no words for the looks of real pairs in prompts.")
    ] = False,
    max_ratio: Annotated[float, typer.Option(help="Synthetic pairs for each real one of a group, at most.")] = 5.0,
    allow_novel: Annotated[
        bool,
        typer.Option("--allow-novel", help="Fill combinations without any real pair too, marked as extrapolation."),
    ] = False,
    templates: Annotated[
        Path | None, typer.Option(help="Text file of templates: {fields}, {a|b}, __wildcards__.  (default: built-in)")
    ] = None,
    wildcards: Annotated[
        Path | None, typer.Option(help="Folder of the wildcards' .txt files.  (default: the templates' folder)")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Plan synthetic pairs for DATA: counts now and after, and OUT with prompts, labels, numbers and seeds.

    Attributes are those of real training pairs, never combinations that were not seen (unless --allow-novel). Pairs
    rejected in review count nowhere.
    """
    import shlex

    from rich.console import Console

    from skindualgen.cli.running import loading
    from skindualgen.data.dataset import Dataset
    from skindualgen.data.review import left_out_line
    from skindualgen.planning.plan import check_plan_path, write_plan
    from skindualgen.planning.sampling import plan_pairs
    from skindualgen.planning.targets import parse_by, target_named
    from skindualgen.planning.templates import templates_named
    from skindualgen.planning.weak import check_options

    attributes = parse_by(by)
    check_options(weak_for, model, clusters, plain_prompts=plain_prompts, target=target, by=by, allow_novel=allow_novel)
    goal = target_named(target, count, attributes) if weak_for is None else None
    check_plan_path(out)
    own = templates_named(templates, wildcards)
    opened = Dataset.open(data, "train")
    if weak_for is not None and model is not None:
        with loading("Looking for what the judge is bad at ..."):
            from skindualgen.judges.weakness import plan_for_judge

            found, planned = plan_for_judge(
                data,
                weak_for,
                model,
                count=count,
                clusters=clusters,
                max_ratio=max_ratio,
                seed=seed,
                templates=own,
                looks=not plain_prompts,
            )
        table, lines = weak_table(found.groups, planned), weak_lines(found, weak_for)
    elif goal is not None:
        records = _measured(data, opened.records) if "tone" in attributes else opened.records
        planned = plan_pairs(
            records, goal, by=attributes, max_ratio=max_ratio, seed=seed, allow_novel=allow_novel, templates=own
        )
        table, lines = _table(planned), []
    Console().print(table)
    if (line := left_out_line({str(data): opened.rejected})) is not None:
        typer.echo(line)
    for line in [*lines, *_remarks(planned, max_ratio, allow_novel=allow_novel or weak_for is not None)]:
        typer.echo(line)
    if not planned.pairs:
        typer.echo("Nothing to add: no plan was written.")
        return
    write_plan(out, planned.rows)
    typer.echo(f"{planned.pairs} pairs in {len(planned.rows)} rows: {out}")
    typer.echo(f"Next: skindualgen generate --plan {shlex.quote(str(out))} --out NEW_FOLDER")


def _measured(data: Path, records: list[PairRecord]) -> list[PairRecord]:
    """The records with measured tones; see `skindualgen.planning.tones.measure_tones`."""
    from skindualgen.cli.running import item_progress
    from skindualgen.metrics.skin_tone import tone_of
    from skindualgen.planning.tones import measure_tones

    with item_progress("measuring skin tones") as report:
        return measure_tones(data, records, tone_of, report)


def _table(planned: PlannedSet) -> Table:
    from rich import box
    from rich.table import Table

    old = any(group.synthetic for group in planned.groups)
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    for place, name in enumerate(planned.by):
        table.add_column(name, "all" if place == 0 else "")
    groups = [group for group in planned.groups if group.now or group.planned]
    sums = [("real", "real"), *([("synthetic", "synthetic")] if old else []), ("add", "planned"), ("after", "after")]
    for title, name in sums:
        table.add_column(title, str(sum(getattr(group, name) for group in groups)), justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("")
    for group in groups:
        numbers = [str(getattr(group, name)) for _, name in sums]
        ratio = f"{(group.synthetic + group.planned) / group.real:.2f}" if group.real else "-"
        table.add_row(*group.group, *numbers, ratio, _mark(group))
    return table


def _mark(group: GroupPlan) -> str:
    if not group.real:
        return "extrapolation" if group.planned else "no real pair"
    return f"{group.requested - group.planned} short" if group.planned < group.requested else ""


def _remarks(planned: PlannedSet, max_ratio: float, *, allow_novel: bool) -> list[str]:
    """What the table does not show: who was not counted, what was not met."""
    lines = []
    if old := sum(group.synthetic for group in planned.groups):
        lines.append(f"{old} synthetic training pairs in the folder count as there already.")
    if planned.ungrouped:
        by = " or ".join(planned.by)
        lines.append(f"{planned.ungrouped} real training pairs without a known {by} form no group.")
    empty = [group for group in planned.groups if not group.real]
    if empty and not allow_novel:
        names = [", ".join(group.group) for group in empty[:SHOWN_EMPTY]] + ["..."] * (len(empty) > SHOWN_EMPTY)
        lines.append(f"Left out, without a real pair ({len(empty)}; --allow-novel plans them): {'; '.join(names)}")
    if short := sum(group.requested - group.planned for group in planned.groups):
        lines.append(f"{short} pairs short of the target: --max-ratio {max_ratio:g} synthetic pairs for each real one.")
    if none := _never_generated(planned):
        lines.append(ORIGIN_CAUTION.format(", ".join(none)))
    if "tone" in planned.by:
        lines.append(TONE_CAUTION)
    return lines


def _never_generated(planned: PlannedSet) -> list[str]:
    """Diagnoses that have real pairs and no synthetic ones, where others get some."""
    if "diagnosis" not in planned.by or not planned.pairs:
        return []
    place, made = planned.by.index("diagnosis"), Counter[str]()
    for group in planned.groups:
        if group.now or group.planned:
            made[group.group[place]] += group.synthetic + group.planned
    return sorted(name for name, count in made.items() if not count)
