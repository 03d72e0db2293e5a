"""Leak guard: what a test split must not share with training split, generated pairs and the generator's past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, listed
from skindualgen.data.audit import HASH_WORDS, hash_distances
from skindualgen.data.dataset import Dataset
from skindualgen.data.journal import perceptual_hash
from skindualgen.data.training_items import (
    TRAINING_ITEMS_FILE,
    TrainingItem,
    TrainingItems,
    shared_value,
    training_item,
)
from skindualgen.files import sha256_bytes, sha256_file

NEAR_DUPLICATE_BITS = 100
"""Two photographs are near-duplicates up to this distance of their 512-bit perceptual hashes, over the 8 flips and
quarter turns.

Measured on 1,559 ISIC 2017 photographs at 256 px (1.2 million pairs, 8 views): the 7 pairs up to 109 bits are the same
lesion photographed or processed twice, the first pair of different lesions has 114, and 121 is the least between the
two sides of a lesion-disjoint split (1,325 and 234). Copies of the 234, each re-encoded (JPEG of quality 20 to 90),
resized to 64 or 128 px, brightened by a tenth or with noise of 5 grey levels, have at most 83; cropped by 1 % a side
at most 68.
"""

SHOWN_IDS = 10
Field = Literal["isic_id", "patient_id", "lesion_id", "split_group"]
Kind = Literal[Field, "file", "pixels", "near_duplicate"]
Where = Literal["training split", "generated pairs", "generator's training items"]


@dataclass(frozen=True)
class Leak:
    """A test photograph and what it must not share.

    Attributes:
        kind: what is shared; of two pictures that look alike only the strongest: file, pixels, near-duplicate.
        where: on which side the other one is.
        test_id, other_id: ids of both.
        detail: the shared value or the distance.
    """

    kind: Kind
    where: Where
    test_id: str
    other_id: str
    detail: str


@dataclass(frozen=True)
class _Fingerprint:
    """Hashes of one photograph, None where not known.

    Attributes:
        isic_id: its id.
        file, pixels: SHA-256 of the file, and of size and RGB values.
        words: [v, 8] words of the perceptual hash in v views.
    """

    isic_id: str
    file: str | None
    pixels: str | None
    words: NDArray[np.uint64] | None


def find_leaks(
    *,
    test: Dataset,
    train: Dataset,
    generated: Dataset | None,
    generator_items: TrainingItems | None,
) -> list[Leak]:
    """Find all that a test split shares with what a model could have learnt from.

    Generated pairs are compared as pictures, as their ids are their maker's own; those made from a real pair also by
    the ids of this one (``anchor_isic_id``, ``lesion_id``, ``patient_id``).

    Args:
        test: what models are tested on.
        train: the real photographs that they learn from.
        generated: the synthetic ones.
        generator_items: what the generator was trained on (`read_training_items` of the generated folder).

    Returns:
        Leaks, ordered by side, kind and ids.

    Raises:
        InputError: a photograph is missing or cannot be decoded.
    """
    tested, items = _fingerprints(test, views=True), [training_item(record) for record in test]
    found = [
        *_shared_fields(items, [training_item(record) for record in train], "training split"),
        *_alike(tested, _fingerprints(train), "training split"),
    ]
    if generated is not None:
        found += _alike(tested, _fingerprints(generated), "generated pairs")
        found += _shared_fields(items, list(_anchors(generated)), "generated pairs")
    if generator_items is not None:
        found += _shared_fields(items, generator_items.items, "generator's training items")
        recorded = [
            _Fingerprint(
                item.isic_id, item.sha256, None, _words(item.perceptual_hash) if item.perceptual_hash else None
            )
            for item in generator_items.items
        ]
        found += _alike(tested, recorded, "generator's training items")
    sides, kinds = get_args(Where), get_args(Kind)
    found.sort(key=lambda leak: (sides.index(leak.where), kinds.index(leak.kind), leak.test_id, leak.other_id))
    return found


def _anchors(generated: Dataset) -> Iterator[TrainingItem]:
    """The real pairs that generated ones are made from."""
    for record in generated:
        if (name := getattr(record, "anchor_isic_id", None)) is not None:
            yield training_item(record.model_copy(update={"isic_id": str(name)}))


def refuse_leaks(leaks: Sequence[Leak], *, known: bool) -> list[str]:
    """Refuse to test on what was learnt from, or return the texts that a report has to carry.

    Args:
        leaks: of `find_leaks`.
        known: the caller knows and goes on all the same (``--i-know``).

    Returns:
        One text for each side and kind, with the number of test photographs and the ids of the first ten.

    Raises:
        InputError: there are leaks, and they are not known.
    """
    grouped: dict[tuple[Where, Kind], dict[str, Leak]] = defaultdict(dict)
    for leak in leaks:
        grouped[leak.where, leak.kind].setdefault(leak.test_id, leak)
    texts = [_text(where, kind, list(first.values())) for (where, kind), first in grouped.items()]
    if texts and not known:
        raise InputError(
            "; ".join(texts),
            "a test split that neither the training split nor the generator has seen",
            "split anew with `skindualgen prepare` and train the generator on that training split, take these items "
            "out, or go on with --i-know, which the report then says",
        )
    return texts


def provenance_caveats(generator_items: TrainingItems | None) -> list[str]:
    """Return what cannot be checked of a generator's past, as sentences for the report; empty if all is recorded."""
    if generator_items is None:
        return [
            f"What the generator was trained on is not recorded (no {TRAINING_ITEMS_FILE} among the generated pairs): "
            "whether it has seen the test split was not checked."
        ]
    return [f"The training items of the {name} are not recorded." for name in generator_items.unrecorded]


def real_caveats(generated: Dataset) -> list[str]:
    """Return how many "generated" pairs are real, as sentences: with masks of a model's, or altogether."""
    real = [record for record in generated if record.origin == "real"]
    read = sum(record.by_model for record in real)
    found = []
    if read:
        found.append(
            f"{read} of the {len(generated)} pairs that count as generated are real photographs, whose masks a model "
            "has read: what they add are photographs, and no generator's pictures."
        )
    if len(real) > read:
        found.append(
            f"{len(real) - read} of the {len(generated)} pairs that count as generated say that they are real, masks "
            "and all: nothing here tells of a generator."
        )
    return found


def knowledge_caveats(generator_items: TrainingItems | None, amounts: Iterable[int]) -> list[str]:
    """Return, as sentences, where a generator knows more real photographs than the arms that it is compared with.

    Args:
        generator_items: what it was trained on, if that is recorded.
        amounts: numbers of real pairs that the arms train on.
    """
    seen = len({item.isic_id for item in generator_items.items}) if generator_items is not None else 0
    return [
        f"The generator was trained on {seen} real photographs, with or without masks; the arms with {amount} real "
        "pairs have no others. What hybrids gain there can be real data that the other arms lack."
        for amount in sorted(set(amounts))
        if amount < seen
    ]


def _text(where: Where, kind: Kind, leaks: Sequence[Leak]) -> str:
    names = []
    for leak in leaks:
        other = leak.other_id if leak.other_id != leak.test_id else ""
        notes = ", ".join(filter(None, [other, leak.detail]))
        names.append(f"{leak.test_id} ({notes})" if notes else leak.test_id)
    photographs = "test photograph has" if len(leaks) == 1 else "test photographs have"
    shared = "a near-duplicate" if kind == "near_duplicate" else f"the same {kind}"
    return f"{len(leaks)} {photographs} {shared} in the {where}: {listed(names, SHOWN_IDS)}"


def _shared_fields(tested: Sequence[TrainingItem], others: Sequence[TrainingItem], where: Where) -> Iterator[Leak]:
    """Yield for each test photograph and field a leak with the first other one of the same value."""
    for field in get_args(Field):
        holders: dict[str, str] = {}
        for other in others:
            if (value := shared_value(other, field)) is not None:
                holders.setdefault(value, other.isic_id)
        for item in tested:
            value = getattr(item, field)
            other_id = holders.get(shared_value(item, field) or "")
            # A group may be named by the id of its only member: that says no more than the equal ids do.
            if other_id is not None and not (field == "split_group" and other_id == item.isic_id):
                yield Leak(field, where, item.isic_id, other_id, "" if field == "isic_id" else value)


def _alike(tested: Sequence[_Fingerprint], others: Sequence[_Fingerprint], where: Where) -> Iterator[Leak]:
    """Yield for each test photograph a leak with the other one that it is most plainly a copy of."""
    files = {other.file: other.isic_id for other in reversed(others)}
    pixels = {other.pixels: other.isic_id for other in reversed(others)}
    hashed = [(other.isic_id, other.words[0]) for other in others if other.words is not None]
    columns = np.array([words for _, words in hashed], np.uint64).reshape(-1, HASH_WORDS).T.copy()  # [8, m]
    for item in tested:
        if item.file in files:
            yield Leak("file", where, item.isic_id, files[item.file], f"sha256 {str(item.file)[:12]}")
        elif item.pixels in pixels:
            yield Leak("pixels", where, item.isic_id, pixels[item.pixels], f"sha256 {str(item.pixels)[:12]}")
        elif hashed and item.words is not None:
            index, bits = _nearest(item.words, columns)
            if bits <= NEAR_DUPLICATE_BITS:
                yield Leak("near_duplicate", where, item.isic_id, hashed[index][0], f"{bits} bits")


def _nearest(views: NDArray[np.uint64], others: NDArray[np.uint64]) -> tuple[int, int]:
    """Return which of m hashes [8, m] is nearest to any of v views [v, 8], and its distance in bits."""
    bits = np.min([hash_distances(view, others) for view in views], axis=0)
    return int(bits.argmin()), int(bits.min())


def _fingerprints(part: Dataset, *, views: bool = False) -> list[_Fingerprint]:
    """Hash the photographs of a part, in one view or in all eight."""
    found = []
    for index, record in enumerate(part):
        image = part.image(index)
        seen = [image, *(image.transpose(turn) for turn in Image.Transpose)] if views else [image]
        pixels = sha256_bytes(f"{image.size}".encode() + image.tobytes())
        words = _words(*(perceptual_hash(view) for view in seen))
        found.append(_Fingerprint(record.isic_id, sha256_file(part.root / record.file_name), pixels, words))
    return found


def _words(*hashes: str) -> NDArray[np.uint64]:
    """Perceptual hashes as rows of words, [v, 8]."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, HASH_WORDS)
