"""Leaks and near-duplicates in a data set folder: what splits must not share, and what looks the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.journal import perceptual_hash
from skindualgen.data.reading import read_photograph
from skindualgen.data.splits import Link, connected_components, crossing_components, link_value
from skindualgen.files import atomic_write_text, csv_text, sha256_file

AUDIT_FILE = "audit.csv"
HASH_BITS = 512
HASH_WORDS = HASH_BITS // 64
HASH_PATTERN = rf"[0-9a-f]{{{HASH_BITS // 4}}}"
MAX_DISTANCE_BITS = 130
"""Hamming distance of two perceptual hashes up to which pictures are called near-duplicates.

Chosen by looking: of 1,559 ISIC 2017 photographs (1.2 million pairs), the 8 pairs up to 113 bits are all the same
lesion taken or processed twice, 9 of the 10 up to 130 are, and of the 30 next ones (up to 149) two are.
"""

ALL_PAIRS_MEMBERS = 16
"""Pictures of a group up to which each of its pairs is listed; of larger groups, a link for each picture but one."""
TABLE_COLUMNS = ("kind", "isic_id", "split", "other_isic_id", "other_split", "detail", "group", "group_size")
LINK_FIELDS = ("patient_id", "lesion_id", "split_group")
"""Fields of a record that tie photographs together; the last is what `skindualgen prepare` found to belong together."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two pictures that look alike: ids, splits, and the distance of their perceptual hashes in bits (0 to 512).

    ``group`` is the number, from 1, of their group of pictures that are alike directly or through others;
    ``group_size`` says how many these are.
    """

    first: str
    first_split: str
    second: str
    second_split: str
    distance_bits: int
    group: int = 1
    group_size: int = 2

    @property
    def across(self) -> bool:
        """Whether they are in different splits."""
        return self.first_split != self.second_split


@dataclass(frozen=True)
class Audit:
    """The findings: components that cross splits (leaks), each with its records ordered by id, and near-duplicates.

    ``near`` has those across splits first, then by distance and ids; of groups of more than `ALL_PAIRS_MEMBERS`
    pictures not every pair, but enough to connect them. ``rejected`` counts pairs that a reviewer has rejected: not
    looked at.
    """

    crossing: list[list[PairRecord]] = field(default_factory=list)
    near: list[NearDuplicate] = field(default_factory=list)
    rejected: int = 0


def audit(root: Path, *, max_distance: int = MAX_DISTANCE_BITS) -> Audit:
    """Check a data set folder and write ``audit.csv`` into it.

    Components join records that share a patient, a lesion, a ``split_group`` or an image file's hash, directly or
    through others. Pairs that a reviewer has rejected are left out: nothing is trained or tested on them, so to reject
    one of two near-duplicates fixes a set.

    Args:
        root: a folder as `prepare` writes it.
        max_distance: bits, 0 to 512; see `MAX_DISTANCE_BITS`.

    Raises:
        InputError: no data set folder, an image that is missing or damaged, or a distance out of range.
    """
    if not 0 <= max_distance <= HASH_BITS:
        raise InputError(f"a distance of {max_distance} bits", f"0 to {HASH_BITS}", f"use {MAX_DISTANCE_BITS}")
    data = Dataset.open(root)
    findings = Audit(crossing_groups(data), near_duplicates(data, max_distance), data.rejected)
    atomic_write_text(root / AUDIT_FILE, _table(findings))
    return findings


def crossing_groups(data: Dataset) -> list[list[PairRecord]]:
    """Return the components of records that cross splits, each ordered by id; see `audit`.

    Raises:
        InputError: an image without a recorded hash is missing.
    """
    records = sorted(data, key=lambda record: record.isic_id)
    components = connected_components([_links(data.root, record) for record in records])
    crossing = crossing_components(components, [record.split for record in records])
    return [[records[i] for i in component] for component in crossing]


def crossing_text(crossing: Sequence[Sequence[PairRecord]]) -> str:
    """Say how many components cross splits, and whose the first is."""
    first = ", ".join(f"{record.isic_id} ({record.split})" for record in crossing[0][:4])
    groups = "groups of" if len(crossing) > 1 else "group of"
    return f"{len(crossing)} {groups} the same patient, lesion or picture in two splits, first {first}"


def near_duplicates(data: Dataset, max_distance: int = MAX_DISTANCE_BITS) -> list[NearDuplicate]:
    """Return the pictures that look alike, within ``max_distance`` bits (0 to 512), in the order of `Audit`.

    Raises:
        InputError: an image without a recorded perceptual hash is missing or damaged.
    """
    records = sorted(data, key=lambda record: record.isic_id)
    hashes = np.array([_hash(data.root, record) for record in records], dtype=np.uint64).reshape(-1, HASH_WORDS)
    near = [
        NearDuplicate(
            records[i].isic_id, records[i].split, records[j].isic_id, records[j].split, distance, number, len(members)
        )
        for number, (members, links) in enumerate(near_groups(hashes, max_distance), start=1)
        for i, j, distance in links
    ]
    near.sort(key=lambda pair: (not pair.across, pair.distance_bits, pair.first, pair.second))
    return near


def near_groups(hashes: NDArray[np.uint64], max_distance: int) -> list[tuple[list[int], list[tuple[int, int, int]]]]:
    """Group hashes [n, words] that differ in at most ``max_distance`` bits, directly or through others.

    Memory grows with the number of hashes. So does the time where most are alike; where none are, it grows with the
    square, at about 3 s for 10,000.

    Returns:
        For each group of at least two its members, ascending, and (i, j, distance) with i < j: all pairs within the
        distance where it has up to `ALL_PAIRS_MEMBERS` members, otherwise as many as connect it.
    """
    groups: list[tuple[list[int], list[tuple[int, int, int]]]] = []
    numbers, left = np.arange(len(hashes)), np.ascontiguousarray(hashes.T)  # [m], [words, m]: those in no group yet
    while numbers.size:
        members, links = [int(numbers[0])], []
        numbers, left = numbers[1:], left[:, 1:]
        for member in members:  # Grows below.
            if not numbers.size:
                break
            distances = hash_distances(hashes[member], left)
            near = distances <= max_distance
            if near.any():
                found = [(int(number), int(bits)) for number, bits in zip(numbers[near], distances[near], strict=True)]
                links += [(min(member, number), max(member, number), bits) for number, bits in found]
                members += [number for number, _ in found]
                numbers, left = numbers[~near], left[:, ~near]
        if links:
            members.sort()
            groups.append(
                (members, links if len(members) > ALL_PAIRS_MEMBERS else _pairs(hashes, members, max_distance))
            )
    return groups


def near_pairs(hashes: NDArray[np.uint64], max_distance: int) -> list[tuple[int, int, int]]:
    """Return the pairs (i, j, distance) of all `near_groups`."""
    return [link for _, links in near_groups(hashes, max_distance) for link in links]


def _pairs(hashes: NDArray[np.uint64], members: Sequence[int], max_distance: int) -> list[tuple[int, int, int]]:
    pairs: list[tuple[int, int, int]] = []
    for place, member in enumerate(members):
        later = list(members[place + 1 :])
        distances = hash_distances(hashes[member], hashes[later].T)
        pairs += [(member, j, int(bits)) for j, bits in zip(later, distances, strict=True) if bits <= max_distance]
    return pairs


def hash_distances(one: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the numbers of bits [m] in which a hash [words] differs from others [words, m]."""
    distances = np.zeros(others.shape[1], np.uint16)
    for word, column in zip(one, others, strict=True):
        distances += np.bitwise_count(word ^ column)
    return distances


def _links(root: Path, record: PairRecord) -> list[Link]:
    return [*record_links(record), ("sha256", record.sha256 or sha256_file(_image(root, record)))]


def record_links(record: PairRecord) -> list[Link]:
    """Return what ties a record to other photographs of one patient or lesion, or of one group that prepare found."""
    stated = {name: getattr(record, name, None) for name in LINK_FIELDS}
    return [(name, link) for name, value in stated.items() if value is not None and (link := link_value(value))]


def hash_words(record: PairRecord, compute: Callable[[], str]) -> list[int]:
    """Return the words of a record's perceptual hash: the stored one, or what ``compute`` returns."""
    digits = (record.model_extra or {}).get("perceptual_hash")
    if not isinstance(digits, str) or not re.fullmatch(HASH_PATTERN, digits):
        digits = compute()
    return [int(digits[start : start + 16], 16) for start in range(0, len(digits), 16)]


def _hash(root: Path, record: PairRecord) -> list[int]:
    return hash_words(record, lambda: perceptual_hash(read_photograph(_image(root, record)).image))


def _image(root: Path, record: PairRecord) -> Path:
    path = root / record.file_name
    if not path.is_file():
        raise InputError(
            f"{record.file_name}, which is not in {root}", "all images of the metadata", "copy them as well"
        )
    return path


def _table(findings: Audit) -> str:
    rows: list[Sequence[object]] = [TABLE_COLUMNS]
    for number, component in enumerate(findings.crossing, start=1):
        first = component[0]
        shared = _shared(component)
        for other in component[1:]:
            detail = f"component {number}: {shared}"
            sides = [first.isic_id, first.split, other.isic_id, other.split]
            rows.append(["crossing", *sides, detail, number, len(component)])
    for pair in findings.near:
        kind = "near_across" if pair.across else "near_within"
        distance = f"{pair.distance_bits} bits"
        sides = [pair.first, pair.first_split, pair.second, pair.second_split]
        rows.append([kind, *sides, distance, pair.group, pair.group_size])
    return csv_text(rows)


def _shared(component: Sequence[PairRecord]) -> str:
    """Name the values that more than one record of a component has."""
    found: dict[str, Counter[str]] = {
        name: Counter(value for record in component if (value := getattr(record, name, None)) is not None)
        for name in (*LINK_FIELDS, "sha256")
    }
    shared = {name: sorted(value for value, count in values.items() if count > 1) for name, values in found.items()}
    return "; ".join(f"{name} {', '.join(values)}" for name, values in shared.items() if values)
