"""``skindualgen plan --weak-for``: what the terminal shows of a plan of what a judge is bad at."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from skindualgen.judges.weakness import Weakness
    from skindualgen.planning.sampling import PlannedSet
    from skindualgen.planning.weak import WeakFor, WeakGroup


def weak_lines(found: Weakness, task: WeakFor) -> list[str]:
    """What the table does not show."""
    if not found.left_out:
        return []
    missing = "mask" if task == "segment" else "diagnosis that the judge knows"
    return [f"{found.left_out} photographs of val without a {missing} count nowhere."]


def weak_table(groups: list[WeakGroup], planned: PlannedSet) -> Table:
    """Groups with the judge's loss there, and what the plan adds."""
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
