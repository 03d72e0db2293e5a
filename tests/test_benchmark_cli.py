"""``skindualgen benchmark`` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmark_data import write_folder
from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.cli import app
from skindualgen.data.dataset import Dataset
from skindualgen.readiness.benchmark import benchmark_problems

QUICK = ["--size", "32", "--network", "test_efficientnet", "--weights", "random", "--precision", "fp32"]
QUICK += ["--batch-size", "2", "--threads", "1", "--devices", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("data")
    real = write_folder(root / "real", range(14), split={"train": 8, "val": 6})
    generated = write_folder(root / "generated", range(100, 108), split={"train": 8}, origin="synthetic")
    return ["--real", str(real), "--generated", str(generated)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["benchmark", *QUICK, *arguments])


def test_both_tasks_into_page_table_and_json(data: list[str], tmp_path: Path) -> None:
    arguments = [*data, "--out", str(tmp_path), "--steps", "1", "--seeds", "2", "--ratios", "1"]
    arguments += ["--arms", "augment,replay,hybrid-1", "--real-count", "4,8"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "[1/" in result.stderr and "left" in result.stderr
    assert "Dice: " in result.stdout and f"Report: {tmp_path / 'benchmark.html'}" in result.stdout
    found = BenchmarkResult.model_validate_json((tmp_path / "benchmark.json").read_text())
    assert [task.task for task in found.tasks] == ["segment", "classify"]
    assert [[regime.real_pairs for regime in task.regimes] for task in found.tasks] == [[4, 8], [4, 8]]
    assert found.test_split == "val" and found.seeds == 2
    assert found.tasks[0].learning_rate == 1e-3 and found.tasks[1].learning_rate == 3e-4
    assert [task.fill for task in found.tasks] == ["match", "balance"]
    assert (found.real, found.generated) == ("real", "generated")
    assert (tmp_path / "benchmark.md").is_file()
    again = run(*arguments)
    assert again.exit_code == 0 and "\n0 trainings to run" in again.stderr


def test_options_reach_the_trainings(data: list[str], tmp_path: Path) -> None:
    options = ["--task", "segment", "--steps", "2", "--seeds", "1", "--arms", "augment", "--learning-rate", "0.01"]
    options += ["--real-fraction", "0.5", "--class-allocation", "balance", "--test-split", "val"]
    result = run(*data, "--out", str(tmp_path), *options)
    assert result.exit_code == 0, result.output
    task = BenchmarkResult.model_validate_json((tmp_path / "benchmark.json").read_text()).tasks[0]
    assert (task.steps, task.batch_size, task.learning_rate, task.fill) == (2, 2, 0.01, "balance")
    assert (task.network, task.weights, task.precision) == ("test_efficientnet", "random", "fp32")
    assert (task.regimes[0].real_pairs, task.regimes[0].whole) == (4, False)
    again = run(*data, "--out", str(tmp_path), *[word.replace("--class-allocation", "--fill") for word in options])
    assert again.exit_code == 0 and "\n0 trainings to run" in again.stderr
    assert "Warning: --fill is called --class-allocation;" in again.stderr and "Warning" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratios", "1,many"], "--ratios 1,many"),
        (["--ratios", "1,nan"], "ratios [1.0, nan]"),
        (["--ratios", "inf"], "ratios [inf]"),
        (["--learning-rate", "-0.001"], "a learning rate of -0.001"),
        (["--learning-rate", "nan"], "a learning rate of nan"),
        (["--learning-rate", "0"], "a learning rate of 0"),
        (["--network", "no_such_network"], "no_such_network"),
        (["--arms", "magic"], "arms magic"),
        (["--size", "40", "--task", "segment"], "multiple of 32"),
        (["--real-count", "1000"], "1000"),
        (["--test-split", "test"], "no record of the split 'test'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    data: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(*data, "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: got ") and message in last


def test_leak_is_refused_and_accepted_by_name(data: list[str], tmp_path: Path) -> None:
    """The last of the real test photographs stands among the generated ones."""
    leaking = write_folder(tmp_path / "leaking", range(13, 21), split={"train": 8}, origin="synthetic")
    arguments = [*data[:2], "--generated", str(leaking), "--out", str(tmp_path / "out"), "--task", "segment"]
    arguments += ["--steps", "1", "--seeds", "1", "--arms", "augment,hybrid-1"]
    refused = run(*arguments)
    assert refused.exit_code == 2 and "real_0013" in refused.stderr and "--i-know" in refused.stderr
    accepted = run(*arguments, "--i-know")
    assert accepted.exit_code == 0, accepted.output
    assert "real_0013" in (tmp_path / "out" / "benchmark.html").read_text()


@pytest.mark.parametrize("split", ["train", "val"])
def test_synthetic_pairs_among_the_real_ones_are_refused(data: list[str], tmp_path: Path, split: str) -> None:
    """Guards against results on generated test pictures, and against generated pairs in the arm of real ones."""
    real = Dataset.open(write_folder(tmp_path / "real", range(14), split={"train": 8, "val": 6}))
    for record in real.split(split)[:2]:
        record.origin = "synthetic"
    real.write({})
    result = run("--real", str(real.root), *data[2:], "--out", str(tmp_path / "out"))
    assert result.exit_code == 2 and "got 2 synthetic pairs among the real ones" in result.stderr
    found = {problem.kind: problem.found for problem in benchmark_problems(real.root)[0]}
    assert "2 synthetic pairs among the real ones" in found["synthetic"]
