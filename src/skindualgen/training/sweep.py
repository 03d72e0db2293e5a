"""A sweep: trainings with other settings each, in folders of their own, that go on where they were interrupted.

Optuna chooses the settings and says which trainings are hopeless; its study is in the sweep's folder. A training whose
end is not recorded there is resumed before another begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
import tomli_w
from accelerate import PartialState
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console

from skindualgen.config import FREE_TO_CHANGE, TrainConfig
from skindualgen.contracts import InputError
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.pairs import read_pairs
from skindualgen.files import atomic_write_text, csv_text
from skindualgen.folders import claim, only_writer
from skindualgen.model.adapter import ADAPTER_DIR, read_header
from skindualgen.training.batches import seed_of
from skindualgen.training.loop import CACHE_DIR, Hopeless
from skindualgen.training.progress import METRICS_FILE, read_rows
from skindualgen.training.stopping import TrainingPruned
from skindualgen.training.sweep_settings import SWEEP_FILE, Range, Sweep, SweepSettings, Value
from skindualgen.training.trainer import NonFiniteLossError
from skindualgen.training.validate import validation_records

STUDY_DIR, STUDY_FILE = "study", "study.db"
TABLE_FILE, BEST_FILE = "trials.csv", "best.toml"
DICE = "val_dice_read"
"""What trainings are compared by on the way, and in the end, where agreement is not measured too."""
OUTCOMES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "given up",
    TrialState.FAIL: "diverged",
    TrialState.RUNNING: "not finished",
    TrialState.WAITING: "not finished",
}


class Train(Protocol):
    """As `skindualgen.training.loop.train`."""

    def __call__(self, config: TrainConfig, *, console: Console | None, hopeless: Hopeless) -> Path:
        """Train, and return the run folder."""


@dataclass(frozen=True)
class Attempt:
    """One training of a sweep.

    Attributes:
        folder: its run folder.
        outcome: "finished", "given up", "diverged" or "not finished".
        values: what the sweep has set.
        step: of the last validation, or of the one whose weights are the adapter.
        dice: at that step, of masks read from validation photographs; None before a validation.
        agreement: mean Dice of generated masks and those that an independent segmenter sees; None if not measured.
        score: what decides, ``dice`` plus, where it is measured, ``agreement``; None where it has not finished.
    """

    folder: Path
    outcome: str
    values: Mapping[str, Value]
    step: int | None
    dice: float | None
    agreement: float | None
    score: float | None

    @property
    def said(self) -> str:
        """Its settings, for people."""
        return said(self.values)


def said(values: Mapping[str, Value]) -> str:
    """Settings for people: names and values, numbers to four digits."""
    shown = ((name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in values.items())
    return ", ".join(f"{name} = {value}" for name, value in shown)


def run_sweep(sweep: Sweep, train: Train, *, console: Console, done: Callable[[list[Attempt]], None]) -> list[Attempt]:
    """Train what is missing of a sweep; run the same again to resume. More trials than before continue it.

    Args:
        sweep: what is tried; ``sweep.config.out`` is its folder.
        train: does one training.
        console: for what is said on the way.
        done: called after each training with all so far.

    Returns:
        All trainings, in the order in which they began; `best_of` names the winner. ``trials.csv`` and ``best.toml``
        in the folder say the same.

    Raises:
        InputError: unusable data or settings, a folder of another sweep, several processes; and what ``train`` raises,
            but for `NonFiniteLossError`, after which the next training begins.
    """
    settings, config = sweep.settings, sweep.config
    if PartialState().num_processes > 1:
        raise InputError("--sweep in several processes", "one process", "start it without accelerate launch")
    validation_records(config.model_copy(update={"best_by": DICE, "result": "best"}))  # refuses data without them
    work = config.out / STUDY_DIR
    with only_writer(config.out, work):
        claim(config.out, SWEEP_FILE, _identity(sweep), ignored={STUDY_DIR})
        measure = _agreement_with(sweep, console)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(f"sqlite:///{work / STUDY_FILE}")
        try:
            study = optuna.create_study(
                storage=storage,
                study_name="sweep",
                direction="maximize",
                pruner=_pruner(settings),
                load_if_exists=True,
            )
            while (trial := _next(study, settings)) is not None:
                _attempt(sweep, trial, train, measure, console)
                done(_record(sweep, study))
            return _record(sweep, study)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def ranked(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Trainings by their score, the best and of equals the first in front; those without one last."""
    return sorted(attempts, key=lambda each: -math.inf if each.score is None else each.score, reverse=True)


def best_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The finished training of the highest score; None if none has finished."""
    return next((attempt for attempt in ranked(attempts) if attempt.score is not None), None)


def _identity(sweep: Sweep) -> dict[str, Any]:
    """All that decides a sweep, but for the number of its trials."""
    config = sweep.config.model_dump(mode="json", exclude=FREE_TO_CHANGE)
    records = [record for split in ("train", "val") for record in read_pairs(sweep.config.data, split)]
    return {
        **sweep.settings.model_dump(mode="json", exclude={"trials"}),
        **{f"train.{name}": value for name, value in config.items()},
        "manifest_sha256": manifest_sha256(records),
    }


def _agreement_with(sweep: Sweep, console: Console) -> Callable[[Path], float] | None:
    """What measures a run's agreement; None where the sweep does not ask for it."""
    settings, config = sweep.settings, sweep.config
    if not settings.agreement_pairs:
        return None
    from skindualgen.model.local import native_px
    from skindualgen.training.agreement import agreement, independent_segmenter, val_prompts

    size_px = config.resolution or native_px(config.base)
    if size_px is None:
        raise InputError(f"agreement_pairs with base {config.base}, which is not here", "its size", "give --resolution")
    with console.status("Training the segmenter that judges generated masks ...") as status:

        def report(step: int, steps: int) -> None:
            status.update(f"Training the segmenter that judges generated masks: step {step} of {steps}")

        judge = independent_segmenter(config.data, size_px, settings.judge_steps, report)
    prompts = val_prompts(config, settings.agreement_pairs)
    return lambda run: agreement(run, prompts, size_px, judge)


def _pruner(settings: SweepSettings) -> optuna.pruners.BasePruner:
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(settings.pruner_startup_trials, settings.pruner_warmup_steps)
    return optuna.pruners.SuccessiveHalvingPruner() if settings.pruner == "halving" else optuna.pruners.NopPruner()


def _next(study: optuna.Study, settings: SweepSettings) -> Trial | None:
    """The trial to go on with: the one that was interrupted, else a new one; None if there are enough."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    number = running[0].number if running else len(study.get_trials(deepcopy=False)) - len(waiting)
    # Seeded by its number, a trial does not hang on how often the sweep was interrupted.
    seed = seed_of(settings.seed, number) % 2**32
    random = optuna.samplers.RandomSampler(seed)
    study.sampler = optuna.samplers.TPESampler(seed=seed) if settings.sampler == "tpe" else random
    if running:
        return Trial(study, running[0]._trial_id)
    if number >= settings.wanted:
        return None
    if settings.sampler == "grid" and not waiting:
        study.enqueue_trial(settings.combination(number))
    return study.ask()


def _suggest(trial: Trial, name: str, values: list[Any] | Range) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def _attempt(
    sweep: Sweep, trial: Trial, train: Train, measure: Callable[[Path], float] | None, console: Console
) -> None:
    """Train, or go on with, one trial, and tell the study how it ended."""
    study = trial.study
    values = {name: _suggest(trial, name, tried) for name, tried in sweep.settings.search.items()}
    reported = set(study.trials[trial.number].intermediate_values)
    folder, cache = _folder(sweep, trial.number), sweep.config.cache or sweep.config.out / CACHE_DIR
    console.print(
        f"Trial {trial.number + 1} of {sweep.settings.wanted}: {said(values)}", soft_wrap=True, highlight=False
    )

    def hopeless(step: int, row: Mapping[str, float]) -> bool:
        if step not in reported:
            trial.report(row[DICE], step)
        return trial.should_prune()

    try:
        train(sweep.with_values(values | {"out": folder, "cache": cache}), console=console, hopeless=hopeless)
    except TrainingPruned as pruned:
        console.print(f"Given up at step {pruned.step}.", highlight=False)
        study.tell(trial, state=TrialState.PRUNED)
        return
    except NonFiniteLossError as error:
        console.print(f"Diverged: {error}", soft_wrap=True, highlight=False, markup=False)
        study.tell(trial, state=TrialState.FAIL)
        return
    step, score = _outcome(folder)
    trial.set_user_attr("step", step)
    trial.set_user_attr("dice", score)
    if measure is not None:
        trial.set_user_attr("agreement", found := measure(folder))
        score += found
    study.tell(trial, score)


def _folder(sweep: Sweep, number: int) -> Path:
    return sweep.config.out / f"trial-{number:04d}"


def _outcome(run: Path) -> tuple[int, float]:
    """The step whose weights are the adapter of a run, and its validation's Dice."""
    step = read_header(run / ADAPTER_DIR)["recipe"]["steps"]
    rows = [row for row in read_rows(run / METRICS_FILE) if row["step"] == step and DICE in row]
    return step, rows[-1][DICE]


def _record(sweep: Sweep, study: optuna.Study) -> list[Attempt]:
    """Write the table and the settings of the winner, and return all trainings."""
    attempts = [_as_attempt(sweep, trial) for trial in study.get_trials(deepcopy=False)]
    out, names = sweep.config.out, list(sweep.settings.search)
    rows: list[list[object]] = [["trial", "outcome", "score", DICE, "agreement", "step", *names]]
    for each in attempts:
        numbers = [each.score, each.dice, each.agreement, each.step]
        rows.append([each.folder.name, each.outcome, *numbers, *(each.values.get(name) for name in names)])
    atomic_write_text(out / TABLE_FILE, csv_text(rows))
    if (best := best_of(attempts)) is not None:
        settings = sweep.with_values(best.values).model_dump(
            mode="json", exclude_none=True, exclude={"out", "data", "cache", "track"}
        )
        atomic_write_text(out / BEST_FILE, tomli_w.dumps(settings))
    return attempts


def _as_attempt(sweep: Sweep, trial: FrozenTrial) -> Attempt:
    last = max(trial.intermediate_values, default=None)
    return Attempt(
        folder=_folder(sweep, trial.number),
        outcome=OUTCOMES[trial.state],
        values=trial.params,
        step=trial.user_attrs.get("step", last),
        dice=trial.user_attrs.get("dice", None if last is None else trial.intermediate_values[last]),
        agreement=trial.user_attrs.get("agreement"),
        score=trial.value if trial.state == TrialState.COMPLETE else None,
    )
