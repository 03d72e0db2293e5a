"""Thresholds of the scores: one common tail of the held-out real pairs, such that a stated share of them passes all.

A score refuses what is at or below a value that a refused real pair has. A further real pair falls at or below the r-th
lowest of n with probability r / (n + 1) (Vovk et al., Algorithmic learning in a random world, 2005), so that the real
pairs used here are a fair sample of how many others will be refused; the lowest accepted value would refuse more.

Few pairs leave few refusals, and some scores then get none. These refuse only what is far from every real pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skindualgen.contracts import InputError
from skindualgen.gate.scores import LESION_AREA

OWN_THRESHOLDS = ("class_probability",)
"""Scores whose thresholds differ by diagnosis: a classifier is surer of common diagnoses than of rare ones."""

LEAST_OF_DIAGNOSIS = 100
"""Real pairs of a diagnosis from which on it has a threshold of its own: a tail of one in a hundred then holds one."""

FAR = 2.0
"""A score that refuses no real pair refuses what is worse than the worst of them by this factor: at most half of the
lowest share or ratio, at least twice the largest distance."""

FOLDS = 10
"""Parts of the real pairs that are held back in turn, to see how many pairs are accepted that set no threshold."""


class Rule(BaseModel):
    """The threshold of one score; pairs at or below it are refused.

    Attributes:
        score: its name.
        threshold: None refuses nothing.
        of_diagnosis: thresholds of diagnoses that have their own.
        tail: share of the real pairs that it refuses, alone or with others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    score: str
    threshold: float | None
    of_diagnosis: dict[str, float | None] = {}
    tail: float = 0.0

    def limit(self, diagnosis: str | None) -> float:
        """Return the threshold for a diagnosis, minus infinity where there is none."""
        value = self.of_diagnosis.get(diagnosis or "", self.threshold)
        return -np.inf if value is None else value


@dataclass(frozen=True)
class ScoreTable:
    """Scores of n pairs.

    Attributes:
        values: of each score [n]; NaN where a pair lacks it.
        area: lesion area [n] of the masks.
        diagnoses: [n], the ISIC Archive's terms.
        groups: [n], the same for pairs of one lesion or patient.
    """

    values: Mapping[str, NDArray[np.float64]]
    area: NDArray[np.float64]
    diagnoses: Sequence[str | None]
    groups: Sequence[str]

    def __len__(self) -> int:
        return len(self.area)

    def take(self, chosen: NDArray[np.bool_]) -> ScoreTable:
        """Return the pairs that are marked True [n]."""
        positions: list[int] = np.flatnonzero(chosen).tolist()
        return ScoreTable(
            {name: values[positions] for name, values in self.values.items()},
            self.area[positions],
            [self.diagnoses[i] for i in positions],
            [self.groups[i] for i in positions],
        )


def score_table(
    scores: Sequence[Mapping[str, float]], names: Sequence[str], diagnoses: Sequence[str | None], groups: Sequence[str]
) -> ScoreTable:
    """Collect the scores of pairs."""
    values = {name: np.array([each.get(name, np.nan) for each in scores]) for name in names}
    return ScoreTable(values, np.array([each[LESION_AREA] for each in scores]), diagnoses, groups)


def reasons(scores: Mapping[str, float], rules: Sequence[Rule], diagnosis: str | None) -> tuple[str, ...]:
    """Return why a pair of these scores is refused, as ``"name value <= threshold"``; nothing if it is accepted."""
    area = scores[LESION_AREA]
    found = [f"{LESION_AREA} {area:g} {sign} {end}" for sign, end in (("<=", 0), (">=", 1)) if area == end]
    for rule in rules:
        limit = rule.limit(diagnosis)
        if rule.score in scores and scores[rule.score] <= limit:
            found.append(f"{rule.score} {scores[rule.score]:g} <= {limit:g}")
    return tuple(found)


def accepted(table: ScoreTable, rules: Sequence[Rule]) -> NDArray[np.bool_]:
    """Return which pairs [n] the rules accept."""
    good = (table.area > 0) & (table.area < 1)
    for rule in rules:
        good &= ~_refused(table, rule)
    return np.asarray(good)


def find_rules(table: ScoreTable, accept: float) -> list[Rule]:
    """Return the strictest rules of one common tail that accept at least the share ``accept`` of real pairs.

    All scores' tails grow together, by one pair of each in turn; a score whose next pair would cost too much stays, and
    the others go on. So acceptance comes to within one pair of ``accept``, unless pairs are tied.

    Args:
        table: of real pairs.
        accept: in (0, 1].

    Raises:
        InputError: more pairs than that have masks without a lesion, or without anything else.
    """
    rules = {name: _rule(table, name, 0) for name in table.values}
    good = accepted(table, list(rules.values()))
    if good.mean() < accept:
        got = f"{1 - good.mean():.1%} of the real pairs with an empty or a full mask"
        raise InputError(got, f"{1 - accept:.1%} or fewer", "look at these masks, or lower --accept")
    growing = list(rules)
    rank = 0
    while growing:
        rank += 1
        for name in list(growing):
            stricter = _rule(table, name, rank)
            still = accepted(table, [*(rule for rule in rules.values() if rule.score != name), stricter])
            if rank < len(table) and still.mean() >= accept:
                rules[name] = stricter
            else:
                growing.remove(name)
    return list(rules.values())


def _rule(table: ScoreTable, name: str, rank: int) -> Rule:
    """The rule whose tail holds ``rank`` of all pairs, and a proportional number of a diagnosis with its own tail."""
    values = table.values[name]
    known = np.isfinite(values)
    own: dict[str, float | None] = {}
    if name in OWN_THRESHOLDS:
        labels = np.asarray(table.diagnoses, dtype=object)
        for diagnosis in sorted({label for label in table.diagnoses if label is not None}):
            members = values[known & (labels == diagnosis)]
            if len(members) >= LEAST_OF_DIAGNOSIS:
                own[diagnosis] = _tail_end(members, rank * len(members) // int(known.sum()))
    rule = Rule(score=name, threshold=_tail_end(values[known], rank), of_diagnosis=own)
    return rule.model_copy(update={"tail": float(_refused(table, rule).mean())})


def _tail_end(values: NDArray[np.float64], rank: int) -> float | None:
    """The value of this rank among all, 1 the lowest; for 0 one that is far below, None where nothing can be."""
    ordered = np.sort(values)
    if rank:
        return float(ordered[min(rank, len(ordered)) - 1]) if ordered.size else None
    worst = float(ordered[0]) if ordered.size else 0.0
    return None if worst == 0 else worst / FAR if worst > 0 else worst * FAR


def _refused(table: ScoreTable, rule: Rule) -> NDArray[np.bool_]:
    limits = np.array([rule.limit(diagnosis) for diagnosis in table.diagnoses])
    return np.asarray(table.values[rule.score] <= limits)  # False for NaN


def held_back_acceptance(table: ScoreTable, accept: float, *, seed: int = 0) -> NDArray[np.bool_]:
    """Return which pairs [n] are accepted by rules that were found without them and without others of their lesion."""
    names = sorted(set(table.groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[group]: place % FOLDS for place, group in enumerate(order)}
    folds = np.array([fold_of[group] for group in table.groups])
    good = np.zeros(len(table), bool)
    for fold in np.unique(folds):
        rules = find_rules(table.take(folds != fold), accept)
        good[folds == fold] = accepted(table.take(folds == fold), rules)
    return good
