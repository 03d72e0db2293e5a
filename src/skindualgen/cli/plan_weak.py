"""``skindualgen plan --weak-for``: which of its options go together, and the plan of what a judge is bad at."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from skindualgen.planning.sampling import PlannedSet
    from skindualgen.planning.templates import DynamicTemplates
    from skindualgen.planning.weak import WeakGroup

TaskName = Literal["segment", "classify"]
DEFAULT_CLUSTERS = 4


def check_options(
    weak_for: TaskName | None,
    model: Path | None,
    clusters: int | None,
    *,
    plain_prompts: bool,
    target: str,
    by: str,
    allow_novel: bool,
) -> None:
    """Refuse options that say nothing together.

    Raises:
        InputError: as said.
    """
    from skindualgen.contracts import InputError

    if (weak_for is None) != (model is None):
        raise InputError("one of --weak-for and --model", "both: what the judge does, and its file", "add the other")
    if weak_for is None and (clusters is not None or plain_prompts):
        raise InputError("--clusters or --plain-prompts without --weak-for", "them with it", "leave them out")
    if weak_for is not None and (target != "balanced" or by != "diagnosis" or allow_novel):
        got = "--target, --by or --allow-novel with --weak-for"
        raise InputError(got, "groups and counts that the judge's loss decides", "leave them out")


def weak_plan(
    data: Path,
    task: TaskName,
    model: Path,
    *,
    count: int | None,
    clusters: int | None,
    max_ratio: float,
    seed: int,
    templates: DynamicTemplates | None,
    plain_prompts: bool,
) -> tuple[PlannedSet, Table, list[str]]:
    """Plan pairs for what a judge is bad at.

    Returns:
        The plan, its table, and what the table does not show.

    Raises:
        InputError: see `skindualgen.judges.weakness.find_weakness` and `skindualgen.planning.weak.plan_weak`.
    """
    from skindualgen.cli.running import loading

    with loading("Looking for what the judge is bad at ..."):
        from skindualgen.judges.extractors import OFFLINE_DEFAULT
        from skindualgen.judges.trained import cached_extractor, default_cache
        from skindualgen.judges.weakness import find_weakness
        from skindualgen.planning.weak import plan_weak

        found = find_weakness(
            data,
            task,
            model,
            cached_extractor(OFFLINE_DEFAULT, default_cache()),
            clusters=clusters or DEFAULT_CLUSTERS,
            seed=seed,
        )
    planned = plan_weak(
        found.groups,
        count or sum(len(group.records) for group in found.groups),
        max_ratio=max_ratio,
        seed=seed,
        templates=templates,
        looks=not plain_prompts,
    )
    lines = []
    if found.left_out:
        missing = "mask" if task == "segment" else "diagnosis that the judge knows"
        lines.append(f"{found.left_out} photographs of val without a {missing} count nowhere.")
    return planned, _table(found.groups, planned), lines


def _table(groups: list[WeakGroup], planned: PlannedSet) -> Table:
    from rich import box
    from rich.table import Table

    from skindualgen.planning.weak import loss_shares

    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    every = [loss for group in groups for loss in group.losses]
    sums = [sum(getattr(plan, name) for plan in planned.groups) for name in ("real", "synthetic", "planned")]
    table.add_column("diagnosis", "all")
    feet = ["", str(len(every)), f"{fmean(every):.3f}", "100 %", *map(str, sums), ""]
    for title, foot in zip(("cluster", "val", "loss", "share", "real", "synthetic", "add", ""), feet, strict=True):
        table.add_column(title, foot, justify="right" if title else "left")
    for group, share, plan in zip(groups, loss_shares(groups), planned.groups, strict=True):
        short = plan.requested - plan.planned
        table.add_row(
            *group.group,
            str(len(group.losses)),
            f"{fmean(group.losses):.3f}",
            f"{share:.1%}".replace("%", " %"),
            *(str(number) for number in (plan.real, plan.synthetic, plan.planned)),
            "no real pair" if not plan.real else f"{short} short" if short else "",
        )
    return table
