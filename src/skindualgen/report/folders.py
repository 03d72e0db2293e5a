"""The folder of a report: nobody else's, and not left behind empty."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.provenance import TEMPORARY_SUFFIX


@contextmanager
def report_folder(
    out: Path, own: Collection[str], holds_report: Callable[[Path], bool], expected: str
) -> Iterator[None]:
    """Make the folder, or take one that holds nothing but an earlier report; what fails leaves no new, empty folder.

    Args:
        out: the folder.
        own: names of a report's files.
        holds_report: whether a folder that is not empty holds an earlier report.
        expected: what the folder should be, for the error.

    Raises:
        InputError: it holds something else.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in out.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)}
    foreign = sorted(names - set(own)) or sorted(names if names and not holds_report(out) else [])
    if foreign:
        raise InputError(f"{out}, which holds {foreign[0]!r}", expected, "give another --out")
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):  # something was written: it stays
                out.rmdir()
        raise
