"""Phantom pairs for the tests of the gate, and a reading of masks that is quick: how much darker than the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.data.phantom import CLASSES, draw_phantom
from skindualgen.gate.gate import Gate, Verdict

SIDE_PX = 64
TRAIN, VAL, TEST = 48, 60, 24
Picture = NDArray[np.uint8]


def darkness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Smoothed darkness [n, h, w] of pictures [n, h, w, 3]: lesions are darker than skin."""
    grey = 255 - images.astype(np.float32).mean(-1)
    return ndimage.gaussian_filter(grey, (0, 1.5, 1.5))


def write_pairs(root: Path, seeds: Sequence[int], splits: Sequence[str], *, origin: str = "real") -> Path:
    """Write a data set folder of phantoms, the classes in turn."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    records = []
    for seed, split in zip(seeds, splits, strict=True):
        phantom = draw_phantom(seed, size=SIDE_PX, diagnosis=CLASSES[seed % len(CLASSES)])
        name = f"{'P' if origin == 'real' else 'SDG'}_{seed:04d}"
        Image.fromarray(phantom.image).save(root / f"images/{name}.png")
        Image.fromarray(phantom.mask).save(root / f"masks/{name}.png")
        records.append(
            PairRecord.model_validate(
                {
                    "file_name": f"images/{name}.png",
                    "mask_file_name": f"masks/{name}.png",
                    "isic_id": name,
                    "diagnosis": phantom.diagnosis,
                    "split": split,
                    "origin": origin,
                }
            )
        )
    write_dataset(root, records, made_by={})
    return root


def write_real(root: Path) -> Path:
    """Write the folder that plays the real pairs, with the splits train, val and test."""
    splits = ["train"] * TRAIN + ["val"] * VAL + ["test"] * TEST
    return write_pairs(root, range(len(splits)), splits)


def phantom_pairs(count: int, first: int = 500) -> tuple[list[Picture], list[Picture], list[str]]:
    """Unseen phantoms: photographs, masks, diagnoses."""
    drawn = [
        draw_phantom(seed, size=SIDE_PX, diagnosis=CLASSES[seed % len(CLASSES)]) for seed in range(first, first + count)
    ]
    return [each.image for each in drawn], [each.mask for each in drawn], [each.diagnosis for each in drawn]


def judge(gate: Gate, images: Sequence[Picture], masks: Sequence[Picture], diagnoses: Sequence[str]) -> list[Verdict]:
    """Judge arrays as a producer has them: PIL pictures with records."""
    records = [
        PairRecord(file_name=f"{i}.png", isic_id=str(i), diagnosis=name, origin="synthetic")
        for i, name in enumerate(diagnoses)
    ]
    return gate.judge([Image.fromarray(image) for image in images], [Image.fromarray(mask) for mask in masks], records)


def refused(verdicts: Sequence[Verdict], score: str | None = None) -> float:
    """Share of pairs that are refused, by this score if one is named."""
    return float(np.mean([any(reason.startswith(score or "") for reason in verdict.reasons) for verdict in verdicts]))
