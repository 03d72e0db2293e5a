"""Judges for a gate, trained on the real train split as an evaluation trains its own, and kept in the same place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from skindualgen.contracts import PairRecord
from skindualgen.data.review import read_used
from skindualgen.data.terms import diagnosis_term
from skindualgen.evaluation.judges import JudgeRecipe, judge_file
from skindualgen.judges.classifier import train_classifier
from skindualgen.judges.folder import content_sha256
from skindualgen.judges.segmenter import train_segmenter

Report = Callable[[int, int], None]
"""called with the number of optimiser steps done and the number of all"""


def trained_segmenter(real: Path, recipe: JudgeRecipe, cache: Path, report: Report) -> Path:
    """Return the file of a segmenter trained on the train split's pairs, from the cache if it is there.

    Raises:
        InputError: there is no such pair.
    """
    records = [record for record in read_used(real, "train") if record.mask_file_name is not None]
    config = recipe.segmenter
    path = judge_file(cache, "segmenter", config, content_sha256(real, _in_terms(records)))
    if not path.is_file():
        told = _told(report, config.budget.steps)
        train_segmenter(real, records, path, config, progress=told)
    return path


def trained_classifier(real: Path, recipe: JudgeRecipe, cache: Path, report: Report) -> Path:
    """Return the file of a classifier trained on the train split's diagnoses, from the cache if it is there.

    Raises:
        InputError: fewer than two diagnoses.
    """
    records = [record for record in _in_terms(read_used(real, "train")) if record.diagnosis is not None]
    config = recipe.classifier
    path = judge_file(cache, "classifier", config, content_sha256(real, records))
    if not path.is_file():
        told = _told(report, config.budget.steps)
        train_classifier(real, records, path, config, progress=told)
    return path


def _in_terms(records: Sequence[PairRecord]) -> list[PairRecord]:
    """The records with the ISIC Archive's terms, as an evaluation names its judges by."""
    return [record.model_copy(update={"diagnosis": diagnosis_term(record.diagnosis)}) for record in records]


def _told(report: Report, steps: int) -> Callable[[int, float], None]:
    return lambda done, loss: report(done, steps)
