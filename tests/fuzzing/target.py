"""What is fuzzed: how inputs are drawn, and what must become of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hypothesis.strategies import SearchStrategy

from skindualgen.contracts import InputError
from skindualgen.data.images import ItemError

Case = Mapping[str, Any]
"""All that an input is made from: plain values that JSON holds, so that a find can be kept and tried again."""
Outcome = Literal["right", "refused"]
REFUSALS = (InputError, ItemError)
"""What says in one line what is wrong with an input; any other exception is a fault of the program."""


class WrongValueError(AssertionError):
    """An input was taken, and its meaning was changed; or it was refused without need."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: says which.
        cases: how they are drawn.
        check: makes the input of a case in an empty folder, has it read, and tells the outcome. It lets no refusal
            through; raises `WrongValueError` for another value than the true one, and hands on whatever else the reader
            raises.
    """

    name: str
    cases: SearchStrategy[Case]
    check: Callable[[Case, Path], Outcome]


def demand(condition: bool, text: str) -> None:
    """Raise `WrongValueError` unless the condition holds."""
    if not condition:
        raise WrongValueError(text)


@contextmanager
def refusal_admitted(admitted: bool) -> Iterator[list[Outcome]]:
    """Yield the list that holds the outcome: "right", or "refused" where the block was refused and may be.

    Raises:
        WrongValueError: it was refused, and must not be.
    """
    outcome: list[Outcome] = ["right"]
    try:
        yield outcome
    except REFUSALS as error:
        demand(admitted, f"refused without need: {error}")
        outcome[0] = "refused"
