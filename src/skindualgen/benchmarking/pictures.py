"""The pictures of one part of a benchmark, in memory, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.splits import connected_components
from skindualgen.data.terms import diagnosis_term
from skindualgen.files import sha256_bytes, sha256_file

TIES = ("lesion_id", "patient_id", "split_group")
"""Fields of a record that tie photographs together; the last is what `skindualgen prepare` found to belong together."""


@dataclass(frozen=True)
class Pictures:
    """Photographs with what is known of them; n may be 0.

    Attributes:
        images: RGB uint8 [n, s, s, 3].
        masks: bool [n, s, s], True is lesion; empty where ``has_mask`` [n] is False.
        diagnoses: the ISIC Archive's terms, None where unknown.
        digests: a hash of each item's files and diagnosis.
        groups: [n], the same name for photographs of one lesion or patient.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    diagnoses: list[str | None]
    ids: list[str]
    digests: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, positions: NDArray[np.intp]) -> Pictures:
        """Return the items at these positions, in this order."""
        if np.array_equal(positions, np.arange(len(self))):
            return self
        columns: dict[str, Any] = {
            name: column[positions] if isinstance(column, np.ndarray) else [column[position] for position in positions]
            for name, column in vars(self).items()
        }
        return Pictures(**columns)


def load_pictures(root: Path, records: Sequence[PairRecord], size_px: int) -> Pictures:
    """Read photographs and masks of a data set folder, all through the same reduction to ``size_px``.

    Raises:
        InputError: a file is missing or not square.
    """
    data = Dataset(root, records)
    has_mask = np.array([record.mask_file_name is not None for record in records], bool)
    diagnoses = [diagnosis_term(record.diagnosis) for record in records]
    return Pictures(
        images=data.images(size_px),
        masks=data.masks(size_px),
        has_mask=has_mask,
        diagnoses=diagnoses,
        ids=[record.isic_id for record in records],
        digests=[_digest(root, record, name) for record, name in zip(records, diagnoses, strict=True)],
        groups=_groups(records),
    )


def _digest(root: Path, record: PairRecord, diagnosis: str | None) -> str:
    mask = sha256_file(root / record.mask_file_name) if record.mask_file_name else ""
    return sha256_bytes(f"{sha256_file(root / record.file_name)}|{mask}|{diagnosis}".encode())


def _groups(records: Sequence[PairRecord]) -> list[str]:
    links = [
        [(name, str(value)) for name in TIES if (value := getattr(record, name, None)) is not None]
        for record in records
    ]
    groups = [""] * len(records)
    for component in connected_components(links):
        for position in component:
            groups[position] = records[component[0]].isic_id
    return groups
