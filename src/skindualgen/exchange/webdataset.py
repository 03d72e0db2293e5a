"""WebDataset: tar shards in which the files of a pair follow each other, image, masks and JSON.

Source: https://github.com/webdataset/webdataset#the-webdataset-format (key and ending part at the first dot).
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from skindualgen.contracts import FILE_FIELDS, HASH_FIELDS, InputError, PairRecord, Split
from skindualgen.data.images import SUFFIXES
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted, optional_package
from skindualgen.exchange.pairs import CLASSES_FIELD, Pair, read_shards, with_classes
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.source import Source, split_of_parts, split_word
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import sha256_bytes

DESCRIPTION = "WebDataset tar shards: train-000000.tar with png, mask.png, json"
LOSES = "file names; they are made anew from the ids"
HOLDS_ALL = True
HOLDS_IGNORED = True
IMAGE_KEY, MASK_KEY, IGNORED_KEY, RECORD_KEY, CAPTION_KEY = "png", "mask.png", "ignore.png", "json", "txt"
"""Endings of a pair's files; an image may have another one."""
KEYS = {MASK_KEY, IGNORED_KEY, RECORD_KEY, CAPTION_KEY}
READ = f"a picture, {MASK_KEY}, {IGNORED_KEY}, {RECORD_KEY}, {CAPTION_KEY}"


class Entry(NamedTuple):
    """A member of a tar; its content is None where it was passed over, or where it is no plain file."""

    name: str
    key: str
    ending: str
    content: bytes | None
    plain: bool


# --- tar files ---


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]], *, mtime: float = 0) -> None:
    """Write samples, each a key with its files by their endings; equal samples give equal bytes.

    Raises:
        InputError: webdataset is not installed.
    """
    webdataset = optional_package("webdataset")
    with path.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=mtime) as writer:
        for key, files in samples:
            writer.write({"__key__": key, **files})


def read_tar(path: Path, name: str, *, only: str | None = None) -> Iterator[Entry | InputError]:
    """Yield the members of a tar one after the other, and at the end what is wrong with it, if anything is.

    `tarfile` alone takes a damaged header for the end; here the members behind it are found again.

    Args:
        path: the file.
        name: how messages call it.
        only: ending of the members whose content is read; None: of all. The others are passed over, which takes a
            fraction of the time.
    """
    size, start, ended, last, broken = path.stat().st_size, 0, False, "its beginning", ""
    with path.open("rb") as file:
        while start < size:
            begin = start
            file.seek(start)
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    while (member := archive.next()) is not None:
                        archive.members.clear()  # type: ignore[attr-defined]  # it would keep each of them
                        start = max(start, member.offset_data)  # where to go on if this one is damaged
                        yield _entry(archive, member, size, only)
                        start, last = max(start, archive.offset), member.name
                    start = max(start, archive.offset)
            # Damaged archives raise more than TarError: OSError, ValueError, EOFError, ...
            except Exception as error:
                broken = broken or f"behind {last}: {error}"
                start = max(start, begin + tarfile.BLOCKSIZE)
                start += -start % tarfile.BLOCKSIZE
                continue
            file.seek(start)
            block = file.read(tarfile.BLOCKSIZE)
            if block.strip(b"\0") or (len(block) < tarfile.BLOCKSIZE and not ended):
                broken = broken or f"behind {last}: cut short or damaged at byte {start}"
            ended = ended or block == bytes(tarfile.BLOCKSIZE)
            start += tarfile.BLOCKSIZE
    if broken or not size:
        yield InputError(
            f"{name}, which cannot be read {broken or '(it is empty)'}", "a whole tar file", "write it again"
        )


def whole_tar(path: Path, name: str) -> Iterator[Entry]:
    """As `read_tar`, of a tar that must be whole.

    Raises:
        InputError: what is wrong with it.
    """
    for entry in read_tar(path, name):
        if isinstance(entry, InputError):
            raise entry
        yield entry


def samples(entries: Iterable[Entry]) -> Iterator[tuple[str, Iterator[Entry]]]:
    """Yield each key with its entries, which follow each other; they must be taken before the next key."""
    return groupby(entries, key=lambda entry: entry.key)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, size: int, only: str | None) -> Entry:
    pure = PurePosixPath(member.name)
    stem, _, ending = pure.name.partition(".")
    plain = member.isfile() and not member.issparse()
    if plain and not 0 <= member.size <= size - member.offset_data:
        raise tarfile.ReadError(f"cut short in {member.name}")
    stream = archive.extractfile(member) if plain and only in (None, ending) else None
    return Entry(member.name, (pure.parent / stem).as_posix(), ending, stream.read() if stream else None, plain)


# --- the format ---


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`; equal pairs give equal bytes, as no time is stored."""
    for split, index, _, pairs in read_shards(
        source, with_classes(source, records), options.shard_size, options.report
    ):
        write_tar(out / f"{split}-{index:06d}.tar", map(_sample, pairs))
    return {}


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`."""
    files = source.named(r".*\.tar")
    if not files:
        compressed = source.named(r".*\.(tar\..*|tgz)")
        hint = f", but with {compressed[0]}: compressed" if compressed else ""
        raise InputError(f"{source.root} without a tar shard{hint}", "files *.tar", "unpack or choose another format")
    for file in counted(files, options.report):
        split = split_word(PurePosixPath(file).name.split("-")[0].removesuffix(".tar")) or split_of_parts(file)
        unread: Counter[str] = Counter()
        for key, entries in samples(_members(source, file)):
            contents: dict[str, bytes] = {}
            for entry in entries:
                ending = entry.ending.lower()
                if ending in contents:
                    raise InputError(f"a second {key}.{ending} in {file}", "each file once", "write the shard again")
                contents[ending] = entry.content or b""
            unread.update(ending for ending in contents.keys() - KEYS if not _picture(ending))
            pair = _found(source, file, key, contents, split)
            if "split" not in pair.fields:
                source.note(f"{file} states no split: its photographs are of train")
            yield pair
        for ending, count in sorted(unread.items()):
            source.leave_out(file, "other_file", f"{count} files .{ending}; read are {READ}")


def _sample(pair: Pair) -> tuple[str, dict[str, bytes]]:
    text = pair.record.model_dump_json(exclude_none=True, exclude=set(HASH_FIELDS))
    further = {MASK_KEY: pair.mask_bytes, IGNORED_KEY: pair.ignored_bytes}
    masks = {key: content for key, content in further.items() if content is not None}
    return pair.name, {pair.suffix[1:]: pair.image_bytes, RECORD_KEY: text.encode(), **masks}


def _picture(ending: str) -> bool:
    return f".{ending}" in SUFFIXES


def _members(source: Source, file: str) -> Iterator[Entry]:
    """Yield the files of a shard, hidden ones left out.

    Raises:
        InputError: it is damaged or cut short, or a path leads out of it.
    """
    for entry in whole_tar(source.take(file), file):
        pure = PurePosixPath(entry.name)
        if pure.is_absolute() or ".." in pure.parts:
            raise InputError(f"{entry.name} in {file}", "paths inside the shard", "write the shard again")
        if entry.name.endswith("/") or any(part.startswith(".") for part in pure.parts):
            continue
        if entry.content is None:
            source.leave_out(file, "other_file", f"{entry.name}, which is no plain file")
            continue
        yield entry


def _caption(data: bytes | None, where: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompt that the text next to a picture is, as tools of text and pictures write it.

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


def _found(source: Source, file: str, key: str, files: Mapping[str, bytes], split: Split | None) -> FoundPair:
    images = [ending for ending in files if _picture(ending)]
    where = f"{key} in {file}"
    try:
        fields = json.loads(files.get(RECORD_KEY, b"{}"))
        hashes = {name: fields.get(name) for name in FILE_FIELDS}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{key}.{RECORD_KEY} in {file}: {error}", "a JSON object", "write it again") from error
    if len(images) != 1:
        raise InputError(f"{len(images)} images of {where}", "one image per sample", "choose one")
    image, mask, ignored = files[images[0]], files.get(MASK_KEY), files.get(IGNORED_KEY)
    contents = zip(("image", "mask", "ignored pixels"), (image, mask, ignored), HASH_FIELDS.values(), strict=True)
    for name, data, expected in ((name, data, hashes[field]) for name, data, field in contents):
        if data is not None and expected is not None and sha256_bytes(data) != expected:
            raise InputError(f"{name} of {where}, changed", f"SHA-256 {expected}", "restore it")
    stated: dict[str, Any] = {"isic_id": PurePosixPath(key).name}
    if split is not None:
        stated["split"] = split
    stated |= _caption(files.get(CAPTION_KEY), where, fields)
    described = {name: value for name, value in fields.items() if name not in FILE_FIELDS}
    classes = source.mask_classes(described.pop(CLASSES_FIELD, None), where)
    mask = plain_mask(mask, f"{key}.{MASK_KEY} in {file}", classes) if mask is not None else None
    ignored = plain_mask(ignored, f"{key}.{IGNORED_KEY} in {file}") if ignored is not None else None
    return FoundPair({**stated, **described}, image, mask, where, f".{images[0]}", classes, ignored)
