"""Checks that folders of files and folders of shards share: totals, training items, pairs several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from skindualgen.contracts import DATASET_FILE, InputError, PairRecord
from skindualgen.credentials.deviations import Deviation, Tally
from skindualgen.credentials.pair_check import PairFindings
from skindualgen.credentials.register import Register
from skindualgen.data.manifest import counts, manifest_sha256
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, read_training_items

Report = Callable[[int, int], None]
"""called with the number of pairs done and of all pairs"""

PENDING_PER_WORKER = 4
"""Pairs handed to a worker in advance: keeps it busy, and holds memory."""


def check_totals(info: Mapping[str, Any], records: Callable[[], Iterable[PairRecord]]) -> Iterator[Deviation]:
    """Compare the counts and the hash in ``dataset.json`` with the records, which are gone through twice."""
    recorded, found = info.get("counts"), counts(records())
    if not isinstance(recorded, dict):
        yield Deviation("dataset", DATASET_FILE, f"counts {recorded!r}", f"{found}")
    else:
        for key in sorted(found.keys() | recorded.keys()):
            if recorded.get(key) != found.get(key):
                yield Deviation("dataset", DATASET_FILE, f"{key} {recorded.get(key)}", f"{found.get(key)} as counted")
    digest = manifest_sha256(records())
    if info.get("manifest_sha256") != digest:
        found_text = f"manifest_sha256 {info.get('manifest_sha256')}: a record was changed, added or removed"
        yield Deviation("dataset", DATASET_FILE, found_text, f"{digest} of these records")


def check_training_items(root: Path) -> Iterator[Deviation]:
    """Say what is wrong with the record of what the generator has seen; a folder may have none."""
    try:
        read_training_items(root)
    except (InputError, OSError) as error:
        expected = error.expected if isinstance(error, InputError) else "a readable file"
        yield Deviation("training_items", TRAINING_ITEMS_FILE, getattr(error, "got", str(error)), expected)


def check_pairs(
    checks: Iterable[Callable[[], PairFindings] | Deviation],
    workers: int,
    register: Register,
    tally: Tally,
    report: Report,
) -> Iterator[Deviation]:
    """Run the checks of all pairs, several at a time; what is found comes in their order.

    Args:
        checks: of each pair, taken up as workers become free; a deviation among them is passed on.
        workers: threads.
        register: knows which record has a content.
        tally: takes the numbers.
        report: progress.
    """
    pending: deque[Future[PairFindings]] = deque()
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        for check in checks:
            if isinstance(check, Deviation):
                yield check
                continue
            pending.append(pool.submit(check))
            if len(pending) >= workers * PENDING_PER_WORKER:
                yield from _settled(pending.popleft().result(), register, tally)
                report(done := done + 1, tally.records)
        while pending:
            yield from _settled(pending.popleft().result(), register, tally)
            report(done := done + 1, tally.records)


def _settled(found: PairFindings, register: Register, tally: Tally) -> Iterator[Deviation]:
    for name in ("images", "masks", "hashes", "marked"):
        setattr(tally, name, getattr(tally, name) + getattr(found, name))
    if found.credentials is not None:
        tally.credentials[found.credentials] += 1
    for deviation in found.deviations:
        owner = register.owner(found.contents[deviation.file]) if deviation.kind == "changed_file" else None
        if owner is not None:
            deviation = replace(deviation, found=f"the content of {owner} (swapped or copied)")
        yield deviation
