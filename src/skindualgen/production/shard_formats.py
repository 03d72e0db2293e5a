"""Pairs as files: tar shards by webdataset, Parquet with embedded images by pyarrow; equal pairs, equal bytes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from skindualgen.contracts import InputError, PairRecord
from skindualgen.production.chunk import FinishedPair

ShardFormat = Literal["webdataset", "parquet"]

IMAGE_KEY, MASK_KEY, RECORD_KEY = "png", "mask.png", "json"
"""Endings of a pair's files in a tar shard; `skindualgen.exchange.tar_shards` has the same."""

PARQUET_COLUMNS: Mapping[str, str] = {
    "isic_id": "string",
    "prompt": "string",
    "diagnosis": "string",
    "benign_malignant": "string",
    "age_approx": "int64",
    "sex": "string",
    "anatom_site_general": "string",
    "skin_tone": "string",
    "split": "string",
    "origin": "string",
    "source": "string",
    "license": "string",
    "sha256": "string",
    "mask_sha256": "string",
    "seed": "int64",
    "plan_row": "int64",
    "attempt": "int64",
    "extrapolation": "bool",
    "adapter_sha256": "string",
    "base_sha256": "string",
    "num_inference_steps": "int64",
    "guidance_scale": "float64",
    "scores_json": "string",
}
"""Columns beside ``image`` and ``mask``, and their types; scores as JSON, as their names are the gate's and need not be
the same in all shards."""


def write_tar(path: Path, chunks: Iterable[Iterable[FinishedPair]]) -> None:
    """Write pairs as a WebDataset tar: ``<id>.png``, ``<id>.mask.png``, ``<id>.json`` for each.

    Raises:
        InputError: webdataset is not installed.
    """
    webdataset = optional_package("webdataset")
    with path.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0.0) as writer:
        for chunk in chunks:
            for pair in chunk:
                record = pair.record.model_dump_json(exclude_none=True).encode()
                members = {IMAGE_KEY: pair.image, MASK_KEY: pair.mask, RECORD_KEY: record}
                writer.write({"__key__": pair.record.isic_id, **members})


def read_tar(path: Path) -> Iterator[FinishedPair]:
    """Read back what `write_tar` has written, a pair at a time."""
    with tarfile.open(path, "r|") as archive:
        members: dict[str, bytes] = {}
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None  # only files are written
            members[entry.name.partition(".")[2]] = content.read()
            if len(members) == 3:
                record = PairRecord.model_validate_json(members[RECORD_KEY])
                yield FinishedPair(record, members[IMAGE_KEY], members[MASK_KEY])
                members = {}


def write_parquet(path: Path, chunks: Iterable[Iterable[FinishedPair]]) -> None:
    """Write pairs as Parquet, a row group a chunk, with image and mask as `datasets` embeds them.

    Raises:
        InputError: datasets is not installed.
    """
    datasets, parquet, pyarrow = (
        optional_package("datasets"),
        optional_package("pyarrow.parquet"),
        optional_package("pyarrow"),
    )
    pictures = {"image": datasets.Image(), "mask": datasets.Image()}
    columns = {name: datasets.Value(kind) for name, kind in PARQUET_COLUMNS.items()}
    schema = datasets.Features({**pictures, **columns}).arrow_schema
    # As `datasets` writes them: content-defined pages let the hub store what two versions share only once.
    with parquet.ParquetWriter(path, schema, use_content_defined_chunking=True, write_page_index=True) as writer:
        for chunk in chunks:
            rows = [_row(pair) for pair in chunk]
            if rows:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))


WRITERS: Mapping[ShardFormat, tuple[str, Callable[[Path, Iterable[Iterable[FinishedPair]]], None]]] = {
    "webdataset": (".tar", write_tar),
    "parquet": (".parquet", write_parquet),
}
"""Format -> the ending of its files, and what writes them."""


def _row(pair: FinishedPair) -> dict[str, Any]:
    record = pair.record
    fields = record.model_dump(include=set(PARQUET_COLUMNS))
    fields["scores_json"] = None if record.scores is None else json.dumps(record.scores, sort_keys=True)
    image = {"bytes": pair.image, "path": Path(record.file_name).name}
    mask = {"bytes": pair.mask, "path": Path(str(record.mask_file_name)).name}
    return {"image": image, "mask": mask, **fields}


def optional_package(name: str) -> ModuleType:
    """Import a package that only shards need.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"no {name} ({error})", "what shards need", "pip install 'skindualgen[scale]'") from error
