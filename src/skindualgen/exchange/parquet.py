"""Parquet files with embedded pictures, as the Hugging Face hub shows and `datasets` loads them.

Source: https://huggingface.co/docs/hub/datasets-file-names-and-splits (``data/train-00000-of-00001.parquet``),
https://huggingface.co/docs/datasets/about_dataset_features (a picture is a struct of bytes and path).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import PairWriter
from skindualgen.exchange.pictures import plain_mask, usual_suffix
from skindualgen.exchange.shards import read_shards
from skindualgen.exchange.source import Source, short, split_of_parts, split_word
from skindualgen.files import sha256_bytes

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


def read(source: Source, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    files = source.named(r".*\.parquet")
    if not files:
        raise InputError(f"{source.root} without a Parquet file", "files *.parquet", "choose the folder or its format")
    tables = {file: _table(source, file) for file in files}
    total, writer = sum(table.metadata.num_rows for table in tables.values()), PairWriter(out)
    records: list[PairRecord] = []
    for file, table in tables.items():
        split = split_word(PurePosixPath(file).name.split("-")[0].removesuffix(".parquet")) or split_of_parts(file)
        for row in _rows(file, table):
            options.report(len(records), total)
            records.append(_add(writer, file, row, split))
        if split is None and "split" not in table.schema_arrow.names:
            source.note(f"{file} states no split: its photographs are of train")
    options.report(total, total)
    return records


def _table(source: Source, file: str) -> Any:
    parquet, pyarrow = optional_package("pyarrow.parquet"), optional_package("pyarrow")
    try:
        table = parquet.ParquetFile(source.take(file))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None
    if missing := {"image", "isic_id"} - set(table.schema_arrow.names):
        raise InputError(
            f"{file} without {', '.join(sorted(missing))}", "columns image and isic_id", "rename the columns"
        )
    return table


def _rows(file: str, table: Any) -> Iterator[dict[str, Any]]:
    pyarrow = optional_package("pyarrow")
    try:
        for batch in table.iter_batches(batch_size=ROWS_IN_GROUP):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: str, error: Exception) -> InputError:
    return InputError(f"{file}: {' '.join(str(error).split())[:200]}", "a whole Parquet file", "write it again")


def _schema(records: Sequence[PairRecord]) -> Any:
    """Return the schema of all files, whose metadata tell `datasets` which columns are pictures."""
    pyarrow, datasets = optional_package("pyarrow"), optional_package("datasets")
    rows = [_columns(record) for record in records]
    types = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            types[name] = pyarrow.array([row.get(name) for row in rows]).type
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            raise InputError(f"values of {name} of several types ({error})", "one type a column", "fix them") from error
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


def _add(writer: PairWriter, file: str, row: dict[str, Any], split: Split | None) -> PairRecord:
    where = f"{short(row['isic_id'])} in {file}"
    pictures = {column: _content(where, row, column) for column in PICTURES}
    fields = {name: value for name, value in row.items() if value is not None and name not in PICTURES}
    # A struct has all members in all rows: those that a pair lacks are no values of it.
    fields = {name: _without_none(value) for name, value in fields.items()}
    fields = {name: value for name, value in fields.items() if name not in HASHES.values()}
    if split is not None:
        fields.setdefault("split", split)
    image, mask = pictures["image"], pictures["mask"]
    if image is None or "isic_id" not in fields:
        raise InputError(f"{where} without an image or an id", "embedded pictures and isic_id", "embed them")
    mask = plain_mask(mask, f"of {where}") if mask is not None else None
    return writer.add(fields, image, mask, suffix=_suffix(row["image"], image, where), where=where)


def _suffix(picture: Any, data: bytes, where: str) -> str:
    """Return the ending of a picture's own name, or that of its format where it has no name."""
    name = picture.get("path") if isinstance(picture, dict) else None
    return PurePosixPath(str(name or "")).suffix.lower() or usual_suffix(data, f"the image of {where}")


def _content(where: str, row: dict[str, Any], column: str) -> bytes | None:
    """Return the bytes of a picture, checked against the hash that stands beside it."""
    picture = row.get(column)
    if picture is None:
        return None
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise InputError(f"{column} of {where} without bytes", "embedded pictures", "embed them")
    expected = row.get(HASHES[column])
    if expected is not None and sha256_bytes(data) != expected:
        raise InputError(f"{column} of {where}, changed", f"SHA-256 {expected}", "restore it")
    return data


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value
