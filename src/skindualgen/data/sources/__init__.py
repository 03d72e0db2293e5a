"""Readers of published and home-made layouts: what a source folder holds, as a `Listing` of `Candidate` items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from skindualgen.contracts import InputError
from skindualgen.data.layouts import Layout
from skindualgen.data.sources import derm7pt, folders, published
from skindualgen.data.sources.base import Candidate, Listing, Options, Rejection, Tree
from skindualgen.data.sources.catalogues import CATALOGUES
from skindualgen.data.sources.challenges import CHALLENGES
from skindualgen.data.sources.diagnoses import settle_diagnoses
from skindualgen.data.sources.leftovers import list_leftovers
from skindualgen.data.sources.pairing import refuse_several

__all__ = ["LAYOUTS", "Candidate", "Layout", "Listing", "Options", "Rejection", "Tree", "detect", "list_source"]

Evidence = Callable[[Tree], str | None]
Read = Callable[[Tree, Options], Listing]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

READERS: dict[str, tuple[Evidence, Read]] = {
    **{name: (challenge.evidence, challenge.read) for name, challenge in CHALLENGES.items()},
    **{name: (catalogue.evidence, catalogue.read) for name, catalogue in CATALOGUES.items()},
    "ham10000": (published.ham10000_evidence, published.read_ham10000),
    "ph2": (published.ph2_evidence, published.read_ph2),
    "derm7pt": (derm7pt.evidence, derm7pt.read),
    "isic-archive": (published.archive_evidence, published.read_archive),
    "imagefolder": (folders.table_evidence, folders.read_imagefolder),
    "folder": (folders.folder_evidence, folders.read_folder),
}
# Layouts with marks of their own come first; only where none of them is found are the general ones asked.
OWN_MARKS: dict[Layout, Evidence] = {name: READERS[name][0] for name in LAYOUTS if name != "folder"}
GENERAL: dict[Layout, Evidence] = {"imagefolder": folders.classes_evidence, "folder": folders.folder_evidence}
FIXED_TABLES = frozenset({*CHALLENGES, "ph2", "derm7pt"})


def detect(tree: Tree) -> Layout:
    """Return the one layout that a folder has.

    Raises:
        InputError: none or more than one; says what was seen.
    """
    for group in (OWN_MARKS, GENERAL):
        found = {layout: seen for layout, mark in group.items() if (seen := mark(tree)) is not None}
        if len(found) == 1:
            return next(iter(found))
        if found:
            raise InputError(
                "marks of more than one layout: " + "; ".join(f"{layout} ({seen})" for layout, seen in found.items()),
                "one layout",
                "give the folder of one of them, or say --layout",
            )
    tops = Counter(PurePosixPath(file).parts[0] + ("/" if "/" in file else "") for file in tree.files)
    shown = ", ".join(f"{top} ({count})" if top.endswith("/") else top for top, count in sorted(tops.items()))
    raise InputError(
        f"no known layout in {tree.root.name}; seen: {shown[:400] or 'no file'}",
        f"one of {', '.join(LAYOUTS)}",
        "read DICOM with 'skindualgen import-data --format dicom'"
        if any(file.lower().endswith(".dcm") for file in tree.files)
        else "put photographs in images/, masks in masks/ and a metadata.csv next to them, or say --layout",
    )


def list_source(root: Path, *, layout: Layout | Literal["auto"] = "auto", options: Options | None = None) -> Listing:
    """List the photographs, masks and metadata of a source folder; no picture is decoded.

    Args:
        root: the source folder; nothing outside is read.
        layout: how it is laid out, or ``auto`` to find out.
        options: names of columns and labels, if they are not the usual ones.

    Returns:
        Candidates by ascending id, rejections by file.

    Raises:
        InputError: no folder, unknown or ambiguous layout, an unreadable table, a missing column, options that this
            layout has no use for, folder names that contradict each other, several masks of one photograph without
            ``options.annotators``.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}", f"auto or one of {', '.join(LAYOUTS)}", "choose one of these")
    tree, options = Tree(root), options or Options()
    found = detect(tree) if layout == "auto" else layout
    if found in FIXED_TABLES and (options.columns or options.labels):
        raise InputError(
            f"--column or --label for the layout {found}",
            "neither: its tables have the published columns and labels",
            "leave them out, or say another --layout",
        )
    tree.asked.clear()  # Looking for marks is not reading.
    listing = READERS[found][1](tree, options)
    settle_diagnoses(listing, options)
    if not options.annotators:
        refuse_several(listing.candidates)
    list_leftovers(listing, tree)
    for file, reason, detail in tree.refused:
        listing.reject("", file, reason, detail)
    listing.candidates.sort(key=lambda candidate: candidate.isic_id)
    listing.rejections.sort(key=lambda rejection: (rejection.file, rejection.isic_id, rejection.reason))
    return listing
