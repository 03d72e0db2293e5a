"""The front matter of a data set card: what `datasets` and the hub's viewer read to load the folder as it is.

Source: huggingface.co/docs/hub/datasets-manual-configuration (``configs``), datasets 5.2 ``utils/metadata.py``.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from skindualgen.contracts import IGNORED_DIR, IMAGES_DIR, MASKS_DIR, METADATA_FILE, InputError, PairRecord
from skindualgen.data.manifest import ALWAYS_WRITTEN

SPLIT_NAMES: Mapping[str, str] = {"train": "train", "val": "validation", "test": "test"}
"""Our split -> the hub's name of it."""

SIZE_LIMITS = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12)
SIZE_NAMES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
    "100B<n<1T",
    "n>1T",
)
"""The hub's names of sizes (``DatasetCardData``)."""

DTYPES: Mapping[type, str] = {bool: "bool", int: "int64", float: "float64", str: "string"}


def size_category(count: int) -> str:
    """The hub's name for a number of records.

    >>> size_category(999), size_category(1000), size_category(250_000)
    ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    return SIZE_NAMES[bisect.bisect_right(SIZE_LIMITS, count)]


def split_file(split: str, splits: Sequence[str]) -> str:
    """The metadata file of one split: the folder's own if there is no other split, so that older loaders read it."""
    return METADATA_FILE if len(splits) == 1 else f"{SPLIT_NAMES[split]}.jsonl"


def dataset_configs(records: Sequence[PairRecord], splits: Sequence[str], root: Path) -> dict[str, Any]:
    """``configs`` and ``dataset_info`` of the card: the first split as the default, every other one by its name.

    One configuration per split, so that held-out photographs do not come unasked; and as `datasets` wants the same
    types in all splits of a configuration, while a column of real photographs may be empty. Types are stated, since
    a loader that guesses them fails where a column's first values are all empty.

    Args:
        records: all records of the folder.
        splits: the splits in it, as in the records.
        root: the folder.

    Raises:
        InputError: a column whose values are of different types.
    """
    configs, infos = [], []
    for split in splits:
        chosen = [record for record in records if record.split == split]
        features, name = features_of(records), "default" if split == splits[0] else SPLIT_NAMES[split]
        config: dict[str, Any] = {"config_name": name, "data_files": _files(split, splits, chosen)}
        if len(splits) > 1:
            config |= {"default": name == "default", "metadata_filenames": [split_file(split, splits)]}
        configs.append({**config, "features": features})
        size = sum(_bytes(record, root) for record in chosen)
        counts = {"name": SPLIT_NAMES[split], "num_bytes": size, "num_examples": len(chosen)}
        info: dict[str, Any] = {"config_name": name, "features": deepcopy(features), "splits": [counts]}
        infos.append({**info, "download_size": size, "dataset_size": size})
    return {"configs": configs, "dataset_info": infos[0] if len(infos) == 1 else infos}


def _files(split: str, splits: Sequence[str], records: Sequence[PairRecord]) -> list[dict[str, Any]]:
    further = {"mask_file_name": MASKS_DIR, "ignore_file_name": IGNORED_DIR}
    named = [field for field in further if any(getattr(record, field) is not None for record in records)]
    folders = [IMAGES_DIR, *(further[field] for field in named)]
    return [{"split": SPLIT_NAMES[split], "path": [split_file(split, splits), *(f"{folder}/*" for folder in folders)]}]


def _bytes(record: PairRecord, root: Path) -> int:
    return sum((root / name).stat().st_size for name in record.files)


def features_of(records: Sequence[PairRecord]) -> list[dict[str, Any]]:
    """The columns of ``metadata.jsonl`` by the types of their values; ``file_name`` is the column ``image``.

    Raises:
        InputError: a column whose values are of different types.
    """
    columns: dict[str, Any] = {}
    for record in records:
        for key, value in record.model_dump(exclude_none=True).items():
            columns[key] = _joined(columns.get(key), _dtype(value))
    for key in ALWAYS_WRITTEN:
        columns.setdefault(key, "string")
    ordered = [key for key in PairRecord.model_fields if key in columns]
    ordered += sorted(set(columns) - set(ordered))
    return [_named(key, columns[key]) for key in ordered]


def _named(key: str, dtype: Any) -> dict[str, Any]:
    if key == "file_name":
        return {"name": "image", "dtype": "image"}
    if key.endswith("_file_name"):  # how imagefolder names a second picture
        return {"name": key.removesuffix("_file_name"), "dtype": "image"}
    if isinstance(dtype, dict):
        return {"name": key, "struct": [_named(name, inner) for name, inner in sorted(dtype.items())]}
    if isinstance(dtype, list):
        return {"name": key, "list": dtype[0]}
    return {"name": key, "dtype": dtype}


def _dtype(value: Any) -> Any:
    """The type of a JSON value: a name, a dict of names of an object, a list with one name of a list."""
    if isinstance(value, dict):
        return {key: _dtype(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_dtype(value[0]) if value else "string"]
    return DTYPES[type(value)]


def _joined(first: Any, second: Any) -> Any:
    """The type that holds values of both; an integer and a fraction are a fraction."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {key: _joined(first.get(key), second.get(key)) for key in {**first, **second}}
    if first is None or second is None or first == second:
        return second if first is None else first
    if {str(first), str(second)} == {"int64", "float64"}:
        return "float64"
    raise InputError(f"a column of {first} and {second}", "one type in each column", "fix metadata.jsonl")
