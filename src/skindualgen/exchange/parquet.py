"""Parquet files with embedded pictures, as the Hugging Face hub shows and `datasets` loads them.

Source: https://huggingface.co/docs/hub/datasets-file-names-and-splits (``data/train-00000-of-00001.parquet``),
https://huggingface.co/docs/datasets/about_dataset_features (a picture is a struct of bytes and path).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.data.sources.base import SPLIT_NAMES
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import PairWriter, plain_mask
from skindualgen.exchange.shards import read_shards
from skindualgen.provenance import sha256_bytes

DESCRIPTION = "Parquet with embedded pictures, for datasets and the Hugging Face hub"
LOSES = "file names; they are made anew from the ids"
HOLDS_ALL = True
HUB_SPLITS: Mapping[Split, str] = {"train": "train", "val": "validation", "test": "test"}
ROWS_IN_GROUP = 100
"""Pairs held in memory at a time, and decoded together by a reader that wants one; the hub's advice for pictures."""
PICTURES = {"image": "file_name", "mask": "mask_file_name"}
"""Column of a picture -> field of its file"""
HASHES = {"image": "sha256", "mask": "mask_sha256"}


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`."""
    parquet = optional_package("pyarrow.parquet")
    schema = _schema(records)
    (out / "data").mkdir()
    for split, index, count, pairs in read_shards(source, records, options):
        path = out / "data" / f"{HUB_SPLITS[split]}-{index:05d}-of-{count:05d}.parquet"
        # As `datasets` writes them: content-defined pages let the hub store what two versions share only once.
        with parquet.ParquetWriter(path, schema, use_content_defined_chunking=True, write_page_index=True) as file:
            rows: list[dict[str, Any]] = []
            for pair in pairs:
                pictures = {"image": _picture(f"{pair.name}{pair.suffix}", pair.image_bytes)}
                if pair.mask_bytes is not None:
                    pictures["mask"] = _picture(f"{pair.name}.png", pair.mask_bytes)
                rows.append({**_columns(pair.record), **pictures})
                if len(rows) == ROWS_IN_GROUP:
                    _write_group(file, schema, rows)
            _write_group(file, schema, rows)
    return {}


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    parquet = optional_package("pyarrow.parquet")
    paths = sorted(source.rglob("*.parquet"))
    if not paths:
        raise InputError(f"{source} without a Parquet file", "files *.parquet", "choose the folder or its format")
    files = [(path, parquet.ParquetFile(path)) for path in paths]
    total, writer = sum(file.metadata.num_rows for _, file in files), PairWriter(out)
    records: list[PairRecord] = []
    for path, file in files:
        if missing := {"image", "isic_id"} - set(file.schema_arrow.names):
            raise InputError(
                f"{path.name} without {', '.join(sorted(missing))}", "columns image and isic_id", "rename the columns"
            )
        for batch in file.iter_batches(batch_size=ROWS_IN_GROUP):
            for row in batch.to_pylist():
                options.report(len(records), total)
                records.append(_add(writer, path, row))
    options.report(total, total)
    return records


def _schema(records: Sequence[PairRecord]) -> Any:
    """Return the schema of all files, whose metadata tell `datasets` which columns are pictures."""
    pyarrow, datasets = optional_package("pyarrow"), optional_package("datasets")
    rows = [_columns(record) for record in records]
    types = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            types[name] = pyarrow.array([row.get(name) for row in rows]).type
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            raise InputError(
                f"values of {name} of several types ({error})", "one type a column", "mend them"
            ) from error
    fields = datasets.Features.from_arrow_schema(pyarrow.schema(types))
    return datasets.Features({**dict.fromkeys(PICTURES, datasets.Image()), **fields}).arrow_schema


def _columns(record: PairRecord) -> dict[str, Any]:
    return record.model_dump(exclude_none=True, exclude=set(PICTURES.values()))


def _picture(name: str, data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": name}


def _write_group(file: Any, schema: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        file.write_table(optional_package("pyarrow").Table.from_pylist(rows, schema=schema))
        rows.clear()


def _add(writer: PairWriter, path: Path, row: dict[str, Any]) -> PairRecord:
    pictures = {column: _content(path, row, column) for column in PICTURES}
    fields = {name: value for name, value in row.items() if value is not None and name not in PICTURES}
    # A struct has all members in all rows: those that a pair lacks are no values of it.
    fields = {name: _without_none(value) for name, value in fields.items()}
    fields = {name: value for name, value in fields.items() if name not in HASHES.values()}
    if (split := SPLIT_NAMES.get(path.name.split("-")[0])) is not None:
        fields.setdefault("split", split)
    image, mask = pictures["image"], pictures["mask"]
    if image is None:
        raise InputError(f"{row['isic_id']} without an image in {path.name}", "embedded pictures", "embed them")
    mask = plain_mask(mask, f"of {row['isic_id']}") if mask is not None else None
    return writer.add(fields, image, mask, suffix=Path((row["image"] or {}).get("path") or ".png").suffix or ".png")


def _content(path: Path, row: dict[str, Any], column: str) -> bytes | None:
    """Return the bytes of a picture, checked against the hash that stands beside it."""
    picture = row.get(column)
    if picture is None:
        return None
    data, expected = picture.get("bytes"), row.get(HASHES[column])
    if data is None:
        raise InputError(f"{row['isic_id']} in {path.name} with a path alone", "embedded pictures", "embed them")
    if expected is not None and sha256_bytes(data) != expected:
        raise InputError(f"{column} of {row['isic_id']} in {path.name}, changed", f"SHA-256 {expected}", "restore it")
    return bytes(data)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value
