"""What an evaluation says, as the schema of ``report.json``: measures with sizes, intervals and references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from skindualgen.metrics.measures import Measure, Number, Strict

SectionName = Literal["fidelity", "masks", "diagnosis", "adherence", "memorisation", "skin_tone"]
SECTIONS: tuple[SectionName, ...] = get_args(SectionName)


class Definition(Strict):
    """What a measure is called (``short`` where its place is clear), what it means, its unit, which way is better."""

    title: str
    short: str
    text: str
    unit: str = ""
    better: Literal["higher", "lower", "as the reference"]


class Section(Strict):
    """One part of an evaluation.

    Attributes:
        left_out: the reason, where it was not measured.
        judges: extractors and networks that it rests on.
        notes: how it was measured, such as which photographs were compared.
        caveats: what must be known before its numbers are believed.
        measures: its numbers.
    """

    left_out: str | None = None
    judges: list[str] = Field(default=[])
    notes: list[str] = Field(default=[])
    caveats: list[str] = Field(default=[])
    measures: list[Measure] = Field(default=[])


class Confusion(Strict):
    """Counts of photographs: ``counts[i][j]`` of true (or prompted) ``classes[i]`` that were read as ``classes[j]``."""

    classes: list[str]
    counts: list[list[int]]


class DiagnosisSection(Section):
    """Class fidelity, with the confusion of generated and of held-out real photographs."""

    generated: Confusion | None = None
    held_out: Confusion | None = None


class Copy(Strict):
    """A generated photograph that counts as a near-copy, and what of: a training or another generated photograph.

    Attributes:
        feature_distance: between the two, over flips and turns.
        misfit_ratio: after laying them over each other, against the next best: 0 for a copy, towards 1 for none.
        hash_bits: differing bits of 64 of their perceptual hashes.
        found_by: the rules that flag it, "features" and "alignment".
    """

    generated: str
    other: str
    feature_distance: float
    misfit_ratio: float
    hash_bits: int
    found_by: list[str]


class MemorisationSection(Section):
    """Copies by name, the clearest first; below the thresholds a photograph counts as one."""

    feature_threshold: Number = None
    fit_threshold: Number = None
    near_copies: list[Copy] = Field(default=[])
    duplicates: list[Copy] = Field(default=[])


SECTION_TYPES: Mapping[SectionName, type[Section]] = {
    **dict.fromkeys(SECTIONS, Section),
    "diagnosis": DiagnosisSection,
    "memorisation": MemorisationSection,
}
"""What each section is."""


class SetInfo(Strict):
    """One data set folder: its name, the hash of its records and how many there are of what."""

    name: str
    manifest_sha256: str
    side_px: int
    counts: dict[str, Any]


class Run(Strict):
    """How the evaluation was made."""

    command: list[str]
    date_utc: str
    versions: dict[str, str]
    platform: str
    seed: int
    size_px: int
    held_out: str
    n_train: int
    n_held_out: int
    n_generated: int
    extractors: list[str]
    judge_recipes: dict[str, Any]


class ConditionOutcome(Strict):
    """A condition of ``--fail-if`` and what became of it."""

    condition: str
    key: str
    value: Number
    failed: bool
    reason: str


class EvaluationReport(Strict):
    """The content of ``report.json``."""

    schema_version: Literal[1] = 1
    run: Run
    real: SetInfo
    generated: SetInfo
    caveats: list[str] = Field(default=[])
    fidelity: Section
    masks: Section
    diagnosis: DiagnosisSection
    adherence: Section
    memorisation: MemorisationSection
    skin_tone: Section
    definitions: dict[str, Definition]
    conditions: list[ConditionOutcome] = Field(default=[])

    @model_validator(mode="after")
    def _keys_are_unique_and_defined(self) -> EvaluationReport:
        keys = [measure.key for measure in self.measures()]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        undefined = sorted({measure.name for measure in self.measures()} - set(self.definitions))
        if repeated or undefined:
            raise ValueError(f"repeated keys {repeated}, names without a definition {undefined}")
        return self

    def section(self, name: SectionName) -> Section:
        """Return one of the six sections."""
        section: Section = getattr(self, name)
        return section

    def measures(self) -> Iterator[Measure]:
        """Yield the measures of all sections in their order."""
        for name in SECTIONS:
            yield from self.section(name).measures

    def numbers(self) -> Mapping[str, float | None]:
        """Return key -> value of every measure: the names that conditions may use."""
        return {measure.key: measure.value for measure in self.measures()}


def evaluation_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``report.json``."""
    return EvaluationReport.model_json_schema(mode="serialization")
