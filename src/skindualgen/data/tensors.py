"""Pairs of a data set folder as tensors, for people's own training loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from skindualgen.contracts import PairRecord
from skindualgen.data.pairs import load_ignored, load_pair

NO_LABEL = -1
"""Label of a record without a diagnosis; ``torch.nn.CrossEntropyLoss(ignore_index=-1)`` passes over it."""


class TensorPairs(TorchDataset[dict[str, Any]]):
    """A ``torch.utils.data.Dataset``; give `collate` to the loader: ``DataLoader(pairs, collate_fn=pairs.collate)``.

    Each item is a dict: ``image`` [3, size, size] in [-1, 1]; ``mask`` [1, size, size] in {0, 1}, all 0 where there is
    none; ``has_mask``, a bool; ``ignore`` [1, size, size] in {0, 1}, 1 where pixels are not to be learnt from or
    counted; ``label``, place of the diagnosis in ``diagnoses`` or `NO_LABEL`; ``record``.

    Args:
        root: data set folder.
        records: its records.
        size: side in px; longer sides are cut at both ends.
        diagnoses: names in the order of the labels.
    """

    def __init__(self, root: Path, records: Sequence[PairRecord], size: int, diagnoses: Sequence[str]) -> None:
        self.root, self.records, self.size, self.diagnoses = root, list(records), size, list(diagnoses)
        self._labels = {name: place for place, name in enumerate(self.diagnoses)}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises InputError if a file is missing or damaged, and IndexError past the end."""
        record = self.records[index]
        image, mask = load_pair(self.root, record, self.size)
        return {
            "image": image,
            "mask": torch.zeros(1, self.size, self.size) if mask is None else mask,
            "has_mask": mask is not None,
            "ignore": load_ignored(self.root, record, self.size),
            "label": self._labels[record.diagnosis] if record.diagnosis is not None else NO_LABEL,
            "record": record,
        }

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Tensor | list[PairRecord]]:
        """A batch of items: stacked tensors, labels as int64, and the list of records."""
        return {
            "image": torch.stack([item["image"] for item in items]),
            "mask": torch.stack([item["mask"] for item in items]),
            "has_mask": torch.tensor([item["has_mask"] for item in items]),
            "ignore": torch.stack([item["ignore"] for item in items]),
            "label": torch.tensor([item["label"] for item in items]),
            "record": [item["record"] for item in items],
        }
