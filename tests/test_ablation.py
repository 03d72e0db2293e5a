"""The ablation compares arms seed by seed, changes one thing an arm, and names only settings that there are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

from ablation import ARMS, MEASURES, interval, table

from skindualgen.config import load_train_config


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_valid_configuration_that_differs(arm: str) -> None:
    file = Path(__file__).resolve().parents[1] / "scripts" / "micro_adapter.toml"
    needed = {"data": "d", "out": "o"}
    default, changed = load_train_config(file, needed), load_train_config(file, needed | ARMS[arm])
    assert (changed == default) == (arm == "default")


def test_the_interval_by_hand() -> None:
    """Mean 2, deviation 1, three values: 4.303 / sqrt(3) = 2.484."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.484), abs=1e-3)


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by 1 and arms by .1: the difference is .1 with no width, whatever the seeds do."""
    rows = [
        {"arm": arm, "seed": seed} | dict.fromkeys(MEASURES, seed + shift)
        for arm, shift in (("default", 0.0), ("rank 8", 0.1))
        for seed in (0, 1)
    ]
    rows.append({"arm": "rank 64", "seed": 0} | dict.fromkeys(MEASURES, 0.5))
    lines = table(rows)
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| default", "2"], ["| rank 8", "2"], ["| rank 64", "1"]]
    assert lines[2].count("0.500 ± ") == len(MEASURES)
    assert lines[3].count("0.600 (+0.100 ± 0.000)") == len(MEASURES)
    assert lines[4].count("0.500 (+0.500 ± nan)") == len(MEASURES)
