"""What a verification finds: deviations, each with its file, and a tally of what was looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.files import atomic_path

KINDS = {
    "bad_record": "line of the metadata that is no record of a pair",
    "repeated": "id or file of more than one record",
    "missing_file": "file that is named and not there",
    "unnamed_file": "file that nothing names",
    "unreadable": "file that cannot be decoded",
    "no_hash": "record without the hash of its file",
    "changed_file": "content that is not the recorded one",
    "size": "image and mask of different sizes",
    "mask_values": "mask with other values than 0 and 255",
    "mask_id": "mask of another pair, or without its id",
    "embedded": "provenance in the file that is not the record's",
    "mark": "mark of generated media that is missing, or on a photograph",
    "credentials": "content credentials that are invalid, or of another image",
    "dataset": "dataset.json that does not describe these records",
    "training_items": "trained_on.json that cannot be read",
}
"""Kind of a deviation -> what it is."""


@dataclass(frozen=True)
class Deviation:
    """One thing that is not as it should be.

    Attributes:
        kind: one of `KINDS`.
        file: relative to the data set folder.
        found, expected: the difference.
    """

    kind: str
    file: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; expected {self.expected}"


@dataclass
class Tally:
    """Numbers of what was looked at; complete when the verification has ended.

    Attributes:
        records: valid lines of the metadata.
        synthetic: how many of them are of generated pairs.
        images, masks: files that were decoded.
        hashes: files whose content is the recorded one.
        marked: images with IPTC's mark of generated media.
        credentials: state of the content credentials -> number of images; "unchecked" where c2pa-python is missing.
        deviations: kind -> number.
    """

    records: int = 0
    synthetic: int = 0
    images: int = 0
    masks: int = 0
    hashes: int = 0
    marked: int = 0
    credentials: Counter[str] = field(default_factory=Counter)
    deviations: Counter[str] = field(default_factory=Counter)


def recorded(found: Iterable[Deviation], path: Path, tally: Tally) -> Iterator[Deviation]:
    """Pass deviations on, and write them with the tally as JSON to a file that appears when all have passed.

    Raises:
        InputError: the folder of ``path`` is not there.
    """
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent}", "a folder to write to", "make it first")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{\n "deviations": [')
        separator = ""
        for deviation in found:
            file.write(f"{separator}\n  {json.dumps(asdict(deviation), ensure_ascii=False)}")
            separator = ","
            yield deviation
        file.write(f'\n ],\n "tally": {json.dumps(vars(tally))}\n}}\n')
