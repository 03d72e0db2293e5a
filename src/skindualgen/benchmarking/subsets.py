"""Nested parts of a data set, in the proportions of its classes."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError

SEED_ITEMS = 2
"""Least number of each class in a small subset, where its size allows."""
PARTS = 1000
"""Parts of the real pairs at most. Training r of part p has the seed p + r * PARTS: more of either keep the others."""


def part_of(seed: int) -> int:
    """The part of the real pairs that a training's seed belongs to, which is the seed of that part."""
    return seed % PARTS


def nested_subset(
    diagnoses: Sequence[str | None],
    ids: Sequence[str],
    *,
    count: int,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    evenly: bool = False,
) -> NDArray[np.int64]:
    """Choose a part of the items, its classes in the proportions of the whole or evenly, and at least one item each.

    For one seed a smaller part lies within each larger one. Members of a group follow each other, so that at most one
    group a class is cut. The order is a hash of seed and ids, as in `skindualgen.data.splits`: neither the order of the
    input nor the machine changes it.

    Args:
        diagnoses: of the items; None is a class of its own.
        ids: of the items, each once.
        count: size of the part.
        seed: another seed gives another part.
        groups: lesion of each item; each stands alone if not given.
        evenly: as many of each class, in place of their proportions.

    Returns:
        Ascending positions [count]. With room for two of each class, no class that has two has fewer.

    Raises:
        InputError: a size that is not between the number of classes and the number of items.
    """
    members = by_class(diagnoses)
    if not len(members) <= count <= len(ids) or not ids:
        raise InputError(
            f"a part of {count} of {len(ids)} items in {len(members)} classes",
            "no more than all items, and one of each class or more",
            f"use {len(members)} to {len(ids)}",
        )
    if evenly and count > len(members) * (rarest := min(map(len, members.values()))):
        raise InputError(
            f"{count // len(members)} items of each of {len(members)} classes, the rarest of which has {rarest}",
            f"{rarest} of each at most",
            "ask for fewer",
        )
    groups = groups if groups is not None else ids
    keys = [(_order_key(seed, group), _order_key(seed, name)) for group, name in zip(groups, ids, strict=True)]
    queues = {name: iter(sorted(positions, key=keys.__getitem__)) for name, positions in members.items()}
    sizes = {name: len(positions) for name, positions in members.items()}
    sequence = cycle(sorted(sizes)) if evenly else _class_sequence(sizes)
    return np.sort([next(queues[name]) for name in islice(sequence, count)])


def _class_sequence(sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the class of each item in turn: one of each, the rarest first, a second of each, then in proportion."""
    rarest_first = sorted(sizes, key=lambda name: (sizes[name], name))
    start = [name for turn in range(SEED_ITEMS) for name in rarest_first if sizes[name] > turn]
    yield from start
    yield from by_least(sizes, webster, Counter(start))


def _order_key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def by_class(diagnoses: Iterable[str | None]) -> dict[str, list[int]]:
    """Map each class to its positions; those without a diagnosis are the class ""."""
    members: dict[str, list[int]] = defaultdict(list)
    for position, diagnosis in enumerate(diagnoses):
        members[diagnosis or ""].append(position)
    return dict(members)


def by_least(sizes: Mapping[str, int], rank: Callable[[int, int], float], taken: Mapping[str, int]) -> Iterator[str]:
    """Yield again and again the class of least ``rank(size, taken)``, then by name, counting up what is taken of it."""
    counts = Counter(taken)
    heap = [(rank(size, counts[name]), name) for name, size in sizes.items()]
    heapq.heapify(heap)
    while True:
        name = heap[0][1]
        yield name
        counts[name] += 1
        heapq.heapreplace(heap, (rank(sizes[name], counts[name]), name))


def webster(size: int, taken: int) -> float:
    """Rank of a class by Webster's divisor method, which shares seats in proportion to sizes.

    Unlike largest remainders, it never takes a seat away when the number of seats grows: parts are nested.
    Source: Balinski and Young, Fair Representation (1982).
    """
    return (2 * taken + 1) / size
