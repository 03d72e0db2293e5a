"""What a benchmark found, as it is written to ``benchmark.json``."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator

from skindualgen.benchmarking.arms import Arm, Task, arms_of
from skindualgen.benchmarking.statistics import Difference
from skindualgen.metrics.intervals import Estimate

RESULT_SCHEMA_VERSION = 1

Reference = Literal["real", "augment", "replay", "augment-tuned", "self-train", "best"]
"""What arms are compared with, where it has run; "best" is the arm without generated pairs whose mean over the seeds is
best."""

CONTROLS: tuple[Reference, Reference] = ("replay", "augment")
"""What costs nothing, and what generated pairs therefore have to beat: repeated real pairs, classical augmentation."""
FURTHER_CONTROLS: tuple[Reference, Reference] = ("augment-tuned", "self-train")
"""What they have to beat too where it has run."""


def _to_json(numbers: Estimate) -> dict[str, float | None]:
    return {name: number if math.isfinite(number) else None for name, number in asdict(numbers).items()}


def _from_json(numbers: Any) -> Any:
    if not isinstance(numbers, dict):
        return numbers
    return {name: math.nan if number is None else number for name, number in numbers.items()}


# NaN, which JSON lacks, is written as null.
JsonEstimate = Annotated[Estimate, BeforeValidator(_from_json), PlainSerializer(_to_json)]
JsonDifference = Annotated[Difference, BeforeValidator(_from_json), PlainSerializer(_to_json)]


class Result(BaseModel):
    """Base of all parts of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricInfo(Result):
    """What a metric is; see :class:`skindualgen.metrics.scores.Metric`."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    title: str
    definition: str
    higher_is_better: bool
    unit: str

    @property
    def heading(self) -> str:
        """The title, with the unit if it has one."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def digits(self) -> int:
        """Decimal places in tables."""
        return 1 if self.unit else 3


class ArmResult(Arm):
    """An arm in one regime; scores have 95 % intervals, and NaN where they are undefined.

    Attributes:
        real_items, synthetic_items: different items in the pool, mean over the seeds.
        synthetic_share: share of the draws that are synthetic.
        scores: by metric, mean over the seeds.
        by_seed: by metric, the score of each seed in ascending order; None where it is undefined.
        differences: by reference and metric; none to itself. Holm's adjustment is over the arms of the same kind (with
            or without generated pairs).
        seconds: of a training, mean over the seeds. final_loss: mean of the last tenth of the steps, over the seeds.
    """

    real_items: float
    synthetic_items: float
    synthetic_share: float
    scores: dict[str, JsonEstimate]
    by_seed: dict[str, list[float | None]]
    differences: dict[Reference, dict[str, JsonDifference]]
    seconds: float
    final_loss: float

    @model_validator(mode="before")
    @classmethod
    def _from_earlier_versions(cls, values: Any) -> Any:
        """Say of an arm that an earlier version wrote, by its name, what it trained on."""
        if not isinstance(values, dict) or "uses_real" in values:
            return values
        arms = {arm.name: arm.model_dump() for arm in arms_of("classify", (values.get("ratio") or 1,))}
        return arms.get(values.get("name", ""), {}) | {"class_allocation": None} | values


class LeftOut(Result):
    """An arm that could not be built."""

    name: str
    title: str
    reason: str


class Verdict(Result):
    """Whether, by one metric, generated pairs helped: a hybrid beats repeated real pairs AND classical augmentation.

    Where tuned augmentation or a network's own masks have run, it has to beat these too.

    Attributes:
        metric: its name.
        helped: all 95 % intervals of a hybrid's differences lie on the better side of 0; None if that was not tested.
        winners: those hybrids.
        winners_holm: those of them whose adjusted p-values are below 0.05 too.
        closest: the hybrid, of the winners if there are any, whose smallest gain over them is largest.
        text: the same in words.
    """

    metric: str
    helped: bool | None
    winners: list[str] = []
    winners_holm: list[str] = []
    closest: str | None = None
    text: str


class Regime(Result):
    """One amount of real pairs.

    Attributes:
        real_pairs: their number, the same for all seeds; which ones, each seed draws anew.
        whole: whether they are the whole train part.
        diagnoses: how many of each, in the first seed's part.
        left_out: arms that cannot be built.
        steps: of all trainings, where they were found for this regime; None: those of the task.
    """

    real_pairs: int
    whole: bool
    diagnoses: dict[str, int]
    left_out: list[LeftOut]
    steps: int | None = None


class RegimeResult(Regime):
    """All arms for one amount of real pairs; ``best`` names the best arm without generated pairs, by metric."""

    best: dict[str, str]
    arms: list[ArmResult]
    verdicts: list[Verdict]

    def arm(self, name: str | None) -> ArmResult | None:
        """Return an arm by name, None if it was not run."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def verdict(self, metric: str) -> Verdict:
        """Return the verdict by a metric."""
        return next(verdict for verdict in self.verdicts if verdict.metric == metric)


class TaskResult(Result):
    """One task: what is equal in all arms, and the regimes by rising number of real pairs.

    ``fill`` is how the diagnoses of generated pairs were chosen, `skindualgen.benchmarking.arms.Arm.class_allocation`.
    """

    task: Task
    network: str
    weights: str
    parameters: int
    precision: Literal["fp32", "bf16"]
    steps: int
    batch_size: int
    learning_rate: float
    fill: str
    classes: list[str]
    test_items: int
    test_groups: int
    generated_items: int
    metrics: list[MetricInfo]
    undefined: dict[str, str]
    caveats: list[str]
    regimes: list[RegimeResult]


class BenchmarkResult(Result):
    """A whole benchmark.

    Attributes:
        real, generated: names of the folders.
        leaks: what the leak guard found and the user went on with (``--i-know``).
        caveats: what limits all of the results.
        seeds, repeats: parts of the real pairs, and trainings of each arm on each.
        record: command, versions, date.
    """

    schema_version: int = RESULT_SCHEMA_VERSION
    kind: Literal["benchmark"] = "benchmark"
    real: str
    generated: str | None
    test_split: str
    seeds: int
    repeats: int = 1
    size_px: int
    threads: int
    devices: list[str]
    leaks: list[str]
    caveats: list[str]
    tasks: list[TaskResult]
    record: dict[str, Any]
