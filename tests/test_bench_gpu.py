"""The script for a GPU's minutes, with tiny models on the CPU: every section runs, and what is measured is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu
import gpu_tasks
from gpu_tasks import SECTIONS, Setup

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup("cpu", True, str(tmp_path), pairs=2)


@pytest.mark.parametrize("name", ["generation", "training", "bundled"])
def test_a_section_measures_everything_on_small_models(name: str, setup: Setup) -> None:
    rows = list(SECTIONS[name](setup))
    assert all(row["per_second"] > 0 and row["seconds"] > 0 for row in rows)
    kinds = [(row["kind"], row.get("batch"), row.get("passes")) for row in rows]
    assert len(set(kinds)) == len(kinds)
    if name == "generation":
        assert {row["kind"] for row in rows} == {"pair", "image only"}
        assert {row["passes"] for row in rows} == {4, 40}
    elif name == "training":
        assert {row["kind"] for row in rows} == {"joint", "joint, checkpointing", "image only"}
    else:
        assert rows[-1]["pairs"] == 2 and len(list((Path(setup.work) / "pairs" / "images").iterdir())) == 2


@pytest.mark.slow
def test_a_resumed_run_ends_in_the_same_file(setup: Setup) -> None:
    (row,) = SECTIONS["resuming"](setup)
    assert row["equal"] is True


def test_what_was_measured_survives_an_error_and_the_end_of_time(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = {
        "generation": [{"kind": "pair", "passes": 40, "batch": 1, "seconds": 2.0, "per_second": 0.5}],
        "training": [{"kind": "joint", "batch": 4, "failed": "out of memory"}],
    }
    given = []

    def section(name: str, _: Setup, seconds: float) -> list[dict]:
        given.append(seconds)
        if name == "bundled":
            raise KeyboardInterrupt
        return rows[name]

    monkeypatch.setattr(gpu, "run_section", section)
    out = tmp_path / "gpu.md"
    of = gpu.machine() | {"device": "CPU"}
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(setup, ["generation", "training", "bundled"], 1.0, out, of)
    page = out.read_text()
    assert "out of memory" in page and "pairs generated, large model, 40 passes | 0.50 | 14,400" in page
    assert "pairs learnt" not in page
    shares = gpu.SHARES
    assert given[0] == pytest.approx(60 * shares["generation"] / 0.85, rel=0.05)
    assert given[2] == pytest.approx(60, rel=0.05)  # nobody used any of it


def test_an_exhausted_device_is_a_row(setup: Setup) -> None:
    def call() -> None:
        raise gpu_tasks.torch.OutOfMemoryError("too much")

    assert gpu_tasks.measured(setup, call, 1) == {"failed": "out of memory"}


@pytest.mark.slow
def test_a_section_that_takes_too_long_leaves_its_rows(setup: Setup) -> None:
    """A process of its own is ended when its time is over; the file of rows stays."""
    rows = gpu.run_section("generation", setup, 0.5)
    assert rows == [{"kind": "ended early", "failed": "its 0 s were over"}]
