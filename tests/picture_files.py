"""Small pictures and source folders for the tests of data in: real files, written by Pillow or by hand."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(name: str, *, width: int = 48, height: int = 48) -> NDArray[np.uint8]:
    """Return a picture [h, w, 3] of skin and noise of its own for each name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    generator = np.random.default_rng(seed)
    rough = generator.integers(0, 70, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return (np.kron(rough, np.ones((8, 8, 1), np.uint8))[:height, :width] + 120).astype(np.uint8)


def disc(*, width: int = 48, height: int = 48, radius: float = 0.25) -> NDArray[np.uint8]:
    """Return a mask [h, w], 0 and 255: a disc in the middle, the radius as a share of the shorter side."""
    y, x = np.mgrid[:height, :width]
    inside = (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2 <= (radius * min(width, height)) ** 2
    return np.where(inside, 255, 0).astype(np.uint8)


def save(array: NDArray[np.generic], path: Path, **options: object) -> Path:
    """Write an array as an image file, its folders as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], *, delimiter: str = ",", bom: bool = False) -> Path:
    """Write rows as a table with a header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def good_folder(root: Path, count: int = 6, **columns: object) -> Path:
    """Write a folder of ``count`` good pairs p00, p01, ... with a metadata.csv; melanoma and nevus alternate."""
    rows = []
    for index in range(count):
        name = f"p{index:02d}"
        save(pixels(name), root / "images" / f"{name}.png")
        save(disc(), root / "masks" / f"{name}.png")
        rows.append({"image_id": name, "diagnosis": ("melanoma", "nevus")[index % 2], **columns})
    write_csv(root / "metadata.csv", rows)
    return root


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
