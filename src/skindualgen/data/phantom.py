"""Procedural dermoscopy-like lesions with exact masks, so that tests and examples need no outside data.

The class sets symmetry, border, colours and structures in the way of the ABCD rule (Stolz et al. 1994) and of pattern
analysis. Nothing here is fitted to photographs, and nothing about real skin may be concluded from phantoms.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, InputError
from skindualgen.data.phantom_artefacts import add_artefacts
from skindualgen.data.phantom_lesions import PAINTERS, Scene, depth_of, draw_region, draw_skin, illumination

MINIMUM_SIZE_PX = 32
CLASSES = tuple(PAINTERS)
METADATA_COLUMNS = ("isic_id", "diagnosis", "age_approx", "sex", "anatom_site_general", "lesion_id", "patient_id")
SITES = ("anterior torso", "posterior torso", "upper extremity", "lower extremity", "head/neck")
MEAN_AGE_YEARS = {"nevus": 40, "melanoma": 60, "seborrheic_keratosis": 65}
UNKNOWN_SHARE = 0.1
SAME_PATIENT_SHARE = 0.25


@dataclass(frozen=True)
class Phantom:
    """A drawn lesion: image uint8 [h, w, 3], mask uint8 [h, w] of 0 and 255, its class and what was put into it."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    diagnosis: str
    attributes: dict[str, Any] = field(default_factory=dict)


def draw_phantom(seed: int, *, size: int = 128, diagnosis: str | None = None) -> Phantom:
    """Draw one lesion; a pure function of its arguments.

    Args:
        seed: Chooses everything that is not given.
        size: Side of the square picture in px, at least 32.
        diagnosis: One of `CLASSES`; None lets the seed choose.

    Returns:
        The picture, the exact region of the lesion (one component without holes), the class and its attributes.

    Raises:
        InputError: Negative seed, unknown class, or a size below 32 px.
    """
    if seed < 0 or size < MINIMUM_SIZE_PX or (diagnosis is not None and diagnosis not in CLASSES):
        raise InputError(
            f"seed {seed}, size {size} px, diagnosis {diagnosis!r}",
            f"a seed of 0 or more, at least {MINIMUM_SIZE_PX} px, and one of {', '.join(CLASSES)} or None",
            "change the argument that does not fit",
        )
    rng = np.random.default_rng(seed)
    chosen = CLASSES[rng.integers(len(CLASSES))]
    name = diagnosis or chosen
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    scene = Scene(rng, size, x, y)
    region, radius, attributes = draw_region(scene, name)
    depth = depth_of(region) * 2 / size / radius  # 0 at the border, > 0 inside, in lesion radii
    skin = draw_skin(scene)
    picture, structures = PAINTERS[name](scene, skin, depth)
    picture = picture * illumination(scene)[..., None]
    picture, artefacts = add_artefacts(rng, picture)
    picture = ndimage.gaussian_filter(picture, (size / 400, size / 400, 0))
    picture = picture + rng.normal(0.0, 0.006, picture.shape)
    image = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    attributes |= {"structures": structures, "artefacts": artefacts}
    return Phantom(image, region.astype(np.uint8) * 255, name, attributes)


def write_phantom_folder(root: Path, count: int, *, seed: int = 0, size: int = 256) -> None:
    """Write ``images/*.jpg``, ``masks/*.png`` and ``metadata.csv`` of `count` phantoms.

    The folder appears when it is complete. Classes take turns; a patient may have several lesions; some ages, sexes and
    sites are blank, as in real archives.

    Raises:
        InputError: Nothing to draw, or `root` already holds something.
    """
    root = Path(root)
    if count < 1 or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
        raise InputError(
            f"{count} phantoms for {root}",
            "one phantom at least and a folder that is new or empty",
            "name another folder",
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        (unfinished / IMAGES_DIR).mkdir()
        (unfinished / MASKS_DIR).mkdir()
        with (unfinished / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, METADATA_COLUMNS)
            writer.writeheader()
            for row in _metadata(count, seed):
                phantom_seed = seed * 1_000_003 + int(row["isic_id"].split("_")[1])
                phantom = draw_phantom(phantom_seed, size=size, diagnosis=row["diagnosis"])
                image_path = unfinished / IMAGES_DIR / f"{row['isic_id']}.jpg"
                Image.fromarray(phantom.image).save(image_path, quality=92, subsampling=0)
                Image.fromarray(phantom.mask).save(unfinished / MASKS_DIR / f"{row['isic_id']}.png", optimize=True)
                writer.writerow(row)
        unfinished.chmod(0o755)
        unfinished.replace(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _metadata(count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng([seed, count])
    rows: list[dict[str, str]] = []
    patient = 0
    for index in range(count):
        diagnosis = CLASSES[index % len(CLASSES)]
        patient += int(rng.random() >= SAME_PATIENT_SHARE)
        age_years = int(np.clip(round(rng.normal(MEAN_AGE_YEARS[diagnosis], 14) / 5) * 5, 5, 90))
        row = {
            "isic_id": f"PHANTOM_{index:07d}",
            "diagnosis": diagnosis,
            "age_approx": str(age_years),
            "sex": str(rng.choice(["female", "male"])),
            "anatom_site_general": str(rng.choice(SITES)),
            "lesion_id": f"PL_{index:07d}",
            "patient_id": f"PP_{patient:07d}",
        }
        for name in ("age_approx", "sex", "anatom_site_general"):
            if rng.random() < UNKNOWN_SHARE:
                row[name] = ""
        rows.append(row)
    return rows
