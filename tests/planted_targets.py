"""Targets with faults of every kind, for the fuzzer to find. It imports them in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import strategies as st

from fuzzing import worker
from fuzzing.target import Case, Outcome, Target, demand, refusal_admitted
from skindualgen.contracts import InputError

worker.MAX_GROWTH = 24 << 20
CASES = st.fixed_dictionaries({"number": st.integers(0, 1000)})


def _right(case: Case, folder: Path) -> Outcome:
    with refusal_admitted(case["number"] % 2 == 0) as outcome:
        if case["number"] % 2 == 0:
            raise InputError("an even number", "an odd one", "add one")
    return outcome[0]


def _wrong_value(case: Case, folder: Path) -> Outcome:
    demand(case["number"] < 100, f"{case['number']} was taken for another")
    return "right"


def _exception(case: Case, folder: Path) -> Outcome:
    if case["number"] >= 100:
        raise KeyError(case["number"])
    return "right"


def _hangs(case: Case, folder: Path) -> Outcome:
    if case["number"] >= 100:
        time.sleep(60)
    return "right"


def _grows(case: Case, folder: Path) -> Outcome:
    return "right" if case["number"] < 100 or len(bytearray(b"x" * (40 << 20))) else "refused"


def _crashes(case: Case, folder: Path) -> Outcome:
    if case["number"] >= 100:
        os._exit(11)
    return "right"


FAULTS = {
    "wrong value": _wrong_value,
    "exception": _exception,
    "hangs": _hangs,
    "grows": _grows,
    "crashes": _crashes,
}
TARGETS = {name: Target(name, CASES, check) for name, check in {"right": _right, **FAULTS}.items()}
