"""What docs/preregistration.md registers: regimes, ways of making pairs, their arms, and who is confirmed how."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from downstream_sweep import METRICS

from skindualgen.benchmarking.arms import TUNED, Task
from skindualgen.benchmarking.comparison import SIGNIFICANCE
from skindualgen.benchmarking.results import ArmResult, BenchmarkResult
from skindualgen.benchmarking.statistics import Difference, holm

REPLACED = "replace-0.5"
MOST_ARMS = 6


@dataclass(frozen=True)
class Regime:
    """How much real data there is, for what, and who trains the generator.

    Attributes:
        task: what networks are trained for.
        family: of which at most one arm is confirmed.
        amount: masks to segment, photographs of each class to classify; None: all.
        read_ratio: photographs with read masks for each real pair; as many as there are, at most 5.
        shared: an adapter of another clinic, which was trained on its pairs alone.
    """

    task: Task
    family: str
    amount: int | None
    read_ratio: float = 5
    shared: bool = False


REGIMES: dict[str, Regime] = {
    "segment_25": Regime("segment", "few masks", 25),
    "segment_50": Regime("segment", "few masks", 50),
    "segment_100": Regime("segment", "few masks", 100),
    "segment_400": Regime("segment", "many masks", 400, 1),
    "segment_all": Regime("segment", "many masks", None, 0.25),
    "classify_20": Regime("classify", "few diagnoses", 20),
    "classify_50": Regime("classify", "few diagnoses", 50),
    "classify_150": Regime("classify", "many diagnoses", 150),
    "classify_all": Regime("classify", "many diagnoses", None),
    "clinics_segment": Regime("segment", "two clinics, masks", 50, shared=True),
    "clinics_classify": Regime("classify", "two clinics, diagnoses", 50, shared=True),
}
WAYS: dict[str, tuple[str, ...]] = {
    "prompted": ("--like", "{part}", "-n", "{count}"),
    "redraw": ("--redraw", "{part}", "--strength", "0.3"),
    "repaint": ("--redraw", "{part}", "--strength", "0.5", "--keep-mask"),
    "masks": ("--masks", "{part}", "--jitter", "affine,elastic"),
    "lesion": ("--inpaint", "lesion", "--onto", "{part}"),
    "skin": ("--inpaint", "skin", "--onto", "{part}"),
    "read": ("--read", "{photographs}"),
}
"""Way of making pairs -> how `skindualgen generate` is asked: for as many as real ones; "read" takes all there are."""


def ways_of(task: Task) -> list[str]:
    """The ways that serve a task: masks that were read tell nothing of a diagnosis."""
    return [way for way in WAYS if task == "segment" or way != "read"]


def arms_of_way(regime: Regime, way: str) -> list[str]:
    """The candidates: pairs added, and pairs in place of real ones."""
    ratio = regime.read_ratio if way == "read" else 1
    return [f"hybrid-{ratio:g}", REPLACED]


def controls_of(regime: Regime, *, part: str) -> list[str]:
    """The arms that a candidate has to beat, all of them; the one that chooses on val runs on the test part alone."""
    controls = ["augment", "replay", *(["oversample"] if regime.task == "classify" else [])]
    return controls if part == "val" else [*controls, TUNED]


@dataclass(frozen=True)
class Found:
    """What a candidate reached against the control that it beats least.

    Attributes:
        regime, way, arm: the candidate.
        control: the one of the controls with the largest p-value, or with the lowest interval where it is chosen.
        gain, low, high: of the primary measure, with its 95 % interval.
        p_value: largest of all controls; it claims nothing unless all are beaten (an intersection-union test).
        p_holm: adjusted for all confirmed arms; NaN where it is chosen.
    """

    regime: str
    way: str
    arm: str
    control: str
    gain: float
    low: float
    high: float
    p_value: float
    p_holm: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """The fields; what is undefined is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Found:
        """What `to_json` made."""
        return cls(**{name: math.nan if value is None else value for name, value in fields.items()})

    @property
    def confirmed(self) -> bool:
        """Whether it beats every control after Holm's adjustment."""
        return self.low > 0 and self.p_holm < SIGNIFICANCE


def candidates(name: str, way: str, result: BenchmarkResult) -> list[Found]:
    """Return every arm of a benchmark with generated pairs against its hardest control, the best of them included."""
    (task,) = result.tasks
    (regime,) = task.regimes
    wanted = arms_of_way(REGIMES[name], way)
    return [_found(name, way, arm, METRICS[task.task]) for arm in regime.arms if arm.name in wanted]


def _found(name: str, way: str, arm: ArmResult, metric: str) -> Found:
    to: Mapping[Any, Difference] = {
        reference: of[metric] for reference, of in arm.differences.items() if reference != "real" and metric in of
    }
    control = min(to, key=lambda reference: to[reference].low if math.isfinite(to[reference].low) else -math.inf)
    hardest = to[control]
    p_value = max(difference.p_value for difference in to.values())
    return Found(name, way, arm.name, str(control), hardest.value, hardest.low, hardest.high, p_value)


def choose(found: Iterable[Found], left_out: Collection[str] = ()) -> dict[str, Found | None]:
    """Return the arm of each family that is confirmed on the test part: that of the highest lower end on val.

    A family none of whose candidates gains anything on val has none; those that were left out are not among them.
    """
    chosen: dict[str, Found | None] = {
        regime.family: None for regime in REGIMES.values() if regime.family not in left_out
    }
    for candidate in found:
        family = REGIMES[candidate.regime].family
        if family in left_out:
            continue
        best = chosen[family]
        if candidate.gain > 0 and math.isfinite(candidate.low) and (best is None or candidate.low > best.low):
            chosen[family] = candidate
    assert len(chosen) <= MOST_ARMS
    return chosen


def adjusted(found: Sequence[Found]) -> list[Found]:
    """Return the confirmatory results with Holm's adjustment over all of them."""
    adjusted_p = holm(np.array([each.p_value for each in found], np.float64))
    return [replace(each, p_holm=float(p)) for each, p in zip(found, adjusted_p, strict=True)]
