"""Pictures of a data set folder as arrays, at one size for real and generated alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.reading import check_files, read_pair, read_photograph
from skindualgen.files import sha256_bytes, sha256_file


def _square(picture: Image.Image, path: Path) -> Image.Image:
    if picture.width != picture.height:
        raise InputError(
            f"{path.name} of {picture.width} x {picture.height} px", "a square picture", "run `skindualgen prepare`"
        )
    return picture


def load_images(root: Path, records: Sequence[PairRecord], size_px: int) -> NDArray[np.uint8]:
    """Read the photographs of the records, reduced with Pillow's (antialiased) Lanczos filter where they are larger.

    Returns:
        RGB uint8 [n, size_px, size_px, 3].

    Raises:
        InputError: a file is missing, damaged or not square.
    """
    images = np.empty((len(records), size_px, size_px, 3), np.uint8)
    for image, record in zip(images, records, strict=True):
        path = root / record.file_name
        picture = _square(read_photograph(path).image, path)
        if picture.width != size_px:
            picture = picture.resize((size_px, size_px), Image.Resampling.LANCZOS)
        image[:] = np.asarray(picture)
    return images


def load_masks(root: Path, records: Sequence[PairRecord], size_px: int) -> NDArray[np.bool_]:
    """Read the masks of the records, resized by nearest neighbour: bool [n, size_px, size_px], True is lesion.

    Raises:
        InputError: a record has no mask, or a file is missing, damaged or not square.
    """
    masks = np.empty((len(records), size_px, size_px), bool)
    for mask, record in zip(masks, records, strict=True):
        _, outline = read_pair(root, record)
        if outline is None:
            raise InputError(f"{record.isic_id} without a mask", "a mask for each photograph", "leave this record out")
        picture = _square(outline, root / str(record.mask_file_name))
        if picture.width != size_px:
            picture = picture.resize((size_px, size_px), Image.Resampling.NEAREST)
        mask[:] = np.asarray(picture) > 0
    return masks


def content_sha256(root: Path, records: Sequence[PairRecord]) -> str:
    """Return one hash over ids, diagnoses and the bytes of all files, whatever the order of the records.

    Raises:
        InputError: a file is missing.
    """
    check_files(root, records)
    lines = []
    for record in records:
        names = [name for name in (record.file_name, record.mask_file_name) if name is not None]
        hashes = [sha256_file(root / name) for name in names]
        lines.append("|".join([record.isic_id, str(record.diagnosis), *hashes]))
    return sha256_bytes("\n".join(sorted(lines)).encode())
