"""The arms of a comparison: what each of them trains on. Steps, schedule and network are the same for all."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError

Task = Literal["segment", "classify"]
Fill = Literal["balance", "match"]
RATIOS = (0.25, 0.5, 1, 2, 5)
PRETRAIN_SHARE = 0.5
"""share of the steps that the arm "pretrain" spends on generated pairs"""
SEED_ITEMS = 2
"""Least number of each class in a small subset, where its size allows."""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: as in tables and file names.
        title, definition: for people.
        uses_synthetic: whether generated pairs are trained on.
        ratio: generated pairs, or their real replacements, for each real one; None without either.
        augment: classical augmentation, the same for all arms that have it.
    """

    name: str
    title: str
    definition: str
    uses_synthetic: bool
    ratio: float | None
    augment: bool


@dataclass(frozen=True)
class Pool:
    """What one arm trains on; batches are drawn from it with replacement.

    Attributes:
        real: positions in the real training records; may repeat (replay).
        synthetic: positions in the generated records, each once.
        weights: [len(real) + len(synthetic)] chance of each item at a draw, sum 1.
        augment: whether classical augmentation is applied.
        loss_weights: diagnosis -> weight in the loss, mean 1 over the items; None weighs all alike.
        pretrain: share of the steps, the first ones, that draw generated pairs alone; the others then draw real ones
            alone. 0 mixes them in every batch.
    """

    real: NDArray[np.int64]
    synthetic: NDArray[np.int64]
    weights: NDArray[np.float64]
    augment: bool
    loss_weights: dict[str, float] | None
    pretrain: float = 0.0


def arms_of(task: Task, ratios: Sequence[float] = RATIOS) -> list[Arm]:
    """Return the arms of a task in the order of the tables.

    Args:
        task: reweighting and oversampling are for classification alone, where classes are what is learnt.
        ratios: generated pairs for each real one, a hybrid arm each. Replay and the arm without real pairs are made for
            ratio 1, or for the largest if 1 is not among them.

    Raises:
        InputError: no ratio, one that is not above 0, or one twice.
    """
    if not ratios or min(ratios) <= 0 or len({f"{ratio:g}" for ratio in ratios}) < len(ratios):
        raise InputError(f"ratios {list(ratios)}", "different numbers above 0", "use for example 0.25 0.5 1 2 5")
    reference = 1.0 if 1 in ratios else float(max(ratios))
    arms = [
        Arm("real", "real", "The real pairs as they are, without augmentation.", False, None, False),
        Arm(
            "augment", "real + augmentation",
            "The real pairs with classical augmentation; so is every arm below.", False, None, True,
        ),
    ]  # fmt: skip
    if task == "classify":
        arms += [
            Arm(
                "reweight", "real, reweighted",
                "Each photograph's loss is weighted by the inverse of its class's frequency.", False, None, True,
            ),
            Arm(
                "oversample", "real, oversampled",
                "Photographs are drawn so that each class is drawn equally often.", False, None, True,
            ),
        ]  # fmt: skip
    arms += [
        Arm(
            "replay", "real + real replay",
            f"The real pairs and as many repeats of them as hybrid-{reference:g} has generated pairs, of the same "
            "diagnoses: the control for another balance of classes without new pictures.",
            False, reference, True,
        ),
        Arm(
            "synthetic", "synthetic only",
            f"Generated pairs alone, {reference:g} for each real one that the other arms have.", True, reference, True,
        ),
    ]  # fmt: skip
    arms.append(
        Arm(
            "pretrain", "synthetic, then real",
            f"Generated pairs alone, {reference:g} for each real one, for the first {PRETRAIN_SHARE:.0%} of the steps, "
            "and the real pairs alone for the others.",
            True, reference, True,
        )
    )  # fmt: skip
    return arms + [
        Arm(
            f"hybrid-{ratio:g}", f"real + {ratio:g} x synthetic",
            f"The real pairs and {ratio:g} generated ones for each of them.", True, float(ratio), True,
        )
        for ratio in sorted(ratios)
    ]  # fmt: skip


def build_pool(
    arm: Arm,
    *,
    real_diagnoses: Sequence[str | None],
    synthetic_diagnoses: Sequence[str | None],
    fill: Fill,
    seed: int,
) -> Pool:
    """Choose what an arm trains on; for one seed the hybrid arms of rising ratio contain each other.

    Classes are the diagnoses of the real pairs, those without one together being a class of their own. Generated pairs
    of other diagnoses are not used. If no real pair has a diagnosis, those of the generated ones are passed over.

    Args:
        arm: one of `arms_of`.
        real_diagnoses: of the real training pairs.
        synthetic_diagnoses: of the generated pairs.
        fill: "match" takes generated pairs in the proportions of the real classes; "balance" gives each to the class
            that is rarest by then, so that the pool's classes become as equal as they can.
        seed: chooses among the generated pairs, and among the real ones that are replayed.

    Raises:
        InputError: no real pairs, too few generated ones of a class, or, where classes are weighted, a real pair
            without diagnosis.
    """
    if not real_diagnoses:
        raise InputError("no real pairs", "one or more", "check the training split")
    labelled = any(diagnosis is not None for diagnosis in real_diagnoses)
    real = _by_class(real_diagnoses)
    synthetic = _by_class(synthetic_diagnoses if labelled else [None] * len(synthetic_diagnoses))
    sizes = {name: len(members) for name, members in real.items()}
    positions, chosen = np.arange(len(real_diagnoses)), np.empty(0, np.int64)
    if arm.ratio is not None:
        only = arm.name == "synthetic"
        counts = _extra_counts(sizes, max(1, round(arm.ratio * len(real_diagnoses))), fill, from_nothing=only)
        if arm.uses_synthetic:
            chosen = _take(synthetic, counts, seed)
            positions = positions[:0] if only else positions
        else:
            positions = np.concatenate([positions, _replay(real, counts, seed)])
    weights = np.full(len(positions) + len(chosen), 1 / (len(positions) + len(chosen)))
    loss_weights = None
    if arm.name in ("reweight", "oversample"):
        inverse = _inverse_frequencies(sizes)
        if arm.name == "reweight":
            loss_weights = inverse
        else:
            weights *= [inverse[str(diagnosis)] for diagnosis in real_diagnoses]
    pretrain = PRETRAIN_SHARE if arm.name == "pretrain" else 0.0
    return Pool(positions, chosen, weights / weights.sum(), arm.augment, loss_weights, pretrain)


def nested_subset(
    diagnoses: Sequence[str | None],
    ids: Sequence[str],
    *,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Choose a part of the items whose classes have the proportions of the whole, and at least one item each.

    For one seed a smaller part lies within each larger one. Members of a group follow each other, so that at most one
    group a class is cut. The order is a hash of seed and ids, as in `skindualgen.data.splits`: neither the order of the
    input nor the machine changes it.

    Args:
        diagnoses: of the items; None is a class of its own.
        ids: of the items, each once.
        count: size of the part; or
        fraction: its share of the items, in (0, 1].
        seed: another seed gives another part.
        groups: lesion of each item; each stands alone if not given.

    Returns:
        Ascending positions [count]. With room for two of each class, no class that has two has fewer.

    Raises:
        InputError: neither or both of count and fraction, or a size that is not between the number of classes and the
            number of items.
    """
    if (count is None) == (fraction is None):
        raise InputError("neither or both of count and fraction", "one of them", "give one")
    wanted = round(fraction * len(ids)) if fraction is not None else count
    members = _by_class(diagnoses)
    if wanted is None or not len(members) <= wanted <= len(ids) or not ids:
        raise InputError(
            f"a part of {wanted} of {len(ids)} items in {len(members)} classes",
            "no more than all items, and one of each class or more",
            f"use {len(members)} to {len(ids)}",
        )
    groups = groups if groups is not None else ids
    keys = [(_order_key(seed, group), _order_key(seed, name)) for group, name in zip(groups, ids, strict=True)]
    queues = {name: iter(sorted(positions, key=keys.__getitem__)) for name, positions in members.items()}
    sequence = _class_sequence({name: len(positions) for name, positions in members.items()})
    return np.sort([next(queues[name]) for name in islice(sequence, wanted)])


def _class_sequence(sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the class of each item in turn: one of each, the rarest first, a second of each, then in proportion."""
    rarest_first = sorted(sizes, key=lambda name: (sizes[name], name))
    start = [name for turn in range(SEED_ITEMS) for name in rarest_first if sizes[name] > turn]
    yield from start
    yield from _by_least(sizes, _webster, Counter(start))


def _order_key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _by_class(diagnoses: Iterable[str | None]) -> dict[str, list[int]]:
    """Map each class to its positions; those without a diagnosis are the class ""."""
    members: dict[str, list[int]] = defaultdict(list)
    for position, diagnosis in enumerate(diagnoses):
        members[diagnosis or ""].append(position)
    return dict(members)


def _by_least(sizes: Mapping[str, int], rank: Callable[[int, int], float], taken: Mapping[str, int]) -> Iterator[str]:
    """Yield again and again the class of least ``rank(size, taken)``, then by name, counting up what is taken of it."""
    counts = Counter(taken)
    heap = [(rank(size, counts[name]), name) for name, size in sizes.items()]
    heapq.heapify(heap)
    while True:
        name = heap[0][1]
        yield name
        counts[name] += 1
        heapq.heapreplace(heap, (rank(sizes[name], counts[name]), name))


def _webster(size: int, taken: int) -> float:
    """Rank of a class by Webster's divisor method, which shares seats in proportion to sizes.

    Unlike largest remainders, it never takes a seat away when the number of seats grows: parts are nested.
    Source: Balinski and Young, Fair Representation (1982).
    """
    return (2 * taken + 1) / size


def _rarest(size: int, taken: int) -> float:
    """Rank of a class that is filled up: how many of it there are by then."""
    return size + taken


def _extra_counts(sizes: Mapping[str, int], total: int, fill: Fill, *, from_nothing: bool) -> Counter[str]:
    """Share ``total`` extra pairs among the classes; ``from_nothing`` if they stand without the real ones."""
    if fill == "balance" and from_nothing:
        sizes = dict.fromkeys(sizes, 0)
    rank = _webster if fill == "match" else _rarest
    return Counter(islice(_by_least(sizes, rank, {}), total))


def _take(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Choose ``counts`` generated pairs of each class, the same first ones whatever the counts."""
    lacking = {name: count for name, count in counts.items() if count > len(members.get(name, ()))}
    if lacking:
        there = ", ".join(f"{len(members[name])} of {_name(name)}" for name in sorted(members)) or "none"
        needed = ", ".join(f"{count} of {_name(name)}" for name, count in sorted(lacking.items()))
        raise InputError(
            f"generated pairs: {there}",
            f"{needed}, as no pair is used twice",
            "generate more of these classes (or with these names of them), use smaller ratios, or another --fill",
        )
    chosen = [_shuffled(members[name], seed, name)[:count] for name, count in counts.items()]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def _replay(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Repeat ``counts`` real pairs of each class, all of a class equally often but for the last round."""
    repeated = [np.resize(_shuffled(members[name], seed, name), count) for name, count in counts.items()]
    return np.sort(np.concatenate(repeated)) if repeated else np.empty(0, np.int64)


def _shuffled(positions: Sequence[int], seed: int, name: str) -> NDArray[np.int64]:
    return np.random.default_rng([seed, *name.encode()]).permutation(np.asarray(positions, np.int64))


def _inverse_frequencies(sizes: Mapping[str, int]) -> dict[str, float]:
    """Return for each class the number of items over classes times its size: the mean over the items is 1."""
    if "" in sizes:
        raise InputError(
            f"{sizes['']} real pairs without diagnosis", "one for each", "leave these out to weigh classes"
        )
    total = sum(sizes.values())
    return {name: total / (len(sizes) * size) for name, size in sizes.items()}


def _name(name: str) -> str:
    return name or "no diagnosis"
