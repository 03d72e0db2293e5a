"""A data set folder whose pairs are in shards, as verification looks at it: every pair is read back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from skindualgen.contracts import (
    DATASET_FILE,
    IMAGES_DIR,
    MASKS_DIR,
    SHARDS_DIR,
    SHEET_FILE,
    THUMBNAILS_DIR,
    InputError,
    PairRecord,
)
from skindualgen.data.images import SUFFIXES
from skindualgen.data.manifest import read_dataset_info
from skindualgen.data.mask_classes import MaskClasses
from skindualgen.exchange.parquet import (
    ADDED_LATER,
    GENERATED_COLUMNS,
    PICTURES,
    generated_fields,
    open_table,
    read_rows,
)
from skindualgen.exchange.webdataset import IGNORED_KEY, IMAGE_KEY, MASK_KEY, RECORD_KEY, Entry, read_tar, samples
from skindualgen.files import sha256_file
from skindualgen.verify.deviations import Deviation, Tally
from skindualgen.verify.files import bad_record, known_classes
from skindualgen.verify.pair import PairFindings, check_pair
from skindualgen.verify.register import Register
from skindualgen.verify.totals import check_totals

SHARD_SUFFIXES = (".tar", ".parquet")
SHOWN_IDS = 3


@dataclass(frozen=True)
class StoredPair:
    """What a shard holds of a pair.

    Attributes:
        place: of the pair: shard and id, as findings name it.
        record: None if there is none that can be read.
        image, mask, ignored: content of the files; None if they are not there, or were not asked for.
    """

    place: str
    record: PairRecord | None
    image: bytes | None = None
    mask: bytes | None = None
    ignored: bytes | None = None


class ShardRecord(BaseModel):
    """What ``dataset.json`` says of a shard: its file, its number of pairs, and the file's size and hash."""

    name: str
    pairs: int
    bytes: int
    sha256: str


class PairShards:
    """A data set folder whose pairs are in shards; see `skindualgen.verify.files.PairFiles` for its methods.

    The records are those in the shards, so their own hashes are checked, and all of them against the hash and the
    counts in ``dataset.json``.

    Raises:
        InputError: there is no shard.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        found = sorted((root / SHARDS_DIR).iterdir()) if (root / SHARDS_DIR).is_dir() else []
        shards = [path for path in found if path.suffix in SHARD_SUFFIXES and path.is_file()]
        self._paths = {path.name: path for path in shards if not path.name.startswith(".")}
        if not self._paths:
            raise InputError(
                f"{root} without a shard", "a folder as `skindualgen generate --shards` writes it", "check the path"
            )
        self._pairs: Counter[str] = Counter()  # shard -> pairs that were found in it
        self._listed: dict[str, ShardRecord] | None = None  # what is recorded of each shard, if anything is

    def check_records(self, register: Register, tally: Tally) -> Iterator[Deviation]:
        """See `PairFiles`."""
        for name, found in self._stored(pictures=False):
            if isinstance(found, Deviation):
                continue  # said again when the pictures are read
            self._pairs[name] += 1
            if found.record is None:
                continue
            tally.records += 1
            tally.synthetic += found.record.origin == "synthetic"
            if register.add(found.record, tally.records, name):
                yield Deviation("repeated", found.place, "id or file of another pair", "each id and file once")

    def check_description(self) -> Iterator[Deviation]:
        """Compare ``dataset.json`` with the records and with the shards' files."""
        try:
            info = read_dataset_info(self._root)
        except InputError as error:
            yield Deviation("dataset", DATASET_FILE, error.got, error.expected)
            return
        yield from check_totals(info, self._records)
        made_by = info.get("made_by")
        try:
            listed = TypeAdapter(list[ShardRecord]).validate_python(
                made_by.get("shards") if isinstance(made_by, dict) else None
            )
        except ValidationError:
            yield Deviation("dataset", DATASET_FILE, "no list of shards", "name, pairs, bytes and sha256 of each")
            return
        self._listed = {shard.name: shard for shard in listed}
        for shard in listed:
            yield from self._check_shard(shard)

    def checks(self, anchors: bytes | None) -> Iterator[Callable[[], PairFindings] | Deviation]:
        """The check of each pair that has a record, and what is wrong with the shards between them."""
        classes = known_classes(self._root)
        for _, found in self._stored(pictures=True):
            if isinstance(found, Deviation):
                yield found
            elif found.record is not None:
                yield partial(_check_pair, found, found.record, anchors, classes)

    def check_unnamed(self, register: Register) -> Iterator[Deviation]:
        """Say which files are neither shards of this folder nor of a data set: texts, the rejects, hidden work."""
        shards: Mapping[str, object] = self._paths if self._listed is None else self._listed
        for place, folders, files in os.walk(self._root):
            here = Path(place)
            at_top = here == self._root
            folders[:] = sorted(n for n in folders if not n.startswith(".") and not (at_top and n == THUMBNAILS_DIR))
            for name in sorted(files):
                if at_top and (Path(name).suffix.lower() not in SUFFIXES or name == SHEET_FILE):
                    continue
                if not name.startswith(".") and not (here == self._root / SHARDS_DIR and name in shards):
                    file = (here / name).relative_to(self._root).as_posix()
                    yield Deviation("unnamed_file", file, "a file that nothing names", "the shards alone")

    def _check_shard(self, shard: ShardRecord) -> Iterator[Deviation]:
        file = f"{SHARDS_DIR}/{shard.name}"
        if shard.name not in self._paths:
            yield Deviation("missing_file", file, "no file", f"a shard of {shard.pairs} pairs")
            return
        if self._pairs[shard.name] != shard.pairs:
            yield Deviation("dataset", file, f"{self._pairs[shard.name]} pairs", f"{shard.pairs} as recorded")
        digest = sha256_file(self._paths[shard.name])
        if digest != shard.sha256:
            yield Deviation("changed_file", file, f"SHA-256 {digest}", f"SHA-256 {shard.sha256}")

    def _stored(self, *, pictures: bool) -> Iterator[tuple[str, StoredPair | Deviation]]:
        """What all shards hold, each with the name of its shard; without ``pictures`` in a fraction of the time."""
        for name, path in self._paths.items():
            stored = _stored_in_tar if path.suffix == ".tar" else _stored_in_table
            for found in stored(path, f"{SHARDS_DIR}/{name}", pictures):
                yield name, found

    def _records(self) -> Iterator[PairRecord]:
        for _, found in self._stored(pictures=False):
            if isinstance(found, StoredPair) and found.record is not None:
                yield found.record


def _check_pair(pair: StoredPair, record: PairRecord, anchors: bytes | None, classes: MaskClasses) -> PairFindings:
    """Compare a pair with its record: its files laid out as those of a folder, under the endings of their names.

    The record's own paths are not used: they could lead anywhere.
    """
    with TemporaryDirectory(prefix="skindualgen-") as place:
        for name, content in ((IMAGE_KEY, pair.image), (MASK_KEY, pair.mask), (IGNORED_KEY, pair.ignored)):
            if content is not None:
                (Path(place) / name).write_bytes(content)
        names = {"file_name": IMAGE_KEY, "mask_file_name": MASK_KEY}
        if record.ignore_file_name is not None or pair.ignored is not None:
            names["ignore_file_name"] = IGNORED_KEY
        laid_out = record.model_copy(update=names)
        found = check_pair(Path(place), laid_out, anchors, classes)
    found.deviations = [replace(each, file=f"{pair.place}.{each.file}") for each in found.deviations]
    found.contents = {f"{pair.place}.{name}": digest for name, digest in found.contents.items()}
    return found


def _stored_in_tar(path: Path, name: str, pictures: bool) -> Iterator[StoredPair | Deviation]:
    damage: list[InputError] = []

    def whole() -> Iterator[Entry]:
        for entry in read_tar(path, name, only=None if pictures else RECORD_KEY):
            if isinstance(entry, InputError):
                damage.append(entry)
            else:
                yield entry

    for key, entries in samples(whole()):
        place, contents = f"{name}/{key}", dict[str, bytes | None]()
        for entry in entries:
            if not entry.plain:
                yield Deviation("unnamed_file", f"{name}/{entry.name}", "an entry that is no file", "files alone")
            elif entry.ending not in (IMAGE_KEY, MASK_KEY, IGNORED_KEY, RECORD_KEY):
                yield Deviation("unnamed_file", f"{name}/{entry.name}", "an entry that no pair has", "those of pairs")
            elif entry.ending in contents:
                yield Deviation("repeated", f"{name}/{entry.name}", "two entries of one name", "each entry once")
            else:
                contents[entry.ending] = entry.content
        if not contents:
            continue
        record = _record_of_text(contents.get(RECORD_KEY), key, place)
        if isinstance(record, Deviation):
            yield record
        kept = None if isinstance(record, Deviation) else record
        yield StoredPair(place, kept, *(contents.get(key) for key in (IMAGE_KEY, MASK_KEY, IGNORED_KEY)))
    yield from (Deviation("unreadable", name, error.got, error.expected) for error in damage)


def _record_of_text(text: bytes | None, key: str, place: str) -> PairRecord | Deviation:
    """The record of a pair, or what is wrong with it."""
    file = f"{place}.{RECORD_KEY}"
    if text is None:
        return Deviation("missing_file", file, "no entry that can be read", "the record of a pair")
    try:
        record = PairRecord.model_validate_json(text)
    except ValidationError as error:
        return bad_record(file, "", error)
    if record.isic_id != key:
        return Deviation("bad_record", file, f"the record of {record.isic_id}", f"that of {key}")
    return record


def _stored_in_table(path: Path, name: str, pictures: bool) -> Iterator[StoredPair | Deviation]:
    try:
        table = open_table(path, name, [*GENERATED_COLUMNS.keys() - {ADDED_LATER}, *PICTURES])
    except InputError as error:
        yield Deviation("unreadable", name, error.got, error.expected)
        return
    held = [column for column in GENERATED_COLUMNS if column in table.schema_arrow.names]
    columns = [*held, *(PICTURES if pictures else ())]
    with table:
        for group in range(table.num_row_groups):  # each is a chunk of the production
            try:
                rows = list(read_rows(table, name, group, columns))
            except InputError as error:
                found = f"{_ids_of(table, group)} cannot be read ({error.got})"
                yield Deviation("unreadable", name, found, "pairs that can be decoded")
                continue
            yield from (part for row in rows for part in _pair_of_row(row, name))


def _pair_of_row(row: Mapping[str, Any], name: str) -> Iterator[StoredPair | Deviation]:
    isic_id = str(row["isic_id"])
    place = f"{name}/{isic_id}"
    image, mask = ((row.get(column) or {}).get("bytes") for column in PICTURES)
    files = {"file_name": f"{IMAGES_DIR}/{isic_id}.png", "mask_file_name": f"{MASKS_DIR}/{isic_id}.png"}
    record, wrong = None, None
    try:
        fields = generated_fields({column: row.get(column) for column in GENERATED_COLUMNS})
        record = PairRecord.model_validate(fields | files)
    except ValidationError as error:
        wrong = bad_record(place, "", error)
    except ValueError as error:
        wrong = Deviation(
            "bad_record", place, f"scores or further fields that are no JSON object: {error}", "a record of a pair"
        )
    if wrong is not None:
        yield wrong
    yield StoredPair(place, record, image, mask)


def _ids_of(table: Any, group: int) -> str:
    """The pairs of a row group that cannot be read, by the one column that may still be."""
    count = table.metadata.row_group(group).num_rows
    try:
        ids = table.read_row_group(group, columns=["isic_id"]).column("isic_id").to_pylist()
    except Exception:  # as in `skindualgen.exchange.parquet.open_table`
        return f"{count} pairs of the row group {group}"
    return f"{count} pairs, {ids[0]} to {ids[-1]}," if count > SHOWN_IDS else ", ".join(ids)
