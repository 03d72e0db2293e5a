"""The plan of a data set: a CSV with a row for each prompt, its labels, how many pairs of it, and their seeds.

A file of any length is read as a stream; nothing is kept of it but totals.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skindualgen.contracts import InputError
from skindualgen.data.labels import check_labels, own_term
from skindualgen.data.prompts import clip_token_bound, refuse_long
from skindualgen.files import atomic_path
from skindualgen.planning.requests import PairRequest
from skindualgen.planning.rows import COLUMNS, MAX_PAIRS, PlanRow, read_rows, row_to_cells


@dataclass(frozen=True)
class Plan:
    """A plan on disk that was checked from end to end.

    Attributes:
        path: the file.
        sha256: of its bytes.
        rows: their number.
        pairs: sum of their counts.
        own_diagnoses: diagnoses that are no known term: classes of the user's own, each named by its prompts.
        size_bytes, modified_ns: of the file when it was checked.
    """

    path: Path
    sha256: str
    rows: int
    pairs: int
    own_diagnoses: tuple[str, ...]
    size_bytes: int
    modified_ns: int

    def requests(self, start: int = 0, stop: int | None = None) -> Iterator[PairRequest]:
        """Stream the pairs from ``start`` up to, without, ``stop``: positions among all pairs of the plan.

        Raises:
            InputError: the file was changed since it was checked.
        """
        if _size_and_time(self.path) != (self.size_bytes, self.modified_ns):
            raise InputError(f"{self.path}, changed since it was checked", "the same plan", "start the command again")
        stop = self.pairs if stop is None else min(stop, self.pairs)
        first = 0
        for _, row in read_rows(self.path):
            if first >= stop:
                return
            for k in range(max(0, start - first), min(row.count, stop - first)):
                yield PairRequest(
                    first + k, row.prompt, row.seed_first + k, dict(row.attributes), row.row, row.extrapolation
                )
            first += row.count


def check_plan_path(path: Path) -> None:
    """Refuse a path under which no plan can be written, or where something else than a plan is.

    Raises:
        InputError: as said.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}, in no folder that is there", "an existing folder", f"mkdir -p {path.parent}")
    if not path.exists():
        return
    start = ",".join(COLUMNS).encode()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(start)) == start:
                return
    raise InputError(f"{path}, which is no plan", "a new file, or an earlier plan", "name another file")


def write_plan(path: Path, rows: Iterable[PlanRow]) -> None:
    """Write a plan, entirely or not at all, streaming; an earlier file is replaced."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row_to_cells(row) for row in rows)


def read_plan(path: Path, *, count_tokens: Callable[[str], int] = clip_token_bound) -> Plan:
    """Check a plan from end to end, in one pass; memory does not grow with its length.

    Seeds that do not ascend from row to row are compared in a second pass, which keeps 24 bytes a row.

    Args:
        path: see :func:`skindualgen.planning.rows.read_rows`.
        count_tokens: tokens of a text, start and end token included. Asked only for a prompt that could be too long by
            `clip_token_bound`, which is used where no tokenizer is at hand and errs on the side of too many.

    Raises:
        InputError: the first fault, with its line and column: one of `read_rows`, a label that is not known or
            contradicts its prompt, a prompt of more than 77 tokens, one seed twice, too many pairs, or no row.
    """
    size_bytes, modified_ns = _size_and_time(path)
    digest = hashlib.sha256()
    rows = pairs = 0
    last_seed, ascending, own = -1, True, set()
    for line, row in read_rows(path, digest.update):
        check_labels(row.prompt, row.attributes, f"{path}, line {line}")
        refuse_long(row.prompt, count_tokens, f"{path}, line {line}, prompt: ")
        if (diagnosis := row.attributes.get("diagnosis")) is not None and own_term("diagnosis", diagnosis):
            own.add(diagnosis)
        ascending &= row.seed_first > last_seed
        last_seed = row.seed_last
        rows, pairs = rows + 1, pairs + row.count
        if pairs > MAX_PAIRS:
            got = f"{path}, line {line}, count: more than {MAX_PAIRS:,} pairs up to here"
            raise InputError(got, f"at most {MAX_PAIRS:,}", "split the plan")
    if not rows:
        raise InputError(f"{path} without any row", "one row at least", "write one with `skindualgen plan`")
    if not ascending:
        _check_seeds(path)
    return Plan(path, digest.hexdigest(), rows, pairs, tuple(sorted(own)), size_bytes, modified_ns)


def _check_seeds(path: Path) -> None:
    """Refuse two rows that share a seed, whatever their order."""
    ranges = np.fromiter(
        ((row.seed_first, row.seed_last, line) for line, row in read_rows(path)), np.dtype((np.int64, 3))
    )  # [n, 3]
    first, last, line = ranges[np.argsort(ranges[:, 0], kind="stable")].T
    (shared,) = np.nonzero(first[1:] <= last[:-1])
    if len(shared):
        one, other = sorted((int(line[shared[0]]), int(line[shared[0] + 1])))
        got = f"{path}, line {other}, seed_first: seeds that line {one} has too"
        expected = "each seed once, or the same pair comes twice"
        raise InputError(got, expected, "leave the seeds blank for new ones")


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} ({error.strerror})", "a plan that can be read", "check the path") from error
    return status.st_size, status.st_mtime_ns
