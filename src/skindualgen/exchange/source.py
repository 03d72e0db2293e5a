"""A folder that is imported: its files, what its names say, and an account of all that was not used."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from skindualgen.contracts import InputError, Split, each_name_once
from skindualgen.data.images import SUFFIXES, ItemError
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, checked_classes, read_mask_classes
from skindualgen.data.sources.base import Rejection, Tree, key
from skindualgen.data.sources.values import SPLIT_NAMES

README = "readme"
"""Files whose name starts so are words for people, and are not listed as left out."""
SHOWN_CHARACTERS = 60
"""Of a value in a message."""
FEWEST_BOXES = 5
"""Rectangles that are no accident."""
SHORTENED = reprlib.Repr()
SHORTENED.maxstring = SHORTENED.maxother = SHORTENED.maxlong = SHOWN_CHARACTERS


@dataclass(frozen=True)
class Account:
    """What an import has to say apart from its pairs.

    Attributes:
        left_out: files and parts of files that were not used, each with its reason.
        notes: how something was understood that could be understood otherwise.
    """

    left_out: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Tree):
    """The files of a folder that is imported.

    A reader takes the files that it uses; all others are in the account, so that nothing is passed over in silence.

    Attributes:
        left_out: what a reader has said about parts that it did not use.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.left_out = [Rejection("", *refused) for refused in self.refused]
        self._taken: set[str] = set()
        self._notes: dict[str, None] = {}

    def take(self, file: str) -> Path:
        """Return the path of a file that is used."""
        self._taken.add(file)
        return self.root / file

    def read(self, file: str) -> bytes:
        """Return the content of a file that is used.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return self.take(file).read_bytes()
        except OSError as error:
            raise InputError(
                f"{file}, which cannot be read ({error.strerror})", "a file", "restore it, or write it again"
            ) from None

    def text(self, file: str) -> str:
        """Return the text of a file that is used: UTF-8 with or without a byte order mark, or UTF-16 with one.

        Raises:
            InputError: another encoding.
        """
        data = self.read(file)
        try:
            return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{file}, which is not UTF-8", "text in UTF-8", "save it as UTF-8") from None

    def json(self, file: str) -> Any:
        """Return what a JSON file that is used holds; numbers that are not finite are left to be found by their place.

        Raises:
            InputError: damaged.
        """
        try:
            return json.loads(self.text(file), object_pairs_hook=each_name_once)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: {error}", "a whole JSON file", "write it again") from None

    def mask_classes(self, stated: object = None, where: str = "") -> MaskClasses:
        """Return the classes of masks: as stated, or as the folder's own ``dataset.json`` names them, if it is one.

        Raises:
            InputError: what is stated names no classes.
        """
        if stated is not None:
            return checked_classes(stated, where)
        try:
            return read_mask_classes(self.root)
        except InputError:  # nnU-Net has a dataset.json of its own
            return LESION_ONLY

    def below(self, folder: str) -> list[str]:
        """Return the files below a folder, at any depth; "" is the whole."""
        return [file for file in self.files if not folder or file.startswith(f"{folder}/")]

    def meant(self, value: str, folders: Iterable[str], where: str) -> list[str]:
        """Return the files that a text may mean, in any of some folders.

        Args:
            value: a path as annotations hold it, relative to one of the folders.
            folders: POSIX paths relative to the source; "" is the source.
            where: what names it, for the message.

        Raises:
            InputError: it is absolute, or leaves the folder.
        """
        found: dict[str, None] = {}
        for folder in folders:
            try:
                found[self.inside(value, folder)] = None
            except ItemError as error:
                if error.code == "leaves_folder":
                    raise InputError(
                        f"{where}: {error.detail}", "a path inside the folder", "write a relative path, without .."
                    ) from None
        return list(found)

    def leave_out(self, file: str, reason: str, detail: str, isic_id: str = "") -> None:
        """Say of a file, or of a part of it, why it is not used."""
        self._taken.add(file)
        self.left_out.append(Rejection(isic_id, file, reason, detail))

    def note(self, text: str) -> None:
        """Say how something was understood; the same text counts once."""
        self._notes[text] = None

    def note_boxes(self, boxes: Sequence[bool]) -> None:
        """Say that all outlines, of each of which ``boxes`` tells whether it is one, are upright rectangles."""
        if len(boxes) >= FEWEST_BOXES and all(boxes):
            self.note(f"all {len(boxes)} outlines are upright rectangles, as boxes of a detector are: so are the masks")

    def account(self) -> Account:
        """Return what was said, and every file that was neither taken nor left out."""
        rest = [
            Rejection("", file, *self._why(file))
            for file in self.files
            if file not in self._taken and not PurePosixPath(file).name.lower().startswith(README)
        ]
        left_out = sorted([*self.left_out, *rest], key=lambda item: (item.file, item.reason, item.isic_id))
        return Account(left_out, list(self._notes))

    @staticmethod
    def _why(file: str) -> tuple[str, str]:
        if file.lower().endswith(SUFFIXES):
            return "not_named", "a picture that nothing of the format names"
        return "other_file", "no part of the format"


def picture_ids(source: Source, files: Sequence[str]) -> dict[str, str]:
    """Return the id of each picture: its name or, where names repeat between folders, its folders and name."""
    unique = len({key(PurePosixPath(file).stem) for file in files}) == len(files)
    if not unique:
        source.note("file names repeat between folders: ids are made of folder and file name")
    pure = {file: PurePosixPath(file) for file in files}
    return {file: path.stem if unique else "_".join(path.with_suffix("").parts) for file, path in pure.items()}


def split_word(name: str) -> Split | None:
    """Return the split that a name stands for (``train2017``, ``Valid``), None if it is no name of one."""
    lower = name.lower()
    return SPLIT_NAMES.get(lower) or SPLIT_NAMES.get(lower.rstrip("0123456789_- "))


def split_of_parts(file: str) -> Split | None:
    """Return the split that the folders of a file state, the nearest first; None if none does."""
    return next((split for part in reversed(PurePosixPath(file).parent.parts) if (split := split_word(part))), None)


def short(value: object) -> str:
    """Return a value for a message: as Python writes it, but of `SHOWN_CHARACTERS` characters at most."""
    text = SHORTENED.repr(value)  # a mapping of YAML may hold itself, or one thing a million times
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
