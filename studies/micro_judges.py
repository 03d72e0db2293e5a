"""The judges of the micro model's study: a segmenter and classifiers, trained on the TRAIN part only, and cached.

A judge's file is named by the hash of its recipe and of the training files: it is trained again only when one changes.
The first classifier is the one that is bundled and chooses among candidates (``skindualgen generate --best-of``), so
what was generated is read by a second one of another architecture and seed.
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
READER, READER_SEED = "tf_efficientnet_lite1", 1
"""architecture and seed of the classifier that reads pictures which the other one has chosen"""
SPLIT_FILE = REPOSITORY / "docs" / "results" / "micro2_split.csv"
CLASSES = ("melanoma", "nevus", "seborrheic_keratosis")
"""diagnoses with enough photographs to be prompted for and judged"""


def real_records(real: Path, split: str, *, pairs: bool = True) -> list[PairRecord]:
    """Return real photographs of one part of ``docs/results/micro2_split.csv``, in its order.

    Args:
        real: folder that holds the data folders the split names, each with ``images/<id>.jpg``, ``masks/<id>.png`` and
            ``metadata.csv`` (column image_id, ...).
        split: "train", "val" or "test".
        pairs: only photographs with a mask and one of :data:`CLASSES`, which is what is judged; else all.

    Raises:
        InputError: a folder lacks a photograph that the split names.
    """
    with SPLIT_FILE.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    tables = {name: _table(real / name) for name in sorted({row["folder"] for row in rows})}
    lacking = [row["isic_id"] for row in rows if row["isic_id"] not in tables[row["folder"]]]
    if lacking:
        raise InputError(
            f"{len(lacking)} photographs missing, first {lacking[0]}", "every one of the split", "complete them"
        )
    records = [_record(row, tables[row["folder"]][row["isic_id"]]) for row in rows]
    return [r for r in records if not pairs or (r.mask_file_name and r.diagnosis in CLASSES)]


def _table(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "metadata.csv"
    if not path.is_file():
        raise InputError(f"no {path}", "the real photographs", "pass --real or set SKINDUALGEN_REAL_DATA")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def _record(row: dict[str, str], about: dict[str, str]) -> PairRecord:
    name = row["isic_id"]
    return PairRecord(
        file_name=f"{row['folder']}/images/{name}.jpg",
        mask_file_name=f"{row['folder']}/masks/{name}.png" if row["mask"] == "1" else None,
        isic_id=name,
        diagnosis=about["diagnosis"] or None,
        age_approx=int(float(about["age"])) if about["age"] else None,
        sex=about["sex"] or None,
        anatom_site_general=about["site"] or None,
        lesion_id=about["lesion_id"] or None,
    )


def load_judges(real: Path, cache: Path, *, seed: int = 0) -> tuple[Segmenter, Classifier]:
    """Return segmenter and first classifier for a seed, training those that the cache folder does not hold."""
    return load_segmenter(real, cache, seed=seed), _load_classifier(real, cache, ClassifierConfig().architecture, seed)


def load_segmenter(real: Path, cache: Path, *, seed: int = 0) -> Segmenter:
    """Return the segmenter, which learns from the train part's pairs; trained if the cache folder does not hold it."""
    pairs = Dataset(real, real_records(real, "train"))
    segmenter_config = SegmenterConfig(budget=Budget(steps=SEGMENTER_STEPS, seed=seed))
    segmenter_file = judge_file(cache, "segmenter", segmenter_config, pairs.content_sha256())
    if not segmenter_file.is_file():
        with _progress("training the segmenter", SEGMENTER_STEPS) as progress:
            train_segmenter(pairs, segmenter_file, segmenter_config, progress=progress)
    return Segmenter(segmenter_file)


def load_reader(real: Path, cache: Path) -> Classifier:
    """Return the second classifier, which reads what was generated; trained if the cache folder does not hold it."""
    return _load_classifier(real, cache, READER, READER_SEED)


def _load_classifier(real: Path, cache: Path, architecture: str, seed: int) -> Classifier:
    """A classifier learns from all photographs of :data:`CLASSES` in the train part."""
    named = Dataset(real, [r for r in real_records(real, "train", pairs=False) if r.diagnosis in CLASSES])
    budget = Budget(steps=CLASSIFIER_STEPS, learning_rate=CLASSIFIER_RATE, seed=seed)
    config = ClassifierConfig(architecture, budget=budget)
    file = judge_file(cache, "classifier", config, named.content_sha256())
    if not file.is_file():
        with _progress(f"training the classifier {config.architecture}", CLASSIFIER_STEPS) as progress:
            train_classifier(named, file, config, progress=progress)
    return Classifier(file)


@contextmanager
def _progress(title: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=steps)
        yield lambda done, loss: bar.update(task, completed=done, description=f"{title}, loss {loss:.3f}")
