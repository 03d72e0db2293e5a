"""Sweeps: trainings that are chosen, given up, resumed and compared; files of sweeps that are refused."""

from __future__ import annotations

import csv
import os
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from rich.console import Console
from typer.testing import CliRunner

from skindualgen.cli import app as cli
from skindualgen.config import load_train_config
from skindualgen.contracts import InputError
from skindualgen.report.sweep import sweep_with_report
from skindualgen.report.training import HTML_FILE
from skindualgen.training import sweep as sweep_module
from skindualgen.training.loop import train
from skindualgen.training.progress import METRICS_FILE, read_rows
from skindualgen.training.stopping import TrainingPruned, TrainingStopped
from skindualgen.training.sweep import BEST_FILE, STUDY_DIR, STUDY_FILE, TABLE_FILE, Attempt, best_of
from skindualgen.training.sweep_settings import Sweep, SweepSettings, load_sweep
from skindualgen.training.validate import Validator
from tiny import tiny_config, write_phantom_data

QUIET = Console(quiet=True)


@pytest.fixture
def overrides(phantom_data: Path, tiny_base: Path, tmp_path: Path) -> dict[str, Any]:
    """Of a training of two steps, validated after each."""
    settings = tiny_config(
        phantom_data, tmp_path / "sweep", tiny_base, max_train_steps=2, validation_steps=1
    ).model_dump(exclude_none=True, exclude_defaults=True)
    return {name: value for name, value in settings.items() if name != "learning_rate"}


def written(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def by_values(attempts: list[Attempt]) -> list[dict[str, Any]]:
    return [dict(attempt.values) for attempt in attempts]


class Killed(BaseException):
    """What ends a training as SIGKILL does: nothing is written after it."""


def stopped_at(patch: pytest.MonkeyPatch, number: int, *, killed: bool = False) -> None:
    """Send this process SIGTERM in its validation of this number, 1 the first, or have it killed there."""
    validate, calls = Validator.run, [0]

    def stopped(self: Validator, *arguments: Any, **options: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == number and killed:
            raise Killed
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, *arguments, **options)

    patch.setattr(Validator, "run", stopped)


def test_a_grid_tries_every_combination_and_names_the_best(tmp_path: Path, overrides: dict[str, Any]) -> None:
    file = written(
        tmp_path, 'sampler = "grid"\npruner = "none"\n[search]\nlora.rank = [2, 4]\nlearning_rate = [1e-4, 1e-2]\n'
    )
    sweep = load_sweep(file, None, overrides)
    attempts = sweep_with_report(sweep, console=QUIET)
    assert by_values(attempts) == [
        {"lora.rank": rank, "learning_rate": rate} for rank in (2, 4) for rate in (1e-4, 1e-2)
    ]
    out = tmp_path / "sweep"
    best = best_of(attempts)
    assert best is not None
    for each in attempts:
        assert each.outcome == "finished" and (each.folder / HTML_FILE).is_file()
        last = read_rows(each.folder / METRICS_FILE)[-1]
        assert (each.step, each.score) == (2, last["val_dice_read"])
        assert each.score is not None and best.score is not None and each.score <= best.score
    assert len(list((out / "cache").iterdir())) == 2, "pairs are encoded once, to train and to validate, for all"
    with (out / TABLE_FILE).open() as table:
        rows = list(csv.DictReader(table))
    assert [row["trial"] for row in rows] == ["trial-0000", "trial-0001", "trial-0002", "trial-0003"]
    assert [float(row["score"]) for row in rows] == [each.score for each in attempts]
    settings = tomllib.loads((out / BEST_FILE).read_text())
    assert settings["lora"]["rank"] == best.values["lora.rank"]
    again = load_train_config(out / BEST_FILE, {"data": overrides["data"], "out": tmp_path / "again"})
    assert again.learning_rate == best.values["learning_rate"]
    page = (out / HTML_FILE).read_text()
    assert best.folder.name in page and "lora.rank" in page


def test_a_sweep_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first training is killed in its second validation, the second is stopped in its first; then there are more.

    A trial that was begun anew would be another; a sampler that began anew would draw the same again.
    """
    file = written(
        tmp_path,
        'sampler = "random"\ntrials = 3\npruner = "none"\nseed = 4\n'
        "[search]\nlearning_rate = {low = 1e-4, high = 1e-2, log = true}\nlora.rank = {low = 2, high = 8}\n",
    )
    whole = sweep_with_report(load_sweep(file, None, overrides | {"out": tmp_path / "whole"}), console=QUIET)
    fewer = SweepSettings(**tomllib.loads(file.read_text()) | {"trials": 2})
    with monkeypatch.context() as patch:
        stopped_at(patch, 2, killed=True)
        with pytest.raises(Killed):
            sweep_with_report(Sweep(fewer, None, overrides), console=QUIET)
    with monkeypatch.context() as patch:
        stopped_at(patch, 3)
        with pytest.raises(TrainingStopped):
            sweep_with_report(Sweep(fewer, None, overrides), console=QUIET)
    resumed = sweep_with_report(load_sweep(file, None, overrides), console=QUIET)
    assert by_values(resumed) == by_values(whole)
    assert len({each["learning_rate"] for each in by_values(whole)}) == 3
    assert all(isinstance(each["lora.rank"], int) for each in by_values(whole))
    assert [each.score for each in resumed] == [each.score for each in whole]
    assert [row["step"] for row in read_rows(resumed[1].folder / METRICS_FILE)] == [1, 2]
    assert len((resumed[1].folder / "parts.json").read_text().split("from_step")) == 3, "two parts"
    written(tmp_path, file.read_text().replace("seed = 4", "seed = 5"))
    with pytest.raises(InputError, match="seed: 4 there, 5 now"):
        sweep_with_report(load_sweep(file, None, overrides), console=QUIET)


def test_a_hopeless_training_is_given_up(
    tmp_path: Path, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations are made to say that a rate of 1 learns nothing."""
    validate = Validator.run

    def told(self: Validator, *arguments: Any, **options: Any) -> dict[str, float]:
        return validate(self, *arguments, **options) | {"val_dice_read": 0.2 if self.config.learning_rate == 1 else 0.7}

    monkeypatch.setattr(Validator, "run", told)
    file = written(
        tmp_path,
        'sampler = "grid"\npruner_startup_trials = 1\n[search]\nlearning_rate = [1e-3, 1, 1e-4]\n',
    )
    attempts = sweep_with_report(load_sweep(file, None, overrides), console=QUIET)
    assert [each.outcome for each in attempts] == ["finished", "given up", "finished"]
    assert [each.step for each in attempts] == [2, 1, 2]
    assert (attempts[1].dice, attempts[1].score) == (0.2, None)
    assert not (attempts[1].folder / "adapter").exists()
    assert (attempts[1].folder / HTML_FILE).is_file()
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'sweep' / STUDY_DIR / STUDY_FILE}")
    assert study.trials[1].state == optuna.trial.TrialState.PRUNED
    assert study.trials[1].intermediate_values == {1: 0.2}
    study._storage.remove_session()
    study._storage._backend.engine.dispose()
    assert sweep_with_report(load_sweep(file, None, overrides), console=QUIET) == attempts


def test_a_training_that_diverges_does_not_end_the_sweep(tmp_path: Path, overrides: dict[str, Any]) -> None:
    file = written(tmp_path, 'sampler = "grid"\n[search]\nlearning_rate = [1e30, 1e-3]\n')
    attempts = sweep_with_report(
        load_sweep(file, None, overrides | {"lr_warmup_steps": 0} | {"validation_steps": 100}), console=QUIET
    )
    assert [each.outcome for each in attempts] == ["diverged", "finished"]
    assert best_of(attempts) == attempts[1]


def test_agreement_counts(tmp_path: Path, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance changes nothing that a training measures: only pairs that are generated can tell."""
    monkeypatch.setenv("SKINDUALGEN_CACHE", str(tmp_path / "judges"))
    file = written(
        tmp_path,
        'sampler = "grid"\nagreement_pairs = 6\njudge_steps = 2\n[search]\nsampling.default_guidance = [1.0, 30.0]\n',
    )
    attempts = sweep_with_report(load_sweep(file, None, overrides), console=QUIET)
    first, second = attempts
    assert first.dice == second.dice
    for each in attempts:
        assert each.agreement is not None and 0 <= each.agreement <= 1
        assert each.score == pytest.approx((each.dice or 0) + each.agreement)
    assert len(list((tmp_path / "judges").glob("segmenter-*.safetensors"))) == 1
    assert first.agreement != second.agreement


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[search]\nlora.rnk = [2]\n", "lora.rnk = 2; expected the name of a setting"),
        ("[search]\nlora.rank = [2, 0]\n", "lora.rank = 0; expected Input should be greater"),
        ("[search]\nlearning_rate = {low = 1e-4, high = -1.0}\n", "low and less than high, not 0.0001 to -1.0"),
        ("[search]\nlearning_rate = {low = 0.0, high = 1.0, log = true}\n", "low above 0"),
        ("[search]\nlearning_rate = {low = 0.0, high = 1.0}\n", "learning_rate = 0.0; expected Input"),
        ('sampler = "grid"\n[search]\nlora.rank = {low = 2, high = 4}\n', "a list of values for lora.rank"),
        ("[search]\nlora.rank = [2, 2]\n", "each once"),
        ("[search]\nlora.rank = []\n", "numbers, words, true or false for lora.rank"),
        ("[search]\nout = ['a', 'b']\n", "settings that change what is learnt"),
        ("[search]\nmax_train_steps = [2, 4]\n", "max_train_steps as an option and in"),
        ("trails = 3\n[search]\nlora.rank = [2]\n", "with trails; expected Extra inputs"),
        ("trials = 3\n", "with search; expected Field required"),
        ("[search]\n", "with search; expected"),
        ("[search\n", "a readable TOML file"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, phantom_data: Path, text: str, said: str) -> None:
    overrides = {"data": phantom_data, "out": tmp_path / "sweep", "max_train_steps": 4}
    with pytest.raises(InputError) as caught:
        load_sweep(written(tmp_path, text), None, overrides)
    assert said in str(caught.value)
    assert not (tmp_path / "sweep").exists()


def test_data_without_masks_to_validate_on_are_refused(tmp_path: Path, overrides: dict[str, Any]) -> None:
    data = write_phantom_data(tmp_path / "data", train=4, val=0)
    sweep = Sweep(SweepSettings(search={"lora.rank": [2, 4]}), None, overrides | {"data": data})
    with pytest.raises(InputError, match="without validation pairs"):
        sweep_with_report(sweep, console=QUIET)


def test_the_file_in_the_documentation_is_taken(tmp_path: Path, phantom_data: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    sweep = load_sweep(written(tmp_path, text), None, {"data": phantom_data, "out": tmp_path})
    assert len(sweep.settings.search) == 4 and sweep.settings.wanted == 20


def test_seeds_of_trials_are_their_places(tmp_path: Path, overrides: dict[str, Any]) -> None:
    """TPE after a restart would otherwise draw what it has drawn before."""
    settings = SweepSettings(search={"learning_rate": {"low": 0.0001, "high": 1.0}}, trials=12)
    drawn = []
    study = optuna.create_study(direction="maximize")
    while (trial := sweep_module._next(study, settings)) is not None:
        drawn.append(sweep_module._suggest(trial, "learning_rate", settings.search["learning_rate"]))
        study.tell(trial, drawn[-1])
    assert len(drawn) == 12 and len(set(np.round(drawn, 9))) == 12


def test_the_command(tmp_path: Path, overrides: dict[str, Any], own_threads: None) -> None:
    file = written(tmp_path, 'sampler = "grid"\n[search]\nlora.rank = [2]\n')
    options = ["train", "--sweep", str(file), "--data", str(overrides["data"]), "--out", str(tmp_path / "sweep")]
    options += ["--base", overrides["base"], "--max-train-steps", "1", "--set", "views=1"]
    runner = CliRunner()
    shown = runner.invoke(cli, [*options, "--dry-run"])
    assert shown.exit_code == 0 and "# 1 trainings over lora.rank" in shown.output
    refused = runner.invoke(cli, [*options, "--resume"])
    assert refused.exit_code == 2 and "which holds no sweep" in refused.output
    result = runner.invoke(cli, options)
    assert result.exit_code == 0, result.output
    assert "trial-0000" in result.output and "Best:" in result.output
    again = runner.invoke(cli, [*options, "--resume"])
    assert again.exit_code == 0, again.output


def test_a_run_is_given_up_where_it_is_told_to(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base, validation_steps=1)
    asked: list[int] = []
    with pytest.raises(TrainingPruned) as pruned:
        train(config, hopeless=lambda step, row: asked.append(step) or step == 2)  # type: ignore[func-returns-value]
    assert pruned.value.step == 2 and asked == [1, 2]
    train(config, hopeless=lambda step, row: step == 4)
    assert (config.out / "adapter").is_dir()
