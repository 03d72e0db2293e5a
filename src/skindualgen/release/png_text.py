"""Text inside image files, read without decoding a pixel: what a release publishes next to what one sees.

Source: PNG specification, third edition, sections 5 (chunks) and 11.3.3 (tEXt, zTXt, iTXt); C2PA technical
specification 2.2, section A.3.3 (the chunk caBX).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from skindualgen.contracts import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
C2PA_CHUNK = b"caBX"
BINARY_CHUNKS = (b"eXIf", C2PA_CHUNK)
"""chunks whose content can hold text of others: photographs' metadata, signed manifests"""
PRINTABLE = re.compile(rb"[\x20-\x7e]{12,}")
"""shorter runs of letters are in signatures and hashes by chance"""
MAX_TEXT_BYTES = 1 << 24
"""what a compressed text may unfold to"""


@dataclass(frozen=True)
class ImageText:
    """What an image file says apart from its pixels.

    Attributes:
        texts: (keyword, text), in the order of the file.
        has_c2pa: whether it holds a C2PA manifest; whether that is valid is another question.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    has_c2pa: bool = False

    def text(self, keyword: str) -> str | None:
        """The first text under a keyword."""
        return next((text for name, text in self.texts if name == keyword), None)


def read_image_text(path: Path) -> ImageText:
    """Read the texts of a PNG file, pixels skipped; of another format, what Pillow reports of it.

    Raises:
        InputError: a PNG file that breaks off or is damaged in its text.
    """
    with path.open("rb") as file:
        signature = file.read(len(SIGNATURE))
    if signature != SIGNATURE:
        with Image.open(path) as image:
            found = [*image.info.items(), *((f"exif {tag}", value) for tag, value in image.getexif().items())]
        return ImageText([(str(key), _decoded(value)) for key, value in found])
    texts, has_c2pa = [], False
    for kind, content in _chunks(path):
        has_c2pa |= kind == C2PA_CHUNK
        texts.append(_text(kind, content, path) if kind in TEXT_CHUNKS else (kind.decode(), _printable(content)))
    return ImageText(texts, has_c2pa)


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks that hold text, or may hold some; others are stepped over."""
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while head := file.read(8):
            if len(head) < 8:
                raise _damaged(path, "it breaks off")
            length, kind = struct.unpack(">I4s", head)
            if kind in TEXT_CHUNKS or kind in BINARY_CHUNKS:
                content = file.read(length)
                if len(content) < length:
                    raise _damaged(path, "it breaks off")
                yield kind, content
                file.seek(4, 1)  # checksum
            else:
                file.seek(length + 4, 1)


def _text(kind: bytes, content: bytes, path: Path) -> tuple[str, str]:
    keyword, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return keyword.decode("latin-1"), rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword.decode("latin-1"), _inflated(rest[1:], path).decode("latin-1")
    compressed, body = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]  # behind language and translated keyword
    return keyword.decode("latin-1"), (_inflated(body, path) if compressed else body).decode("utf-8", "replace")


def _inflated(data: bytes, path: Path) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)
    except zlib.error as error:
        raise _damaged(path, f"text that cannot be unpacked ({error})") from error


def _decoded(value: object) -> str:
    return _printable(value) if isinstance(value, bytes) else str(value)


def _printable(content: bytes) -> str:
    return "\n".join(run.decode("ascii") for run in PRINTABLE.findall(content))


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path.name}: {what}", "whole image files", "copy or generate it again")
