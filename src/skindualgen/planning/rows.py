"""One row of a plan: as an object, as a line of the CSV, and back with every value checked."""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from skindualgen.contracts import InputError
from skindualgen.data.labels import LABELS, label_value, stated_labels
from skindualgen.planning.templates import COMMENT

COLUMNS = ("prompt", *LABELS, "count", "seed_first", "seed_last", "extrapolation")
REQUIRED = ("prompt", "count")
MAX_PAIRS = 10_000_000
"""Pairs of a plan: at half a second each, two months of one fast GPU; more is a slip of the keyboard."""
SEEDS_OF_A_ROW = 1 << 24
"""Seeds that belong to a row, more than :data:`MAX_PAIRS`: other rows keep theirs when a count changes."""
SEED_BASE_BITS = 61
"""A plan begins anywhere below 2^61, so that its last seed is below 2^63, which every random generator takes."""
MAX_SEED = (1 << 63) - 1
SIMILAR_NAME = 0.45
"""Similarity (`difflib`'s ratio) from which on a column is named as what may be meant; "age" has 0.46 to its own."""
QUOTE = 'put text with a comma in it in quotes: "..."'
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


@dataclass(frozen=True)
class PlanRow:
    """Pairs of one prompt.

    Args:
        row: its place in the plan, 0 is the first.
        prompt: the text.
        count: pairs, 1 or more.
        seed_first: seed of the first of them; the others count up from it.
        attributes: what the pairs are labelled with, keys out of ``LABELS``.
        extrapolation: whether the real data have no pair with this combination; None where that is not known.
    """

    row: int
    prompt: str
    count: int
    seed_first: int
    attributes: dict[str, Any] = field(default_factory=dict)
    extrapolation: bool | None = None

    @property
    def seed_last(self) -> int:
        """Seed of the last pair."""
        return self.seed_first + self.count - 1


def seed_of_row(plan_seed: int, row: int) -> int:
    """First seed of a row: a function of the plan's seed and the row's place, apart from those of all other rows."""
    digest = hashlib.sha256(f"plan:{plan_seed}".encode()).digest()
    return (int.from_bytes(digest[:8], "little") >> (64 - SEED_BASE_BITS)) + row * SEEDS_OF_A_ROW


def row_to_cells(row: PlanRow) -> list[str]:
    """The cells of a row, in the order of :data:`COLUMNS`."""
    labels = ["" if (value := row.attributes.get(name)) is None else str(value) for name in LABELS]
    marked = "" if row.extrapolation is None else str(row.extrapolation).lower()
    return [row.prompt, *labels, str(row.count), str(row.seed_first), str(row.seed_last), marked]


def read_rows(path: Path, take: Callable[[bytes], object] = lambda line: None) -> Iterator[tuple[int, PlanRow]]:
    """Stream the rows of a plan with their line in the file; each value is checked by itself.

    Args:
        path: a CSV with a header, UTF-8. Only ``prompt`` and ``count`` are needed: a row without any label takes those
            that its prompt states, one without seeds those of its place.
        take: is given the file's bytes, line by line.

    Raises:
        InputError: unreadable, a column missing or unknown, or a value that cannot be used.
    """
    try:
        with path.open("rb") as file:
            reader = csv.reader(_lines(path, file, take), strict=True)
            header = next(reader, None)
            if header is None:
                raise InputError(f"{path}, an empty file", "a plan", "write one with `skindualgen plan`")
            columns = _columns(path, header)
            row = 0
            for cells in reader:
                if cells:
                    yield reader.line_num, _row(f"{path}, line {reader.line_num}", row, columns, cells)
                    row += 1
    except csv.Error as error:
        got = f"{path}, line {reader.line_num}: {error}"
        raise InputError(got, "a CSV", 'put text with a " in it in quotes') from None
    except OSError as error:
        raise InputError(f"{path} ({error.strerror})", "a plan that can be read", "check the path") from error


def _lines(path: Path, file: BinaryIO, take: Callable[[bytes], object]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        take(line)
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: {error}", "UTF-8 text", "save the plan as UTF-8") from None


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=SIMILAR_NAME)
            remedy = f"name it {near[0]!r}, if that is meant" if near else "remove it"
            expected = f"columns out of {', '.join(COLUMNS)}, parted by commas"
            raise InputError(f"{path} with the column {name!r}", expected, remedy)
        if columns.count(name) > 1:
            raise InputError(f"{path} with the column {name!r} twice", "each column once", "remove one")
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError(f"{path} without the column {' and '.join(missing)}", "prompt and count at least", "add it")
    return columns


def _row(where: str, row: int, columns: Sequence[str], cells: Sequence[str]) -> PlanRow:
    if len(cells) != len(columns):
        got = f"{where}: {len(cells)} values for {len(columns)} columns"
        raise InputError(got, "as many values as columns", QUOTE)
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    prompt = given["prompt"]
    if not prompt or _CONTROL.search(prompt):
        what = "a line break or control character in the prompt" if prompt else "no prompt"
        raise InputError(f"{where}, prompt: {what}", "one line of text", "write the prompt, or remove the row")
    if prompt.startswith(COMMENT):
        raise InputError(f"{where}, prompt: {prompt[:40]!r}, a comment", "a prompt", "remove the row")
    count = read_whole(where, "count", given["count"])
    if count is None or not 1 <= count <= MAX_PAIRS:
        got = f"{where}, count: {'nothing' if count is None else count}"
        raise InputError(got, f"1 to {MAX_PAIRS:,} pairs", "fix the count, or remove the row")
    labels = read_labels(where, given)
    marked = given.get("extrapolation", "").lower()
    if marked not in _TRUTH:
        raise InputError(f"{where}, extrapolation: {marked!r}", "true, false or nothing", "fix the value")
    first = _seed_first(where, row, count, given)
    return PlanRow(row, prompt, count, first, labels or stated_labels(prompt), _TRUTH[marked])


def read_labels(where: str, given: Mapping[str, str | None]) -> dict[str, Any]:
    """The labels of a row as records have them, without those that are not known.

    Args:
        where: file and line, for messages.
        given: label -> what the row says.

    Raises:
        InputError: an age that is none.
    """
    labels = {}
    for name in LABELS:
        try:
            value = label_value(name, given.get(name))
        except ValueError as error:
            got = f"{where}, {name}: {error}"
            raise InputError(got, "a whole number of years", "fix it, or leave it blank") from None
        if value is not None:
            labels[name] = value
    return labels


def _seed_first(where: str, row: int, count: int, given: Mapping[str, str]) -> int:
    first, last = (read_whole(where, name, given.get(name, "")) for name in ("seed_first", "seed_last"))
    if first is None:
        if last is not None:
            raise InputError(f"{where}, seed_first: nothing, with a seed_last", "both, or none", "leave both blank")
        return seed_of_row(0, row)
    if not 0 <= first <= MAX_SEED - count:
        raise InputError(f"{where}, seed_first: {first}", "0 to 2^63 - 1", "leave both seeds blank for new ones")
    if last is not None and last - first + 1 != count:
        got = f"{where}, seed_last: {last - first + 1} seeds, {first} to {last}, for {count} pairs"
        raise InputError(got, "a seed for each pair", "leave seed_last blank, or fix the count")
    return first


def read_whole(where: str, column: str, text: str) -> int | None:
    """The whole number of a cell, None for an empty one; raises InputError for anything else."""
    if not text:
        return None
    if not _WHOLE.fullmatch(text):
        raise InputError(f"{where}, {column}: {text[:40]!r}", "a whole number in digits", "fix the value")
    return int(text)
