"""The two judges of the micro model's study: a segmenter and a classifier, trained on the TRAIN part only, and cached.

A judge's file is named by the hash of its recipe and of the training files: it is trained again only when one changes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.judges.classifier import Classifier, ClassifierConfig, train_classifier
from skindualgen.judges.segmenter import Segmenter, SegmenterConfig, train_segmenter
from skindualgen.judges.trained import judge_file
from skindualgen.judges.training import Budget

REPOSITORY = Path(__file__).parents[1]
SEGMENTER_STEPS = 1000
CLASSIFIER_STEPS = 1000
CLASSIFIER_RATE = 3e-4
SPLIT_FILE = REPOSITORY / "docs" / "results" / "micro_split.csv"


def real_records(real: Path, split: str) -> list[PairRecord]:
    """Return the real pairs of one part of ``docs/results/micro_split.csv``, in its order.

    Args:
        real: folder with ``images/<id>.jpg``, ``masks/<id>.png`` and ``metadata.csv`` (column image_id, ...).

    Raises:
        InputError: the folder lacks a pair that the split names.
    """
    table_file = real / "metadata.csv"
    if not table_file.is_file():
        raise InputError(f"no {table_file}", "the real pairs", "pass --real or set SKINDUALGEN_REAL_DATA")
    with table_file.open(newline="", encoding="utf-8") as file:
        table = {row["image_id"]: row for row in csv.DictReader(file)}
    with SPLIT_FILE.open(newline="", encoding="utf-8") as file:
        ids = [row["isic_id"] for row in csv.DictReader(file) if row["split"] == split]
    lacking = [i for i in ids if i not in table]
    if lacking:
        raise InputError(
            f"{len(lacking)} pairs missing, first {lacking[0]}", "every pair of the split", "complete them"
        )
    return [
        PairRecord(
            file_name=f"images/{i}.jpg",
            mask_file_name=f"masks/{i}.png",
            isic_id=i,
            diagnosis=table[i]["diagnosis"] or None,
            age_approx=int(table[i]["age"]) if table[i]["age"] else None,
            sex=table[i]["sex"] or None,
            anatom_site_general=table[i]["site"] or None,
            lesion_id=table[i]["lesion_id"] or None,
        )
        for i in ids
    ]


def load_judges(real: Path, cache: Path, *, seed: int = 0) -> tuple[Segmenter, Classifier]:
    """Return both judges for a seed, training those that the cache folder does not hold."""
    data = Dataset(real, real_records(real, "train"))
    content = data.content_sha256()
    segmenter_config = SegmenterConfig(budget=Budget(steps=SEGMENTER_STEPS, seed=seed))
    classifier_config = ClassifierConfig(
        budget=Budget(steps=CLASSIFIER_STEPS, learning_rate=CLASSIFIER_RATE, seed=seed)
    )
    segmenter_file = judge_file(cache, "segmenter", segmenter_config, content)
    if not segmenter_file.is_file():
        with _progress("training the segmenter", SEGMENTER_STEPS) as progress:
            train_segmenter(data, segmenter_file, segmenter_config, progress=progress)
    classifier_file = judge_file(cache, "classifier", classifier_config, content)
    if not classifier_file.is_file():
        with _progress("training the classifier", CLASSIFIER_STEPS) as progress:
            train_classifier(data, classifier_file, classifier_config, progress=progress)
    return Segmenter(segmenter_file), Classifier(classifier_file)


@contextmanager
def _progress(title: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=steps)
        yield lambda done, loss: bar.update(task, completed=done, description=f"{title}, loss {loss:.3f}")
