"""Many pairs cut into files of a size that loaders like, split by split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from skindualgen.contracts import PairRecord, Split
from skindualgen.exchange.formats import ExchangeOptions
from skindualgen.exchange.pairs import SPLITS, Pair, read_pairs


class Shard(NamedTuple):
    """One file of a split: its place among the ``of`` files of the split, its pairs, which are read when taken."""

    split: Split
    place: int
    of: int
    pairs: Iterator[Pair]


def read_shards(source: Path, records: Sequence[PairRecord], options: ExchangeOptions) -> Iterator[Shard]:
    """Yield the shards of all splits; the pairs of one must be taken before the next."""
    parts = [[record for record in records if record.split == split] for split in SPLITS]
    pairs = read_pairs(source, [record for part in parts for record in part], options.report)
    for split, part in zip(SPLITS, parts, strict=True):
        count = -(-len(part) // options.shard_size)
        for index in range(count):
            size = min(options.shard_size, len(part) - index * options.shard_size)
            yield Shard(split, index, count, islice(pairs, size))
    next(pairs, None)  # lets it report that all is done
