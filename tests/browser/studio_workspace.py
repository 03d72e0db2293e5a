"""The folder of the studio that the browser drives, with a data set for each module that needs one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.data.phantom import draw_phantom
from tiny import write_phantom_data

TRAIN, VAL = 22, 6
"""pairs of "phantoms": two pages of the review"""
REAL, MADE = "datasets/real", "datasets/made"
"""to train on and to evaluate"""


def write_workspace(root: Path) -> Path:
    """Write phantoms to review, a data set in which two pictures are nearly one, and two to train on and compare."""
    write_phantom_data(root / "datasets" / "phantoms", train=TRAIN, val=VAL)
    write_twins(root / "datasets" / "twins")
    write_phantom_data(root / REAL, train=12, val=12)
    write_phantom_data(root / MADE, train=16, val=0)
    return root


def write_twins(root: Path) -> None:
    """The first two pictures differ by a grey level; the third is another."""
    records = []
    for index, (seed, split) in enumerate(((1, "train"), (1, "val"), (2, "train"))):
        drawn = draw_phantom(seed, diagnosis="nevus", size=64)
        for kind, pixels in (("images", np.clip(drawn.image, 1, 254) + np.uint8(index)), ("masks", drawn.mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"pair-{index}.png")
        records.append(
            PairRecord(
                file_name=f"images/pair-{index}.png",
                mask_file_name=f"masks/pair-{index}.png",
                isic_id=f"pair-{index}",
                diagnosis="nevus",
                split=split,
            )
        )
    write_dataset(root, records, made_by={"twins": 2})
