"""Provenance inside PNG files: an image carries its record as text and as XMP, a mask its id and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from skindualgen.contracts import HASH_FIELDS, PairRecord
from skindualgen.files import PNG_KEY, png_bytes, png_info
from skindualgen.marks.xmp import XmpFields, read_xmp_packet, xmp_packet

XMP_KEY = "XML:com.adobe.xmp"
"""Keyword of the PNG text chunk (iTXt) that holds XMP. Source: ISO 16684-3, PNG."""

NOT_EMBEDDED = set(HASH_FIELDS.values())
"""Fields of a record that its image does not carry: a file cannot hold its own hash."""

IMAGE_COMPRESS_LEVEL = 4
"""zlib level of an image: against Pillow's 6, a third of the time for 0 to 3 % more bytes (docs/provenance.md)."""

MASK_COMPRESS_LEVEL = 6
"""zlib level of a mask, whose few hundred bytes cost no time at any level."""

SHARED_FIELDS = ("isic_id", "prompt", "seed", "adapter_sha256", "base_sha256", "license")
"""What both the text and the XMP of an image say."""


@dataclass(frozen=True)
class Embedded:
    """What a file says of itself.

    Attributes:
        record: the JSON of the PNG text: an image's record, or a mask's ``{"isic_id": ...}``; None if there is none.
        xmp: None if there is none.
        problems: text or XMP that cannot be read, and where they contradict each other.
    """

    record: dict[str, Any] | None
    xmp: XmpFields | None
    problems: tuple[str, ...] = ()


def image_png(image: Image.Image, record: PairRecord, *, watermark: bool = False) -> bytes:
    """Encode a generated image as PNG that carries ``record`` as text and as XMP; equal input gives equal bytes.

    Args:
        image: RGB.
        record: of the image, with ``origin`` "synthetic"; its hashes are left out.
        watermark: add the invisible watermark to the pixels first, see `skindualgen.marks.watermark`.

    Raises:
        InputError: the record is of a real photograph, or holds a character that XML cannot.
    """
    creator_tool = record.source or f"skindualgen {metadata.version('skindualgen')}"
    packet = xmp_packet(record, creator_tool=creator_tool)
    if watermark:
        from skindualgen.marks.watermark import add_watermark

        image = add_watermark(image)
    info = png_info(record.model_dump(exclude_none=True, exclude=NOT_EMBEDDED))
    info.add_itxt(XMP_KEY, packet)
    return png_bytes(image, info, compress_level=IMAGE_COMPRESS_LEVEL)


def photograph_png(image: Image.Image) -> bytes:
    """Encode a real photograph, RGB, as PNG: without any mark, which generated images alone have."""
    return png_bytes(image, compress_level=IMAGE_COMPRESS_LEVEL)


def mask_png(mask: Image.Image, isic_id: str) -> bytes:
    """Encode a mask as PNG that carries the id alone; equal input gives equal bytes."""
    return png_bytes(mask, png_info({"isic_id": isic_id}), compress_level=MASK_COMPRESS_LEVEL)


def read_embedded(path: Path) -> Embedded:
    """Read what an image file carries of text and XMP, and compare the two.

    Raises:
        OSError: no file, or no image.
    """
    with Image.open(path) as image:
        return embedded_in(image)


def embedded_in(image: Image.Image) -> Embedded:
    """As `read_embedded`, of an open image; its pixels are decoded, as text may follow them."""
    image.load()
    problems: list[str] = []
    record, xmp = None, None
    text = getattr(image, "text", {}).get(PNG_KEY)
    if text is not None:
        try:
            content = json.loads(text)
        except ValueError as error:
            problems.append(f"PNG text that is not JSON: {error}")
        else:
            record = content if isinstance(content, dict) else None
            if record is None:
                problems.append(f"PNG text that holds {text[:40]!r}, not a record")
    packet = image.info.get("xmp")
    if packet is not None:
        try:
            xmp = read_xmp_packet(packet if isinstance(packet, bytes) else str(packet).encode())
        except ValueError as error:
            problems.append(str(error))
    return Embedded(record, xmp, (*problems, *_contradictions(record, xmp)))


def _contradictions(record: dict[str, Any] | None, xmp: XmpFields | None) -> list[str]:
    if record is None or xmp is None:
        return []
    found = []
    for field in SHARED_FIELDS:
        text, packet = record.get(field), getattr(xmp, field)
        if (None if text is None else str(text)) != packet:
            found.append(f"{field} is {text!r} in the PNG text and {packet!r} in the XMP")
    if (record.get("origin") == "synthetic") != xmp.marked_as_generated:
        source = xmp.digital_source_type
        found.append(f"origin is {record.get('origin')!r} in the PNG text, digital source type {source!r} in the XMP")
    return found
