"""How many synthetic pairs each group of a data set shall get: groups of attributes, targets, limits."""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.labels import TONE, label_value
from skindualgen.planning.rows import MAX_PAIRS

BY: Mapping[str, str] = {"diagnosis": "diagnosis", "sex": "sex", "site": "anatom_site_general", "tone": TONE}
"""What pairs can be grouped by, and the field of a record that holds it."""
MEASURES = ("times", "synthetic", "total", "share")
"""How a ratio file can say what it wants of a group; see `read_ratio_file`."""

Group = tuple[str, ...]
"""One value for each attribute that is grouped by."""


@dataclass(frozen=True)
class GroupPlan:
    """Pairs of one group: there already, requested, and planned.

    Attributes:
        group: its values, in the order of the attributes that are grouped by.
        real, synthetic: training pairs that the data hold.
        requested: synthetic pairs that the target asks for beyond these.
        planned: of them, those within the limits.
    """

    group: Group
    real: int
    synthetic: int
    requested: int = 0
    planned: int = 0

    @property
    def now(self) -> int:
        """Training pairs that the data hold, real and synthetic."""
        return self.real + self.synthetic

    @property
    def after(self) -> int:
        """Training pairs once the plan is made."""
        return self.now + self.planned


Target = Callable[[Sequence[GroupPlan]], list[int]]
"""What a data set shall look like: groups -> synthetic pairs to add to each."""


def balanced(groups: Sequence[GroupPlan]) -> list[int]:
    """The target that fills every group up to the largest one."""
    largest = max(group.now for group in groups)
    return [largest - group.now for group in groups]


def uniform(count: int) -> Target:
    """The target of ``count`` pairs in all, the same in each group; what does not divide goes to the first ones."""

    def requested(groups: Sequence[GroupPlan]) -> list[int]:
        share, rest = divmod(count, len(groups))
        return [share + (place < rest) for place in range(len(groups))]

    return requested


@dataclass(frozen=True)
class RatioFile:
    """The target of a ratio file; groups that it does not name get nothing.

    Args:
        numbers: group -> (one of ``MEASURES``, number).
        path: the file, for messages.
    """

    numbers: Mapping[Group, tuple[str, float]]
    path: Path

    def __call__(self, groups: Sequence[GroupPlan]) -> list[int]:
        """Synthetic pairs to add to each group.

        Raises:
            InputError: shares that cannot be had by adding pairs.
        """
        requested, shared = [0] * len(groups), {}
        for place, group in enumerate(groups):
            measure, number = self.numbers.get(group.group, ("synthetic", 0))
            if measure == "share":
                shared[place] = number
            elif measure == "times":
                requested[place] = max(0, round(number * group.real) - group.synthetic)
            else:
                there = group.now if measure == "total" else group.synthetic
                requested[place] = max(0, round(number) - there)
        if not shared:
            return requested
        others = sum(group.now + requested[place] for place, group in enumerate(groups) if place not in shared)
        left = 1 - math.fsum(shared.values())
        if left < -1e-9 or (others > 0) != (left > 1e-9):
            raise InputError(
                f"{self.path} with shares that sum to {1 - left:g}, and {others} pairs of groups without a share",
                "less than 1, or 1 where every group has a share",
                "fix the shares",
            )
        # The smallest data set that has these shares and every pair that is there.
        total = others / left if others else max(groups[place].now / share for place, share in shared.items())
        for place, share in shared.items():
            requested[place] = max(0, round(share * total) - groups[place].now)
        return requested


def group_of(record: PairRecord, by: Iterable[str]) -> Group | None:
    """The group of a record, in the terms of a plan; None if one of the attributes is not known."""
    values = [label_value(BY[name], getattr(record, BY[name])) for name in by]
    return None if None in values else tuple(str(value) for value in values)


def parse_by(text: str) -> tuple[str, ...]:
    """Read ``diagnosis,sex`` as the attributes to group by.

    Raises:
        InputError: an unknown one, one twice, or none.
    """
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in BY]
    if unknown or len(set(names)) < len(names):
        got = f"--by {text}" + (f" with {unknown[0]!r}" if unknown else " with one attribute twice")
        raise InputError(got, f"some of {', '.join(BY)}, parted by commas", "fix --by")
    return names


def plan_groups(
    real: Mapping[Group, int],
    synthetic: Mapping[Group, int],
    target: Target,
    *,
    max_ratio: float,
    novel: bool,
) -> list[GroupPlan]:
    """How many pairs each group gets, ordered by group.

    A group without any real pair (a combination of values that were seen apart, or one that a ratio file names) is
    planned for only if ``novel``, and then gets no more than the smallest group that has real pairs may have.

    Args:
        real, synthetic: training pairs of each group.
        target: how many pairs each group shall get.
        max_ratio: synthetic pairs, old and new, for each real one of a group, at most.
        novel: plan for groups without any real pair.

    Raises:
        InputError: a ratio file names a group without any real pair, and not ``novel``; or its shares cannot be had.
    """
    named = set(target.numbers) if isinstance(target, RatioFile) else set()
    if (unseen := sorted(named - set(real))) and not novel:
        near = difflib.get_close_matches(", ".join(unseen[0]), [", ".join(group) for group in real], n=1)
        raise InputError(
            f"{', '.join(unseen[0])!r} in the ratio file, of which there is no real training pair",
            "a group of the data" + (f", such as {near[0]!r}" if near else ""),
            "fix the file, or add --allow-novel to extrapolate",
        )
    every = sorted(set(real) | set(synthetic) | named | _combinations(real))
    groups = [GroupPlan(group, real.get(group, 0), synthetic.get(group, 0)) for group in every]
    open_groups = [group for group in groups if group.real or novel]
    requested = dict(zip((group.group for group in open_groups), target(open_groups), strict=True))
    smallest = min(real.values())
    planned = []
    for group in groups:
        number = requested.get(group.group, 0)
        limit = math.floor(max_ratio * (group.real or smallest)) - group.synthetic
        planned.append(replace(group, requested=number, planned=min(number, max(0, limit))))
    return planned


def read_ratio_file(path: Path, by: Sequence[str]) -> RatioFile:
    """Read a TOML file of how many pairs are requested of which group.

    One table for each attribute, for plans by one attribute::

        [diagnosis]
        melanoma = 2.0                        # two synthetic pairs for each real one
        "seborrheic keratosis" = {total = 900}  # real and synthetic together

    or, for plans by several, one ``[[group]]`` each, with a value for every attribute and one measure::

        [[group]]
        diagnosis = "melanoma"
        sex = "female"
        synthetic = 300

    Measures: ``times`` (synthetic for each real one; a bare number says the same), ``synthetic`` and ``total``
    (numbers of pairs, those that are there included), ``share`` (of all training pairs, from 0 to 1).

    Raises:
        InputError: unreadable, no TOML, attributes other than ``by``, an unknown term, a number that cannot be met, or
            one group twice.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        got = f"--target {path} ({error.strerror})"
        raise InputError(got, "balanced, uniform, or a ratio file", "check the path") from error
    except ValueError as error:  # no UTF-8, no TOML
        raise InputError(f"{path}: {error}", "a TOML file", "see docs/planning.md for its form") from None
    numbers: dict[Group, tuple[str, float]] = {}
    for values, entry in _entries(path, content):
        if set(values) != set(by):
            got = f"{path} with a group by {','.join(values)}, and --by {','.join(by)}"
            raise InputError(got, "the same attributes in both", f"give --by {','.join(values)}, or fix the file")
        group = tuple(_term(path, name, values[name]) for name in by)
        if group in numbers:
            raise InputError(f"{path} with {', '.join(group)} twice", "each group once", "remove one")
        numbers[group] = _measured(path, group, entry)
    if not numbers:
        raise InputError(f"{path} without any group", "a number for one group at least", "see docs/planning.md")
    return RatioFile(numbers, path)


def target_named(target: str, count: int | None, by: Sequence[str]) -> Target:
    """The target of a name ("balanced", or "uniform" with a count) or of a file of ratios.

    Raises:
        InputError: uniform without a count, a count with another target, or a file that cannot be read.
    """
    if (target == "uniform") != (count is not None):
        got = "--target uniform without --count" if count is None else f"--count {count} with --target {target}"
        raise InputError(got, "a number of pairs for uniform, and for nothing else", "fix --count")
    if count is not None:
        return uniform(count)
    return balanced if target == "balanced" else read_ratio_file(Path(target), by)


def _combinations(real: Mapping[Group, int]) -> set[Group]:
    """All combinations of values that the groups have."""
    return set(itertools.product(*(sorted(set(values)) for values in zip(*real, strict=True))))


def _entries(path: Path, content: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], Any]]:
    for name, table in content.items():
        if name == "group" and isinstance(table, list) and all(isinstance(entry, dict) for entry in table):
            for entry in table:
                values = {key: value for key, value in entry.items() if key not in MEASURES}
                yield values, {key: value for key, value in entry.items() if key in MEASURES}
        elif name in BY and isinstance(table, dict):
            for value, entry in table.items():
                yield {name: value}, entry
        else:
            raise InputError(
                f"{path} with {name!r}", f"tables [{'], ['.join(BY)}], or [[group]]", "see docs/planning.md"
            )


def _term(path: Path, name: str, text: Any) -> str:
    """A class as plans call it; a known term misspelt is refused, one of the user's own is taken."""
    value = label_value(BY[name], text) if isinstance(text, str) else None
    if value is None:
        raise InputError(f"{path}: {name} = {text!r}", "a term in quotes", "fix the file")
    return str(value)


def _measured(path: Path, group: Group, entry: Any) -> tuple[str, float]:
    """A group's entry as (measure, number)."""
    named = f"{path}: {', '.join(group)} = {entry!r}"
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        entry = {"times": entry}
    if not isinstance(entry, dict) or len(entry) != 1 or not set(entry) <= set(MEASURES):
        raise InputError(named, f"a number, or one of {', '.join(MEASURES)}", "write for example {total = 1000}")
    ((measure, number),) = entry.items()
    whole = measure in ("synthetic", "total")
    if (
        isinstance(number, bool)
        or not isinstance(number, int if whole else int | float)
        or not 0 <= number <= MAX_PAIRS
    ):
        expected = f"a {'whole ' * whole}number, 0 or more and at most {MAX_PAIRS:,}"
        raise InputError(named, expected, "fix the file")
    if measure == "share" and not 0 < number < 1:
        raise InputError(named, "a share above 0 and below 1", "write 0.3 for 30 %")
    return measure, float(number)
