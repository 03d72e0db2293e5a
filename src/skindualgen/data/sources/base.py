"""What the readers of all layouts share: the listing of a source, its files, its tables, its vocabulary."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from skindualgen.contracts import InputError, Split
from skindualgen.data.archive_terms import LEVEL_FIELDS, SITE_FIELDS, known_diagnosis, site_of_levels
from skindualgen.data.images import SUFFIXES, Adjustment, ItemError
from skindualgen.data.splits import Link
from skindualgen.data.terms import NOT_KNOWN, SEXES, age_years, diagnosis_term, known, sex_term, site_term

IGNORED_FOLDERS = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"})
IGNORED_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""Folders and files that operating systems and file servers leave behind, in lower case."""
DERMOSCOPIC = "dermoscopic"
"""The ISIC Archive's image type that needs no mention: other photographs are none that dermoscopy made."""
SHOWN_CHARACTERS = 200
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "test_v2": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Names of splits in published folders and tables, in lower case.

Those of ``datasets`` (datasets/data_files.py, SPLIT_KEYWORDS), for which "eval" and "evaluation" are the test split.
"""
BEHAVIOURS = ("benign", "malignant", "indeterminate", "indeterminate/benign", "indeterminate/malignant")


@dataclass(frozen=True)
class Candidate:
    """One photograph that a layout's reader has found, with all that the source says of it.

    Attributes:
        isic_id: its id, unique within a listing.
        image: POSIX path relative to the source folder.
        mask: the same of its mask, or None.
        fields: values for the fields of `PairRecord`.
        split: the split that the source puts it in, if any.
        links: what ties it to others beyond patient and lesion.
        adjustments: what had to be changed in its metadata.
        other_masks: masks by further annotators, in the order of their names; ``mask`` is then the first.
    """

    isic_id: str
    image: str
    mask: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)
    split: Split | None = None
    links: tuple[Link, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    other_masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """One line of ``rejected.csv``: the id, if known, the file or table row, a reason code and a detail."""

    isic_id: str
    file: str
    reason: str
    detail: str


@dataclass
class Listing:
    """All that a source folder holds, before any picture is decoded.

    Attributes:
        layout: how the source is laid out.
        candidates: its photographs.
        rejections: what is not used, by file or row.
        notes: what there is to know, one sentence each.
        repeats: files that are byte for byte another one of the same id, with that one: they count once.
        used: files that are read and are no picture of a candidate: tables, captions.
    """

    layout: str
    candidates: list[Candidate] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repeats: list[tuple[str, str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def reject(self, isic_id: str, file: str, reason: str, detail: str) -> None:
        """Add a rejection."""
        self.rejections.append(Rejection(isic_id, file, reason, detail))


@dataclass(frozen=True)
class Options:
    """What the user says about a source.

    Attributes:
        columns: field -> column of the source's table, where the names differ from the known ones.
        labels: label in the table -> diagnosis to use; also admits diagnoses that are not known.
        diagnosis_level: level of the ISIC Archive's five that becomes the diagnosis; None leaves the source's term.
        annotators: whether a rule for several masks of one photograph is given; without one they are refused.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    diagnosis_level: int | None = None
    annotators: bool = False


class Tree:
    """The files below a folder, hidden ones left out; links to files are used only where they stay inside.

    Attributes:
        root: the folder, resolved.
        files: POSIX paths relative to it, sorted.
        refused: file, reason code and detail of what is not used: links that leave the folder, links to folders, names
            that are no Unicode.
        asked: files that a reader has asked for by their names; see `named`.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}, which is no folder", "a folder of photographs", "check the path")
        self.root = root.resolve()
        self.files: list[str] = []
        self.refused: list[tuple[str, str, str]] = []
        self.asked: set[str] = set()
        for folder, subfolders, names in os.walk(self.root):
            subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
            for name in [n for n in subfolders if Path(folder, n).is_symlink()] + names:
                if not is_hidden(name):
                    self._add(Path(folder, name))
        self.files.sort()

    def _add(self, path: Path) -> None:
        relative = path.relative_to(self.root).as_posix()
        shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
        if shown != relative:
            self.refused.append((shown, "no_unicode", "the file's name is not UTF-8: rename it"))
        elif path.is_symlink() and not (path.exists() and path.resolve().is_relative_to(self.root)):
            self.refused.append((relative, "leaves_folder", "a symbolic link out of the folder or to nothing"))
        elif path.is_symlink() and path.is_dir():
            self.refused.append((relative, "folder_link", "symbolic links to folders are not followed"))
        elif path.is_file():
            self.files.append(relative)

    def images(self) -> list[str]:
        """Return the files whose ending is that of an image."""
        return [file for file in self.files if file.lower().endswith(SUFFIXES)]

    def matching(self, pattern: str) -> list[str]:
        """Return the files whose name matches a regular expression from start to end, ignoring case."""
        compiled = re.compile(pattern, re.IGNORECASE)
        return [file for file in self.files if compiled.fullmatch(file.rpartition("/")[2])]

    def named(self, pattern: str) -> list[str]:
        """Return `matching` files for a reader that uses all of them, or says why not."""
        found = self.matching(pattern)
        self.asked.update(found)
        return found

    def inside(self, value: str, folder: str = "") -> str:
        """Return the relative path of an existing file that a table names, relative to ``folder`` of the tree.

        Raises:
            ItemError: the path is absolute or leaves the folder (``leaves_folder``), or no file is there (``no_file``).
        """
        pure = PurePosixPath(folder, value.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", value):
            raise ItemError("leaves_folder", f"{value!r} is absolute or holds '..'")
        path = self.root / pure
        try:
            there, stays = path.is_file(), path.resolve().is_relative_to(self.root)
        except (OSError, ValueError):  # Longer than a path may be, or with a zero byte.
            there, stays = False, True
        if not stays:
            raise ItemError("leaves_folder", f"{value!r} is a link out of the folder")
        if not there:
            raise ItemError("no_file", f"{value[:SHOWN_CHARACTERS]!r} is not there")
        return pure.as_posix()


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is passed over without a word: hidden (``.DS_Store``, ``._a.png``), or a system's.

    This is the rule for every command that reads people's folders.
    """
    return name.startswith(".") or name.casefold() in IGNORED_FOLDERS | IGNORED_FILES


def key(name: str) -> str:
    """Return the form in which ids and file names are compared: Unicode NFC, case ignored."""
    return unicodedata.normalize("NFC", name).casefold()


def stem(path: str) -> str:
    """Return a path's file name without its ending."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def known_value(value: str | None) -> str | None:
    """Return a table's value without surrounding blanks, None where it says "unknown" in one of the usual ways."""
    text = "" if value is None else " ".join(value.split())
    return None if text.lower() in NOT_KNOWN else text


def split_name(value: str | None) -> Split | None:
    """Return the split that a name stands for, None for an empty name.

    Raises:
        ItemError: ``unknown_split``.
    """
    text = known_value(value)
    if text is None:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise ItemError("unknown_split", f"{text!r}; expected one of {', '.join(sorted(SPLIT_NAMES))}")
    return SPLIT_NAMES[text.lower()]


def diagnosis_name(label: str | None, labels: Mapping[str, str], *, any_label: bool = False) -> str | None:
    """Return the diagnosis that a label stands for, in the ISIC Archive's terms.

    Args:
        label: as in the table.
        labels: the user's own label -> diagnosis.
        any_label: take labels outside the vocabulary as they are (the ISIC Archive is the vocabulary).

    Raises:
        ItemError: ``unknown_label``.
    """
    text = known_value(label)
    if text is None:
        return None
    if text in labels:
        return diagnosis_term(labels[text])
    term = diagnosis_term(text)
    if any_label or known_diagnosis(text):
        return term
    raise ItemError("unknown_label", f"diagnosis {text!r}; give --label '{text}=NAME' to use it as NAME")


def clinical_fields(row: Mapping[str, str]) -> tuple[dict[str, str | int], list[Adjustment]]:
    """Return age, sex, site, behaviour, levels, lesion, patient, licence, source of a row whose keys are canonical.

    Values that say "unknown" are left out; values that cannot be read are left out and reported.
    """
    fields: dict[str, str | int] = {}
    adjustments: list[Adjustment] = []
    in_levels = [row.get(name, "") for name in SITE_FIELDS]
    site = site_term(row.get("anatom_site_general")) or site_of_levels(in_levels)
    fields |= {"anatom_site_general": site} if site is not None else {}
    for name in ("lesion_id", "patient_id", "license", "source", *LEVEL_FIELDS, *SITE_FIELDS):
        text = known_value(row.get(name))
        fields |= {name: text} if text is not None else {}
    image_type = known_value(row.get("image_type"))
    fields |= {"image_type": image_type} if image_type not in (None, DERMOSCOPIC) else {}
    for name, term, vocabulary in (
        ("sex", sex_term(row.get("sex")), SEXES),
        ("benign_malignant", known(row.get("benign_malignant")), BEHAVIOURS),
    ):
        if term is not None and term in vocabulary:
            fields[name] = term
        elif term is not None:
            adjustments.append(Adjustment(f"{name}_dropped", f"{row[name]!r} is none of {', '.join(vocabulary)}"))
    try:
        years = age_years(row.get("age_approx"))
        fields |= {"age_approx": years} if years is not None else {}
    except ValueError as error:
        adjustments.append(Adjustment("age_approx_dropped", str(error)))
    return fields, adjustments
