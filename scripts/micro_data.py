"""Real pairs for the micro model: the parts listed in docs/results/micro_split.csv, and random views of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MIN_ZOOM = 0.7
"""smallest side of a random crop, as a share of the picture"""


def split_ids(split_file: Path, split: str) -> list[str]:
    """Return the ISIC ids of one part, in file order."""
    with split_file.open(newline="") as file:
        return [row["isic_id"] for row in csv.DictReader(file) if row["split"] == split]


def load_images(data: Path, split_file: Path, split: str) -> Tensor:
    """Return the photographs of one part as [n, h, w, 3] uint8."""
    ids = split_ids(split_file, split)
    return torch.from_numpy(np.stack([np.asarray(Image.open(data / "images" / f"{i}.jpg")) for i in ids]))


def random_views(
    images: Tensor, count: int, size_px: int, generator: np.random.Generator, min_zoom: float = MIN_ZOOM
) -> Tensor:
    """Draw random crops, flips and quarter turns: [n, h, w, 3] uint8 -> [count, 3, size, size] in [-1, 1]."""
    side = images.shape[1]
    views = []
    for index in generator.integers(len(images), size=count):
        crop = int(generator.integers(int(min_zoom * side), side + 1))
        top, left = generator.integers(side - crop + 1, size=2)
        view = images[index, top : top + crop, left : left + crop].permute(2, 0, 1)[None]
        view = F.interpolate(view, size_px, mode="bilinear", antialias=True, align_corners=False)[0]
        if generator.integers(2):
            view = view.flip(-1)
        views.append(view.rot90(int(generator.integers(4)), (1, 2)))
    return torch.stack(views).float() / 127.5 - 1
