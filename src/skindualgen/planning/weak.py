"""Plans of what a judge is bad at: more of the kinds of training pairs that are like those where its loss lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError, PairRecord
from skindualgen.planning.rows import MAX_PAIRS
from skindualgen.planning.sampling import PlannedSet, draw_prompts, numbered_rows
from skindualgen.planning.targets import Group, GroupPlan
from skindualgen.planning.templates import DynamicTemplates

WeakFor = Literal["segment", "classify"]
"""What a judge does."""
WEAK_BY = ("diagnosis", "cluster")
"""What weak pairs are grouped by."""
NO_DIAGNOSIS = "not known"
"""Stands for the diagnosis of photographs without one."""
SMOOTHING = 5
"""Photographs of the wider group's mean loss that each mean loss counts as well: a cluster's those of its diagnosis, a
diagnosis' those of all. A handful of photographs would else decide a plan."""


@dataclass(frozen=True)
class WeakGroup:
    """Photographs of val that look alike, of one diagnosis, and the training pairs that look most like them.

    Attributes:
        diagnosis: in the ISIC Archive's terms; None where it is not known.
        cluster: its number among those of the diagnosis, from 1.
        losses: of the judge, one a photograph of val.
        records: real training pairs; none where the training split has none of the diagnosis.
        synthetic: generated training pairs that the data hold.
    """

    diagnosis: str | None
    cluster: int
    losses: Sequence[float]
    records: Sequence[PairRecord] = field(default_factory=list)
    synthetic: int = 0

    @property
    def group(self) -> Group:
        """Its name in a plan."""
        return self.diagnosis or NO_DIAGNOSIS, str(self.cluster)


def check_options(
    weak_for: WeakFor | None,
    model: Path | None,
    clusters: int | None,
    *,
    plain_prompts: bool,
    target: str,
    by: str,
    allow_novel: bool,
) -> None:
    """Refuse options of a plan that say nothing together.

    Raises:
        InputError: as said.
    """
    if (weak_for is None) != (model is None):
        raise InputError("one of --weak-for and --model", "both: what the judge does, and its file", "add the other")
    if weak_for is None and (clusters is not None or plain_prompts):
        raise InputError("--clusters or --plain-prompts without --weak-for", "them with it", "leave them out")
    if weak_for is not None and (target != "balanced" or by != "diagnosis" or allow_novel):
        got = "--target, --by or --allow-novel with --weak-for"
        raise InputError(got, "groups and counts that the judge's loss decides", "leave them out")


def loss_shares(groups: Sequence[WeakGroup]) -> NDArray[np.float64]:
    """Share of each group in the judge's loss: its smoothed mean loss times how frequent it is in val; they sum to 1.

    Args:
        groups: each with one loss at least, 0 or more.

    Raises:
        InputError: no group, or a judge without any loss.
    """
    by_diagnosis: dict[str | None, list[float]] = defaultdict(list)
    for group in groups:
        by_diagnosis[group.diagnosis] += group.losses
    every = [loss for losses in by_diagnosis.values() for loss in losses]
    if not sum(every) > 0:
        raise InputError("a judge without any loss on val", "one that errs somewhere", "plan by counts: --target")
    overall = float(np.mean(every))
    wider = {name: _smoothed(losses, overall) for name, losses in by_diagnosis.items()}
    weights = np.array([_smoothed(group.losses, wider[group.diagnosis]) * len(group.losses) for group in groups])
    return np.asarray(weights / weights.sum(), np.float64)


def plan_weak(
    groups: Sequence[WeakGroup],
    count: int,
    *,
    max_ratio: float = 5.0,
    seed: int = 0,
    templates: DynamicTemplates | None = None,
    looks: bool = True,
) -> PlannedSet:
    """Plan ``count`` pairs in proportion to `loss_shares`, with the attributes of the groups' real training pairs.

    Each pair takes the attributes of one real training record of its group, as in
    `skindualgen.planning.sampling.plan_pairs`; its prompt states the diagnosis where that is known.

    Args:
        groups: of one judge.
        count: pairs in all, before limits.
        max_ratio: synthetic pairs, old and new, for each real one of a group, at most.
        seed: see `plan_pairs`.
        templates: in place of the built-in ones.
        looks: let prompts go on with the measured words for their records' looks, without which clusters of one
            diagnosis differ in little.

    Raises:
        InputError: see `loss_shares` and `plan_pairs`.
    """
    if not 0 < max_ratio < float("inf"):
        raise InputError(f"--max-ratio {max_ratio}", "a number above 0", "try 5")
    if not 0 < count <= MAX_PAIRS:
        raise InputError(f"a plan of {count:,} pairs", f"1 to {MAX_PAIRS:,}", "change --count")
    plans, drawn = [], []
    for group, requested in zip(groups, _apportioned(loss_shares(groups), count), strict=True):
        limit = max(0, int(max_ratio * len(group.records)) - group.synthetic)
        plan = GroupPlan(group.group, len(group.records), group.synthetic, requested, min(requested, limit))
        plans.append(plan)
        if plan.planned:
            by = () if group.diagnosis is None else ("diagnosis",)
            found = draw_prompts(plan.group, plan.planned, group.records, by, seed, templates, looks=looks)
            drawn += [(*key, False, number) for key, number in found.items()]
    return PlannedSet(WEAK_BY, numbered_rows(drawn, seed), plans, 0)


def _smoothed(losses: Sequence[float], wider: float) -> float:
    return (sum(losses) + SMOOTHING * wider) / (len(losses) + SMOOTHING)


def _apportioned(shares: NDArray[np.float64], count: int) -> list[int]:
    """Whole numbers that sum to ``count``, by largest remainder; of equal ones the first."""
    exact = shares * count
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: count - int(whole.sum())]] += 1
    return [int(number) for number in whole]
