"""WebDataset: tar shards in which the files of a pair follow each other, image, mask and JSON.

Source: https://github.com/webdataset/webdataset#the-webdataset-format (key and ending part at the first dot).
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import SUFFIXES
from skindualgen.data.sources.base import SPLIT_NAMES
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import FILE_FIELDS, PairWriter, plain_mask
from skindualgen.exchange.shards import read_shards
from skindualgen.provenance import sha256_bytes

DESCRIPTION = "WebDataset tar shards: train-000000.tar with png, mask.png, json"
LOSES = "file names; they are made anew from the ids"
HOLDS_ALL = True
MASK_KEY, RECORD_KEY = "mask.png", "json"


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


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    paths = sorted(source.glob("*.tar"))
    if not paths:
        raise InputError(f"{source} without a tar shard", "files *.tar", "choose the folder or its format")
    writer, records = PairWriter(out), []
    for done, path in enumerate(paths):
        options.report(done, len(paths))
        records += [_add(writer, path, key, files) for key, files in _samples(path)]
    options.report(len(paths), len(paths))
    return records


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and files by ending; one sample is held at a time."""

    def members() -> Iterator[tuple[str, str, bytes]]:
        try:
            with tarfile.open(path, "r|") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isfile() else None
                    if content is not None:
                        pure = PurePosixPath(member.name)
                        key, _, ending = pure.name.partition(".")
                        yield (pure.parent / key).as_posix(), ending.lower(), content.read()
        except tarfile.TarError as error:
            raise InputError(f"{path}: {error}", "a whole tar file", "write it again") from error

    for key, group in itertools.groupby(members(), key=lambda member: member[0]):
        yield key, {ending: data for _, ending, data in group}


def _add(writer: PairWriter, path: Path, key: str, files: dict[str, bytes]) -> PairRecord:
    images = [ending for ending in files if f".{ending}" in SUFFIXES]
    try:
        fields = json.loads(files.get(RECORD_KEY, b"{}"))
        hashes = {name: fields.get(name) for name in FILE_FIELDS}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{key}.{RECORD_KEY} in {path.name}: {error}", "a JSON object", "write it again") from error
    if len(images) != 1:
        raise InputError(f"{len(images)} images of {key} in {path.name}", "one image a sample", "choose one")
    image, mask = files[images[0]], files.get(MASK_KEY)
    for name, data, expected in (("image", image, hashes["sha256"]), ("mask", mask, hashes["mask_sha256"])):
        if data is not None and expected is not None and sha256_bytes(data) != expected:
            raise InputError(f"{name} of {key} in {path.name}, changed", f"SHA-256 {expected}", "restore it")
    stated = {"isic_id": PurePosixPath(key).name}
    if (split := SPLIT_NAMES.get(path.name.split("-")[0])) is not None:
        stated["split"] = split
    described = {name: value for name, value in fields.items() if name not in FILE_FIELDS}
    mask = plain_mask(mask, f"{key}.{MASK_KEY}") if mask is not None else None
    return writer.add({**stated, **described}, image, mask, suffix=f".{images[0]}")
