"""Pairs of a data set folder on their way into another one: read one after the other and checked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import FILE_FIELDS, InputError, PairRecord, Report, Split
from skindualgen.data.images import ItemError, Photograph, load_photograph
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, read_class_mask, read_mask_classes
from skindualgen.data.masks import load_mask
from skindualgen.data.prepare import file_stems
from skindualgen.exchange.pictures import decoded, encode_mask, plain_mask, refuse_other_size, size_of
from skindualgen.files import sha256_bytes

CLASSES_FIELD = "mask_classes"
"""Field of a record in a shard: names and levels of its mask's classes, if there are several."""
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Pair:
    """A record with the content of its files, as stored.

    Attributes:
        record: of the pair.
        name: its file stem in a format, see `export_names`.
        image_bytes: the image file.
        mask_bytes: the mask file; None without a mask.
        ignored_bytes: the file of ignored pixels; None without any.
        linked: the data set folder, if its files are to get second names by hard links; None: they are copied.
        classes: of the mask.
    """

    record: PairRecord
    name: str
    image_bytes: bytes
    mask_bytes: bytes | None
    linked: Path | None = None
    classes: MaskClasses = field(default_factory=lambda: LESION_ONLY)
    ignored_bytes: bytes | None = None

    def put_image(self, final: Path) -> None:
        """Write the image file as it is; see `put`."""
        put(final, self.image_bytes, self.linked and self.linked / self.record.file_name)

    def put_mask(self, final: Path) -> None:
        """Write the mask file as it is, if there is one; see `put`."""
        if self.mask_bytes is not None:
            put(final, self.mask_bytes, self.linked and self.linked / str(self.record.mask_file_name))

    def put_ignored(self, final: Path) -> None:
        """Write the file of ignored pixels as it is, if there is one; see `put`."""
        if self.ignored_bytes is not None:
            put(final, self.ignored_bytes, self.linked and self.linked / str(self.record.ignore_file_name))

    def put_lesion(self, final: Path) -> None:
        """As `put_mask`, for formats whose masks have one class: of several classes it writes the whole lesion."""
        if len(self.classes) == 1:
            self.put_mask(final)
        elif self.mask_bytes is not None:
            put(final, encode_mask(self.lesion(), self.record.isic_id if self.record.origin == "synthetic" else None))

    @property
    def suffix(self) -> str:
        """Ending of the image file, in lower case with its dot."""
        return PurePosixPath(self.record.file_name).suffix.lower()

    def picture(self) -> Image.Image:
        """Decode the image as it is stored."""
        return decoded(self.image_bytes, self.record.file_name)

    def refuse_turned(self) -> None:
        """Raise InputError if metadata turn the stored image: outlines next to a copy would fit one reading only."""
        size_of(self.image_bytes, self.record.file_name)

    def photograph(self) -> Photograph:
        """Read the image as upright 8-bit RGB.

        Raises:
            InputError: it cannot be used.
        """
        try:
            return load_photograph(self.image_bytes)
        except ItemError as error:
            raise error.input_error(self.record.file_name) from None

    def lesion(self) -> NDArray[np.bool_]:
        """Read the mask: bool [h, w] of the upright photograph, True is lesion.

        Raises:
            InputError: the pair has none, or it does not say what is lesion.
        """
        if self.mask_bytes is None or self.record.mask_file_name is None:
            raise InputError(
                f"{self.record.isic_id} without a mask",
                "a mask for each photograph in this format",
                "leave such photographs out: --require-masks",
            )
        name = self.record.mask_file_name
        try:
            if len(self.classes) > 1:
                mask = read_class_mask(io.BytesIO(self.mask_bytes), self.classes, self.photograph().image.size)
            else:
                mask, _ = load_mask(self.mask_bytes, self.photograph(), allow_uniform=True)
            return np.asarray(mask) > 0
        except ItemError as error:
            raise error.input_error(name) from None

    def ignored(self) -> NDArray[np.bool_]:
        """Read the ignored pixels: bool [h, w] of the upright photograph, True is ignored; none is without a file.

        Raises:
            InputError: they are not of the photograph's size, or the file cannot be used.
        """
        size = self.photograph().image.size
        if self.ignored_bytes is None:
            return np.zeros(size[::-1], bool)
        name = str(self.record.ignore_file_name)
        pixels = decoded(plain_mask(self.ignored_bytes, name), name)
        refuse_other_size(pixels.size, size, name)
        return np.asarray(pixels) > 0


def read_pairs(
    source: Path, records: Sequence[PairRecord], report: Report = lambda done, total: None, *, link: bool = False
) -> Iterator[Pair]:
    """Yield pair after pair with the content of its files, checked against the hashes that are recorded.

    Args:
        source: the data set folder.
        records: those to be read.
        report: called with (pairs done, all pairs).
        link: give files that are taken as they are second names by hard links, instead of copying them.

    Raises:
        InputError: a file is missing, is not the recorded one or, without a recorded hash, is damaged; it is named.
    """
    names, classes = export_names(records), read_mask_classes(source)
    for done, record in enumerate(records):
        report(done, len(records))
        image = checked_bytes(source / record.file_name, record.sha256)
        mask = None
        if record.sha256 is None:
            decoded(image, str(source / record.file_name))  # nothing else says that the file is whole
        if record.mask_file_name is not None:
            mask = checked_bytes(source / record.mask_file_name, record.mask_sha256)
            if record.mask_sha256 is None:
                name = str(source / record.mask_file_name)
                plain_mask(mask, name, classes)
                refuse_other_size(size_of(mask, name), size_of(image, str(source / record.file_name)), name)
        ignored = None
        if record.ignore_file_name is not None:
            ignored = checked_bytes(source / record.ignore_file_name, record.ignore_sha256)
            plain_mask(ignored, str(source / record.ignore_file_name))
        yield Pair(record, names[record.isic_id], image, mask, source if link else None, classes, ignored)
    report(len(records), len(records))


def checked_bytes(path: Path, sha256: str | None) -> bytes:
    """Read a file that must have this hash, if one is recorded.

    Raises:
        InputError: it is missing, or its content is another.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"no file {path}", "every file that is named", "restore it, or write it again") from None
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise InputError(
            f"{path}, which is not the file whose hash was recorded",
            f"SHA-256 {sha256}",
            "restore it, or write it again",
        )
    return data


def export_names(records: Sequence[PairRecord]) -> dict[str, str]:
    """Return for each id a file stem: portable, unique regardless of case; no dots, which part keys in tar shards."""
    stems = file_stems(record.isic_id for record in records)
    return {
        isic_id: f"{stem.replace('.', '_')}_{sha256_bytes(isic_id.encode())[:8]}" if "." in stem else stem
        for isic_id, stem in stems.items()
    }


class Shard(NamedTuple):
    """One file of a split: its place among the ``of`` files of the split, its pairs, which are read when taken."""

    split: Split
    place: int
    of: int
    pairs: Iterator[Pair]


def read_shards(source: Path, records: Sequence[PairRecord], size: int, report: Report) -> Iterator[Shard]:
    """Yield all pairs, split by split, cut into files of ``size`` pairs; those of one must be taken before the next."""
    parts = [[record for record in records if record.split == split] for split in SPLITS]
    pairs = read_pairs(source, [record for part in parts for record in part], report)
    for split, part in zip(SPLITS, parts, strict=True):
        count = -(-len(part) // size)
        for index in range(count):
            yield Shard(split, index, count, islice(pairs, min(size, len(part) - index * size)))
    next(pairs, None)  # lets it report that all is done


def with_classes(source: Path, records: Sequence[PairRecord]) -> list[PairRecord]:
    """Return records that name the classes of their masks, if there are several: shards leave ``dataset.json`` behind.

    Raises:
        InputError: see `skindualgen.data.mask_classes.read_mask_classes`.
    """
    classes = read_mask_classes(source)
    if len(classes) == 1:
        return list(records)
    return [
        record.model_copy(update={CLASSES_FIELD: dict(classes)} if record.mask_file_name else {}) for record in records
    ]


def described(record: PairRecord) -> dict[str, Any]:
    """Return what a record says of its pair, without what it says of the files of its folder."""
    return record.model_dump(exclude_none=True, exclude=set(FILE_FIELDS))


def put(final: Path, data: bytes, original: Path | None = None) -> None:
    """Write a file as it is, or with ``original`` give that file a second name by a hard link; the folder is made.

    Raises:
        InputError: the two places cannot share a file.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if original is None:
        final.write_bytes(data)
        return
    try:
        os.link(original, final)
    except OSError as error:
        raise InputError(
            f"no hard link from {original} to {final.parent} ({error.strerror})",
            "both on one file system that has hard links",
            "leave out --link: files are then copied",
        ) from error
