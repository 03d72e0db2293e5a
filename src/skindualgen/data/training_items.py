"""What a generator was trained on, as a small file that goes with its adapter and with everything it draws."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skindualgen.contracts import SCHEMA_VERSION, InputError, PairRecord
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.splits import link_value
from skindualgen.files import atomic_write_text, sha256_file

TRAINING_ITEMS_FILE = "trained_on.json"
"""Not "training_...": `datasets` would take such a file of a generated folder for the split "train" (LOADER_WORDS)."""
LINKS = frozenset({"lesion_id", "patient_id", "split_group"})
HASH_PATTERN = r"^[0-9a-f]{128}$"


class TrainingItem(BaseModel):
    """One training photograph, by everything that a test photograph could share with it.

    Attributes:
        isic_id: its id.
        sha256: of the image file; None if that was neither recorded nor there to be read.
        lesion_id, patient_id: as recorded.
        split_group: as recorded; an item without a group is a group of its own, named by its id.
        perceptual_hash: 128 hexadecimal digits, see `skindualgen.data.journal.perceptual_hash`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    isic_id: str
    sha256: str | None = None
    lesion_id: str | None = None
    patient_id: str | None = None
    split_group: str | None = None
    perceptual_hash: str | None = Field(default=None, pattern=HASH_PATTERN)


class TrainingItems(BaseModel):
    """All training items of a generator.

    Attributes:
        items: those of the adapter, of the adapter that it started from, and of the base, as far as these are recorded;
            ordered by id, then hash.
        manifest_sha256: of the adapter's own training records (`skindualgen.data.manifest.manifest_sha256`).
        unrecorded: what else the generator is made of, whose training items are not recorded.
    """

    model_config = ConfigDict(frozen=True)

    items: tuple[TrainingItem, ...]
    manifest_sha256: str
    unrecorded: tuple[str, ...] = ()


def write_training_items(
    folder: Path,
    records: Sequence[PairRecord],
    *,
    root: Path | None = None,
    earlier: Mapping[str, TrainingItems | None] | None = None,
) -> Path:
    """Write ``trained_on.json`` into an existing folder, entirely or not at all.

    Args:
        folder: of an adapter or a base.
        records: the training records.
        root: their data set folder, where the hash of an image is taken that its record does not hold.
        earlier: name -> training items of what the training started from, None where they are not recorded.

    Returns:
        The file.
    """
    earlier = earlier or {}
    items = {training_item(record, root) for record in records}
    unrecorded = {name for name, known in earlier.items() if known is None}
    for known in filter(None, earlier.values()):
        items.update(known.items)
        unrecorded.update(known.unrecorded)
    path = folder / TRAINING_ITEMS_FILE
    atomic_write_text(path, _to_text(items, manifest_sha256(records), sorted(unrecorded)))
    return path


def read_training_items(folder: Path) -> TrainingItems | None:
    """Read ``trained_on.json`` of a folder; None where there is none, as in folders of other makers.

    Raises:
        InputError: the file is damaged, or of a newer version of the schema.
    """
    path = folder / TRAINING_ITEMS_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version == SCHEMA_VERSION:
            rows = [dict(zip(content["columns"], row, strict=True)) for row in content["items"]]
            content["items"] = [_decoded(row) for row in rows]
            return TrainingItems.model_validate(content)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise InputError(
            f"{path}, which cannot be read ({type(error).__name__})",
            "the record of a generator's training items",
            "copy it again from the adapter's folder",
        ) from error
    raise InputError(f"schema version {version!r} in {path}", f"version {SCHEMA_VERSION}", "update skindualgen")


def training_item(record: PairRecord, root: Path | None = None) -> TrainingItem:
    """Return what a record says of its photograph; with ``root``, a hash that it lacks is taken of the file."""
    more: Mapping[str, Any] = record.model_extra or {}
    likeness = str(more.get("perceptual_hash"))
    digest = record.sha256
    if digest is None and root is not None:
        digest = sha256_file(root / record.file_name)
    return TrainingItem(
        isic_id=record.isic_id,
        sha256=digest,
        lesion_id=record.lesion_id,
        patient_id=record.patient_id,
        split_group=str(more.get("split_group") or record.isic_id),
        perceptual_hash=likeness if re.match(HASH_PATTERN, likeness) else None,
    )


def shared_value(item: TrainingItem, field: str) -> str | None:
    """Return a field of an item in the form in which two items are compared; None where it says nothing."""
    value = getattr(item, field)
    return link_value(value) if value is not None and field in LINKS else value


def _to_text(items: Iterable[TrainingItem], manifest: str, unrecorded: Sequence[str]) -> str:
    """One line an item under a row of column names: half the size of a list of objects, and readable."""
    columns = list(TrainingItem.model_fields)
    ordered = sorted(items, key=lambda item: (item.isic_id, item.sha256 or ""))
    rows = [json.dumps(_encoded(item), ensure_ascii=False, separators=(",", ":")) for item in ordered]
    head = {"schema_version": SCHEMA_VERSION, "manifest_sha256": manifest}
    head |= {"unrecorded": list(unrecorded), "columns": columns}
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    return f'{text},\n "items": [\n' + ",\n".join(rows) + "\n ]\n}\n"


def _encoded(item: TrainingItem) -> list[str | None]:
    """The columns of an item: the hash in base64, and no group where it is only the id again."""
    row = item.model_dump()
    if item.perceptual_hash is not None:
        row["perceptual_hash"] = base64.b64encode(bytes.fromhex(item.perceptual_hash)).decode()
    if item.split_group == item.isic_id:
        row["split_group"] = None
    return list(row.values())


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    if row["perceptual_hash"] is not None:
        row["perceptual_hash"] = base64.b64decode(row["perceptual_hash"], validate=True).hex()
    return row | {"split_group": row["split_group"] or row["isic_id"]}
