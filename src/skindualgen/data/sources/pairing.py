"""Which files belong to one photograph, by names: masks, several of them, and copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.data.sources.base import Candidate, Listing, Tree, key, stem
from skindualgen.data.sources.file_names import COUNTS_IN_FOLDER, cores_of_photograph, mask_names, without_mask_word
from skindualgen.data.sources.names import place
from skindualgen.data.sources.survey import known_class
from skindualgen.data.sources.values import BEHAVIOURS
from skindualgen.files import sha256_file

SHOWN_MASKS = 4


def pair_masks(
    listing: Listing, tree: Tree, masks: Sequence[str], photographs: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Match masks to photographs (`key` of the id -> file); return the masks of each, by annotator if names tell one.

    ``a.png`` and ``a_mask.png`` belong to ``a.jpg`` (all ways: `skindualgen.data.sources.file_names.mask_names`); of
    several photographs of one name, to that whose folders say the same split and class. Masks that belong to none are
    rejected, several that are byte for byte the same count once.
    """
    near: dict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    anywhere: dict[str, list[str]] = defaultdict(list)
    for name, file in photographs.items():
        for core in cores_of_photograph(stem(file)):
            near[place(file).context, core].append(name)
            anywhere[core].append(name)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    uncertain: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file in masks:
        context = place(file).context
        for way in mask_names(stem(file)):
            names = near.get((context, way.core)) or anywhere.get(way.core, [])
            if len(names) == 1 and another(way.core, file, of := photographs[names[0]]):
                detail = f"that of this name, {of}, is in a folder of another split or class"
                listing.reject(stem(file), file, "mask_without_image", detail)
                break
            if len(names) == 1:
                who = way.annotator or place(file).annotator or ""
                (uncertain if way.weak else found)[names[0]].append((who, file))
                break
            if names:
                shown = ", ".join(photographs[name] for name in names[:SHOWN_MASKS])
                listing.reject(stem(file), file, "mask_without_image", f"several photographs of this name: {shown}")
                break
        else:
            listing.reject(without_mask_word(stem(file)), file, "mask_without_image", "no photograph of this name")
    for name, entries in uncertain.items():
        # A number behind the name counts masks only where there is more than one; alone it may be another photograph's.
        if name in found or len(entries) > 1:
            found[name] += entries
        else:
            (_, file), of = entries[0], photographs[name]
            listing.reject(stem(file), file, "mask_without_image", f"no photograph of this name; like that of {of}")
    return {name: _distinct(listing, tree, entries) for name, entries in found.items()}


def another(name: str, file: str, other: str) -> bool:
    """Tell whether two files of one name are of two photographs: their folders say different splits or classes.

    Only for names that count within a folder (`COUNTS_IN_FOLDER`): ``train/3.png`` is no mask of ``test/3.jpg``, while
    ``ISIC_0000003`` is one photograph wherever it has been moved to.
    """
    if not COUNTS_IN_FOLDER.fullmatch(name):
        return False
    pairs = zip(_said(file.rpartition("/")[0]), _said(other.rpartition("/")[0]), strict=True)
    return any(one and two and one.isdisjoint(two) for one, two in pairs)


@lru_cache(1 << 14)
def _said(folder: str) -> tuple[frozenset[str], ...]:
    """Return the splits, the behaviours and the diagnoses that the folders of a path name."""
    where = place(f"{folder}/")
    classes = frozenset(name for part in where.folders if (name := known_class(part)) is not None)
    return frozenset(split for split, _ in where.splits), classes.intersection(BEHAVIOURS), classes - {*BEHAVIOURS}


def refuse_several(candidates: Sequence[Candidate]) -> None:
    """Raise InputError if a photograph has more than one mask: which is to be used, the user says."""
    several = [candidate for candidate in candidates if candidate.other_masks]
    if not several:
        return
    first = several[0]
    shown = ", ".join([str(first.mask), *first.other_masks][:SHOWN_MASKS])
    raise InputError(
        f"several masks of one photograph ({len(several)} photographs, first {first.image}: {shown})",
        "one mask a photograph, or a rule for those of several annotators",
        "say --annotator first, majority, random or staple",
    )


def _distinct(listing: Listing, tree: Tree, entries: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the masks of one photograph by annotator; if all are the same file, the first.

    Where they differ, none is left out: annotators who agree count each.
    """
    files = [file for _, file in sorted(entries, key=lambda entry: (len(entry[0]), *entry))]
    if all(same_content(tree.root / files[0], tree.root / file) for file in files[1:]):
        listing.repeats += [(file, files[0]) for file in files[1:]]
        return (files[0],)
    return tuple(files)


def unique_files(listing: Listing, tree: Tree, files: Iterable[str]) -> dict[str, str]:
    """Return key of the stem -> file; files of one stem that differ are all rejected, of equal ones the first stays.

    Files that are byte for byte the same are noted in ``listing.repeats``.
    """
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(key(stem(file)), []).append(file)
    kept: dict[str, str] = {}
    for name, group in groups.items():
        if all(same_content(tree.root / group[0], tree.root / other) for other in group[1:]):
            kept[name] = group[0]
            listing.repeats += [(other, group[0]) for other in group[1:]]
        else:
            for file in group:
                others = ", ".join(other for other in group if other != file)
                listing.reject(stem(file), file, "duplicate_id", f"the same id in {others}")
    return kept


def same_content(first: Path, second: Path) -> bool:
    """Tell whether two files are byte for byte the same."""
    return first.stat().st_size == second.stat().st_size and sha256_file(first) == sha256_file(second)
