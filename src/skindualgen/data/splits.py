"""Leak-safe splits: connected components of patient, lesion and content, stratified by diagnosis."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

from skindualgen.contracts import InputError
from skindualgen.data.terms import known

Link = tuple[str, Hashable]
"""What ties two photographs together: a kind ("patient_id", "lesion_id", "sha256", ...) and its value."""
WHOLE_NUMBER = re.compile(r"[0-9]+(\.0*)?")


def link_value(value: object) -> str | None:
    """Return the form in which ids of patients, lesions and groups are compared, None where one says "unknown".

    Tables of one source write one id in several ways: 7, 7.0 (pandas, where another row has none), 007 and "il_7 ".
    What is taken for the same stays on one side of a split, so the looser comparison is the safe one.
    """
    name = known(unicodedata.normalize("NFC", str(value)))
    if name is None or not WHOLE_NUMBER.fullmatch(name):
        return name
    return name.partition(".")[0].lstrip("0") or "0"


def connected_components(links: Sequence[Sequence[Link]]) -> list[list[int]]:
    """Group items that share any of their links, directly or through others; an item without links is alone.

    Returns:
        Components as ascending index lists, ordered by their first index; together a partition of
        ``range(len(links))``.
    """
    parent = list(range(len(links)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first_with: dict[Link, int] = {}
    for item, item_links in enumerate(links):
        for link in item_links:
            other = first_with.setdefault(link, item)
            a, b = root(item), root(other)
            parent[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = defaultdict(list)
    for item in range(len(links)):
        members[root(item)].append(item)
    return list(members.values())


def assign_splits(
    ids: Sequence[str],
    components: Sequence[Sequence[int]],
    diagnoses: Sequence[str | None],
    ratios: Mapping[str, float],
    *,
    seed: int = 0,
    fixed: Mapping[int, str] | None = None,
) -> list[str]:
    """Assign each component to one split: every diagnosis meets the ratios as closely as whole components allow.

    The order within a diagnosis is a hash of seed and ids: the result does not depend on the order of the input, and
    is the same on every machine. A component with members fixed to an official split goes there whole.

    Args:
        ids: the id of each item.
        components: a partition of ``range(len(ids))``, or a part of one; the other items get "".
        diagnoses: diagnosis of each item; ``None`` is a stratum of its own. A component has its most frequent one.
        ratios: split name -> share, each >= 0, at least one > 0; normalised to sum 1.
        seed: another seed gives another assignment.
        fixed: item index -> split that must be kept.

    Raises:
        InputError: no positive ratio, a negative ratio, or a component fixed to two splits.
    """
    total = sum(ratios.values())
    if total <= 0 or min(ratios.values()) < 0:
        raise InputError(f"split ratios {dict(ratios)}", "shares >= 0 with a positive sum", "use for example 70/15/15")
    shares = {name: share / total for name, share in ratios.items() if share > 0}
    result: list[str] = [""] * len(ids)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    open_components: dict[str, list[tuple[bytes, Sequence[int]]]] = defaultdict(list)
    for component in components:
        stratum = _majority([diagnoses[i] or "" for i in component])
        official = sorted({fixed[i] for i in component if fixed and i in fixed})
        if len(official) > 1:
            names = ", ".join(sorted(ids[i] for i in component)[:6])
            raise InputError(
                f"one component ({names}) in the splits {', '.join(official)}",
                "patient, lesion and content on one side of every split",
                "fix the given split, or leave it out with --ignore-official-split",
            )
        if official:
            for i in component:
                result[i] = official[0]
            counts[stratum][official[0]] += len(component)
        else:
            open_components[stratum].append((_key(seed, [ids[i] for i in component]), component))
    for stratum, items in open_components.items():
        size = sum(len(component) for _, component in items) + sum(counts[stratum].values())
        # Large components first, so that the small ones can even out what is left.
        for _, component in sorted(items, key=lambda item: (-len(item[1]), item[0])):
            name = max(shares, key=lambda n: (shares[n] * size - counts[stratum][n], shares[n], n))
            counts[stratum][name] += len(component)
            for i in component:
                result[i] = name
    return result


def crossing_components(components: Sequence[Sequence[int]], splits: Sequence[str]) -> list[list[int]]:
    """Return the components whose members are in more than one split: each is a leak."""
    return [list(c) for c in components if len({splits[i] for i in c}) > 1]


def carve_validation(
    ids: Sequence[str],
    components: Sequence[Sequence[int]],
    diagnoses: Sequence[str | None],
    splits: Sequence[str],
    share: float,
    *,
    seed: int = 0,
) -> list[str]:
    """Move ``share`` of the train items to val, whole components only, stratified as in `assign_splits`.

    For official splits that come without a validation part. Items of other splits stay where they are.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"a validation share of {share}", "a number between 0 and 1", "use for example 0.15")
    train = [component for component in components if splits[component[0]] == "train"]
    carved = assign_splits(ids, train, diagnoses, {"train": 1 - share, "val": share}, seed=seed)
    return [new or old for new, old in zip(carved, splits, strict=True)]


def _majority(values: Sequence[str]) -> str:
    counter = Counter(values)
    return min(counter, key=lambda value: (-counter[value], value))


def _key(seed: int, ids: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join([str(seed), *sorted(ids)]).encode()).digest()
