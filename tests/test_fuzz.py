"""The fuzzer: every kind of input, tried shortly with a fixed seed, and that it finds faults of every kind."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fuzzing.command import app
from fuzzing.rounds import Find, play, read_find, write_find
from fuzzing.target import Target
from fuzzing.targets import TARGETS
from fuzzing.worker import fuzz

SEED = 1
CASES = {"photograph": 12, "damaged photograph": 12, "mask": 12, "folder": 5}
"""Cases of a target by the first words of its name."""
CASES_OTHERWISE = 5
WITH_A_PROCESS = {name for name in TARGETS if name.startswith("photograph of other sides")}
"""They need memory, which only a process of their own is watched for."""


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - WITH_A_PROCESS))
def test_each_input_gives_the_right_value_or_one_error(name: str) -> None:
    played = play(TARGETS[name], number=SEED, cases=CASES.get(name.partition(",")[0], CASES_OTHERWISE))
    assert not played.finds, "\n".join(f"{find.case}\n{find.text}" for find in played.finds.values())
    assert played.outcomes.total() >= CASES_OTHERWISE


def test_some_kinds_need_a_process() -> None:
    assert set(TARGETS) > WITH_A_PROCESS > set()


@pytest.fixture(scope="module")
def planted() -> dict[str, Target]:
    import planted_targets

    return planted_targets.TARGETS


def test_refusals_count_where_they_are_admitted(planted: dict[str, Target]) -> None:
    played = play(planted["right"], number=0, cases=30)
    assert not played.finds
    assert played.outcomes["right"] and played.outcomes["refused"]


@pytest.mark.parametrize("name", ["wrong value", "exception"])
def test_a_find_is_made_small_and_the_same_each_time(name: str, planted: dict[str, Target]) -> None:
    first, again = (play(planted[name], number=3, cases=50) for _ in range(2))
    (find,) = first.finds.values()
    assert find.case == {"number": 100}
    assert again.finds.keys() == first.finds.keys()
    known = play(planted[name], number=3, cases=50, known=list(first.finds))
    assert not known.finds and known.outcomes["find"] > 1  # it goes on past what is known


def test_hangs_growth_and_crashes_are_found_in_a_process_of_their_own() -> None:
    names = ["right", "wrong value", "hangs", "grows", "crashes"]
    told: list[Find] = []
    tally = fuzz(names, number=0, seconds=200, tell=told.append, most=4, hang_s=2, table="planted_targets")
    kinds = dict(tally.finds.keys())
    assert kinds.keys() == set(names) - {"right"}
    assert kinds["hangs"] == "no end within 2 s" and kinds["crashes"] == "the process ended with 11"
    assert kinds["grows"].startswith("more than") and "WrongValueError" in kinds["wrong value"]
    assert {find.target for find in told} == kinds.keys()
    assert all(find.case["number"] >= 100 for find in tally.finds.values())


def test_a_find_is_a_file_that_is_tried_again(tmp_path: Path) -> None:
    case = {"number": 3, "mode": "RGB", "format": "BMP", "option": 0, "orientation": 1}
    path = write_find(Find("photograph, BMP", "WrongValueError", case, "..."), tmp_path)
    assert read_find(path)["case"] == case
    done = CliRunner().invoke(app, ["--replay", str(path)])
    assert (done.exit_code, done.output) == (0, "right\n")
    path.write_text(json.dumps({"target": "none"}))
    done = CliRunner().invoke(app, ["--replay", str(path)])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1


def test_the_command_tries_and_counts(tmp_path: Path) -> None:
    out = tmp_path / "finds"
    done = CliRunner().invoke(app, ["--minutes", "0.05", "--only", "photograph, BMP", "--out", str(out)])
    assert done.exit_code == 0 and "inputs tried" in done.stdout and "0 kinds of finds" in done.stdout
    assert not out.exists()


def test_kinds_are_listed_and_chosen() -> None:
    assert CliRunner().invoke(app, ["--list", "--only", "GIF"]).stdout.splitlines() == [
        "photograph, GIF",
        "damaged photograph, GIF",
        "photograph of other sides, GIF",
    ]
    done = CliRunner().invoke(app, ["--only", "no such kind"])
    assert done.exit_code == 2 and "no such kind" in done.stderr


def test_without_hypothesis_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    assert "pip install hypothesis" in done.stderr and done.stderr.count("\n") == 1


def test_nothing_imports_hypothesis_before_it_fuzzes() -> None:
    code = "import sys, skindualgen.cli, fuzzing.command; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, timeout=300)
