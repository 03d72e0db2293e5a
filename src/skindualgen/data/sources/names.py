"""What names of folders say: a split, photographs or masks, an annotator, a diagnosis, or nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

from skindualgen.contracts import InputError, Split
from skindualgen.data.sources.values import SPLIT_NAMES

Kind = Literal["image", "mask", "caption", "other"]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


SPLIT_WORDS: Mapping[str, Split] = {
    **{name: split for name, split in SPLIT_NAMES.items() if name.isalpha()},
    "trn": "train",
    "tst": "test",
    "holdout": "test",
}
"""Words of folders that mean splits; a few more than are taken in a table, whose values can be corrected."""
NNUNET_SPLITS: Mapping[str, Split] = {"tr": "train", "ts": "test"}
"""Endings of nnU-Net's folders (``imagesTr``, ``labelsTs``), which mean splits only behind such a word."""

STRICT_MASK_WORDS = word_set(
    "mask masks groundtruth groundtruths gt gts segmentation segmentations seg segs segm silhouette silhouettes "
    "contour contours outline outlines"
)
"""Words of which one anywhere in a path says that what lies below is no photograph."""
MASK_WORDS = STRICT_MASK_WORDS | word_set(
    "label labels annotation annotations truth truths target targets output outputs roi rois"
)
IMAGE_WORDS = word_set(
    "image images img imgs photo photos photograph photographs picture pictures pic pics input inputs "
    "jpeg jpegs jpg jpgs png pngs bmp"
)
CAPTION_WORDS = word_set("caption captions prompt prompts text texts txt description descriptions")
OTHER_WORDS = word_set("superpixel superpixels overlay overlays heatmap heatmaps thumbnail thumbnails")
"""Pictures made from photographs, which are neither photographs nor masks."""
ANNOTATOR_WORDS = word_set(
    "annotator annotators annot ann rater raters reader readers expert experts observer observers grader graders "
    "doctor doctors dermatologist dermatologists reviewer reviewers"
)
JOINED = {("ground", "truth"): "groundtruth", ("hold", "out"): "holdout", ("held", "out"): "holdout"}
CLASS_WORDS = word_set("class classes cls category label")
FILLER = word_set(
    "data dataset datasets set sets folder dir file files all full part parts batch batches fold folds split splits "
    "group groups subset sample samples example examples new old final version v x archive database db the of and "
    "for with by skin lesion lesions dermatology derma derm dermoscopic dermoscopy dermatoscopic clinical macro "
    "closeup patient patients case cases subject subjects visit session study series isic isbi ham task original "
    "originals raw resized cropped crop augmented aug preprocessed processed normalized enhanced binary px rgb gray "
    "grey unlabeled unlabelled unclassified color colour annotated labeled labelled segmented"
)
"""Words that say nothing of a diagnosis."""
SHORT_NUMBER = 2
"""Digits up to which a number behind a mask's word counts annotators; longer ones are years and sizes."""

_STRUCTURE = (
    SPLIT_WORDS.keys() | MASK_WORDS | IMAGE_WORDS | CAPTION_WORDS | {"data", "dataset", "set", "ground", "truth"}
)
_COVER = re.compile(rf"(?:{'|'.join(sorted((w for w in _STRUCTURE if len(w) > 1), key=len, reverse=True))}){{2,3}}")
_COVERED = re.compile("|".join(sorted((w for w in _STRUCTURE if len(w) > 1), key=len, reverse=True)))
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NUMBER_BEFORE = re.compile(r"\d+[\s._-]+(?=\D)")


@dataclass(frozen=True)
class FolderName:
    """What the name of one folder says.

    Attributes:
        name: as it is on disk.
        splits: the splits that it names; more than one (``train_test_split``) says nothing.
        kind: what lies in it, if the name says so.
        strict: whether the kind is a mask by a word that has no other meaning.
        annotator: whose masks lie in it, if the name says so.
        words: what is left of the name, in lower case with single spaces.
        label: what is left as it is on disk: the whole name without a number before it where nothing was taken.
        numbered: whether a number stands before it, as trainers of LoRA count repeats (``10_nevus``) and lists count.
    """

    name: str
    splits: frozenset[Split] = frozenset()
    kind: Kind | None = None
    strict: bool = False
    annotator: str | None = None
    words: str = ""
    label: str = ""
    numbered: bool = False

    @property
    def says_nothing(self) -> bool:
        """Whether no word is left that could be a diagnosis."""
        return all(_is_filler(word) or word in CLASS_WORDS for word in self.words.split())

    @property
    def is_number(self) -> bool:
        """Whether the name is a number or a letter alone, as of a class (``0``, ``class_1``, ``trainB``)."""
        words = self.words.split()
        plain = [word for word in words if word not in CLASS_WORDS]
        return bool(plain) and all(len(word) == 1 or word.isdecimal() for word in plain)


@dataclass(frozen=True)
class Place:
    """What the folders of a file, from the top, say together: see `FolderName`.

    ``splits`` has each split with the folder that names it; by ``context``, split and words, masks and photographs of
    one name in several folders find each other.
    """

    splits: tuple[tuple[Split, str], ...]
    kind: Kind | None
    annotator: str | None
    context: tuple[str, ...]
    folders: tuple[FolderName, ...]


def words_of(name: str) -> list[str]:
    """Return a name's words and numbers in lower case: ``trainMasks``, ``train_masks``, ``trainmasks`` are the same."""
    found: list[str] = []
    for word in re.findall(r"[^\W\d_]+|\d+", _CAMEL.sub(" ", unicodedata.normalize("NFC", name))):
        lower = word.casefold()
        found += _COVERED.findall(lower) if lower not in _STRUCTURE and _COVER.fullmatch(lower) else [lower]
    joined: list[str] = []
    for word in found:
        pair = JOINED.get((joined[-1], word)) if joined else None
        joined[-1:] = [pair] if pair else [*joined[-1:], word]
    return joined


@lru_cache(1 << 14)
def folder_name(name: str) -> FolderName:
    """Return what the name of a folder says, whatever its case and the signs between its words."""
    words = words_of(name)
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(words) > 1 and words[-1] in NNUNET_SPLITS and words[-2] in MASK_WORDS | IMAGE_WORDS:
        splits.add(NNUNET_SPLITS[words.pop()])
    kind, strict = _kind(words)
    annotator, words = _annotator(words, kind)
    if annotator is not None and kind is None:
        kind, strict = "mask", True
    taken = SPLIT_WORDS.keys() | _words_of_kind(kind) | (ANNOTATOR_WORDS if kind == "mask" else frozenset())
    left = [word for word in words if word not in taken]
    numbered = _NUMBER_BEFORE.match(name) is not None and len(left) > 1 and left[0].isdecimal()
    left = left[1:] if numbered else left
    whole = len(left) + numbered == len(words_of(name))
    label = _NUMBER_BEFORE.sub("", name, count=1) if whole else " ".join(left)
    return FolderName(name, frozenset(splits), kind, strict, annotator, " ".join(left), label if left else "", numbered)


@lru_cache(1 << 16)
def place_of(folder: str) -> Place:
    """Return what a folder's POSIX path, relative to the source, says."""
    names = tuple(folder_name(part) for part in PurePosixPath(folder).parts)
    splits: dict[Split, str] = {split: name.name for name in names for split in name.splits if len(name.splits) == 1}
    kinds = [name for name in names if name.kind is not None]
    decisive = next((name for name in kinds if name.strict), kinds[-1] if kinds else None)
    annotator = next((name.annotator for name in reversed(names) if name.annotator is not None), None)
    context = tuple(name.words for name in names if name.words)
    kind = decisive.kind if decisive else None
    return Place(tuple(splits.items()), kind, annotator, (*sorted(splits), *context), names)


def place(file: str) -> Place:
    """Return what the folders of a file say."""
    return place_of(file.rpartition("/")[0])


def split_of(file: str) -> Split | None:
    """Return the split that the folders of a file name, if they do.

    Raises:
        InputError: two folders name different splits.
    """
    splits = place(file).splits
    if len(splits) > 1:
        said = ", ".join(f"{folder} ({split})" for split, folder in splits)
        raise InputError(f"{file}, whose folders name two splits: {said}", "one split a path", "rename one of them")
    return splits[0][0] if splits else None


def is_image_folder(folder: FolderName) -> bool:
    """Tell whether a folder is named for photographs and for nothing else: ``images``, ``train_images``."""
    return folder.kind == "image" and folder.says_nothing


def _is_filler(word: str) -> bool:
    return word in FILLER or word.isdecimal() or len(word) == 1


def _kind(words: list[str]) -> tuple[Kind | None, bool]:
    mask = [word for word in words if word in MASK_WORDS]
    image = [word for word in words if word in IMAGE_WORDS]
    if mask and image and {"and", "with"} & set(words):
        return None, False
    if mask:
        return "mask", not STRICT_MASK_WORDS.isdisjoint(mask)
    if not OTHER_WORDS.isdisjoint(words):
        return "other", True
    # In the middle of other words it is a part of a label: "poison ivy photos and other contact dermatitis".
    outer = [word for word in words if not _is_filler(word) and word not in SPLIT_WORDS]
    if image and (outer[0] in image or outer[-1] in image):
        return "image", False
    return ("caption", False) if outer and all(word in CAPTION_WORDS for word in outer) else (None, False)


def _words_of_kind(kind: Kind | None) -> frozenset[str]:
    if kind == "mask":
        return MASK_WORDS | IMAGE_WORDS
    return {"image": IMAGE_WORDS, "caption": CAPTION_WORDS, "other": OTHER_WORDS}.get(kind or "", frozenset())


def _annotator(words: list[str], kind: Kind | None) -> tuple[str | None, list[str]]:
    """Return who annotated, and the words without that: ``annotator 1``, ``rater b``, ``masks 2``."""
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else None
        names_one = word in ANNOTATOR_WORDS or (kind == "mask" and word in MASK_WORDS)
        if names_one and after is not None and (len(after) == 1 or (after.isdecimal() and len(after) <= SHORT_NUMBER)):
            return after, [*words[: place + 1], *words[place + 2 :]]
    return None, words
