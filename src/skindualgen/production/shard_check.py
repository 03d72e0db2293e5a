"""Verification of a folder of shards: every pair read back, and what the folder says of its shards and records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, InputError, PairRecord
from skindualgen.credentials.c2pa import check_anchors
from skindualgen.credentials.checks import Report, check_pairs, check_totals, check_training_items
from skindualgen.credentials.deviations import Deviation, Tally
from skindualgen.credentials.pair_check import PairFindings, check_pair
from skindualgen.credentials.register import Register
from skindualgen.credentials.verify import SHEET_FILE, THUMBNAILS_DIR
from skindualgen.data.images import SUFFIXES
from skindualgen.data.manifest import read_dataset_info
from skindualgen.files import sha256_file
from skindualgen.production.shard_formats import IMAGE_KEY, MASK_KEY
from skindualgen.production.shard_reading import SHARD_SUFFIXES, StoredPair, read_shard
from skindualgen.production.shards import SHARDS_DIR


class ShardRecord(BaseModel):
    """What ``dataset.json`` says of a shard: its file, its number of pairs, and the file's size and hash."""

    name: str
    pairs: int
    bytes: int
    sha256: str


@dataclass
class _Folder:
    """A folder of shards.

    Attributes:
        root: the data set folder.
        paths: name -> file of each shard that is there.
        info: ``dataset.json``; None if it cannot be read.
        listed: name -> what is recorded of each shard; None if nothing is.
        pairs: name -> pairs that were found in it.
    """

    root: Path
    paths: dict[str, Path]
    info: Mapping[str, Any] | None = None
    listed: dict[str, ShardRecord] | None = None
    pairs: Counter[str] = field(default_factory=Counter)

    def stored(self, *, pictures: bool) -> Iterator[tuple[str, StoredPair | Deviation]]:
        """What all shards hold, each with the name of its shard."""
        for name, path in self.paths.items():
            for found in read_shard(path, f"{SHARDS_DIR}/{name}", pictures=pictures):
                yield name, found

    def records(self) -> Iterator[PairRecord]:
        """All records that can be read."""
        for _, found in self.stored(pictures=False):
            if isinstance(found, StoredPair) and found.record is not None:
                yield found.record


def in_shards(root: Path) -> bool:
    """Whether a data set folder holds its pairs in shards, as ``skindualgen generate --shards`` writes it."""
    return (root / SHARDS_DIR).is_dir() and not (root / METADATA_FILE).exists()


def verify_shards(
    root: Path,
    *,
    workers: int = 1,
    anchors: Path | None = None,
    tally: Tally | None = None,
    report: Report = lambda done, total: None,
) -> Iterator[Deviation]:
    """Yield everything in a folder of shards that is not as its records, ``dataset.json`` and the files say.

    As `skindualgen.credentials.verify.verify_folder`; pairs are named by shard and id. The records are those in the
    shards, so their own hashes are checked, and all of them against the hash and counts in ``dataset.json``. Memory
    hardly grows with the number of pairs: shards are read pair by pair, names stand on disk.

    Args:
        root: a folder of ``skindualgen generate --shards``.
        workers: threads that check pairs.
        anchors: PEM file of root certificates that content credentials are trusted by; none are otherwise.
        tally: takes the numbers.
        report: progress.

    Raises:
        InputError: ``root`` holds no shard, or ``anchors`` cannot be read.
    """
    found = sorted((root / SHARDS_DIR).iterdir()) if in_shards(root) else []
    paths = {path.name: path for path in found if path.suffix in SHARD_SUFFIXES and path.is_file()}
    folder = _Folder(root, {name: path for name, path in paths.items() if not name.startswith(".")})
    if not folder.paths:
        raise InputError(
            f"{root} without a shard", "a folder as `skindualgen generate --shards` writes it", "check the path"
        )
    trusted = None if anchors is None else check_anchors(anchors)
    tally = Tally() if tally is None else tally
    with Register() as register:
        for deviation in chain(
            _read_info(folder),
            _check_records(folder, register, tally),
            _check_info(folder),
            check_training_items(root),
            _check_shards(folder),
            _check_pairs(folder, register, tally, workers, trusted, report),
            _check_unnamed(folder),
        ):
            tally.deviations[deviation.kind] += 1
            yield deviation


def _read_info(folder: _Folder) -> Iterator[Deviation]:
    """Read ``dataset.json``; say what is wrong with it."""
    try:
        folder.info = read_dataset_info(folder.root)
        made_by = folder.info.get("made_by")
        shards = made_by.get("shards") if isinstance(made_by, dict) else None
        listed = TypeAdapter(list[ShardRecord]).validate_python(shards)
        folder.listed = {shard.name: shard for shard in listed}
    except InputError as error:
        yield Deviation("dataset", DATASET_FILE, error.got, error.expected)
    except ValidationError:
        yield Deviation("dataset", DATASET_FILE, "no list of shards", "name, pairs, bytes and sha256 of each")


def _check_records(folder: _Folder, register: Register, tally: Tally) -> Iterator[Deviation]:
    """Take up all names, and count."""
    for name, found in folder.stored(pictures=False):
        if isinstance(found, Deviation):
            continue  # said again when the pictures are read
        folder.pairs[name] += 1
        if found.record is None:
            continue
        tally.records += 1
        tally.synthetic += found.record.origin == "synthetic"
        if register.add(found.record, tally.records, name):
            yield Deviation("repeated", found.place, "id or file of another pair", "each id and file once")


def _check_info(folder: _Folder) -> Iterator[Deviation]:
    if folder.info is not None:
        yield from check_totals(folder.info, folder.records)


def _check_shards(folder: _Folder) -> Iterator[Deviation]:
    """The shards' files against what is recorded of them."""
    if folder.listed is None:
        return
    for name, shard in folder.listed.items():
        file = f"{SHARDS_DIR}/{name}"
        if name not in folder.paths:
            yield Deviation("missing_file", file, "no file", f"a shard of {shard.pairs} pairs")
            continue
        if folder.pairs[name] != shard.pairs:
            yield Deviation("dataset", file, f"{folder.pairs[name]} pairs", f"{shard.pairs} as recorded")
        digest = sha256_file(folder.paths[name])
        if digest != shard.sha256:
            yield Deviation("changed_file", file, f"SHA-256 {digest}", f"SHA-256 {shard.sha256}")


def _check_pairs(
    folder: _Folder, register: Register, tally: Tally, workers: int, anchors: bytes | None, report: Report
) -> Iterator[Deviation]:
    """Look at all pairs, several at a time; what is found comes in their order."""
    yield from check_pairs(_checks(folder, anchors), workers, register, tally, report)


def _checks(folder: _Folder, anchors: bytes | None) -> Iterator[Callable[[], PairFindings] | Deviation]:
    """The check of each pair that has a record, and what is wrong with the shards between them."""
    for _, found in folder.stored(pictures=True):
        if isinstance(found, Deviation):
            yield found
        elif found.record is not None:
            yield partial(_check_pair, found, found.record, anchors)


def _check_pair(pair: StoredPair, record: PairRecord, anchors: bytes | None) -> PairFindings:
    """Compare a pair with its record: its two files laid out as those of a folder, under the endings of their names.

    The record's own paths are not used: they could lead anywhere.
    """
    with TemporaryDirectory(prefix="skindualgen-") as place:
        for name, content in ((IMAGE_KEY, pair.image), (MASK_KEY, pair.mask)):
            if content is not None:
                (Path(place) / name).write_bytes(content)
        laid_out = record.model_copy(update={"file_name": IMAGE_KEY, "mask_file_name": MASK_KEY})
        found = check_pair(Path(place), laid_out, anchors)
    found.deviations = [replace(each, file=f"{pair.place}.{each.file}") for each in found.deviations]
    found.contents = {f"{pair.place}.{name}": digest for name, digest in found.contents.items()}
    return found


def _check_unnamed(folder: _Folder) -> Iterator[Deviation]:
    """Files that are neither shards of this folder nor stand beside the pairs: texts, the rejects, hidden work."""
    shards = folder.paths if folder.listed is None else folder.listed
    for place, folders, files in os.walk(folder.root):
        here = Path(place)
        at_top = here == folder.root
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not (at_top and n == THUMBNAILS_DIR))
        for name in sorted(files):
            if at_top and (Path(name).suffix.lower() not in SUFFIXES or name == SHEET_FILE):
                continue
            if not name.startswith(".") and not (here == folder.root / SHARDS_DIR and name in shards):
                file = (here / name).relative_to(folder.root).as_posix()
                yield Deviation("unnamed_file", file, "a file that nothing names", "the shards alone")
