"""Conditions that make an evaluation fail, such as ``near_copy_rate>0.01``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from skindualgen.contracts import InputError
from skindualgen.evaluation.results import ConditionOutcome
from skindualgen.metrics.measures import Measure

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
PATTERN = re.compile(
    r"\s*(?P<key>(?P<name>[a-z0-9_]+)(\[(?P<group>[^\]]+)\])?(@[\w.-]+)?)\s*"
    r"(?P<sign><=|>=|<|>)\s*(?P<limit>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Condition:
    """A measure's key, a sign and a number: the evaluation fails where the comparison holds."""

    text: str
    key: str
    name: str
    group: str | None
    sign: str
    limit: float

    def outcome(self, measure: Measure | None) -> ConditionOutcome:
        """Judge a measure; one that is absent or without a value fails, as nothing shows that the limit is kept."""
        if measure is None:
            reason, failed = f"{self.key} was not measured, so the condition cannot be ruled out", True
        elif measure.value is None:
            reason, failed = f"{self.key} has no value: {measure.caveat}", True
        else:
            failed = OPERATORS[self.sign](measure.value, self.limit)
            reason = f"{self.key} is {measure.value:.6g}"
        value = None if measure is None else measure.value
        return ConditionOutcome(condition=self.text, key=self.key, value=value, failed=failed, reason=reason)


def parse_condition(text: str) -> Condition:
    """Read ``name<number``, ``name[diagnosis]>=number`` and the like.

    Raises:
        InputError: it does not have this form.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise InputError(f"condition {text!r}", "name, one of < <= > >=, number", "write e.g. 'near_copy_rate>0.01'")
    parts = match.groupdict()
    return Condition(text.strip(), parts["key"], parts["name"], parts["group"], parts["sign"], float(parts["limit"]))


def refuse_unknown(conditions: Sequence[Condition], *, names: Collection[str], groups: Collection[str]) -> None:
    """Refuse conditions on names or groups that no evaluation of these sets can hold, before hours are spent on it.

    Raises:
        InputError: names the known ones.
    """
    for condition in conditions:
        if condition.name not in names:
            raise InputError(f"unknown measure in {condition.text!r}", f"one of {', '.join(sorted(names))}", "fix it")
        if condition.group is not None and condition.group not in groups:
            known = ", ".join(sorted(groups)) or "none, as the sets state no diagnosis"
            raise InputError(f"unknown group in {condition.text!r}", f"one of: {known}", "fix it")


def judge_conditions(conditions: Sequence[Condition], measures: Sequence[Measure]) -> list[ConditionOutcome]:
    """Return the outcome of each condition."""
    by_key = {measure.key: measure for measure in measures}
    return [condition.outcome(by_key.get(condition.key)) for condition in conditions]
