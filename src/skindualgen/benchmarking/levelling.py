"""How many steps the trainings of a regime take: as many as its control needs until it gains no more on val."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from skindualgen.benchmarking.learning import part_to_choose_on, score_to_choose_by
from skindualgen.benchmarking.plan import Plan
from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.trials import TaskData, TrialRecord

CONTROL = "augment"
LEVEL = 0.005
"""Gain of twice the steps, in Dice or balanced accuracy, below which the control has levelled off."""
MOST_DOUBLINGS = 4


def level_off(
    data: TaskData, plans: Plan, controls: Plan, train: Callable[[TaskData, Sequence[Trial]], list[TrialRecord]]
) -> Plan:
    """Return the plan with the steps of each regime: from those of the budget, doubled while that gains on val.

    Args:
        data: of the task; the test part decides nothing.
        plans: what to train, in each regime.
        controls: the same regimes with trials of ``CONTROL`` alone.
        train: makes the records of trials.

    Raises:
        InputError: no validation part beside the test part.
    """
    on_val = replace(data, test=part_to_choose_on(data))

    def score(trials: Sequence[Trial], steps: int) -> float:
        records = train(on_val, [replace(trial, steps=steps) for trial in trials])
        return float(np.mean([score_to_choose_by(record.outcome) for record in records]))

    levelled: Plan = []
    for (regime, trials), (_, of_control) in zip(plans, controls, strict=True):
        steps = data.recipe.budget.steps
        reached = score(of_control, steps)
        for _ in range(MOST_DOUBLINGS):
            further = score(of_control, 2 * steps)
            if further - reached < LEVEL:
                break
            steps, reached = 2 * steps, further
        levelled.append((regime.model_copy(update={"steps": steps}), [replace(trial, steps=steps) for trial in trials]))
    return levelled
