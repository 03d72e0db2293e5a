"""Captions of chosen classes, and data set folders that are parts of another: what the downstream studies are made of.

Captions take their attributes from real TRAIN records of the class alone, so no combination is invented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from micro_quality import run_command

from skindualgen.contracts import DATASET_FILE, InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import write_dataset
from skindualgen.data.prompts import prompt_for
from skindualgen.files import atomic_write_text
from skindualgen.metrics.outcomes import SegmentationOutcome, segmentation_outcome
from skindualgen.planning.requests import ATTRIBUTES


def captions(records: Sequence[PairRecord], counts: Mapping[str, int], *, seed: int) -> list[dict[str, Any]]:
    """Return prompts with their labels: for each class as many as asked, from real records in random order.

    The classes are interleaved, each spread evenly over the list: a run that is stopped early has drawn of all.

    Raises:
        InputError: a class without a record.
    """
    rows: list[tuple[float, str, dict[str, Any]]] = []
    for name, count in sorted(counts.items()):
        members = [record for record in records if record.diagnosis == name]
        if not members:
            raise InputError(f"{count} captions of {name}", "a record of that class", "leave the class out")
        random = np.random.default_rng([seed, *name.encode()])
        rounds = -(-count // len(members))
        order = np.concatenate([random.permutation(len(members)) for _ in range(rounds)])[:count]
        for place, chosen in enumerate(order.tolist()):
            record = members[chosen]
            labels = {key: value for key in ATTRIBUTES if (value := getattr(record, key)) is not None}
            prompt = prompt_for(record, seed=int(random.integers(2**31)))
            rows.append(((place + 0.5) / count, name, {"prompt": prompt, **labels}))
    return [row for _, _, row in sorted(rows, key=lambda item: item[:2])]


def write_captions(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write captions as JSON Lines for ``skindualgen generate --prompts``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_masks(data: Path, records: Sequence[PairRecord], root: Path, *, adapter: Path, seed: int) -> list[PairRecord]:
    """Link photographs into a folder and have an adapter read their masks; returns the records with these masks."""
    bare = [record.model_copy(update={"mask_file_name": None}) for record in records]
    link_pairs(data, bare, root, made_by={"study": "downstream read"})
    arguments = ["--adapter", str(adapter), "--images", str(root / "images"), "--seed", str(seed)]
    run_command("segment", *arguments, "--out", str(root / "read"))
    masks = [f"read/masks/{Path(record.file_name).stem}.png" for record in bare]
    return [record.model_copy(update={"mask_file_name": mask}) for record, mask in zip(bare, masks, strict=True)]


def reading_outcomes(
    data: Path, records: Sequence[PairRecord], read: Path, paired: Sequence[PairRecord], size_px: int
) -> dict[str, SegmentationOutcome]:
    """Return, for each split, how the read masks agree with those of the records, in the order of ``records``."""
    truth, found = Dataset(data, records).masks(size_px), Dataset(read, paired).masks(size_px)
    splits = np.array([record.split for record in records])
    parts = {str(split): splits == split for split in np.unique(splits)}
    return {split: segmentation_outcome(predicted=found[of], truth=truth[of]) for split, of in parts.items()}


def reading_scores(outcomes: Mapping[str, SegmentationOutcome]) -> dict[str, dict[str, float]]:
    """Return Dice of the read masks with the true ones, mean and standard error, for each split."""
    return {
        split: {
            "n": len(of.dice),
            "dice": float(of.dice.mean()),
            "standard_error": float(of.dice.std(ddof=1) / np.sqrt(len(of.dice))),
        }
        for split, of in outcomes.items()
    }


def best_of_class(diagnoses: Sequence[str], scores: np.ndarray, wanted: Mapping[str, int]) -> list[int]:
    """Return which items have the highest scores within their class, as many of each as wanted; in their order."""
    best = []
    for name, count in wanted.items():
        members = np.flatnonzero(np.array(diagnoses) == name)
        best += members[np.argsort(-scores[members], kind="stable")[:count]].tolist()
    return sorted(best)


def link_pairs(data: Path, records: Sequence[PairRecord], root: Path, *, made_by: Mapping[str, Any]) -> Path:
    """Make a data set folder of some pairs of another; its files are links. Returns ``root``, as it is if it exists."""
    if (root / DATASET_FILE).is_file():
        return root
    for record in records:
        for name in record.files:
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to((data / name).resolve())
    write_dataset(root, records, made_by=made_by)
    return root
