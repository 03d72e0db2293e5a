"""Pictures of a data set that look alike, found as the audit of a data set finds them, with progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.audit import HASH_WORDS, hash_words, near_pairs
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.journal import perceptual_hash
from skindualgen.studio.review import Library

KEPT_HASHES = 1 << 15


@dataclass(frozen=True)
class Couple:
    """Two pictures of a data set that look alike, and the distance of their perceptual hashes in bits (0 to 512)."""

    first: PairRecord
    second: PairRecord
    distance_bits: int

    @property
    def across(self) -> bool:
        """Whether they are in different splits: a leak."""
        return self.first.split != self.second.split


def near_duplicates(
    library: Library, name: str, *, max_distance: int, max_pixels: int, report: Callable[[int, int], None]
) -> list[Couple]:
    """Find pictures that look alike, as the audit of a data set does; those across splits first, then the nearest.

    Args:
        library: of the workspace.
        name: the data set.
        max_distance: bits, 0 to 512; see :data:`skindualgen.data.audit.MAX_DISTANCE_BITS`.
        max_pixels: of a picture; larger ones are refused.
        report: called with (pictures hashed, all pictures).

    Raises:
        InputError: a picture that cannot be read; see `Library.picture`.
    """
    records = library.records(name)
    words = np.zeros((len(records), HASH_WORDS), np.uint64)  # [n, 8]
    for place, record in enumerate(records):
        words[place] = hash_words(record, partial(_computed, library, name, record.file_name, max_pixels))
        report(place + 1, len(records))
    couples = [Couple(records[i], records[j], bits) for i, j, bits in near_pairs(words, max_distance)]
    return sorted(couples, key=lambda couple: (not couple.across, couple.distance_bits, couple.first.file_name))


def _computed(library: Library, name: str, file_name: str, max_pixels: int) -> str:
    path = library.picture(name, file_name)
    return _hashed(path, path.stat().st_mtime_ns, max_pixels)


@lru_cache(KEPT_HASHES)
def _hashed(path: Path, _modified_ns: int, max_pixels: int) -> str:
    try:
        return perceptual_hash(load_photograph(path, max_pixels=max_pixels).image)
    except ItemError as error:
        raise InputError(f"{path.name}: {error}", "pictures that can be decoded", "fix the data set") from None
