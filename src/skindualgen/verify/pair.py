"""One pair's files against its record: hashes, pixels, what is embedded, signatures; and many pairs at a time."""

from __future__ import annotations

import io
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import FILE_FIELDS, PairRecord, Report, listed
from skindualgen.data.images import FORMATS
from skindualgen.data.mask_classes import IGNORED_LEVELS, LESION_ONLY, MaskClasses
from skindualgen.files import sha256_bytes
from skindualgen.marks.c2pa import CredentialState, checkable, credentials_in, may_have_credentials
from skindualgen.marks.embed import Embedded, embedded_in
from skindualgen.marks.xmp import TRAINED_ALGORITHMIC_MEDIA
from skindualgen.verify.deviations import Deviation, Tally
from skindualgen.verify.register import Register

SHOWN = 5
"""values that a message names"""


PENDING_PER_WORKER = 4
"""Pairs handed to a worker in advance: keeps it busy, and holds memory."""


@dataclass
class PairFindings:
    """What a look at one pair gave.

    Attributes:
        deviations: in the order image, mask, ignored pixels.
        contents: path -> SHA-256, of files whose content is not the recorded one.
        images, masks, hashes, marked: as in `Tally`.
        credentials: state of the image's content credentials; None without an image.
    """

    deviations: list[Deviation] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    images: int = 0
    masks: int = 0
    hashes: int = 0
    marked: int = 0
    credentials: str | None = None


def check_pair(
    root: Path, record: PairRecord, anchors: bytes | None, classes: MaskClasses = LESION_ONLY
) -> PairFindings:
    """Read the files of a record and compare them with it.

    Args:
        root: the data set folder.
        record: its paths stay inside the folder.
        anchors: root certificates that content credentials are trusted by, PEM.
        classes: of the masks.
    """
    found = PairFindings()
    image_size = _check_image(root, record, anchors, found)
    masks = (
        (record.mask_file_name, record.mask_sha256, classes),
        (record.ignore_file_name, record.ignore_sha256, IGNORED_LEVELS),
    )
    for name, sha256, levels in masks:
        size = None if name is None else _check_mask(root, record, name, sha256, levels, found)
        if name is not None and image_size and size and image_size != size:
            found.deviations.append(Deviation("size", name, _pixels(size), f"{_pixels(image_size)} of the image"))
    return found


def _check_image(root: Path, record: PairRecord, anchors: bytes | None, found: PairFindings) -> tuple[int, int] | None:
    name = record.file_name
    data = _checked_content(root, name, record.sha256, found)
    image = data and _decoded(data, name, found)
    if not data or not image:
        return None
    found.images += 1
    inside = embedded_in(image)
    found.marked += inside.xmp is not None and inside.xmp.marked_as_generated
    check = _generated_image if record.origin == "synthetic" else _photograph
    found.deviations += check(record, inside)
    _check_credentials(record, data, anchors, found)
    return image.size


def _check_mask(
    root: Path, record: PairRecord, name: str, sha256: str | None, classes: MaskClasses, found: PairFindings
) -> tuple[int, int] | None:
    data = _checked_content(root, name, sha256, found)
    mask = data and _decoded(data, name, found)
    if not mask:
        return None
    found.masks += name == record.mask_file_name
    levels = np.unique(np.asarray(mask.convert("L")))
    known = (0, *sorted(classes.values()))
    if other := [int(level) for level in levels if level not in known]:
        expected = f"{', '.join(map(str, known[:-1]))} and {known[-1]} alone"
        found.deviations.append(Deviation("mask_values", name, f"the values {listed(other, SHOWN)}", expected))
    inside = embedded_in(mask)
    isic_id = (inside.record or {}).get("isic_id")
    if isic_id is None and record.origin == "synthetic":
        found.deviations.append(Deviation("mask_id", name, "no id in the file", f"the id {record.isic_id}"))
    elif isic_id not in (None, record.isic_id):
        found.deviations.append(
            Deviation("mask_id", name, f"the mask of {isic_id} (swapped)", f"the mask of {record.isic_id}")
        )
    if inside.xmp is not None or set(inside.record or {}) - {"isic_id"}:
        found.deviations.append(Deviation("embedded", name, "a mask with more than its id inside", "the id alone"))
    return mask.size


def _checked_content(root: Path, name: str, sha256: str | None, found: PairFindings) -> bytes | None:
    try:
        data = (root / name).read_bytes()
    except OSError as error:
        found.deviations.append(Deviation("missing_file", name, f"no file ({error.strerror})", "the file of a record"))
        return None
    digest = sha256_bytes(data)
    if sha256 is None:
        found.deviations.append(Deviation("no_hash", name, "a record without its SHA-256", f"SHA-256 {digest}"))
    elif digest != sha256:
        found.contents[name] = digest
        found.deviations.append(Deviation("changed_file", name, f"SHA-256 {digest}", f"SHA-256 {sha256}"))
    else:
        found.hashes += 1
    return data


def _decoded(data: bytes, name: str, found: PairFindings) -> Image.Image | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        found.deviations.append(Deviation("unreadable", name, f"a file that cannot be decoded ({text})", "a picture"))
        return None
    return image


def _generated_image(record: PairRecord, inside: Embedded) -> Iterator[Deviation]:
    name = record.file_name
    for problem in inside.problems:
        yield Deviation("embedded", name, problem, "text and XMP that agree")
    if inside.record is None:
        yield Deviation("embedded", name, "no record in the file", "the record as PNG text")
    else:
        for key, stored, recorded in record_differences(record, inside.record):
            yield Deviation("embedded", name, f"{key} {stored!r} in the file", f"{recorded!r} as in the metadata")
    if inside.xmp is None or not inside.xmp.marked_as_generated:
        yield Deviation("mark", name, "a generated image without XMP mark", TRAINED_ALGORITHMIC_MEDIA)


def _photograph(record: PairRecord, inside: Embedded) -> Iterator[Deviation]:
    if inside.xmp is not None and inside.xmp.marked_as_generated:
        yield Deviation("mark", record.file_name, "a mark of generated media in the XMP", "none on a real photograph")
    if (inside.record or {}).get("origin") == "synthetic":
        yield Deviation("mark", record.file_name, "the PNG text of a generated image", "none on a real photograph")


def record_differences(record: PairRecord, stored: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, value in the file, value in the metadata) where the two differ.

    Fields of `FILE_FIELDS` are passed over, and fields and scores that were added to the metadata later under names
    that the library does not know.
    """
    recorded = record.model_dump(exclude_none=True, exclude=set(FILE_FIELDS))
    scores = {f"scores.{name}": value for name, value in recorded.pop("scores", {}).items()}
    inside = {key: value for key, value in stored.items() if key not in FILE_FIELDS | {"scores"}}
    inside_scores = stored.get("scores")
    if isinstance(inside_scores, dict):
        inside |= {f"scores.{name}": value for name, value in inside_scores.items()}
    for key in sorted(inside.keys() | (recorded.keys() & PairRecord.model_fields.keys())):
        value = {**recorded, **scores}.get(key)
        if inside.get(key) != value:
            yield key, inside.get(key), value


def _check_credentials(record: PairRecord, data: bytes, anchors: bytes | None, found: PairFindings) -> None:
    if may_have_credentials(data) and not checkable():
        found.credentials = "unchecked"
        return
    state = credentials_in(data, anchors=anchors)
    found.credentials = state.state
    found.deviations += _credential_deviations(record, state)


def _credential_deviations(record: PairRecord, state: CredentialState) -> Iterator[Deviation]:
    name = record.file_name
    if state.state == "invalid":
        yield Deviation("credentials", name, f"invalid content credentials ({'; '.join(state.reasons)})", "valid ones")
    if record.origin == "real" and state.digital_source_type == TRAINED_ALGORITHMIC_MEDIA:
        yield Deviation("credentials", name, "content credentials of generated media", "none on a real photograph")
    known = record.model_dump(exclude_none=True)
    for key, value in sorted((state.generation or {}).items()):
        if known.get(key) != value:
            yield Deviation("credentials", name, f"{key} {value!r} signed", f"{known.get(key)!r} as in the metadata")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"


def check_pairs(
    checks: Iterable[Callable[[], PairFindings] | Deviation],
    workers: int,
    register: Register,
    tally: Tally,
    report: Report,
) -> Iterator[Deviation]:
    """Run the checks of all pairs, several at a time; what is found comes in their order.

    Args:
        checks: of each pair, taken up as workers become free; a deviation among them is passed on.
        workers: threads.
        register: knows which record has a content.
        tally: takes the numbers.
        report: progress.
    """
    pending: deque[Future[PairFindings]] = deque()
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        for check in checks:
            if isinstance(check, Deviation):
                yield check
                continue
            pending.append(pool.submit(check))
            if len(pending) >= workers * PENDING_PER_WORKER:
                yield from _settled(pending.popleft().result(), register, tally)
                report(done := done + 1, tally.records)
        while pending:
            yield from _settled(pending.popleft().result(), register, tally)
            report(done := done + 1, tally.records)


def _settled(found: PairFindings, register: Register, tally: Tally) -> Iterator[Deviation]:
    for name in ("images", "masks", "hashes", "marked"):
        setattr(tally, name, getattr(tally, name) + getattr(found, name))
    if found.credentials is not None:
        tally.credentials[found.credentials] += 1
    for deviation in found.deviations:
        owner = register.owner(found.contents[deviation.file]) if deviation.kind == "changed_file" else None
        if owner is not None:
            deviation = replace(deviation, found=f"the content of {owner} (swapped or copied)")
        yield deviation
