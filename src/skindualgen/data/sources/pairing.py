"""Which masks belong to which photograph, by the names of files and folders; several may belong to one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from skindualgen.contracts import InputError
from skindualgen.data.sources.base import Candidate, Listing, Tree, same_content, stem
from skindualgen.data.sources.names import cores_of_photograph, mask_names, place, without_mask_word

SHOWN_MASKS = 4


def pair_masks(
    listing: Listing, tree: Tree, masks: Sequence[str], photographs: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Match masks to photographs.

    ``a.png`` and ``a_mask.png`` belong to ``a.jpg`` (see `skindualgen.data.sources.names.mask_names` for all ways); of
    several photographs of one name, to that whose folders say the same split and class. Masks that belong to none are
    rejected, those that are byte for byte another one of the same photograph count once.

    Args:
        listing: takes rejections and notes.
        tree: the source.
        masks: mask files.
        photographs: `key` of the id -> file.

    Returns:
        `key` of the id -> mask files, by annotator if names tell one.
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
    kept: list[str] = []
    for _, file in sorted(entries):
        same = next((other for other in kept if same_content(tree.root / other, tree.root / file)), None)
        if same is None:
            kept.append(file)
        else:
            listing.repeats.append((file, same))
    return tuple(kept)
