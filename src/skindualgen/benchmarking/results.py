"""What a benchmark found, as it stands in ``benchmark.json``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from skindualgen.benchmarking.arms import Task

RESULT_SCHEMA_VERSION = 1

Reference = Literal["real", "augment", "replay", "best"]
"""What arms are compared with; "best" is the arm without generated pairs whose mean over the seeds is best."""


class Result(BaseModel):
    """Base of all parts of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(Result):
    """A number with its 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


class Difference(Score):
    """Arm - reference, paired over seeds and test items.

    Attributes:
        p_value: of no difference.
        p_holm: adjusted over the arms of the same kind (with or without generated pairs) in this comparison.
    """

    p_value: float | None
    p_holm: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; not where it is undefined."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class MetricInfo(Result):
    """What a metric is; see :class:`skindualgen.metrics.outcomes.Metric`."""

    name: str
    title: str
    definition: str
    higher_is_better: bool
    unit: str


class ArmResult(Result):
    """An arm in one regime.

    Attributes:
        real_items, synthetic_items: different items in the pool, mean over the seeds.
        synthetic_share: share of the draws that are synthetic.
        scores: by metric, mean over the seeds.
        by_seed: by metric, the score of each seed in ascending order.
        differences: by reference and metric; none to itself.
        seconds: of a training, mean over the seeds. final_loss: mean of the last tenth of the steps, over the seeds.
    """

    name: str
    title: str
    definition: str
    uses_synthetic: bool
    ratio: float | None
    augment: bool
    real_items: float
    synthetic_items: float
    synthetic_share: float
    scores: dict[str, Score]
    by_seed: dict[str, list[float | None]]
    differences: dict[Reference, dict[str, Difference]]
    seconds: float
    final_loss: float


class LeftOut(Result):
    """An arm that could not be built."""

    name: str
    title: str
    reason: str


class Verdict(Result):
    """Whether, by one metric, generated pairs helped: a hybrid beats real replay AND classical augmentation.

    Attributes:
        metric: its name.
        helped: both 95 % intervals of a hybrid's differences lie on the better side of 0; None if that was not tested.
        winners: those hybrids.
        winners_holm: those of them whose adjusted p-values are below 0.05 too.
        closest: the hybrid, of the winners if there are any, whose smaller gain over the two is largest.
        text: the same in words.
    """

    metric: str
    helped: bool | None
    winners: list[str]
    winners_holm: list[str]
    closest: str | None
    text: str


class RegimeResult(Result):
    """All arms for one amount of real pairs; ``best`` names the best arm without generated pairs, by metric."""

    real_pairs: int
    whole: bool
    diagnoses: dict[str, int]
    best: dict[str, str]
    arms: list[ArmResult]
    left_out: list[LeftOut]
    verdicts: list[Verdict]

    def arm(self, name: str) -> ArmResult | None:
        """Return an arm by name, None if it was not run."""
        return next((arm for arm in self.arms if arm.name == name), None)


class TaskResult(Result):
    """One task: what is equal in all arms, and the regimes by rising number of real pairs."""

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
        options: as given, folders by their last name only.
        leaks: what the leak guard found and the user went on with (``--i-know``).
        caveats: what limits all of the results.
        record: command, versions, date.
    """

    schema_version: int = RESULT_SCHEMA_VERSION
    kind: Literal["benchmark"] = "benchmark"
    real: str
    generated: str | None
    test_split: str
    seeds: int
    size_px: int
    threads: int
    devices: list[str]
    leaks: list[str]
    caveats: list[str]
    tasks: list[TaskResult]
    record: dict[str, Any]
