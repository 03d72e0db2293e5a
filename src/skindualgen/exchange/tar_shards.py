"""WebDataset: tar shards in which the files of a pair follow each other, image, mask and JSON.

Source: https://github.com/webdataset/webdataset#the-webdataset-format (key and ending part at the first dot).
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.data.images import SUFFIXES
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import FILE_FIELDS, PairWriter
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.shards import read_shards
from skindualgen.exchange.source import Source, split_of_parts, split_word
from skindualgen.files import sha256_bytes

DESCRIPTION = "WebDataset tar shards: train-000000.tar with png, mask.png, json"
LOSES = "file names; they are made anew from the ids"
HOLDS_ALL = True
MASK_KEY, RECORD_KEY, CAPTION_KEY = "mask.png", "json", "txt"
KEYS = {MASK_KEY, RECORD_KEY, CAPTION_KEY}
READ = f"a picture, {MASK_KEY}, {RECORD_KEY}, {CAPTION_KEY}"


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`; equal pairs give equal bytes, as no time is stored."""
    webdataset = optional_package("webdataset")
    for split, index, _, pairs in read_shards(source, records, options):
        with (
            (out / f"{split}-{index:06d}.tar").open("wb") as file,
            webdataset.TarWriter(file, encoder=False, mtime=0) as shard,
        ):
            for pair in pairs:
                text = pair.record.model_dump_json(exclude_none=True, exclude={"file_name", "mask_file_name"})
                files = {"__key__": pair.name, pair.suffix[1:]: pair.image_bytes, RECORD_KEY: text.encode()}
                if pair.mask_bytes is not None:
                    files[MASK_KEY] = pair.mask_bytes
                shard.write(files)
    return {}


def read(source: Source, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    files = source.named(r".*\.tar")
    if not files:
        compressed = source.named(r".*\.(tar\..*|tgz)")
        besides = f", but with {compressed[0]}: compressed" if compressed else ""
        raise InputError(
            f"{source.root} without a tar shard{besides}", "files *.tar", "unpack or choose another format"
        )
    writer, records = PairWriter(out), []
    for done, file in enumerate(files):
        options.report(done, len(files))
        split = split_word(PurePosixPath(file).name.split("-")[0].removesuffix(".tar")) or split_of_parts(file)
        unread: Counter[str] = Counter()
        for key, contents in _samples(source, file):
            unread.update(ending for ending in contents.keys() - KEYS if not _picture(ending))
            record = _add(writer, file, key, contents, split)
            records.append(record)
            if split is None and "split" not in record.model_fields_set:
                source.note(f"{file} states no split: its photographs are of train")
        for ending, count in sorted(unread.items()):
            source.leave_out(file, "other_file", f"{count} files .{ending}; read are {READ}")
    options.report(len(files), len(files))
    return records


def _picture(ending: str) -> bool:
    return f".{ending}" in SUFFIXES


def _samples(source: Source, file: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and files by ending; one sample is held at a time."""
    for key, group in itertools.groupby(_members(source, file), key=lambda member: member[0]):
        contents: dict[str, bytes] = {}
        for _, ending, data in group:
            if ending in contents:
                raise InputError(f"a second {key}.{ending} in {file}", "each file once", "write the shard again")
            contents[ending] = data
        yield key, contents


def _members(source: Source, file: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield key, ending and content of the files of a shard, hidden ones left out.

    Raises:
        InputError: damaged, or cut short: `tarfile` takes a damaged header in the middle for the end.
    """
    size = source.take(file).stat().st_size
    try:
        with tarfile.open(source.root / file, "r:") as tar:
            for member in tar:
                pure = PurePosixPath(member.name)
                if pure.is_absolute() or ".." in pure.parts:
                    raise InputError(f"{member.name} in {file}", "paths inside the shard", "write the shard again")
                if member.isdir() or any(part.startswith(".") for part in pure.parts):
                    continue
                if member.isfile() and member.offset_data + (0 if member.issparse() else member.size) > size:
                    raise InputError(
                        f"{file}, which is cut short in {member.name}", "a whole tar file", "write it again"
                    )
                content = tar.extractfile(member) if member.isfile() and not member.issparse() else None
                if content is None:
                    source.leave_out(file, "other_file", f"{member.name}, which is no plain file")
                    continue
                key, _, ending = pure.name.partition(".")
                yield (pure.parent / key).as_posix(), ending.lower(), content.read()
            end = tar.offset
        with (source.root / file).open("rb") as raw:
            raw.seek(end)
            if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise InputError(
                    f"{file}, which is cut short or damaged at byte {end}", "a whole tar file", "write it again"
                )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{file}: {error}", "a whole tar file", "write it again") from error


def _caption(data: bytes | None, where: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompt that the text beside a picture is, as tools of text and pictures write it.

    Raises:
        InputError: no text, or another than the record's.
    """
    if data is None:
        return {}
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(f"{CAPTION_KEY} of {where}, which is not UTF-8", "text in UTF-8", "write it again") from None
    if fields.get("prompt") not in (None, text):
        raise InputError(f"{CAPTION_KEY} of {where}, another text than its prompt", "one text", "remove one of them")
    return {"prompt": text} if text else {}


def _add(writer: PairWriter, file: str, key: str, files: dict[str, bytes], split: Split | None) -> PairRecord:
    images = [ending for ending in files if _picture(ending)]
    where = f"{key} in {file}"
    try:
        fields = json.loads(files.get(RECORD_KEY, b"{}"))
        hashes = {name: fields.get(name) for name in FILE_FIELDS}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{key}.{RECORD_KEY} in {file}: {error}", "a JSON object", "write it again") from error
    if len(images) != 1:
        raise InputError(f"{len(images)} images of {where}", "one image a sample", "choose one")
    image, mask = files[images[0]], files.get(MASK_KEY)
    for name, data, expected in (("image", image, hashes["sha256"]), ("mask", mask, hashes["mask_sha256"])):
        if data is not None and expected is not None and sha256_bytes(data) != expected:
            raise InputError(f"{name} of {where}, changed", f"SHA-256 {expected}", "restore it")
    stated: dict[str, Any] = {"isic_id": PurePosixPath(key).name}
    if split is not None:
        stated["split"] = split
    stated |= _caption(files.get(CAPTION_KEY), where, fields)
    described = {name: value for name, value in fields.items() if name not in FILE_FIELDS}
    mask = plain_mask(mask, f"{key}.{MASK_KEY} in {file}") if mask is not None else None
    return writer.add({**stated, **described}, image, mask, suffix=f".{images[0]}", where=where)
