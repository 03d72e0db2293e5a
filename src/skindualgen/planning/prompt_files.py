"""Files of prompts, with labels and seeds: text, CSV, TSV or JSON Lines; each row is checked as that of a plan is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError, each_name_once
from skindualgen.data.labels import LABELS, check_labels
from skindualgen.data.sources.tables import ALIASES, DELIMITERS, read_table, read_text
from skindualgen.planning.rows import COLUMNS, MAX_PAIRS, MAX_SEED, QUOTE, read_labels, read_whole
from skindualgen.planning.templates import COMMENT

PROMPT, SEED = "prompt", "seed"
TABLES = frozenset({".csv", ".tsv", ".tab"})
JSON_LINES = frozenset({".jsonl", ".ndjson"})
NO_TEXT = frozenset({".json", ".yaml", ".yml", ".toml", ".xml", ".html", ".rtf", ".docx", ".odt"}) | frozenset(
    {".xlsx", ".xls", ".ods", ".parquet"}
)
"""Endings of files that hold no prompt per line."""
OF_PLANS = tuple(name for name in COLUMNS if name not in (PROMPT, *LABELS))
OF_COMMANDS: Mapping[str, str] = {
    "negative_prompt": "SkinDualGenPipeline has it; leave it out here",
    "guidance_scale": "give --guidance",
    "num_inference_steps": "give --steps",
    "steps": "give --steps",
}
"""Columns that would change the pictures and that no row can set -> what to do."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LIST_MARK = re.compile(r"([-*+\u2022\u2013\u2014]|\(?\d{1,6}[.):])\s+\S|[\u2022]\S")
"""What lists begin their lines with: it would become a part of the prompt."""
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class PromptRow:
    """A prompt of a file.

    Args:
        line: in the file, 1 is the first.
        prompt: the text.
        labels: what its pairs are labelled with, keys out of ``LABELS``; empty where the row says nothing.
        seed: of its first pair, 0 to 2^63 - 1; None without one.
    """

    line: int
    prompt: str
    labels: dict[str, Any]
    seed: int | None = None


@dataclass(frozen=True)
class PromptFile:
    """A file of prompts that was checked: its path, rows, and the columns that nothing is read from."""

    path: Path
    rows: Sequence[PromptRow]
    unused: tuple[str, ...] = ()


def read_prompts(path: Path) -> PromptFile:
    """Read a file of prompts: a text file, one prompt per line; a CSV or TSV with a header; or JSON Lines.

    Lines that begin with ``#`` are comments, except in JSON Lines. Tables need the column ``prompt`` and may have
    labels (``LABELS``, or a usual name such as ``dx``, ``age``, ``site``; codes such as ``MEL`` and ``F`` become terms)
    and ``seed``.

    Raises:
        InputError: unreadable, empty, no prompt in a row, a label that is not known or contradicts its prompt, a seed
            that is none, a column that only a plan or an option of the command can have.
    """
    suffix = path.suffix.lower()
    if suffix in NO_TEXT:
        raise InputError(f"--prompts {path}", "a text file, .csv, .tsv or .jsonl", "save it as one of these")
    try:
        if suffix in TABLES:
            rows = _table_rows(path)
        else:
            rows = list(_json_rows(path) if suffix in JSON_LINES else _text_rows(path))
    except OSError as error:
        got = f"--prompts {path} ({error.strerror})"
        raise InputError(got, "a readable UTF-8 file", "check the path") from error
    columns = _columns(path, rows)
    without = sum(not row.get(columns.get(PROMPT, PROMPT), "").strip() for _, row in rows)
    if not rows or without:
        got = f"{path} with {len(rows)} rows and {without} without a prompt"
        remedy = "name the column 'prompt', or use a text file with one prompt per line"
        raise InputError(got, "at least one row, and a 'prompt' in each", remedy)
    used = {*columns.values(), ""}
    unused = dict.fromkeys(name for _, row in rows for name, value in row.items() if value and name not in used)
    return PromptFile(path, [_row(path, line, row, columns) for line, row in rows], tuple(unused))


def _row(path: Path, line: int, row: Mapping[str, str], columns: Mapping[str, str]) -> PromptRow:
    given, where = {name: row.get(column, "") for name, column in columns.items()}, f"{path}, line {line}"
    prompt = given[PROMPT].strip()
    if _CONTROL.search(prompt):
        got = f"{where}, {PROMPT}: a line break or control character in the prompt"
        raise InputError(got, "one line of text", "write it in one line")
    labels = read_labels(where, given)
    check_labels(prompt, labels, where)
    seed = read_whole(where, SEED, given.get(SEED, "").strip())
    if seed is not None and not 0 <= seed <= MAX_SEED - MAX_PAIRS:
        expected = f"0 to {MAX_SEED - MAX_PAIRS}"
        raise InputError(f"{where}, {SEED}: {seed}", expected, "fix it, or leave it blank")
    return PromptRow(line, prompt, labels, seed)


def _columns(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> dict[str, str]:
    """Return field -> column, and refuse columns that say what a row of this file cannot."""
    given = dict.fromkeys(name for _, row in rows for name, value in row.items() if value.strip())
    filled = {name.strip().lower(): name for name in sorted(given, key=lambda name: name == name.strip().lower())}
    for column, name in filled.items():
        if column in OF_PLANS:
            raise InputError(f"{path} with the column {name!r}", "prompt, labels and seed", "give it with --plan")
        if column.replace(" ", "_") in OF_COMMANDS:
            remedy = OF_COMMANDS[column.replace(" ", "_")]
            raise InputError(f"{path} with the column {name!r}", "prompt, labels and seed", remedy)
    found = {name: next((filled[a] for a in ALIASES.get(name, (name,)) if a in filled), "") for name in LABELS}
    found |= {name: filled.get(name, "") for name in (PROMPT, SEED)}
    return {name: column for name, column in found.items() if column}


def _text_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    first = True
    for line, text in enumerate(_LINE_END.split(read_text(path)), 1):
        prompt = text.strip()
        if not prompt or prompt.startswith(COMMENT):
            continue
        if first and any(PROMPT in _cells(prompt, sign) for sign in DELIMITERS):
            got = f"{path}, line {line}: {prompt[:60]!r}, which is a table's header"
            raise InputError(got, "one prompt per line", "name the file .csv or .tsv, or remove the line")
        if prompt.startswith("{") and _is_object(prompt):
            raise InputError(f"{path}, line {line}: a JSON object", "one prompt per line", "name the file .jsonl")
        if mark := _LIST_MARK.match(prompt):
            got = f"{path}, line {line}: {prompt[:60]!r}, which begins with the mark {mark[0][:-1].strip()!r} of a list"
            raise InputError(got, "the prompt alone", "take numbers and bullets away")
        first = False
        yield line, {PROMPT: prompt}


def _cells(line: str, sign: str) -> list[str]:
    return [cell.strip(' "').lower() for cell in line.split(sign)]


def _table_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    table = read_table(path, comment=COMMENT)
    if table.bad_lines:
        got = f"{path}, line {table.bad_lines[0]}: not {len(table.columns)} values"
        raise InputError(got, "as many values as columns", QUOTE)
    return [(row.line, dict(row.values)) for row in table.rows]


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, text in enumerate(read_text(path).split("\n"), 1):  # JSON strings may hold U+2028
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(text, object_pairs_hook=each_name_once)
        except ValueError as error:
            raise InputError(f"{where}: {error}", "one JSON object per line", "fix the line") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: {type(row).__name__}", "one JSON object per line", "fix the line")
        if PROMPT in row and not isinstance(row[PROMPT], str):
            got = f"{where}, {PROMPT}: {row[PROMPT]!r}"
            raise InputError(got, "text, and no row without a prompt", "quote it")
        for name, value in row.items():
            if isinstance(value, list | dict) and name.strip().lower() in (PROMPT, SEED, *LABELS):
                got = f"{where}, {name}: {type(value).__name__}"
                raise InputError(got, "text or a number", "one value a row")
        yield number, {name: "" if value is None else str(value) for name, value in row.items()}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
