"""What a report shows next to its numbers: the values behind the plots, pictures, and a line for each photograph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.files import csv_text
from skindualgen.judges.pictures import PictureSet


@dataclass(frozen=True)
class Distribution:
    """Values of generated [m] and of held-out real photographs [n]."""

    generated: NDArray[np.float64]
    real: NDArray[np.float64]


@dataclass(frozen=True)
class Couple:
    """A generated photograph next to the training photograph that it is nearest to."""

    generated: Image.Image
    train: Image.Image
    generated_id: str
    train_id: str
    distance: float
    near_copy: bool


@dataclass(frozen=True)
class Sample:
    """A generated photograph, its mask if it has one, and its id."""

    image: Image.Image
    mask: Image.Image | None
    isic_id: str


@dataclass(frozen=True)
class FeatureMap:
    """Photographs [m, 2] and [n, 2] where real ones vary most; ``explained``: the plane's share of their variance."""

    generated: NDArray[np.float64]
    held_out: NDArray[np.float64]
    explained: float


@dataclass
class Evidence:
    """Collected while the sections are measured.

    Attributes:
        distributions: by name.
        couples: the nearest ones, nearest first.
        samples: by diagnosis, the first of each, not chosen.
        columns: name -> id of a generated photograph -> value; the columns of ``pictures.csv``.
        feature_map: of the first extractor.
        thresholds: of distributions that have one: below it, a photograph counts as a near-copy.
    """

    distributions: dict[str, Distribution] = field(default_factory=dict)
    couples: list[Couple] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    columns: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    feature_map: FeatureMap | None = None
    thresholds: dict[str, float] = field(default_factory=dict)

    def add_column(self, name: str, ids: Sequence[str], values: Iterable[Any]) -> None:
        """Add a column of ``pictures.csv``."""
        self.columns[name] = dict(zip(ids, values, strict=True))

    def pictures_csv(self, generated: PictureSet) -> str:
        """Return a line for each generated photograph: what every judge said of it, empty where none did."""
        rows: list[Sequence[object]] = [["file_name", "isic_id", "diagnosis", *self.columns]]
        for record in generated.data:
            cells = [column.get(record.isic_id) for column in self.columns.values()]
            rows.append([record.file_name, record.isic_id, record.diagnosis, *map(_cell, cells)])
        return csv_text(rows)


def first_samples(generated: PictureSet, count: int) -> dict[str, list[Sample]]:
    """Return the first ``count`` photographs of each diagnosis, with their masks."""
    samples: dict[str, list[Sample]] = {}
    for index, record in enumerate(generated.data):
        row = samples.setdefault(record.diagnosis or "no diagnosis", [])
        if len(row) < count:
            mask = Image.fromarray(generated.masks[index].astype(np.uint8) * 255) if generated.has_mask[index] else None
            row.append(Sample(Image.fromarray(generated.images[index]), mask, record.isic_id))
    return dict(sorted(samples.items()))


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if not np.isfinite(value) else f"{value:.6g}"
    return value
