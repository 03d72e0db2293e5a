"""What pages of results are made of: estimates, tables, and the block of a page that a command writes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from measured import row, table

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_text

__all__ = ["fill_block", "interval", "row", "table"]

END = "<!-- end of the table -->"


def interval(score: Mapping[str, float | None], *, sign: bool = False) -> str:
    """Write an estimate with its interval, with the sign of a difference if wanted; "-" if it has no value."""
    if score["value"] is None:
        return "-"
    value, low, high = (format(score[key], "+.3f" if sign else ".3f") for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def fill_block(page: Path, mark: str, text: str) -> None:
    """Put a text between a mark and ``END``, each on a line of its own, in place of what is there.

    Raises:
        InputError: one of the two is missing.
    """
    before, _, rest = page.read_text(encoding="utf-8").partition(mark)
    _, _, after = rest.partition(END)
    if not after:
        raise InputError(f"{page} without {mark} and {END}", "both marks", "put them where the text goes")
    atomic_write_text(page, f"{before}{mark}\n{text}\n{END}{after}")
