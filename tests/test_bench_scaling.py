"""The benchmark of scaling: its commands run on its data sets, and its exponents are those of what grows."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skindualgen.cli import app

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import scaling

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> scaling.Sets:
    return scaling.write_sets(tmp_path_factory.mktemp("scaling"), scaling.LEAST)


# An evaluation of so few takes a minute, nearly all of it intervals; test_evaluate_cli.py has its options.
@pytest.mark.parametrize("name", [name for name in scaling.COMMANDS if name != "evaluate"])
def test_commands_run(sets: scaling.Sets, name: str, own_threads: None) -> None:
    done = CliRunner().invoke(app, scaling.COMMANDS[name](sets))
    # Noise is nobody's data set: `check` may find that it could be better, but nothing may be refused.
    assert done.exit_code == 0 or (name == "check" and done.exit_code == 3), done.output


def test_exponents_are_those_of_what_grows() -> None:
    def found(grows: float, sizes: tuple[int, ...] = (1_000, 10_000, 50_000)) -> float | None:
        return scaling.exponent(sizes, [5 + 1e-3 * count**grows for count in sizes], 5)

    assert found(1) == pytest.approx(1) and found(2) == pytest.approx(2)
    sizes = (10_000, 50_000)
    assert scaling.exponent(sizes, [n * math.log(n) / 1e4 for n in sizes], 0) == pytest.approx(1.1, abs=0.01)
    assert found(0) is None and scaling.exponent(sizes, [9.0], 5) is None


def test_the_page_says_what_was_not_run_and_what_grows_too_fast() -> None:
    runs = {"prepare": [(5.0, 100.0), (15.0, 110.0), (1005.0, 120.0)], "merge": [(5.0, 100.0), (700.0, 200.0)]}
    page = scaling.report((1_000, 10_000), runs, "python benchmarks/scaling.py", 600)
    assert "| prepare | 5.0 s | 15.0 s | 1005.0 s | 2.00 (!) | 110, 120 |" in page
    assert "| merge | 5.0 s | 700.0 s | not run: over 600 s before |" in page
