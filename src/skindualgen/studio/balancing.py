"""How many pairs each class of a data set has, and plans of what to generate so that they become balanced."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skindualgen.contracts import InputError
from skindualgen.studio.commands import command, command_html
from skindualgen.studio.pieces import note, table
from skindualgen.studio.review import Library
from skindualgen.studio.workspace import DATASETS_DIR

if TYPE_CHECKING:
    from skindualgen.planning.sampling import PlannedSet

PLANS_DIR, PLAN_SUFFIX = "plans", ".csv"
SHOWN_ROWS = 50
"""Rows of a plan on the page; the file has all."""


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is to do; as `skindualgen.planning.sampling.plan_pairs` takes it.

    Attributes:
        data: name of the data set.
        by: attributes to group by.
        count: pairs in all, the same for each group; None fills every group up to the largest.
        max_ratio: synthetic pairs for each real one of a group, at most.
        seed: another one draws other prompts and pairs.
        allow_novel: also combinations without a real pair.
    """

    data: str
    by: tuple[str, ...]
    count: int | None = None
    max_ratio: float = 5.0
    seed: int = 0
    allow_novel: bool = False


def make_plan(library: Library, wanted: PlanRequest, name: str) -> tuple[str, PlannedSet]:
    """Make a plan and write it into the workspace; one without rows is not written.

    Returns:
        The file's name in the workspace, and the plan.

    Raises:
        InputError: nothing to group by, a name that is none or taken, or a plan that cannot be made.
    """
    from skindualgen.planning.plan import write_plan
    from skindualgen.planning.sampling import plan_pairs
    from skindualgen.planning.targets import balanced, uniform

    if not wanted.by:
        raise InputError("nothing to group by", "one attribute at least", "choose one")
    if wanted.count is not None and wanted.count < 1:
        raise InputError(f"{wanted.count} pairs", "1 or more", "raise the number")
    path = library.workspace.new_folder(PLANS_DIR, f"{name}{PLAN_SUFFIX}")
    plan = plan_pairs(
        library.records(wanted.data),
        balanced if wanted.count is None else uniform(wanted.count),
        by=wanted.by,
        max_ratio=wanted.max_ratio,
        seed=wanted.seed,
        allow_novel=wanted.allow_novel,
    )
    if plan.rows:
        path.parent.mkdir(exist_ok=True)
        write_plan(path, plan.rows)
    return library.workspace.name(path), plan


def plan_command(wanted: PlanRequest, out: str) -> str:
    """The command that makes the same plan."""
    return command(
        "plan",
        data=wanted.data,
        target="balanced" if wanted.count is None else "uniform",
        count=wanted.count,
        by=",".join(wanted.by),
        max_ratio=wanted.max_ratio,
        seed=wanted.seed,
        allow_novel=wanted.allow_novel or None,
        out=out,
    )


def plan_html(name: str, plan: PlannedSet, wanted: PlanRequest) -> str:
    """What a plan does, and the commands that make it and draw it."""
    if not plan.rows:
        return note("Nothing to add: every group has what the target asks for.")
    left = f" {plan.ungrouped:,} real pairs lack an attribute and count in no group." if plan.ungrouped else ""
    more = f", the first {SHOWN_ROWS} of {len(plan.rows):,}" if len(plan.rows) > SHOWN_ROWS else ""
    draw = command("generate", plan=name, out=f"{DATASETS_DIR}/{Path(name).stem}")
    return (
        f'<div class="sdg-result"><p class="sdg-lead">{plan.pairs:,} pairs are planned, in '
        f"<b>{html.escape(name)}</b>.{left}</p>{_groups(plan)}"
        f'<details class="sdg-details"><summary>Prompts{more}</summary>{_rows(plan)}</details>'
        f"{command_html(plan_command(wanted, name))}{command_html(draw, label='Then draw them')}</div>"
    )


def _groups(plan: PlannedSet) -> str:
    rows = []
    for each in plan.groups:
        if each.now or each.planned:
            numbers = (each.real, each.synthetic, each.planned, each.after)
            rows.append([html.escape(", ".join(each.group)), *(f"{number:,}" for number in numbers)])
    heads = [" and ".join(plan.by).capitalize(), "Real", "Generated", "Planned", "After"]
    return table(heads, rows, caption="Pairs of each group", numeric=(1, 2, 3, 4))


def _rows(plan: PlannedSet) -> str:
    rows = []
    for row in plan.rows[:SHOWN_ROWS]:
        rows.append([html.escape(row.prompt), f"{row.count:,}", "yes" if row.extrapolation else ""])
    return table(["Prompt", "Pairs", "Extrapolation"], rows, caption="Rows of the plan", numeric=(1,))


def balance_html(counts: Mapping[str, Counter[str]]) -> str:
    """A bar for each class: real and generated training pairs."""
    if not counts:
        return note("This data set has no training pairs.")
    most = max(each["real"] + each["synthetic"] for each in counts.values())
    rows = "".join(
        f'<div class="sdg-balance-row"><span>{html.escape(name.replace("_", " "))}</span>'
        f'<span class="sdg-stack" role="img" aria-label="{_said(each)}">'
        f'<i class="sdg-real" style="width:{100 * each["real"] / most:.2f}%"></i>'
        f'<i class="sdg-made" style="width:{100 * each["synthetic"] / most:.2f}%"></i></span>'
        f'<span class="sdg-soft">{_said(each)}</span></div>'
        for name, each in counts.items()
    )
    legend = '<span><i class="sdg-real"></i>real</span><span><i class="sdg-made"></i>generated</span>'
    return (
        f'<figure class="sdg-balance"><figcaption>Training pairs of each class<span class="sdg-legend">{legend}</span>'
        f"</figcaption>{rows}</figure>"
    )


def _said(each: Counter[str]) -> str:
    parts = [f"{each['real']:,} real"] if each["real"] else []
    parts += [f"{each['synthetic']:,} generated"] if each["synthetic"] else []
    parts += [f"{each['rejected']:,} rejected"] if each["rejected"] else []
    return ", ".join(parts)
