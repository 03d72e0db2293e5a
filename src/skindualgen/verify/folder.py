"""Verification of a data set folder: every record, every file, and what the folder says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from skindualgen.contracts import METADATA_FILE, SHARDS_DIR, Report
from skindualgen.marks.c2pa import check_anchors
from skindualgen.verify.deviations import Deviation, Tally
from skindualgen.verify.files import PairFiles
from skindualgen.verify.pair import check_pairs
from skindualgen.verify.register import Register
from skindualgen.verify.shards import PairShards
from skindualgen.verify.totals import check_training_items


def verify_folder(
    root: Path,
    *,
    workers: int = 1,
    anchors: Path | None = None,
    tally: Tally | None = None,
    report: Report = lambda done, total: None,
) -> Iterator[Deviation]:
    """Yield everything in a data set folder that is not as its records, ``dataset.json`` and the files say.

    The pairs are files of their own or, as ``skindualgen generate --shards`` writes them, in shards; these are named by
    shard and id. Memory hardly grows with the number of pairs: their names stand on disk, shards are read pair by pair.
    Nothing outside the folder is opened because a record names it.

    Args:
        root: a folder with ``metadata.jsonl`` or with shards.
        workers: threads that check pairs.
        anchors: PEM file of root certificates that content credentials are trusted by; none are otherwise.
        tally: takes the numbers.
        report: progress.

    Raises:
        InputError: ``root`` is no data set folder, or ``anchors`` cannot be read.
    """
    in_shards = (root / SHARDS_DIR).is_dir() and not (root / METADATA_FILE).exists()
    pairs = PairShards(root) if in_shards else PairFiles(root)
    trusted = None if anchors is None else check_anchors(anchors)
    tally = Tally() if tally is None else tally
    with Register() as register:
        for deviation in chain(
            pairs.check_records(register, tally),
            pairs.check_description(),
            check_training_items(root),
            check_pairs(pairs.checks(trusted), workers, register, tally, report),
            pairs.check_unnamed(register),
        ):
            tally.deviations[deviation.kind] += 1
            yield deviation
