"""Which machine-readable marks of generated media the files of a release carry, counted file by file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.files import PNG_KEY
from skindualgen.marks.embed import XMP_KEY
from skindualgen.marks.watermark import DETECTED, watermark_score
from skindualgen.marks.xmp import read_xmp_packet
from skindualgen.release.png_text import read_image_text


@dataclass(frozen=True)
class Marks:
    """Numbers of generated photographs.

    Attributes:
        images: all of them.
        png_text: with their record as PNG text.
        xmp: whose XMP calls them trainedAlgorithmicMedia.
        c2pa: with a C2PA manifest, valid or not.
        unmarked: with none of these.
        watermark: in whose pixels the watermark is found; None where it was not looked for.
    """

    images: int
    png_text: int
    xmp: int
    c2pa: int
    unmarked: int
    watermark: int | None = None


def count_marks(root: Path, records: Sequence[PairRecord], *, watermark: bool = False) -> Marks:
    """Read the photographs of generated records and count their marks.

    Args:
        root: the data set folder.
        records: of generated photographs.
        watermark: look for the watermark too, which takes decoding every picture.
    """
    png_text = xmp = c2pa = unmarked = 0
    for record in records:
        found = read_image_text(root / record.file_name)
        by_text = _is_json(found.text(PNG_KEY))
        by_xmp = _marked(found.text(XMP_KEY))
        png_text, xmp, c2pa = png_text + by_text, xmp + by_xmp, c2pa + found.has_c2pa
        unmarked += not (by_text or by_xmp or found.has_c2pa)
    found_marks = sum(_has_watermark(root / record.file_name) for record in records) if watermark else None
    return Marks(len(records), png_text, xmp, c2pa, unmarked, found_marks)


def _has_watermark(path: Path) -> bool:
    with Image.open(path) as image:
        return watermark_score(image.convert("RGB")) >= DETECTED


def _is_json(text: str | None) -> bool:
    try:
        return text is not None and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _marked(packet: str | None) -> bool:
    try:
        return packet is not None and read_xmp_packet(packet.encode("utf-8")).marked_as_generated
    except ValueError:
        return False
