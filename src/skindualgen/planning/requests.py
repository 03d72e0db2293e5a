"""What to generate: one request a pair, from a prompt, a file of prompts, or the joint distribution of real records."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.prompts import prompt_for
from skindualgen.data.review import read_used
from skindualgen.data.terms import parse_terms

ATTRIBUTES = ("diagnosis", "benign_malignant", "age_approx", "sex", "anatom_site_general")
"""columns of a prompt file, and fields taken over from real records"""
SEED_BITS = 62


@dataclass(frozen=True)
class PairRequest:
    """One pair to generate.

    Args:
        index: its place in the run; names the files.
        prompt: the text.
        seed: of its own generator.
        attributes: what the pair is labelled with, keys out of ``ATTRIBUTES``, of a plan also ``skin_tone``.
        plan_row: the row of the plan that asks for it, 0 is the first; None without a plan.
        extrapolation: whether the real data have no pair with this combination of attributes; None where that is not
            known.
    """

    index: int
    prompt: str
    seed: int
    attributes: dict[str, Any] = field(default_factory=dict)
    plan_row: int | None = None
    extrapolation: bool | None = None


def pair_seed(run_seed: int, index: int) -> int:
    """Seed of one pair: a function of the run's seed and the pair's place, so order and batches do not matter."""
    digest = hashlib.sha256(f"pair:{run_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - SEED_BITS)


def requests_from_prompts(prompts: Sequence[tuple[str, dict[str, Any]]], count: int, seed: int) -> list[PairRequest]:
    """``count`` requests that go through the prompts in turn.

    Args:
        prompts: text and labels; an empty dict takes the diagnosis from the text, where it names exactly one.
        count: number of pairs.
        seed: of the run.
    """
    labelled = [(text, labels or labels_of(text)) for text, labels in prompts]
    return [
        PairRequest(index, *_item(labelled[index % len(labelled)], pair_seed(seed, index))) for index in range(count)
    ]


def requests_like(root: Path, count: int, seed: int) -> list[PairRequest]:
    """``count`` requests with attributes of real training records, drawn without bias, and prompts from them.

    Records that a reviewer has rejected are nobody's model.

    Raises:
        InputError: ``root`` is no data set folder, or has no training records.
    """
    records = read_used(root, "train")
    rng = np.random.default_rng([seed, count])
    rounds = -(-count // len(records))
    order = np.concatenate([rng.permutation(len(records)) for _ in range(rounds)])[:count]
    requests = []
    for index, chosen in enumerate(order.tolist()):
        record = records[chosen]
        attributes = {name: value for name in ATTRIBUTES if (value := getattr(record, name)) is not None}
        pair = pair_seed(seed, index)
        requests.append(PairRequest(index, prompt_for(record, seed=pair), pair, attributes))
    return requests


def read_prompt_file(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Prompts of a text file (one a line), a CSV or a JSON Lines file (column ``prompt``, optional ``ATTRIBUTES``).

    Raises:
        InputError: unreadable, empty, or without a ``prompt`` column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts {path} ({error})", "a readable UTF-8 file", "check the path") from error
    if path.suffix.lower() == ".csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    elif path.suffix.lower() in {".jsonl", ".ndjson"}:
        lines = enumerate(text.split("\n"), 1)  # not splitlines: JSON strings may hold U+2028
        rows = [_json_row(path, number, line) for number, line in lines if line.strip()]
    else:
        rows = [{"prompt": line.strip()} for line in text.splitlines() if line.strip()]
    without = sum(not (isinstance(row.get("prompt"), str) and row["prompt"].strip()) for row in rows)
    if not rows or without:
        raise InputError(
            f"{path} with {len(rows)} rows and {without} without a prompt",
            "at least one row, and a 'prompt' in each",
            "name the column 'prompt', or use a text file with one prompt a line",
        )
    return [(row["prompt"].strip(), _attributes(path, row)) for row in rows]


def labels_of(prompt: str) -> dict[str, Any]:
    """Labels that a prompt states without doubt: kinds of which it names exactly one term."""
    stated = parse_terms(prompt)
    labels: dict[str, Any] = {}
    for name in ATTRIBUTES:
        if len(stated[name]) == 1:
            (term,) = stated[name]
            if name != "age_approx":
                labels[name] = term
            elif term.isdigit():
                labels[name] = int(term)
    return labels


def _item(prompt: tuple[str, dict[str, Any]], seed: int) -> tuple[str, int, dict[str, Any]]:
    text, labels = prompt
    return text, seed, labels


def _attributes(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The labels of a row, checked and typed as in a record: a wrong one is found before anything is drawn."""
    given = {name: row[name] for name in ATTRIBUTES if row.get(name)}
    try:
        record = PairRecord(file_name="x", isic_id="x", **given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path}: {first['loc'][0]} = {first['input']!r}", first["msg"], "mend the value, or leave it blank"
        ) from error
    return {name: getattr(record, name) for name in given}


def _json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}", "one JSON object a line", "mend the line") from None
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: {type(row).__name__}", "one JSON object a line", "mend the line")
    return row
