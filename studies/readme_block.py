"""Text in a README that a command writes, between two marks."""

from __future__ import annotations

from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.provenance import atomic_write_text


def fill_block(readme: Path, marks: tuple[str, str], text: str) -> None:
    """Put a text between two marks, each on a line of its own, in place of what is there.

    Raises:
        InputError: a mark is missing.
    """
    before, _, rest = readme.read_text(encoding="utf-8").partition(marks[0])
    _, _, after = rest.partition(marks[1])
    if not after:
        raise InputError(f"{readme} without {' and '.join(marks)}", "both marks", "put them where the text goes")
    atomic_write_text(readme, f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")
