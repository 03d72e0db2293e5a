"""Measures made of what `skindualgen.metrics` and the judges give: an estimate, and what it is read beside."""

from __future__ import annotations

from skindualgen.evaluation.results import Measure, Reference, measure_key
from skindualgen.metrics.distributions import FlooredDistance
from skindualgen.metrics.intervals import Estimate

HELD_OUT = "held-out real"
REAL_AGAINST_REAL = "real against real"


def held_out_reference(real: Estimate) -> Reference:
    """Return what held-out real photographs reach, as a reference."""
    return Reference(kind=HELD_OUT, value=real.value, low=real.low, high=real.high)


def measured(
    name: str,
    generated: Estimate,
    reference: Reference,
    sizes: tuple[int, int],
    *,
    group: str | None = None,
    judge: str | None = None,
    caveat: str | None = None,
) -> Measure:
    """Return a measure of its estimate.

    Args:
        name: as in the definitions.
        generated: of the generated photographs; NaN becomes None.
        reference: what it is read beside.
        sizes: generated and real photographs that it rests on.
        group, judge, caveat: as in :class:`Measure`.
    """
    return Measure(
        key=measure_key(name, group),
        name=name,
        group=group,
        judge=judge,
        value=generated.value,
        low=generated.low,
        high=generated.high,
        n_generated=sizes[0],
        n_real=sizes[1],
        reference=reference,
        caveat=caveat,
    )


def floored_distance(
    name: str, found: FlooredDistance, *, group: str | None = None, caveat: str | None = None
) -> Measure:
    """Return the distance of two sets of one size beside that of real ones of the same size."""
    nan = float("nan")
    floor = Reference(kind=REAL_AGAINST_REAL, value=found.floor, low=found.floor_low, high=found.floor_high)
    return measured(name, Estimate(found.matched, nan, nan), floor, found.sizes, group=group, caveat=caveat)
