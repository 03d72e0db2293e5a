"""Parquet files with embedded pictures, as the Hugging Face hub shows and `datasets` loads them.

Source: https://huggingface.co/docs/hub/datasets-file-names-and-splits (``data/train-00000-of-00001.parquet``),
https://huggingface.co/docs/datasets/about_dataset_features (a picture is a struct of bytes and path).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from skindualgen.contracts import HASH_FIELDS, InputError, PairRecord, Split
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, optional_package
from skindualgen.exchange.pairs import CLASSES_FIELD, Pair, read_shards, with_classes
from skindualgen.exchange.pictures import plain_mask, usual_suffix
from skindualgen.exchange.source import Source, short, split_of_parts, split_word
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import sha256_bytes

DESCRIPTION = "Parquet with embedded pictures, for datasets and the Hugging Face hub"
LOSES = "file names; they are made anew from the ids"
HOLDS_ALL = True
HOLDS_IGNORED = True
HUB_SPLITS: Mapping[Split, str] = {"train": "train", "val": "validation", "test": "test"}
ROWS_IN_GROUP = 100
"""Pairs held in memory at a time, and decoded together by a reader that wants one; the hub's advice for pictures."""
PICTURES = {"image": "file_name", "mask": "mask_file_name"}
"""Column of a picture -> field of its file; all files of pairs have these columns."""
IGNORED_COLUMN = "ignore"
"""Column of ignored pixels, in files of pairs that have any."""
ALL_PICTURES = {**PICTURES, IGNORED_COLUMN: "ignore_file_name"}
GENERATED_COLUMNS: Mapping[str, str] = {
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
    "further_json": "string",
}
"""Columns of generated pairs' shards next to the pictures, and their types; as JSON the scores, whose names are the
gate's and need not be the same in all shards, and what a record says beyond these columns."""


ADDED_LATER = "further_json"
"""The column that shards of version 0.1.0 lack."""


def generated_columns(record: PairRecord) -> dict[str, Any]:
    """Return what a record says, as `GENERATED_COLUMNS` hold it."""
    scores, known = record.scores, {*GENERATED_COLUMNS, *HASH_FIELDS, "scores"}
    further = record.model_dump(exclude_none=True, exclude=known)
    as_json = {"scores_json": scores, "further_json": further or None}
    texts = {name: None if value is None else json.dumps(value, sort_keys=True) for name, value in as_json.items()}
    return record.model_dump(include=set(GENERATED_COLUMNS)) | texts


def generated_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record from the columns that `generated_columns` gives; None is left out.

    Raises:
        ValueError: a text that is no JSON object.
    """
    fields = {name: value for name, value in row.items() if value is not None}
    found = {name: json.loads(fields.pop(name, "{}")) for name in ("scores_json", "further_json")}
    if not all(isinstance(value, dict) for value in found.values()):
        raise ValueError("a list, text or number where an object is expected")
    return found["further_json"] | fields | ({"scores": found["scores_json"]} if found["scores_json"] else {})


def picture_schema(columns: Mapping[str, Any], pictures: Iterable[str] = PICTURES) -> Any:
    """Return the schema of pairs, whose metadata tell `datasets` which columns are pictures.

    Args:
        columns: name -> feature of `datasets` of the other columns.
        pictures: names of the columns of pictures.
    """
    datasets = optional_package("datasets")
    return datasets.Features({**dict.fromkeys(pictures, datasets.Image()), **columns}).arrow_schema


def picture(name: str, data: bytes) -> dict[str, Any]:
    """Return a picture as `datasets` embeds it."""
    return {"bytes": data, "path": name}


def write_table(path: Path, schema: Any, groups: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Write rows as Parquet, group by group; equal rows give equal bytes.

    Raises:
        InputError: pyarrow is not installed.
    """
    parquet, pyarrow = optional_package("pyarrow.parquet"), optional_package("pyarrow")
    # As `datasets` writes them: content-defined pages let the hub store what two versions share only once.
    with parquet.ParquetWriter(path, schema, use_content_defined_chunking=True, write_page_index=True) as file:
        for rows in groups:
            if rows:
                file.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), row_group_size=len(rows))


def open_table(path: Path, name: str, required: Iterable[str]) -> Any:
    """Open a Parquet file; ``name`` is how messages call it.

    Raises:
        InputError: it is damaged, or a column is missing.
    """
    parquet = optional_package("pyarrow.parquet")
    try:
        table = parquet.ParquetFile(path)
    except Exception as error:  # damaged files raise ArrowException, OSError, ValueError, ...
        raise _damaged(name, error) from None
    if missing := sorted(set(required) - set(table.schema_arrow.names)):
        columns = ", ".join(missing)
        raise InputError(
            f"{name} without {columns}", f"the columns {', '.join(sorted(required))}", "rename the columns"
        )
    return table


def read_rows(
    table: Any, name: str, group: int | None = None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of an open table, or of one of its groups, a few held at a time.

    Raises:
        InputError: they cannot be read.
    """
    groups = None if group is None else [group]
    try:
        for batch in table.iter_batches(batch_size=ROWS_IN_GROUP, row_groups=groups, columns=columns):
            yield from batch.to_pylist()
    except Exception as error:  # as in `open_table`
        raise _damaged(name, error) from None


def _next_group(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(islice(rows, ROWS_IN_GROUP))


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    records = with_classes(source, records)
    schema = _schema(records)
    (out / "data").mkdir()
    for split, index, count, pairs in read_shards(source, records, options.shard_size, options.report):
        path = out / "data" / f"{HUB_SPLITS[split]}-{index:05d}-of-{count:05d}.parquet"
        rows = map(_row, pairs)
        write_table(path, schema, iter(partial(_next_group, rows), []))
    return {}


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`."""
    files = source.named(r".*\.parquet")
    if not files:
        raise InputError(f"{source.root} without a Parquet file", "files *.parquet", "choose the folder or its format")
    tables = {file: open_table(source.take(file), file, ("image", "isic_id")) for file in files}
    done, total = 0, sum(table.metadata.num_rows for table in tables.values())
    for file, table in tables.items():
        split = split_word(PurePosixPath(file).name.split("-")[0].removesuffix(".parquet")) or split_of_parts(file)
        for row in read_rows(table, file):
            options.report(done, total)
            yield _found(source, file, row, split)
            done += 1
        if split is None and "split" not in table.schema_arrow.names:
            source.note(f"{file} states no split: its photographs are of train")
    options.report(total, total)


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: {' '.join(str(error).split())[:200]}", "a whole Parquet file", "write it again")


def _schema(records: Sequence[PairRecord]) -> Any:
    """Return the schema of all files of an export."""
    pyarrow, datasets = optional_package("pyarrow"), optional_package("datasets")
    rows = [_columns(record) for record in records]
    types = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            types[name] = pyarrow.array([row.get(name) for row in rows]).type
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            got = f"values of {name} of several types ({error})"
            raise InputError(got, "one type per column", "fix them") from error
    ignored = any(record.ignore_file_name is not None for record in records)
    return picture_schema(
        datasets.Features.from_arrow_schema(pyarrow.schema(types)), ALL_PICTURES if ignored else PICTURES
    )


def _columns(record: PairRecord) -> dict[str, Any]:
    return record.model_dump(exclude_none=True, exclude=set(HASH_FIELDS))


def _row(pair: Pair) -> dict[str, Any]:
    further = {"mask": pair.mask_bytes, IGNORED_COLUMN: pair.ignored_bytes}
    masks = {name: picture(f"{pair.name}.png", content) for name, content in further.items() if content is not None}
    return {**_columns(pair.record), "image": picture(f"{pair.name}{pair.suffix}", pair.image_bytes), **masks}


def _found(source: Source, file: str, row: dict[str, Any], split: Split | None) -> FoundPair:
    where = f"{short(row['isic_id'])} in {file}"
    held = [*PICTURES, *([IGNORED_COLUMN] if isinstance(row.get(IGNORED_COLUMN), dict | bytes) else [])]
    pictures = {column: _content(where, row, column) for column in held}
    fields = {name: value for name, value in row.items() if value is not None and name not in held}
    # A struct has all members in all rows: those that a pair lacks are no values of it.
    fields = {name: _without_none(value) for name, value in fields.items()}
    try:
        fields = generated_fields(fields)
    except (ValueError, TypeError) as error:
        raise InputError(f"scores_json or further_json of {where} ({error})", "JSON objects", "restore it") from None
    fields = {name: value for name, value in fields.items() if name not in HASH_FIELDS.values()}
    if split is not None:
        fields.setdefault("split", split)
    image, mask, ignored = (pictures.get(column) for column in ALL_PICTURES)
    if image is None or "isic_id" not in fields:
        raise InputError(f"{where} without an image or an id", "embedded pictures and isic_id", "embed them")
    classes = source.mask_classes(fields.pop(CLASSES_FIELD, None), where)
    mask = plain_mask(mask, f"of {where}", classes) if mask is not None else None
    ignored = plain_mask(ignored, f"of ignored pixels of {where}") if ignored is not None else None
    return FoundPair(fields, image, mask, where, _suffix(row["image"], image, where), classes, ignored)


def _suffix(picture: Any, data: bytes, where: str) -> str:
    """Return the ending of a picture's own name, or that of its format where it has no name."""
    name = picture.get("path") if isinstance(picture, dict) else None
    return PurePosixPath(str(name or "")).suffix.lower() or usual_suffix(data, f"the image of {where}")


def _content(where: str, row: dict[str, Any], column: str) -> bytes | None:
    """Return the bytes of a picture, checked against the hash next to it."""
    picture = row.get(column)
    if picture is None:
        return None
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise InputError(f"{column} of {where} without bytes", "embedded pictures", "embed them")
    expected = row.get(HASH_FIELDS[ALL_PICTURES[column]])
    if expected is not None and sha256_bytes(data) != expected:
        raise InputError(f"{column} of {where}, changed", f"SHA-256 {expected}", "restore it")
    return data


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return value
