"""What the readers of all layouts share: the listing of a source and its files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath

from skindualgen.contracts import InputError, Split
from skindualgen.data.images import SUFFIXES, Adjustment, ItemError
from skindualgen.data.splits import Link
from skindualgen.files import csv_text

IGNORED_FOLDERS = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"})
IGNORED_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""Folders and files that operating systems and file servers leave behind, in lower case."""
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Candidate:
    """One photograph that a layout's reader has found, with all that the source says of it.

    Paths are POSIX, relative to the source folder. ``fields`` are values for those of `PairRecord`, ``split`` is the
    one that the source puts it in, ``links`` tie it to others beyond patient and lesion, ``adjustments`` say what had
    to be changed in its metadata. ``mask`` is the first of several annotators' by name, ``other_masks`` are the rest.
    ``ignored`` is a picture of the pixels of the mask that are not to be learnt from.
    """

    isic_id: str
    image: str
    mask: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)
    split: Split | None = None
    links: tuple[Link, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    other_masks: tuple[str, ...] = ()
    ignored: str | None = field(default=None, repr=False)  # what is hashed of others stays as it was before this field

    @property
    def masks(self) -> tuple[str, ...]:
        """All of its masks."""
        return () if self.mask is None else (self.mask, *self.other_masks)

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files, the photograph first."""
        return (self.image, *self.masks, *([] if self.ignored is None else [self.ignored]))

    @property
    def diagnosis(self) -> str | None:
        """The diagnosis, if the source states one."""
        value = self.fields.get("diagnosis")
        return None if value is None else str(value)


@dataclass(frozen=True)
class Rejection:
    """One line of ``rejected.csv``: the id, if known, the file or table row, a reason code and a detail."""

    isic_id: str
    file: str
    reason: str
    detail: str


def rejections_csv(rejections: Iterable[Rejection]) -> str:
    """Return the contents of ``rejected.csv``."""
    columns = [field.name for field in fields(Rejection)]
    return csv_text([columns, *([getattr(item, name) for name in columns] for item in rejections)])


@dataclass
class Listing:
    """All that a source folder holds, before any picture is decoded.

    ``rejections`` are what is not used, by file or row; ``notes`` what there is to know, one sentence each; ``repeats``
    files that are byte for byte another one of the same id, with that one, and count once; ``used`` files that are read
    and are no picture of a candidate: tables, captions.
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

    ``files`` are POSIX paths relative to ``root``, sorted; ``refused`` says file, reason code and detail of what is not
    used (links that leave the folder, links to folders, names that are no Unicode); ``asked`` are those asked for by
    `named`.
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
