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
from skindualgen.judges.pictures import content_digest, in_terms, lesion_groups


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
    data = in_terms(Dataset(root, records))
    return Pictures(
        images=data.images(size_px),
        masks=data.masks(size_px),
        has_mask=np.array([record.mask_file_name is not None for record in data], bool),
        diagnoses=[record.diagnosis for record in data],
        ids=[record.isic_id for record in data],
        digests=[content_digest(root, record) for record in data],
        groups=lesion_groups(data),
    )
