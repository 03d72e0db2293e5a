"""What a gate does to fidelity and variety: accepted pairs next to as many drawn at random from all pairs.

Every measure depends on the number of pictures and on the share of each diagnosis. So accepted pairs are compared not
with all pairs, but with random parts of them that have as many of each diagnosis: what is left is the gate's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skindualgen.judges.feature_space import MANIFOLD, FeatureSpace
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.fidelity import MIN_SAMPLES, MOST_PICTURES, UNKNOWN
from skindualgen.judges.matching import Positions, at_most, random_part
from skindualgen.judges.pictures import PictureSet
from skindualgen.metrics.intervals import Estimate

ALL = "all"
MEASURED = ("kid", *MANIFOLD)
"""Precision, recall, density, coverage, and the kernel distance, which does not need many pictures."""
STORED_NAMES = {"kid": "kernel"}
"""Measures that have another name in ``gate_report.json``."""


class DiversityRow(BaseModel):
    """One measure of one group.

    Attributes:
        group: "all", or a diagnosis.
        measure: ``kernel`` is a distance, where 0 is best; the others are shares (density: a ratio).
        n: accepted pairs, and pairs of each random part.
        n_drawn: all pairs of the group.
        n_real: real photographs compared with.
        before, before_low, before_high: mean and range over the random parts.
        after, after_low, after_high: of the accepted pairs, with their 95 % interval.
        caveat: why there is no number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    measure: str
    n: int
    n_drawn: int
    n_real: int
    before: float | None = None
    before_low: float | None = None
    before_high: float | None = None
    after: float | None = None
    after_low: float | None = None
    after_high: float | None = None
    caveat: str | None = None

    def estimate(self, of: Literal["before", "after"]) -> Estimate | None:
        """Return one of the two numbers with its range or interval; None where there is none."""
        value, low, high = (getattr(self, name) for name in (of, f"{of}_low", f"{of}_high"))
        return None if value is None else Estimate(value, low, high)


def diversity(
    extractor: FeatureExtractor, *, real: PictureSet, pairs: PictureSet, kept: NDArray[np.bool_], seed: int = 0
) -> list[DiversityRow]:
    """Compare accepted pairs, and as many random ones, with real photographs, overall and for each diagnosis.

    Args:
        extractor: the feature space.
        real: photographs; at most 2,000 of them, at random, are used.
        pairs: all pairs.
        kept: which of them are accepted [n].
    """
    real = at_most(real, MOST_PICTURES, np.random.default_rng(seed))
    space = FeatureSpace({"real": real.features(extractor), "pairs": pairs.features(extractor)})
    of_real, of_pairs = space.members["real"], space.members["pairs"]
    groups = {ALL: np.ones(len(real), bool)}
    groups |= {name: real.of_diagnosis(name) for name in real.named_diagnoses if name in pairs.named_diagnoses}
    rows: list[DiversityRow] = []
    classes = sorted({*pairs.diagnoses}, key=lambda name: name or UNKNOWN)
    for group, inside in groups.items():
        members = [pairs.of_diagnosis(name) for name in (classes if group == ALL else [group])]
        both = [(of_pairs[each], of_pairs[each & kept]) for each in members]
        rows += _rows(space, group, of_real[inside], both, seed)
    return rows


def _rows(
    space: FeatureSpace, group: str, real: Positions, classes: list[tuple[Positions, Positions]], seed: int
) -> Iterator[DiversityRow]:
    """The measures of a group; ``classes`` holds, for each diagnosis in it, all pairs and the accepted ones."""
    after = np.sort(np.concatenate([accepted for _, accepted in classes]))
    sizes = {"n": len(after), "n_drawn": sum(len(members) for members, _ in classes), "n_real": len(real)}
    pools = [members for members, accepted in classes if len(accepted)]
    counts = [len(accepted) for _, accepted in classes if len(accepted)]
    smaller = min(len(after), len(real))
    wanted = [measure for measure in MEASURED if smaller >= MIN_SAMPLES[measure]]
    of_accepted = space.estimates(wanted, real=real, generated=after, seed=seed)
    of_random = space.over_draws(
        wanted, lambda random: {"real": real, "generated": random_part(pools, counts, random)}, seed=seed
    )
    for measure in MEASURED:
        common: dict[str, Any] = {"group": group, "measure": STORED_NAMES.get(measure, measure), **sizes}
        if measure not in wanted:
            caveat = f"{smaller} pictures in the smaller set: {MIN_SAMPLES[measure]} or more are needed"
            yield DiversityRow(**common, caveat=caveat)
            continue
        numbers: dict[str, float] = {}
        for name, estimate in (("before", of_random[measure]), ("after", of_accepted[measure])):
            numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        yield DiversityRow(**common, **numbers)
