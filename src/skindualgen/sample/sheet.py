"""Contact sheets: photographs with their mask's outline drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from skindualgen.data.masks import lesion_pixels

OUTLINE_RGB = (80, 255, 120)
GAP_PX = 4
LABEL_PX = 14


def outline(image: Image.Image, mask: Image.Image, colour: tuple[int, int, int] = OUTLINE_RGB) -> Image.Image:
    """Draw the mask's contour, one pixel wide and inside the lesion, on a copy of the image of the same size."""
    inside = lesion_pixels(mask)
    edge = inside & ~ndimage.binary_erosion(inside)
    pixels = np.array(image.convert("RGB"))
    pixels[edge] = colour
    return Image.fromarray(pixels)


def pair_sheet(
    images: Sequence[Image.Image],
    masks: Sequence[Image.Image],
    *,
    columns: int = 8,
    labels: Sequence[str] | None = None,
    show_masks: bool = False,
) -> Image.Image:
    """A grid of pairs: image, below it the same with its outline, the mask if asked for, and a label where given."""
    width, height = images[0].size
    pictures = 3 if show_masks else 2
    cell = (width + GAP_PX, pictures * height + GAP_PX + (LABEL_PX if labels else 0))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (cell[0] * min(columns, len(images)) - GAP_PX, cell[1] * rows - GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        x, y = cell[0] * (index % columns), cell[1] * (index // columns)
        sheet.paste(image, (x, y))
        sheet.paste(outline(image, mask), (x, y + height))
        if show_masks:
            sheet.paste(mask, (x, y + 2 * height))
        if labels:
            draw.text((x + 2, y + pictures * height + 1), labels[index][: width // 6], fill="black")
    return sheet


def pairs_of_row(sheet: Image.Image, size: int, count: int) -> list[tuple[Image.Image, Image.Image]]:
    """Take a sheet of one row, drawn with ``show_masks``, apart: images and masks of ``size`` x ``size`` px."""
    places = [index * (size + GAP_PX) for index in range(count)]
    return [
        (sheet.crop((x, 0, x + size, size)), sheet.crop((x, 2 * size, x + size, 3 * size)).convert("L")) for x in places
    ]
