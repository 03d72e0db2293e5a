"""Sheets of pictures for the studies' reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.judges.neighbours import Neighbours


def picture_grid(rows: Sequence[Sequence[NDArray[np.uint8] | NDArray[np.bool_]]], *, gap_px: int = 4) -> Image.Image:
    """Lay pictures out in rows on white: photographs [h, w, 3] uint8 and masks [h, w] bool, all of one size.

    Raises:
        InputError: no pictures, or of several sizes.
    """
    sizes = {picture.shape[:2] for row in rows for picture in row}
    if len(sizes) != 1:
        raise InputError(f"pictures of sizes {sorted(sizes)}", "one size", "resize them first")
    height, width = sizes.pop()
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap_px) - gap_px, len(rows) * (height + gap_px) - gap_px), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            pixels = picture if picture.dtype == np.uint8 else picture.astype(np.uint8) * 255
            sheet.paste(Image.fromarray(pixels), (x * (width + gap_px), y * (height + gap_px)))
    return sheet


def closest_pairs_sheet(
    *, generated: NDArray[np.uint8], train: NDArray[np.uint8], neighbours: Neighbours, pairs: int = 24, columns: int = 4
) -> Image.Image:
    """Show the closest couples, nearest first: each generated photograph with its training neighbour to its right."""
    closest = np.argsort(neighbours.distance, kind="stable")[:pairs]
    cells = [picture for i in closest for picture in (generated[i], train[neighbours.index[i]])]
    return picture_grid([cells[start : start + 2 * columns] for start in range(0, len(cells), 2 * columns)])
