"""Targets: files of photographs, whole and damaged, through the one reader of photographs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image, features

from fuzzing.damage import wounded, wounds
from fuzzing.drawn import draw, encoded
from fuzzing.target import Case, Outcome, Target, demand, refusal_admitted
from skindualgen.data.images import MAX_PIXELS, load_photograph


class Container(NamedTuple):
    """A file format as photographs come in it.

    Attributes:
        modes: Pillow's modes of pixels that are tried.
        options: of the encoder, one of them at a time.
        tag: it holds an orientation.
        tolerance: largest mean difference of grey levels that its losses make.
        readable: photographs in it are used; else they must be refused.
    """

    modes: tuple[str, ...]
    options: tuple[dict[str, Any], ...] = ({},)
    tag: bool = False
    tolerance: float = 0.0
    readable: bool = True


CONTAINERS = {
    "JPEG": Container(
        ("RGB", "L", "CMYK"),
        ({"quality": 97, "subsampling": 0}, {"quality": 97, "subsampling": 0, "progressive": True}),
        True,
        8.0,
    ),
    "PNG": Container(("RGB", "L", "P", "RGBA", "LA", "1", "I;16"), ({}, {"optimize": True}), True),
    "TIFF": Container(
        ("RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"),
        ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}),
        True,
    ),
    "WEBP": Container(("RGB", "RGBA"), ({"lossless": True},), True),
    "BMP": Container(("RGB", "L", "P", "1")),
    "GIF": Container(("L", "P")),
    "JPEG2000": Container(("RGB", "L"), ({"irreversible": False},)),
    "PPM": Container(("RGB", "L"), readable=False),
    "TGA": Container(("RGB", "L"), readable=False),
    "PCX": Container(("RGB", "L"), readable=False),
    "ICO": Container(("RGB",), readable=False),
}
"""What Pillow writes, and this build of it reads."""
if not features.check("jpg_2000"):
    del CONTAINERS["JPEG2000"]


ROWS_BYTES = 64 << 20
"""Of rows that a picture with other sides holds at the most."""


def whole(name: str) -> Target:
    """Files of one format as cameras and programs write them: pixels upright and as they were, or refused as a kind."""
    container = CONTAINERS[name]
    cases = {
        "format": st.just(name),
        "number": st.integers(0, 99),
        "mode": st.sampled_from(container.modes),
        "option": st.integers(0, len(container.options) - 1),
        "orientation": st.integers(1, 8) if container.tag else st.just(1),
    }
    return Target(f"photograph, {name}", st.fixed_dictionaries(cases), _check_whole)


def damaged(name: str) -> Target:
    """Files of one format with damage: any pixels that are a photograph's, or refused."""
    container = CONTAINERS[name]
    cases = {
        "format": st.just(name),
        "number": st.integers(0, 9),
        "mode": st.sampled_from(container.modes),
        "option": st.integers(0, len(container.options) - 1),
        "orientation": st.sampled_from((1, 6) if container.tag else (1,)),
        "wounds": wounds(),
    }
    return Target(f"damaged photograph, {name}", st.fixed_dictionaries(cases), _check_damaged)


def huge(name: str) -> Target:
    """Small files of one format whose header names other sides, up to billions of pixels."""
    sides = st.sampled_from((0, 1, 500, 5_000, 10_900, 11_500, 30_000, 65_535))
    cases = {"format": st.just(name), "sides": st.tuples(sides, sides)}
    return Target(f"photograph of other sides, {name}", st.fixed_dictionaries(cases), _check_huge)


def _check_huge(case: Case, folder: Path) -> Outcome:
    (folder / "photograph").write_bytes(_of_other_sides(case["format"], *case["sides"]))
    with refusal_admitted(True) as outcome:
        photograph = load_photograph(folder / "photograph")
        width, height = photograph.image.size
        demand(width * height <= MAX_PIXELS, f"{width} x {height} pixels")
    return outcome[0]


def _of_other_sides(name: str, width: int, height: int) -> bytes:
    """A small picture's file with other sides in its header; a PNG of one bit a pixel holds them all."""
    data = bytearray(encoded(draw(0).image, name))
    if name == "PNG":
        rows = zlib.compressobj(1)
        held = min(height, ROWS_BYTES // (width // 8 + 2))
        body = (
            b"".join(rows.compress(bytes(width // 8 + 2)[: (width + 7) // 8 + 1]) for _ in range(held)) + rows.flush()
        )
        header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in chunks
        )
    if name == "TIFF":
        for tag, side in ((256, width), (257, height)):
            at = data.find(struct.pack("<H", tag), 8)
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)  # type LONG, one value
    elif name == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif name == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
        at = data.find(b"\x2c\0\0\0\0")
        data[at + 5 : at + 9] = struct.pack("<HH", width, height)
    elif name == "JPEG":
        at = data.find(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return a picture in one of Pillow's modes, opaque."""
    if mode == "P":
        return image.quantize(64)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


def _data(case: Case) -> tuple[Image.Image, bytes]:
    """The picture in its mode, upright, and its file."""
    upright = in_mode(draw(case["number"]).image, case["mode"])
    options = CONTAINERS[case["format"]].options[case["option"]]
    return upright, encoded(upright, case["format"], case["orientation"], **options)


def _check_whole(case: Case, folder: Path) -> Outcome:
    upright, data = _data(case)
    container = CONTAINERS[case["format"]]
    path = folder / "photograph.png"  # what a file is says its content, never its name
    path.write_bytes(data)
    with refusal_admitted(not container.readable) as outcome:
        photograph = load_photograph(path)
        demand(container.readable, f"{case['format']} was read")
        truth = upright.point(lambda value: value / 257).convert("L") if upright.mode == "I;16" else upright
        demand(photograph.image.size == upright.size, f"{photograph.image.size}, not {upright.size}")
        difference = float(np.abs(_levels(photograph.image) - _levels(truth)).mean())
        demand(difference <= container.tolerance, f"mean difference {difference:.1f}")
    return outcome[0]


def _levels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(image.convert("RGB")).astype(np.int16)


def _check_damaged(case: Case, folder: Path) -> Outcome:
    path = folder / "photograph"
    path.write_bytes(wounded(_data(case)[1], case["wounds"]))
    with refusal_admitted(True) as outcome:
        photograph = load_photograph(path)
        demand(photograph.image.mode == "RGB", f"mode {photograph.image.mode}")
        demand(min(photograph.image.size) > 0, "no pixel")
        np.asarray(photograph.image)
    return outcome[0]


TARGETS = [*map(whole, CONTAINERS), *map(damaged, CONTAINERS), *map(huge, ("PNG", "TIFF", "BMP", "GIF", "JPEG"))]
