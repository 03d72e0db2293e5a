"""Uploads that are damaged, disguised, of another type or huge are answered in sentences, and the page goes on."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from acts import expect_error, open_tab, set_number, upload
from PIL import Image
from playwright.sync_api import Page, expect

from skindualgen.studio.uploads import MEBIBYTE, Limits

PHOTOGRAPH = "direct-mask-photograph"


@pytest.fixture
def reading(page: Page) -> Page:
    """The page with "Image to mask" open."""
    open_tab(page, "Direct", "Image to mask")
    set_number(page, "direct-mask-ensemble", 1)
    return page


def noise(path: Path, side: int) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(path)
    return path


def png_of_size(path: Path, side: int) -> Path:
    """A PNG file of a few bytes that says it is a picture of ``side`` x ``side`` px."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_a_truncated_picture(reading: Page, tmp_path: Path) -> None:
    whole = noise(tmp_path / "whole.png", 64).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    upload(reading, PHOTOGRAPH, tmp_path / "cut.png")
    expect_error(reading, "save it again as PNG or JPEG")


def test_a_drawing_that_is_called_a_picture(reading: Page, tmp_path: Path) -> None:
    (tmp_path / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    upload(reading, PHOTOGRAPH, tmp_path / "drawing.png")
    expect_error(reading, "save it again as PNG or JPEG")


@pytest.mark.parametrize("name", ["drawing.svg", "script.py"])
def test_a_file_of_another_type(reading: Page, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    upload(reading, PHOTOGRAPH, tmp_path / name)
    expect_error(reading, "Invalid file type")
    expect(reading.locator("#direct-mask-status")).to_contain_text("No photograph yet.")


def test_a_picture_that_would_fill_the_memory(reading: Page, tmp_path: Path) -> None:
    side = 20_000
    assert side**2 > Limits().upload_pixels
    upload(reading, PHOTOGRAPH, png_of_size(tmp_path / "bomb.png", side))
    expect_error(reading, "decompression_bomb")


def test_a_picture_of_too_many_bytes(reading: Page, tmp_path: Path) -> None:
    side = 2800
    path = noise(tmp_path / "large.png", side)
    assert path.stat().st_size > 20 * MEBIBYTE
    upload(reading, PHOTOGRAPH, path)
    expect_error(reading, "20")


def test_a_mask_without_a_lesion_and_then_a_good_one(page: Page, tmp_path: Path) -> None:
    open_tab(page, "Direct")
    Image.new("L", (64, 64)).save(tmp_path / "empty.png")
    upload(page, "direct-image-upload", tmp_path / "empty.png")
    expect_error(page, "draw the lesion in white, or upload another mask")
    mask = Image.new("L", (80, 64))
    mask.paste(255, (20, 20, 50, 50))
    mask.save(tmp_path / "good.png")
    upload(page, "direct-image-upload", tmp_path / "good.png")
    expect(page.locator("#direct-image-canvas canvas")).to_have_attribute("width", "80")
