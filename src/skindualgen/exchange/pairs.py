"""Pairs on their way between folders: read one after the other and checked, written in the data set layout."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, InputError, PairRecord, Split
from skindualgen.data.images import SUFFIXES, ItemError, Photograph, load_photograph
from skindualgen.data.masks import load_mask
from skindualgen.data.prepare import file_stems
from skindualgen.exchange.formats import Report
from skindualgen.exchange.pictures import decoded, plain_mask, refuse_other_size, size_of
from skindualgen.exchange.source import short
from skindualgen.files import PNG_KEY, sha256_bytes

SPLITS: tuple[Split, ...] = get_args(Split)
FILE_FIELDS = frozenset({"file_name", "mask_file_name", "sha256", "mask_sha256"})
"""Fields of a record that speak of the files of one folder, and are made anew in another."""

MAX_DEPTH = 20
"""Levels of lists and mappings in a field of a record."""


@dataclass(frozen=True)
class Pair:
    """A record with the content of its files, as stored.

    Attributes:
        record: of the pair.
        name: its file stem in a format, see `export_names`.
        image_bytes: the image file.
        mask_bytes: the mask file; None without a mask.
    """

    record: PairRecord
    name: str
    image_bytes: bytes
    mask_bytes: bytes | None

    @property
    def suffix(self) -> str:
        """Ending of the image file, in lower case with its dot."""
        return PurePosixPath(self.record.file_name).suffix.lower()

    def picture(self) -> Image.Image:
        """Decode the image as it is stored."""
        return decoded(self.image_bytes, self.record.file_name)

    def refuse_turned(self) -> None:
        """Raise InputError if metadata turn the stored image: outlines beside a copy would fit one reading only."""
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
            return np.asarray(load_mask(self.mask_bytes, self.photograph(), allow_uniform=True)[0]) > 0
        except ItemError as error:
            raise error.input_error(name) from None


def read_pairs(
    source: Path, records: Sequence[PairRecord], report: Report = lambda done, total: None
) -> Iterator[Pair]:
    """Yield pair after pair with the content of its files, checked against the hashes that are recorded.

    Args:
        source: the data set folder.
        records: those to be read.
        report: called with (pairs done, all pairs).

    Raises:
        InputError: a file is missing, is not the recorded one or, without a recorded hash, is damaged; it is named.
    """
    names = export_names(records)
    for done, record in enumerate(records):
        report(done, len(records))
        image = checked_bytes(source / record.file_name, record.sha256)
        mask = None
        if record.sha256 is None:
            decoded(image, str(source / record.file_name))  # nothing else says that the file is whole
        if record.mask_file_name is not None:
            mask = checked_bytes(source / record.mask_file_name, record.mask_sha256)
            if record.mask_sha256 is None:
                plain_mask(mask, str(source / record.mask_file_name))
        yield Pair(record, names[record.isic_id], image, mask)
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


def other_fields(record: PairRecord, **given_back: object) -> dict[str, Any]:
    """Return of the fields that a format gives back those that are not the record's."""
    return {field: value for field, value in given_back.items() if getattr(record, field) != value}


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


def encode_mask(lesion: NDArray[np.bool_]) -> bytes:
    """Encode a mask [h, w] as the data set layout has it: PNG, 0 and 255."""
    return encode_png(Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0))))


def encode_png(picture: Image.Image) -> bytes:
    """Encode as PNG, without any text of the original file."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(buffer, format="PNG")
    return buffer.getvalue()


def recorded_inside(image: Image.Image) -> dict[str, Any]:
    """Return what the text inside a picture says of its pair, as `skindualgen generate` writes it; or nothing."""
    text = image.info.get(PNG_KEY) or image.info.get("comment") or "{}"
    try:
        fields = json.loads(text)
        PairRecord.model_validate({"file_name": "-", **fields})
    except (ValueError, TypeError, RecursionError):
        return {}
    return {field: value for field, value in fields.items() if field not in FILE_FIELDS}


class PairWriter:
    """Writes pairs into ``images/`` and ``masks/`` of a new data set folder and fills in paths and hashes."""

    def __init__(self, out: Path) -> None:
        """Make the two folders below ``out``, which must exist."""
        self.out = out
        self._ids: set[str] = set()
        self._stems: set[str] = set()
        for name in (IMAGES_DIR, MASKS_DIR):
            (out / name).mkdir()

    def add(
        self,
        fields: Mapping[str, Any],
        image: bytes,
        mask: bytes | None,
        *,
        suffix: str = ".png",
        where: str | None = None,
    ) -> PairRecord:
        """Write one pair and return its record, with those fields set that are given.

        Args:
            fields: of the record, ``isic_id`` among them.
            image: content of the image file.
            mask: content of the mask file, PNG with 0 and 255; None without a mask.
            suffix: ending of the image file.
            where: the file that it comes from, for messages.

        Raises:
            InputError: the same id twice, the image cannot be decoded or used, the mask is of another size, or a value
                is none of a record.
        """
        isic_id = fields["isic_id"]
        if not isinstance(isic_id, str) or not isic_id.strip():
            raise InputError(f"the isic_id {short(isic_id)} of {where or 'a pair'}", "a text", "write it as text")
        name = f"the image of {isic_id}" + (f" ({where})" if where else "")
        size = decoded(image, name).size
        if isic_id in self._ids or suffix not in SUFFIXES:
            raise InputError(
                f"a second {isic_id}, or a picture {suffix} ({name})", "one id a pair, a picture", "rename it"
            )
        if mask is not None:
            refuse_other_size(decoded(mask, f"the mask of {isic_id}").size, size, where or isic_id)
        stem = file_stems([isic_id])[isic_id]
        if stem.casefold() in self._stems:
            stem = f"{stem}_{sha256_bytes(isic_id.encode())[:8]}"
        self._ids.add(isic_id)
        self._stems.add(stem.casefold())
        file_name, mask_name = f"{IMAGES_DIR}/{stem}{suffix}", f"{MASKS_DIR}/{stem}.png"
        put(self.out / file_name, image)
        try:
            load_photograph(self.out / file_name)  # what no command could read is refused here
        except ItemError as error:
            raise InputError(f"{name}: {error.detail} ({error.code})", "a photograph", "convert it") from None
        written = {"file_name": file_name, "sha256": sha256_bytes(image)}
        if mask is not None:
            put(self.out / mask_name, mask)
            written |= {"mask_file_name": mask_name, "mask_sha256": sha256_bytes(mask)}
        return checked_record({**fields, **written}, where or isic_id)


def checked_record(fields: Mapping[str, Any], where: str) -> PairRecord:
    """Return the record of some fields, all of which JSON can hold.

    Args:
        fields: of the record.
        where: what holds them, for the message.

    Raises:
        InputError: a value of another type or out of range, or a number that is not finite.
    """
    for name, value in fields.items():
        if not _plain_value(value):
            raise InputError(
                f"{name} of {where}: a {type(value).__name__}",
                "text, numbers, or a few levels of these",
                "leave it out",
            )
    try:
        return PairRecord.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise InputError(f"{place} of {where}: {first['msg']}", "a record's fields", "fix the value") from None


def _plain_value(value: Any, depth: int = 0) -> bool:
    """Tell whether JSON can hold a value, nested no deeper than `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain_value(item, depth + 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain_value(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | int | float)
