"""A small data set folder in which every difficulty of other tools' formats occurs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.data.training_items import write_training_items
from skindualgen.files import png_info, sha256_bytes

WIDTH, HEIGHT = 48, 40
"""Sides in px: not equal, so that an exchange of axes shows."""
REAL = (
    {"isic_id": "ISIC_0000001", "diagnosis": "nevus", "lesion_id": "IL_1", "license": "CC0-1.0", "age_approx": 55},
    {"isic_id": "ISIC_0000002", "diagnosis": "melanoma", "license": "CC-BY-4.0", "split_group": "g2"},
    {"isic_id": "IMD.003 é", "diagnosis": "seborrheic keratosis", "split": "val", "sex": "female"},
    {"isic_id": "test_4", "diagnosis": "angioma", "split": "val", "patient_id": "P4"},
    {"isic_id": "ISIC_0000005", "diagnosis": "nevus", "split": "test", "source": "ISIC2018"},
    {"isic_id": "x6", "anatom_site_general": "head/neck"},
)
HOLED, PARTED, EMPTY, JPEG = "ISIC_0000002", "x6", "SDG_0000002", "IMD.003 é"
"""ids: a mask with a hole, of several parts (one a single pixel), without lesion; an image that is a JPEG"""


def write_exchange_data(root: Path, *, real: bool = True, synthetic: int = 3) -> list[PairRecord]:
    """Write the folder, with ``trained_on.json`` where it holds synthetic pairs, and return its records."""
    records = [_write(root, row, fields, {}) for row, fields in enumerate(REAL if real else ())]
    for row in range(synthetic):
        fields = {
            "isic_id": f"SDG_{row:07d}",
            "diagnosis": "seborrheic_keratosis" if row else "nevus",
            "origin": "synthetic",
            "prompt": f"a mole, “{row}”",
            "seed": (1 << 62) + row,
            "guidance_scale": 3.0,
            "num_inference_steps": 20,
            "scores": {"mask_area_fraction": 0.25, **({"agreement": 0.5} if row else {})},
            "license": "OpenRAIL++",
        }
        records.append(_write(root, 100 + row, fields, fields))
    write_dataset(root, records, made_by={"phantoms": len(records)})
    if synthetic:
        seen = [PairRecord(file_name="-", isic_id="ISIC_0000001", sha256="a" * 64, lesion_id="IL_1")]
        write_training_items(root, seen)
    return read_metadata(root)


def lesion_of(root: Path, record: PairRecord) -> NDArray[np.bool_]:
    """Return the mask of a record: bool [h, w]."""
    return np.asarray(Image.open(root / str(record.mask_file_name))) > 127


def image_of(root: Path, record: PairRecord) -> NDArray[np.int16]:
    """Return the image of a record: int16 [h, w, 3], so that differences can be taken."""
    return np.asarray(Image.open(root / record.file_name).convert("RGB")).astype(np.int16)


def _write(root: Path, seed: int, fields: dict[str, Any], inside: dict[str, Any]) -> PairRecord:
    phantom = draw_phantom(seed, size=WIDTH)
    lesion = phantom.mask[:HEIGHT] > 0
    isic_id = fields["isic_id"]
    if isic_id == HOLED:
        rows, columns = np.nonzero(lesion)
        lesion[int(rows.mean()), int(columns.mean())] = False
    if isic_id == PARTED:
        lesion[HEIGHT // 2 - 1 : HEIGHT // 2 + 1] = False
        lesion[0, 0] = True
    if isic_id == EMPTY:
        lesion[:] = False
    stem = f"{seed:03d}"
    image, suffix = io.BytesIO(), ".jpg" if isic_id == JPEG else ".png"
    text = {"pnginfo": png_info({"file_name": f"images/{stem}.png", **inside})} if inside else {}
    Image.fromarray(phantom.image[:HEIGHT]).save(image, format="JPEG" if suffix == ".jpg" else "PNG", **text)
    mask = io.BytesIO()
    Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0))).save(mask, format="PNG")
    names = {"file_name": f"images/{stem}{suffix}", "mask_file_name": f"masks/{stem}.png"}
    for name, content in zip(names.values(), (image.getvalue(), mask.getvalue()), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    hashes = {"sha256": sha256_bytes(image.getvalue()), "mask_sha256": sha256_bytes(mask.getvalue())}
    return PairRecord.model_validate({**fields, **names, **hashes})
