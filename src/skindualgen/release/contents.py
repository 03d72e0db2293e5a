"""What a release is made from, read once: the data set folder, what is recorded next to it, and what was measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import manifest_sha256, read_dataset_info, read_metadata
from skindualgen.data.review import count_rejected
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import TrainingItems, read_training_items
from skindualgen.evaluation.results import EvaluationReport
from skindualgen.files import sha256_file

SETTINGS_FILE = "generate.json"
NOT_RECORDED = "not recorded"
Result = TypeVar("Result", bound=BaseModel)


@dataclass(frozen=True)
class Contents:
    """A data set folder and everything that its card is written from.

    Attributes:
        root: the folder.
        records: all of them, ordered by ``file_name``.
        info: of ``dataset.json``.
        settings: what the pairs were made with, as ``generate`` recorded it; empty where it is not recorded.
        training: items that the generator was trained on; None where these are not recorded.
        training_records: the real records of these items, where their data set folder was given.
        evaluation, benchmark: None where none was given.
        plan: file of the plan that the pairs were generated from; None where none was given.
    """

    root: Path
    records: list[PairRecord]
    info: Mapping[str, Any]
    settings: Mapping[str, Any]
    training: TrainingItems | None
    training_records: list[PairRecord]
    evaluation: EvaluationReport | None
    benchmark: BenchmarkResult | None
    plan: Path | None = None

    @cached_property
    def synthetic(self) -> list[PairRecord]:
        """The generated records."""
        return [record for record in self.records if record.origin == "synthetic"]

    @cached_property
    def real(self) -> list[PairRecord]:
        """The records of photographs that a camera took."""
        return [record for record in self.records if record.origin == "real"]

    @cached_property
    def read(self) -> list[PairRecord]:
        """The records of photographs whose masks a model has read."""
        return [record for record in self.real if record.by_model]

    @property
    def splits(self) -> list[str]:
        """The splits that there are, train first."""
        present = {record.split for record in self.records}
        return [split for split in ("train", "val", "test") if split in present]

    def recorded(self, name: str) -> str:
        """A setting of the generation, from the settings or else from the records where these agree."""
        if self.settings.get(name) is not None:
            return str(self.settings[name])
        values = {getattr(record, name, None) for record in self.synthetic} - {None}
        return str(values.pop()) if len(values) == 1 else NOT_RECORDED

    def diagnoses(self) -> list[tuple[str, int, int, int]]:
        """Diagnosis, generated and real records, and how many of both have a mask; ordered by name."""
        rows: dict[str, Counter[str]] = {}
        for record in self.records:
            row = rows.setdefault(record.diagnosis or "unknown", Counter())
            row[record.origin] += 1
            row["mask"] += record.mask_file_name is not None
        return [(name, row["synthetic"], row["real"], row["mask"]) for name, row in sorted(rows.items())]


def read_contents(
    data: Path,
    *,
    evaluation: Path | None = None,
    benchmark: Path | None = None,
    real: Path | None = None,
    plan: Path | None = None,
) -> Contents:
    """Read a data set folder and the results that belong to it.

    Args:
        data: a data set folder with generated records.
        evaluation: ``report.json`` of ``skindualgen evaluate`` for this very folder.
        benchmark: ``benchmark.json`` of ``skindualgen benchmark``.
        real: the data set folder that the generator was trained on, for its sources and licences.
        plan: CSV that the pairs were generated from.

    Raises:
        InputError: a file that cannot be read, no generated record, a pair that a reviewer has rejected, an evaluation
            of other pairs, another plan, or ``real`` with none of the recorded training items.
    """
    records = read_metadata(data)
    info = read_dataset_info(data)
    if not any(record.origin == "synthetic" for record in records):
        read = sum(record.by_model for record in records)
        what = f", of {len(records)} real photographs" + (
            f" ({read} with a mask that a model has read)" if read else ""
        )
        raise InputError(
            f"{data} without generated pairs{what}",
            "generated pairs: card, marks and licence are those of generated pictures, and photographs are published "
            "under their owners' terms, with read masks as without",
            "release what was generated, to which such pairs may be joined (`skindualgen merge`)",
        )
    if rejected := count_rejected(records):
        raise InputError(
            f"{rejected} of {len(records)} pairs in {data} that a reviewer has rejected",
            "pairs that may be passed on",
            "release what `skindualgen merge` or `export-data` makes of the folder: both leave them out",
        )
    training = read_training_items(data)
    report = _read(EvaluationReport, evaluation, "report.json of `skindualgen evaluate`")
    if report is not None:
        _refuse_other_pairs(records, report, data)
    settings = _settings(data, info)
    if plan is not None and sha256_file(plan) != settings.get("plan_sha256"):
        raise InputError(
            f"{plan} as the plan of {data}",
            "the plan that its pairs were generated from, unchanged",
            "leave --plan out",
        )
    return Contents(
        root=data,
        records=records,
        info=info,
        settings=settings,
        training=training,
        training_records=_training_records(real, training),
        evaluation=report,
        benchmark=_read(BenchmarkResult, benchmark, "benchmark.json of `skindualgen benchmark`"),
        plan=plan,
    )


def _settings(data: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """The generator's settings, without the list of what was asked for."""
    path = data / SETTINGS_FILE
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else info["made_by"].get("settings", {})
    return {key: value for key, value in settings.items() if not isinstance(value, list)}


def _read(kind: type[Result], path: Path | None, what: str) -> Result | None:
    if path is None:
        return None
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: {first}", what, "give the file that the command wrote") from error


def _refuse_other_pairs(records: list[PairRecord], report: EvaluationReport, data: Path) -> None:
    """An evaluation counts for the pairs that it judged: these records, or the generated ones among them."""
    judged = [record.model_copy(update={"diagnosis": diagnosis_term(record.diagnosis)}) for record in records]
    generated = [record for record in judged if record.origin == "synthetic"]
    if report.generated.manifest_sha256 not in {manifest_sha256(judged), manifest_sha256(generated)}:
        raise InputError(
            f"an evaluation of other pairs ({report.generated.name}, manifest {report.generated.manifest_sha256[:12]})",
            f"one of the pairs in {data}",
            f"run `skindualgen evaluate --generated {data.name} ...`, or leave --evaluation out",
        )


def _training_records(real: Path | None, training: TrainingItems | None) -> list[PairRecord]:
    if real is None:
        return []
    if training is None:
        raise InputError(
            f"{real} as the training data, while the pairs have no trained_on.json",
            "pairs that record what their generator was trained on",
            "leave --real out, or copy trained_on.json from the adapter",
        )
    wanted = {item.isic_id for item in training.items}
    found = [record for record in read_metadata(real) if record.isic_id in wanted]
    if not found:
        raise InputError(
            f"{real} with none of the {len(wanted)} training items", "the generator's training data", "give its folder"
        )
    return found
