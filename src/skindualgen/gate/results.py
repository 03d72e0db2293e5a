"""What a gate did to a folder of pairs, as plain values: the content of ``gate_report.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from skindualgen.contracts import SCHEMA_VERSION
from skindualgen.files import run_record, sha256_file
from skindualgen.gate.application import Application
from skindualgen.gate.diversity import DiversityRow
from skindualgen.gate.gate import GATE_FILE, GateFile, Share, Verdict
from skindualgen.gate.scores import LESION_AREA

QUARTILES = (0.25, 0.5, 0.75)


class ReasonCount(BaseModel):
    """How often a score refused a pair.

    Attributes:
        refused: pairs that it refused, alone or with others.
        alone: pairs that nothing else refused.
        share: of all pairs, with its interval.
        real_share: of the held-out real pairs that set the threshold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: str
    refused: int
    alone: int
    share: Share
    real_share: float


class ScoreSummary(BaseModel):
    """Quartiles of a score among generated and held-out real pairs; empty where no pair has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: str
    generated: tuple[float, ...]
    real: tuple[float, ...]


class GateReport(BaseModel):
    """Content of ``gate_report.json``.

    Attributes:
        gate_sha256: of ``gate.json``; ``gate`` is its content.
        pairs_manifest_sha256: of the records that were judged.
        accepted: share of them.
        by_diagnosis: the same for each diagnosis.
        without_mask: records that could not be judged.
        reasons: of each score, most refusals first.
        scores: quartiles.
        diversity: before and after, empty where no real folder was given.
        extractor: feature space of the diversity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    gate_sha256: str
    gate: GateFile
    pairs_manifest_sha256: str
    accepted: Share
    by_diagnosis: dict[str, Share]
    without_mask: int
    reasons: tuple[ReasonCount, ...]
    scores: tuple[ScoreSummary, ...]
    diversity: tuple[DiversityRow, ...]
    extractor: str | None
    made_by: dict[str, Any]


def summarise(
    application: Application,
    real: Sequence[Verdict],
    rows: Sequence[DiversityRow],
    *,
    extractor: str | None,
) -> GateReport:
    """Count what an application did.

    Args:
        application: the verdicts.
        real: verdicts on the held-out real pairs that the gate was calibrated on.
        rows: of :func:`~skindualgen.gate.diversity.diversity`.
        extractor: its feature space.
    """
    gate, verdicts = application.gate, application.verdicts
    return GateReport(
        gate_sha256=sha256_file(gate.folder / GATE_FILE),
        gate=gate.file,
        pairs_manifest_sha256=application.pairs.sha256,
        accepted=Share.of(application.kept),
        by_diagnosis=Share.by_diagnosis(application.kept, application.diagnoses),
        without_mask=application.without_mask,
        reasons=_reasons(verdicts, real, [LESION_AREA, *(rule.score for rule in gate.file.rules)]),
        scores=tuple(
            ScoreSummary(
                score=rule.score, generated=_quartiles(verdicts, rule.score), real=_quartiles(real, rule.score)
            )
            for rule in gate.file.rules
        ),
        diversity=tuple(rows),
        extractor=extractor,
        made_by=run_record(),
    )


def refused_by(verdict: Verdict) -> list[str]:
    """Return the names of the scores that refuse a pair."""
    return [reason.split(" ", 1)[0] for reason in verdict.reasons]


def score_values(verdicts: Sequence[Verdict], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a score of those pairs that have it."""
    scores: Sequence[Mapping[str, float]] = [verdict.scores for verdict in verdicts]
    return np.array([each[name] for each in scores if name in each], np.float64)


def _reasons(verdicts: Sequence[Verdict], real: Sequence[Verdict], names: Sequence[str]) -> tuple[ReasonCount, ...]:
    refusing = [refused_by(verdict) for verdict in verdicts]
    any_of = Counter(name for each in refusing for name in each)
    alone = Counter(each[0] for each in refusing if len(each) == 1)
    of_real = Counter(name for verdict in real for name in refused_by(verdict))
    found = [
        ReasonCount(
            score=name,
            refused=any_of[name],
            alone=alone[name],
            share=Share.of([name in each for each in refusing]),
            real_share=of_real[name] / len(real),
        )
        for name in names
    ]
    return tuple(sorted(found, key=lambda each: -each.refused))


def _quartiles(verdicts: Sequence[Verdict], name: str) -> tuple[float, ...]:
    values = score_values(verdicts, name)
    return tuple(float(value) for value in np.quantile(values, QUARTILES)) if values.size else ()
