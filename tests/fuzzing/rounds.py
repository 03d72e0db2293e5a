"""Rounds of drawn cases through one target, and the finds that they end in."""

from __future__ import annotations

import json
import re
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisException

from fuzzing.target import Case, Outcome, Target

MAX_SHRINKS = 150
"""Failing cases after which no smaller one is looked for."""


@dataclass(frozen=True)
class Find:
    """A case that ends in neither the right value nor a refusal.

    Attributes:
        target: name of the target.
        kind: what finds of one fault share: the exception and where it came from, without numbers.
        case: what to make the input from.
        text: the traceback, or what else happened.
    """

    target: str
    kind: str
    case: Case
    text: str


@dataclass
class Round:
    """What a round came to: how many cases had which outcome, and its finds, the smallest case of each kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: dict[str, Find] = field(default_factory=dict)


class _EnoughError(KeyboardInterrupt):
    """Ends a round: hypothesis lets nothing else through."""


def play(
    target: Target,
    *,
    number: int,
    cases: int,
    known: Collection[str] = (),
    go_on: Callable[[Case], bool] = lambda case: True,
) -> Round:
    """Try drawn cases.

    Args:
        target: which.
        number: seed; the same number draws the same cases.
        cases: how many.
        known: kinds of finds that do not end the round.
        go_on: asked before each case.
    """
    played, failures = Round(), 0

    def attempt(case: Case) -> None:
        nonlocal failures
        if not go_on(case):
            raise _EnoughError
        try:
            played.outcomes[check_alone(target, case)] += 1
        except Exception as error:
            find = found(target, case, error)
            played.outcomes["find"] += 1
            if find.kind in known:
                return
            failures += 1
            played.finds[find.kind] = find  # the smallest comes last
            if failures > MAX_SHRINKS:
                raise _EnoughError from None
            raise

    rules = settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # of NumPy: lost values; of Pillow: bombs
            rules(seed(number)(given(target.cases)(attempt)))()
    except (_EnoughError, HypothesisException):
        pass
    except Exception:
        if not played.finds:
            raise
    return played


def check_alone(target: Target, case: Case) -> Outcome:
    """Check a case in an empty folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="skindualgen-fuzz-") as folder:
        return target.check(case, Path(folder))


def found(target: Target, case: Case, error: BaseException) -> Find:
    """Describe what a case ended in."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = re.sub(r"[0-9]+|'[^']*'", "_", str(error)).partition(", ")[0][:60]
    return Find(
        target.name,
        f"{type(error).__name__} {Path(last.filename).name}:{last.name} {text}",
        case,
        "".join(traceback.format_exception(error)),
    )


def write_find(find: Find, folder: Path) -> Path:
    """Write a find as a file that ``--replay`` tries again, and return its path."""
    name = re.sub(r"\W+", "-", f"{find.target} {find.kind}").strip("-").lower()[:100]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(vars(find), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_find(path: Path) -> dict[str, Any]:
    """Read a file of `write_find`."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
