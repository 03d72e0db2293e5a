"""Captions in text files beside photographs, as trainers of LoRA read them: ``a.txt`` belongs to ``a.jpg``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from skindualgen.contracts import InputError
from skindualgen.data.sources.base import Listing, Tree, key, stem
from skindualgen.data.sources.names import place
from skindualgen.data.sources.tables import read_text

CAPTION_FILE = r".*\.(txt|caption)"
NUMBERS = re.compile(r"[\s\d.eE+-]+")


def read_captions(listing: Listing, tree: Tree, photographs: Mapping[str, str]) -> dict[str, str]:
    """Return `key` of the id -> caption, of text files in the photograph's folder or in one named for captions.

    The whole text counts, blanks and line ends as single blanks. Files that are empty, not UTF-8, or hold numbers only
    (outlines, as YOLO has them) are rejected.

    Args:
        listing: takes rejections, and the files that are used.
        tree: the source.
        photographs: `key` of the id -> file.
    """
    beside = {_without_ending(file): name for name, file in photographs.items()}
    by_context = {(place(file).context, key(stem(file))): name for name, file in photographs.items()}
    captions: dict[str, str] = {}
    for file in tree.matching(CAPTION_FILE):
        name = beside.get(_without_ending(file))
        if name is None and place(file).kind == "caption":
            name = by_context.get((place(file).context, key(stem(file))))
        if name is None:
            continue
        try:
            text = " ".join(read_text(tree.root / file).split())
        except InputError as error:
            listing.reject(stem(file), file, "caption_unreadable", error.got)
            continue
        if not text or NUMBERS.fullmatch(text):
            detail = "numbers, no caption; for YOLO use import-data" if text else "an empty caption"
            listing.reject(stem(file), file, "no_caption", detail)
        elif captions.setdefault(name, text) != text:
            listing.reject(stem(file), file, "no_caption", "another caption of the same photograph is used")
        else:
            listing.used.add(file)
    return captions


def _without_ending(file: str) -> str:
    return key(PurePosixPath(file).with_suffix("").as_posix())
