"""A measure: one number of a comparison, with all that is needed to read it. The form of numbers in every report."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from skindualgen.metrics.intervals import Estimate

HELD_OUT = "held-out real"
REAL_VS_REAL = "real against real"


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or None where there is none to give; NaN and infinity have no form in JSON and become None."""


class Strict(BaseModel):
    """Part of a schema: no field beyond the named ones, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reference(Strict):
    """What a measure is to be read next to.

    Attributes:
        kind: in words, such as "real against real" or "held-out real".
        value, low, high: the reference and its interval or range.
    """

    kind: str
    value: Number
    low: Number = None
    high: Number = None

    @classmethod
    def of(cls, kind: str, estimate: Estimate) -> Reference:
        """Make one of an estimate."""
        return cls(kind=kind, value=estimate.value, low=estimate.low, high=estimate.high)


class Measure(Strict):
    """One number with everything that is needed to read it.

    Attributes:
        key: unique in the report; ``name``, with ``[group]`` for one diagnosis and ``@judge`` for a further extractor.
        name: what is measured; a key of the report's ``definitions``.
        group: the diagnosis (or other part of the sets) that it is about; None for all.
        judge: extractor or network that it rests on; None for none.
        value: None where it was not measured; then ``caveat`` says why.
        low, high: ends of the 95 % interval, where there is one.
        n_generated, n_real: sizes of the two sets.
        reference: what real photographs reach, where there is such a number.
        caveat: what must be known before the number is believed.
    """

    key: str
    name: str
    group: str | None = None
    judge: str | None = None
    value: Number
    low: Number = None
    high: Number = None
    n_generated: int = Field(ge=0)
    n_real: int | None = Field(default=None, ge=0)
    reference: Reference | None = None
    caveat: str | None = None

    @model_validator(mode="after")
    def _says_why_there_is_no_value(self) -> Measure:
        if self.value is None and not self.caveat:
            raise ValueError(f"{self.key} has neither a value nor a caveat")
        return self

    @classmethod
    def of(
        cls,
        name: str,
        estimate: Estimate,
        reference: Reference,
        sizes: tuple[int, int],
        *,
        group: str | None = None,
        judge: str | None = None,
        judge_suffix: str | None = None,
        caveat: str | None = None,
    ) -> Measure:
        """Make one of an estimate of generated photographs.

        Args:
            name: as in the definitions.
            estimate: NaN becomes None.
            reference: what it is read next to.
            sizes: generated and real photographs that it rests on.
            judge_suffix: ends the key after ``@``; for all feature extractors but the first.
            group, judge, caveat: as in the attributes.
        """
        return cls(
            key=measure_key(name, group, judge_suffix),
            name=name,
            group=group,
            judge=judge,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n_generated=sizes[0],
            n_real=sizes[1],
            reference=reference,
            caveat=caveat,
        )


def measure_key(name: str, group: str | None = None, judge: str | None = None) -> str:
    """Return the key of a measure: ``kid``, ``kid[melanoma]``, ``kid[melanoma]@inception``."""
    return name + (f"[{group}]" if group else "") + (f"@{judge}" if judge else "")
