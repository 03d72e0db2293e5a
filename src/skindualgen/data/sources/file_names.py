"""What names of files say: which photograph a mask belongs to, and whose mask it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from skindualgen.data.images import SUFFIXES
from skindualgen.data.sources.base import key
from skindualgen.data.sources.names import ANNOTATOR_WORDS, STRICT_MASK_WORDS

_ALL_MASK = r"ground[ _-]?truths?|segmentations?|annotations?|silhouette|contours?|outlines?|targets?|labels?|lesion|"
_ALL_MASK += r"masks?|segm?|gt|roi|m"
_WHO = r"(?P<who>\d{1,2}|[A-Za-z])"
_MASK_BEHIND = re.compile(rf"(?P<core>.+?)(?:[ ._-]+(?P<word>{_ALL_MASK})(?:[ ._-]*{_WHO})?)", re.IGNORECASE)
_MASK_BEFORE = re.compile(rf"(?P<word>{_ALL_MASK})(?P<who>(?!))?(?:[ ._-]+|(?=\d))(?P<core>.+)", re.IGNORECASE)
_WHO_BEHIND = re.compile(rf"(?P<core>.+?)[ ._-]+(?:{'|'.join(sorted(ANNOTATOR_WORDS))})[ ._-]*{_WHO}", re.IGNORECASE)
_WHO_BEFORE = re.compile(rf"(?:{'|'.join(sorted(ANNOTATOR_WORDS))})[ ._-]*{_WHO}[ ._-]+(?P<core>.+)", re.IGNORECASE)
_NUMBER_BEHIND = re.compile(rf"(?P<core>.+?)[ ._-]+(?:[ar])?{_WHO}", re.IGNORECASE)
_IMAGE_WORD = "images?|imgs?|photos?|pictures?|pics?|inputs?"
_IMAGE_BEFORE = re.compile(rf"^(?:{_IMAGE_WORD})(?:[ ._-]+|(?=\d))", re.IGNORECASE)
_IMAGE_BEHIND = re.compile(rf"[ ._-]+(?:{_IMAGE_WORD}|downsampled|resized|orig(?:inal)?|raw|rgb)$", re.IGNORECASE)

COUNTS_IN_FOLDER = re.compile(r"\D{0,16}\d{1,4}")
"""Names that count within a folder (``12``, ``img_003``); longer numbers, as the ISIC Archive's, are one picture's."""


def cores_of_photograph(stem: str) -> list[str]:
    """Return the keys under which masks may name a photograph: its name, and that without ``image`` or ``img``."""
    shorter = (pattern.sub("", stem) for pattern in (_IMAGE_BEFORE, _IMAGE_BEHIND))
    return list(dict.fromkeys(key(name) for name in (stem, *shorter) if name))


@dataclass(frozen=True)
class MaskName:
    """A way to read a mask's file name: the photograph's key, the annotator if one is named.

    ``weak`` ways fit photographs as well (a number or a letter behind the name): they need other evidence.
    """

    core: str
    annotator: str | None = None
    weak: bool = False


def mask_names(stem: str) -> Iterator[MaskName]:
    """Yield the ways to read a mask's name, plainest first: ``a``, ``a_mask``, ``mask_a``, ``a_rater2``, ``a_1``."""
    yield MaskName(key(stem))
    if PurePosixPath(stem).suffix.lower() in SUFFIXES:  # a.jpg.png
        yield MaskName(key(PurePosixPath(stem).stem))
    for pattern in (_MASK_BEHIND, _MASK_BEFORE):
        if match := pattern.fullmatch(stem):
            yield MaskName(key(match["core"]), match["who"] and key(match["who"]))
    for pattern in (_WHO_BEHIND, _WHO_BEFORE):
        if match := pattern.fullmatch(stem):
            for inner in _without_mask_word(match["core"]):
                yield MaskName(key(inner), key(match["who"]))
    if match := _NUMBER_BEHIND.fullmatch(stem):
        for inner in _without_mask_word(match["core"]):
            yield MaskName(key(inner), key(match["who"]), weak=True)


def says_mask(stem: str, *, strict: bool = True) -> bool:
    """Tell whether a file's name alone calls it a mask: ``a_mask``, ``mask_a``, ``a_segmentation_2``.

    Args:
        stem: the name without its ending.
        strict: only words that have no other meaning count; otherwise ``a_m``, ``a_lesion``, ``a-label`` do as well.
    """
    for pattern in (_MASK_BEHIND, _MASK_BEFORE):
        if match := pattern.fullmatch(stem):
            return not strict or re.sub(r"[\W_]", "", match["word"]).casefold() in STRICT_MASK_WORDS
    return False


def without_mask_word(stem: str) -> str:
    """Return the name of the photograph that a mask's name says in the plainest way."""
    return list(_without_mask_word(stem))[-1]


def _without_mask_word(stem: str) -> Iterator[str]:
    yield stem
    for pattern in (_MASK_BEHIND, _MASK_BEFORE):
        if match := pattern.fullmatch(stem):
            yield match["core"]
