"""The picture files of a folder of any origin, by the names of folders and files: nothing is decoded."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

from skindualgen.contracts import SHEET_FILE, InputError, listed
from skindualgen.data.archive_terms import known_diagnosis
from skindualgen.data.images import ItemError
from skindualgen.data.sources.base import Tree, key, stem
from skindualgen.data.sources.file_names import COUNTS_IN_FOLDER, mask_names, says_mask
from skindualgen.data.sources.names import FolderName, is_image_folder, place, word_set
from skindualgen.data.sources.values import BEHAVIOURS, Fields, diagnosis_name
from skindualgen.data.terms import parse_terms

NOT_PICTURES = re.escape(SHEET_FILE)
"""Overview that `generate` writes into a data set, which is no picture of it."""
SHOWN_NAMES = 6
ATTRIBUTE_WORDS = 2
"""Words up to which a name that states a site, a sex or a number is that and no diagnosis."""
NO_CLASS_WORDS = frozenset({"skin", "lesion", "lesions"})
DENIALS = word_set("not non no without others")
JOINED_DENIAL = re.compile(r"non|not|no|un")
"""How a word begins that denies the rest of it: ``nonmelanoma``, ``notnevus``."""
NO_DIAGNOSIS = word_set(
    "real synthetic generated fake left right good bad yes true false rest misc miscellaneous normal abnormal healthy "
    "positive negative pos neg cancer cancerous noncancerous noncancer nonmalignant disease diseased suspicious "
    "unsuspicious nmsc nmel"
)
"""Words of class folders that say what a lesion is not, or nothing that is a diagnosis."""


@dataclass
class Survey:
    """Files by what they are, in the order of the tree.

    ``left`` has pictures that are neither, with the reason; ``classes`` names folders that may be classes, known to the
    vocabulary or not.
    """

    photographs: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)


def survey(tree: Tree) -> Survey:
    """Tell photographs from masks by the names of their folders first, then by their own names.

    Raises:
        InputError: folders of which a letter alone says what they hold (``trainA``, ``trainB``).
    """
    found = Survey()
    overviews = set(tree.named(NOT_PICTURES))
    files = [file for file in tree.images() if file not in overviews]
    _refuse_letters(files)
    has_image_folder = any(map(_below_image_folder, files))
    for file in files:
        where = place(file)
        if where.kind == "mask":
            found.masks.append(file)
        elif where.kind in ("other", "caption"):
            found.left[file] = "in a folder that is named for something other than photographs and masks"
        elif has_image_folder and where.kind is None and not where.splits:
            found.left[file] = "outside the folder that is named for photographs"
        else:
            found.photographs.append(file)
    _take_masks_beside(found)
    _find_classes(found)
    return found


def class_fields(file: str, labels: Mapping[str, str], classes: Collection[str]) -> tuple[Fields, list[FolderName]]:
    """Return diagnosis and behaviour that the folders of a photograph name, and the folders that are not understood.

    Folders in ``classes`` are taken for a diagnosis although the vocabulary does not know them.

    Raises:
        InputError: two names that could be the diagnosis, or a name that is none (``not_melanoma``, ``0``).
    """
    fields: Fields = {}
    unknown: list[FolderName] = []
    for folder in filter(_has_words, place(file).folders):
        own = next((text for text in (folder.name, folder.label, folder.words) if text in labels), None)
        if own is None and _plain(folder) in BEHAVIOURS:
            _set(fields, "benign_malignant", _plain(folder), file)
        elif (text := own if own is not None else known_label(folder)) is not None:
            diagnosis = diagnosis_name(text, labels)
            if diagnosis is not None:
                _set(fields, "diagnosis", diagnosis, file)
        else:
            unknown.append(folder)
    candidates = [] if fields else [folder for folder in unknown if folder.name in classes]
    if len(candidates) > 1:
        shown = " and ".join(repr(folder.name) for folder in candidates)
        raise InputError(
            f"{file}, of which the folders {shown} could each be the diagnosis",
            "one folder per class",
            "rename the other, or say which with --label NAME=DIAGNOSIS",
        )
    for folder in candidates:
        if folder.is_number or is_denial(folder):
            raise no_diagnosis(file, folder)
        if not folder.numbered:
            fields["diagnosis"] = str(diagnosis_name(folder.label, labels, any_label=True))
            unknown.remove(folder)
    return fields, unknown


@lru_cache(1 << 14)
def known_label(folder: FolderName) -> str | None:
    """Return the way to write a folder's name that the vocabulary knows, also as "unknown"; None if there is none."""
    for text in (folder.label, folder.words):
        try:
            diagnosis_name(text, {})
        except ItemError:
            continue
        return text
    return None


def known_class(folder: FolderName) -> str | None:
    """Return the behaviour or the diagnosis that a folder's name stands for, if it is known."""
    if _plain(folder) in BEHAVIOURS:
        return _plain(folder)
    label = known_label(folder)
    return None if label is None else diagnosis_name(label, {})


def no_diagnosis(file: str, folder: FolderName) -> InputError:
    """Return the error for a class folder whose name is no diagnosis."""
    return InputError(
        f"the folder {folder.name!r} of {file}, whose name is no diagnosis",
        "folders named for diagnoses, benign or malignant, splits, images or masks",
        f"say --label '{folder.name}=DIAGNOSIS' (or =unknown), or put the photographs into images/",
    )


def some(names: Iterable[str]) -> str:
    """Return distinct names for a message, the first ones if there are many."""
    return listed(sorted(set(names)), SHOWN_NAMES)


def _find_classes(found: Survey) -> None:
    """Find class folders; leave out photographs in folders that say nothing at all.

    A name that all photographs share is the data set's own unless it is known. Where some photographs lie in no class
    folder, names that are not known are no classes.
    """
    shared = shared_folders(found.photographs)
    named: dict[str, list[FolderName]] = {}
    for file in found.photographs:
        folders = place(file).folders if not _below_image_folder(file) else ()
        named[file] = [
            folder
            for depth, folder in enumerate(folders)
            if _has_words(folder)
            and (_is_known(folder) or not folder.splits)
            and (folder.is_number or not folder.says_nothing)
            and (depth >= shared or _is_known(folder) or folder.numbered)
        ]
    all_named = all(named.values())
    classes = {folder.name for folders in named.values() for folder in folders if all_named or _is_known(folder)}
    found.classes = sorted(classes)
    for file in found.photographs:
        where = place(file)
        lost = [folder for folder in where.folders if not folder.says_nothing and not folder.splits]
        understood = where.splits or where.kind or any(folder.name in classes for folder in where.folders)
        if lost and not understood:
            found.left[file] = f"in the folder {lost[-1].name!r}, a name that says nothing known"
    found.photographs = [file for file in found.photographs if file not in found.left]


def _has_words(folder: FolderName) -> bool:
    return bool(folder.words)


def _is_known(folder: FolderName) -> bool:
    return _plain(folder) in BEHAVIOURS or known_label(folder) is not None


def _plain(folder: FolderName) -> str:
    return " ".join(word for word in folder.words.split() if word not in NO_CLASS_WORDS)


def is_denial(folder: FolderName) -> bool:
    """Tell whether a class's name denies a diagnosis or is none: ``not_melanoma``, ``male``, ``upper_arm``."""
    words = _plain(folder).split()
    if not words or words[0] in DENIALS or words in [[word] for word in NO_DIAGNOSIS]:
        return bool(words)
    if (denied := JOINED_DENIAL.match(words[0])) and known_diagnosis(words[0][denied.end() :]):
        return True
    stated = parse_terms(folder.words)
    attributes = stated["anatom_site_general"] | stated["sex"] | stated["age_approx"]
    return len(words) <= ATTRIBUTE_WORDS and bool(attributes) and not stated["diagnosis"]


def _set(fields: Fields, name: str, value: str, file: str) -> None:
    if fields.setdefault(name, value) != value:
        raise InputError(
            f"{file}, whose folders name {fields[name]!r} and {value!r}", f"one {name} a path", "rename one of them"
        )


def _below_image_folder(file: str) -> bool:
    return any(map(is_image_folder, place(file).folders))


def shared_folders(files: Collection[str]) -> int:
    """Return how many folders from the top all files share."""
    folders = {file.rpartition("/")[0] for file in files}
    parts = [folder.split("/") if folder else [] for folder in folders]
    shortest = min(map(len, parts), default=0)
    return next((depth for depth in range(shortest) if len({part[depth] for part in parts}) > 1), shortest)


def _refuse_letters(files: Sequence[str]) -> None:
    """Refuse ``trainA`` next to ``trainB``, ``train_x`` next to ``train_y``: which holds masks, nobody can know."""
    lettered = {
        folder.name: folder.words
        for file in files
        for folder in place(file).folders
        if folder.splits and folder.kind is None and folder.is_number and folder.words.isalpha()
    }
    if len(set(lettered.values())) > 1:
        raise InputError(
            f"the folders {some(lettered)}, of which a letter tells what they hold",
            "names that say it, for example train_images and train_masks",
            "rename them",
        )


def refuse_twins(found: Survey, labels: Mapping[str, str]) -> None:
    """Refuse two folders with unknown names and files of equal names, as of pictures and masks in another language.

    Raises:
        InputError: there are such folders, and ``labels`` (the user's own label -> diagnosis) names neither.
    """
    stems: dict[str, set[str]] = defaultdict(set)
    for file in found.photographs:
        folders = [folder for folder in place(file).folders if folder.name in found.classes]
        if len(folders) == 1 and folders[0].name not in labels and not _is_known(folders[0]):
            stems[folders[0].name].add(key(stem(file)))
    for (other, names), (name, own) in combinations(stems.items(), 2):
        if names == own or _is_named_after(names, own) or _is_named_after(own, names):
            raise InputError(
                f"the folders {other!r} and {name!r} with files of the same names, which may be photographs and masks",
                "names that say what they hold",
                f"call them images and masks, or say --label '{name}=DIAGNOSIS' for classes",
            )


def _is_named_after(names: set[str], others: set[str]) -> bool:
    """Tell whether ``others`` are names with one and the same addition (``a_maske``), or some of them without any."""
    first = min(others)
    of_first = max((name for name in names if name in first), key=len, default=None)
    if of_first is None:
        return False
    before, _, behind = first.partition(of_first)
    if not before and not behind:
        return others < names and not all(COUNTS_IN_FOLDER.fullmatch(name) for name in others)
    return {other.removeprefix(before).removesuffix(behind) for other in others} <= names


def _take_masks_beside(found: Survey) -> None:
    """Take files for masks that lie among the photographs and are named so: ``a_mask.png`` next to ``a.jpg``."""
    stems = {key(stem(file)) for file in found.photographs}
    with_mask = {key(stem(file)) for file in found.masks}
    kept: list[str] = []
    for file in found.photographs:
        name = stem(file)
        is_mask = says_mask(name, strict=False) and key(name) not in with_mask
        if is_mask and not says_mask(name):
            of_another = any(way.core in stems and way.core != key(name) for way in mask_names(name) if not way.weak)
            is_mask = of_another and not with_mask
        (found.masks if is_mask else kept).append(file)
    found.photographs = kept
