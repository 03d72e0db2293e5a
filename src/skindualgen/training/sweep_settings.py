"""What a sweep tries: settings by their dotted names, each with values or a range, and how trials are chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from skindualgen.config import (
    FREE_TO_CHANGE,
    Settings,
    TrainConfig,
    load_train_config,
    read_toml,
    with_current_names,
)
from skindualgen.contracts import InputError, first_problem

SWEEP_FILE = "sweep.json"
"""In a sweep's folder: what it is of."""
UNNAMED_TRIALS = 20
"""Trials of a sampler that could go on for ever, if their number is not given."""
Value = bool | int | float | str


class Range(Settings):
    """Every number from ``low`` to ``high``, both included: whole ones where both are whole."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="equal ratios are equally likely, not equal differences")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            above = " above 0" if self.log else ""
            raise ValueError(f"low{above} and less than high, not {self.low} to {self.high}")
        return self


Tried = Annotated[
    Annotated[list[Any], Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(lambda tried: "range" if isinstance(tried, dict | Range) else "values"),
]


class SweepSettings(Settings):
    """The file of ``train --sweep``."""

    search: dict[str, Tried] = Field(min_length=1, description="name of a setting -> what is tried")
    sampler: Literal["grid", "random", "tpe"] = Field("tpe", description="how values are chosen")
    trials: int | None = Field(None, ge=1, description="trainings; of a grid all if not given, else 20")
    seed: int = Field(0, ge=0, description="of the sampler")
    pruner: Literal["median", "halving", "none"] = Field("median", description="when a training is given up")
    pruner_startup_trials: int = Field(5, ge=0, description="finished trainings before 'median' gives one up")
    pruner_warmup_steps: int = Field(0, ge=0, description="optimiser steps before 'median' gives a training up")
    agreement_pairs: int = Field(
        0, ge=0, description="generated pairs whose masks an independent segmenter's are compared with"
    )
    judge_steps: int = Field(1000, ge=1, description="optimiser steps of that segmenter")

    @field_validator("search", mode="before")
    @classmethod
    def _dotted(cls, values: Any) -> Any:
        return dict(_flat(values)) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, values in self.search.items():
            if isinstance(values, Range):
                if self.sampler == "grid":
                    raise ValueError(f"a list of values for {name}, as a grid has no ranges")
            elif not values or len(set(map(repr, values))) < len(values) or not all(map(_is_value, values)):
                raise ValueError(f"numbers, words, true or false for {name}, each once, not {values}")
        return self

    @property
    def wanted(self) -> int:
        """How many trials there are to be."""
        if self.sampler != "grid":
            return self.trials or UNNAMED_TRIALS
        combinations = math.prod(len(values) for values in self.search.values() if isinstance(values, list))
        return min(self.trials or combinations, combinations)

    def combination(self, number: int) -> dict[str, Value]:
        """Of a grid the combination of this number, 0 the first; the last setting changes fastest."""
        values = [values for values in self.search.values() if isinstance(values, list)]
        return dict(zip(self.search, next(islice(product(*values), number, None)), strict=True))


@dataclass(frozen=True)
class Sweep:
    """A sweep that can begin: what is tried, and what all trials share.

    Args:
        settings: of the sweep.
        file, overrides: of the trainings, as `load_train_config` takes them.
    """

    settings: SweepSettings
    file: Path | None
    overrides: Mapping[str, Any]

    @cached_property
    def config(self) -> TrainConfig:
        """Of a training without what the sweep sets; ``out`` is the sweep's folder."""
        return self.with_values({})

    def with_values(self, values: Mapping[str, Any]) -> TrainConfig:
        """Settings of the training that has these values.

        Raises:
            InputError: it would be refused.
        """
        return load_train_config(self.file, {**self.overrides, **values})


def load_sweep(file: Path, config_file: Path | None, overrides: Mapping[str, Any]) -> Sweep:
    """Read the file of a sweep, and try each value of it alone with the settings of the training.

    Raises:
        InputError: no optuna, an unreadable file, or a name or value that the sweep or its trainings would not take.
    """
    if find_spec("optuna") is None:
        raise InputError("--sweep without optuna", "the extra 'sweep'", "pip install 'skindualgen[sweep]'")
    try:
        settings = SweepSettings(**read_toml(file, "--sweep"))
    except ValidationError as error:
        name, problem = first_problem(error)
        got = f"--sweep {file}" + (f" with {name}" if name else "")
        raise InputError(got, problem.removeprefix("Value error, "), "fix it (docs/training.md#sweeps)") from error
    sweep = Sweep(settings, config_file, overrides)
    given = with_current_names(overrides, warn=False)
    for name, values in settings.search.items():
        if name in FREE_TO_CHANGE:
            raise InputError(
                f"--sweep {file} over {name}", "settings that change what is learnt", "give it once, as an option"
            )
        if name in given:
            raise InputError(f"{name} as an option and in --sweep {file}", "either", "leave one of them out")
        for value in [values.low, values.high] if isinstance(values, Range) else values:
            sweep.with_values({name: value})
    return sweep


def _is_value(value: Any) -> bool:
    return isinstance(value, Value)


def _flat(values: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of nested tables; a table with ``low`` is a range."""
    for name, value in values.items():
        if isinstance(value, dict) and "low" not in value:
            yield from _flat(value, f"{table}{name}.")
        else:
            yield table + name, value
