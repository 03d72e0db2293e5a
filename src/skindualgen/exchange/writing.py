"""Pairs that are read from another tool's format, written in the data set layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from pydantic import ValidationError

from skindualgen.contracts import FILE_FIELDS, IGNORED_DIR, IMAGES_DIR, MASKS_DIR, InputError, PairRecord, first_problem
from skindualgen.data.images import SUFFIXES, ItemError, load_photograph
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses
from skindualgen.data.prepare import file_stems
from skindualgen.exchange.pairs import put
from skindualgen.exchange.pictures import decoded, refuse_other_size
from skindualgen.exchange.source import short
from skindualgen.files import PNG_KEY, sha256_bytes

MAX_DEPTH = 20
"""Levels of lists and mappings in a field of a record."""


@dataclass(frozen=True)
class FoundPair:
    """A pair as a format holds it.

    Attributes:
        fields: of the record, as far as the format states them, ``isic_id`` among them.
        image: content of the image file.
        mask: content of the mask file, PNG with 0 and the classes' levels; None without a mask.
        where: the file that it comes from, for messages.
        suffix: ending of the image file; that of ``where`` if not given.
        classes: of the mask.
        ignored: content of the file of ignored pixels, PNG with 0 and 255, of the mask's size; None without any.
    """

    fields: Mapping[str, Any]
    image: bytes
    mask: bytes | None
    where: str
    suffix: str | None = None
    classes: MaskClasses = field(default_factory=lambda: LESION_ONLY)
    ignored: bytes | None = None


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
    """Writes pairs into the folders of pictures of a new data set folder and fills in paths and hashes."""

    def __init__(self, out: Path) -> None:
        """Make the two folders below ``out``, which must exist."""
        self.out = out
        self.classes: MaskClasses | None = None
        self._ids: set[str] = set()
        self._stems: set[str] = set()
        for name in (IMAGES_DIR, MASKS_DIR):
            (out / name).mkdir()

    def add(self, pair: FoundPair) -> PairRecord:
        """Write one pair and return its record, with those fields set that are given.

        Raises:
            InputError: the same id twice, the image cannot be decoded or used, the mask is of another size, or a value
                is none of a record.
        """
        isic_id, image, mask, where = pair.fields["isic_id"], pair.image, pair.mask, pair.where
        if not isinstance(isic_id, str) or not isic_id.strip():
            raise InputError(f"the isic_id {short(isic_id)} of {where}", "a text", "write it as text")
        name, suffix = f"the image of {isic_id} ({where})", pair.suffix or PurePosixPath(where).suffix.lower()
        size = decoded(image, name).size
        if isic_id in self._ids or suffix not in SUFFIXES:
            raise InputError(
                f"a second {isic_id}, or a picture {suffix} ({name})", "one id a pair, a picture", "rename it"
            )
        if mask is not None:
            self.classes = pair.classes if self.classes is None else self.classes
            if dict(self.classes) != dict(pair.classes):
                got = f"masks with the classes {dict(self.classes)}, and {dict(pair.classes)} in {where}"
                raise InputError(got, "the same classes in all masks", "read them into folders of their own")
            refuse_other_size(decoded(mask, f"the mask of {isic_id}").size, size, where)
        if pair.ignored is not None:
            refuse_other_size(decoded(pair.ignored, f"the ignored pixels of {isic_id}").size, size, where)
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
        if pair.ignored is not None:
            ignore_name = f"{IGNORED_DIR}/{stem}.png"
            put(self.out / ignore_name, pair.ignored)
            written |= {"ignore_file_name": ignore_name, "ignore_sha256": sha256_bytes(pair.ignored)}
        return checked_record({**pair.fields, **written}, where)


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
        place, problem = first_problem(error)
        got = f"{place or 'the record'} of {where}: {problem}"
        raise InputError(got, "a record's fields", "fix the value") from None


def _plain_value(value: Any, depth: int = 0) -> bool:
    """Tell whether JSON can hold a value, nested no deeper than `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain_value(item, depth + 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain_value(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | int | float)
