"""What an evaluation says, as the schema of ``report.json``: measures with sizes, intervals and references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SectionName = Literal["fidelity", "masks", "diagnosis", "adherence", "memorisation", "skin_tone"]
SECTIONS: tuple[SectionName, ...] = get_args(SectionName)


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or None where there is none to give; NaN and infinity have no form in JSON and become None."""


class Strict(BaseModel):
    """Part of the schema: no field beyond the named ones, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reference(Strict):
    """What a measure is to be read beside.

    Attributes:
        kind: in words, such as "real against real" or "held-out real".
        value, low, high: the reference and its interval or range.
    """

    kind: str
    value: Number
    low: Number = None
    high: Number = None


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
    judges: list[str] = []
    notes: list[str] = []
    caveats: list[str] = []
    measures: list[Measure] = []


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
    near_copies: list[Copy] = []
    duplicates: list[Copy] = []


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
    caveats: list[str] = []
    fidelity: Section
    masks: Section
    diagnosis: DiagnosisSection
    adherence: Section
    memorisation: MemorisationSection
    skin_tone: Section
    definitions: dict[str, Definition]
    conditions: list[ConditionOutcome] = []

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


def measure_key(name: str, group: str | None = None, judge: str | None = None) -> str:
    """Return the key of a measure: ``kid``, ``kid[melanoma]``, ``kid[melanoma]@inception``."""
    return name + (f"[{group}]" if group else "") + (f"@{judge}" if judge else "")


def evaluation_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``report.json``."""
    return EvaluationReport.model_json_schema(mode="serialization")
