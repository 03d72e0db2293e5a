"""A data set checked as `skindualgen check` does, inside the workspace, and what is said of it on the page."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from skindualgen.contracts import listed
from skindualgen.readiness.results import Problem, Purpose, Readiness
from skindualgen.studio.commands import command, command_html
from skindualgen.studio.pictures import JPEG_QUALITY
from skindualgen.studio.pieces import data_uri, note, table
from skindualgen.studio.review import Library

SHOWN_IDS = 5
VERDICTS = {
    "go": "Nothing was found.",
    "fix": "It can be used, and would do better.",
    "stop": "It cannot be used, or what comes of it means nothing.",
}


def check_set(
    library: Library, name: str, purpose: Purpose, base: str, *, report: Callable[[str, int, int], None]
) -> tuple[Readiness, Image.Image | None]:
    """Check a data set, and draw its most suspicious masks; None where none can be read.

    Args:
        library: of the workspace.
        name: the data set.
        purpose, base, report: as `skindualgen.readiness.check.check` takes them.

    Raises:
        InputError: too many pairs, a file outside the workspace, or as `check` and `Library.records`.
    """
    from skindualgen.readiness.check import check
    from skindualgen.readiness.masks import suspects_sheet

    library.refuse_many(name, "use skindualgen check on the command line")
    library.checked(name, complete=False)
    root = library.workspace.path(name)
    found = check(root, purpose, base=base, report=report)
    return found, suspects_sheet(root, found.masks) if found.masks else None


def check_html(name: str, found: Readiness, sheet: Image.Image | None, base: str) -> str:
    """The verdict, the problems with what mends each, the notes, the sheet of masks, and the command."""
    counts = found.counts
    lead = f"{VERDICTS[found.verdict]} {counts['records']:,} photographs, {counts['with_mask']:,} with a mask."
    rows = [list(_cells(problem, found.folder, name)) for problem in found.problems]
    problems = table(["Verdict", "What was found", "What mends it"], rows, caption="Problems") if rows else ""
    notes = "".join(note(_named(text, found.folder, name)) for text in found.notes)
    picture = (
        '<figure class="sdg-sheet"><figcaption>The most suspicious masks: those in doubt, then those whose area is the '
        f'most unusual.</figcaption><img alt="Photographs, and below each the same with the outline of its mask" '
        f'src="{data_uri(sheet, quality=JPEG_QUALITY)}"></figure>'
        if sheet
        else ""
    )
    options = {"for": found.purpose, "base": base, "sheet": "suspects.png"}
    return (
        f'<div class="sdg-result"><p class="sdg-lead">{_pill(found.verdict)} {html.escape(lead)}</p>'
        f"{problems}{notes}{picture}{command_html(command('check', name, **options))}</div>"
    )


def _cells(problem: Problem, folder: Path, name: str) -> Iterator[str]:
    yield _pill(problem.level)
    ids = f'<br><span class="sdg-soft">{html.escape(listed(problem.ids, SHOWN_IDS))}</span>' if problem.ids else ""
    yield html.escape(_named(problem.found, folder, name)) + ids
    yield html.escape(_named(problem.remedy, folder, name))


def _named(text: str, folder: Path, name: str) -> str:
    """The data set by its name in the workspace: where that lies is no visitor's business."""
    return text.replace(str(folder), name)


def _pill(verdict: str) -> str:
    return f'<span class="sdg-pill sdg-{verdict}">{verdict}</span>'
