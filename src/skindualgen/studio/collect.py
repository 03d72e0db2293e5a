"""Photographs with masks that a visitor checked, gathered into data sets of the workspace."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, METADATA_FILE, InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import atomic_path, run_record, sha256_file
from skindualgen.studio.workspace import DATASETS_DIR, NAME_PATTERN, Workspace

SOURCE = "skindualgen studio"
"""``source`` of the records; only data sets of such records are added to."""
_writing = threading.Lock()


def add_photograph(
    workspace: Workspace,
    name: str,
    photograph: Image.Image,
    mask: Image.Image,
    *,
    diagnosis: str | None,
    edited: bool,
    made_with: Mapping[str, str],
) -> tuple[str, PairRecord]:
    """Add a photograph and its mask to a data set, which is made if it is not there.

    The photograph is written as its pixels alone: what its file said of camera, time or place does not go along.

    Args:
        workspace: of the data set.
        name: of the data set.
        photograph: RGB.
        mask: 0 / 255, of the same size.
        diagnosis: if it is known.
        edited: whether the mask was changed by hand.
        made_with: ids and hashes of the model that proposed the mask.

    Returns:
        The data set's name in the workspace, and the record.

    Raises:
        InputError: a name that is none, or a data set that the studio did not gather.
    """
    with _writing:
        folder = workspace.root / DATASETS_DIR / name
        earlier = _earlier(workspace, folder, name)
        known: dict[str, Any] = {"diagnosis": diagnosis, "edited": edited, "made_with": made_with}
        record = write_pair(folder, earlier, photograph, mask, **known)
        return workspace.name(folder), record


def write_pair(
    folder: Path,
    records: list[PairRecord],
    photograph: Image.Image,
    mask: Image.Image,
    *,
    diagnosis: str | None,
    edited: bool,
    made_with: Mapping[str, str],
) -> PairRecord:
    """Write a pair into a data set folder that holds those of ``records``; the others are those of `add_photograph`."""
    for part in (IMAGES_DIR, MASKS_DIR):
        (folder / part).mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(record.isic_id.rpartition("_")[2]) for record in records), default=-1)
    identity = f"PHOTO_{number:07d}"
    files = {f"{IMAGES_DIR}/{identity}.png": photograph, f"{MASKS_DIR}/{identity}.png": mask}
    for file, picture in files.items():
        with atomic_path(folder / file) as temporary:
            Image.fromarray(np.asarray(picture)).save(temporary, format="PNG")
    image_name, mask_name = files
    more: dict[str, Any] = {"mask_origin": "model, edited by hand" if edited else "model"}
    more |= {f"mask_{key}": value for key, value in made_with.items() if key.endswith("sha256")}
    record = PairRecord(
        file_name=image_name,
        mask_file_name=mask_name,
        isic_id=identity,
        diagnosis=diagnosis,
        origin="real",
        source=SOURCE,
        sha256=sha256_file(folder / image_name),
        mask_sha256=sha256_file(folder / mask_name),
        **more,
    )
    write_dataset(folder, [*records, record], made_by=run_record(command="skindualgen ui"))
    return record


def _earlier(workspace: Workspace, folder: Path, name: str) -> list[PairRecord]:
    if not folder.exists() or not NAME_PATTERN.fullmatch(name):
        workspace.new_folder(DATASETS_DIR, name)  # refuses a name that is none
        return []
    records = read_metadata(workspace.path(f"{DATASETS_DIR}/{name}")) if (folder / METADATA_FILE).is_file() else []
    if any(record.source != SOURCE for record in records):
        got = f"the data set {json.dumps(name)}, which holds other pairs"
        raise InputError(got, "one that was gathered here", "choose a new name")
    return records
