"""The folders of a merge, and what would spoil the set that they become: each is refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skindualgen.contracts import InputError, PairRecord, listed
from skindualgen.data.audit import LINK_FIELDS, record_links
from skindualgen.data.journal import perceptual_hash
from skindualgen.data.manifest import read_metadata
from skindualgen.data.review import used
from skindualgen.data.sources.base import key
from skindualgen.data.splits import connected_components, crossing_components
from skindualgen.data.training_items import (
    TrainingItem,
    TrainingItems,
    read_training_items,
    shared_value,
    training_item,
)
from skindualgen.exchange.folders import unnamed_files
from skindualgen.exchange.pictures import decoded
from skindualgen.files import sha256_file

SHOWN = 5
"""Names in an error message."""
SHARED_FIELDS = ("isic_id", "sha256", *LINK_FIELDS)
"""What a held-out photograph must not share with what a generator has seen."""


@dataclass(frozen=True)
class Part:
    """One of the folders to merge.

    Attributes:
        root: the data set folder.
        records: its records, each with the hash of its image, but those that a reviewer has rejected.
        seen: what the generator of its pairs was trained on; None if that is not recorded.
        rejected: number of the records that were rejected.
        unnamed: files in its folders of pictures that no record names.
        likeness: id -> perceptual hash of the photograph, where it is recorded or nothing is.
    """

    root: Path
    records: list[PairRecord]
    seen: TrainingItems | None
    rejected: int
    unnamed: list[str]
    likeness: Mapping[str, str]

    @property
    def synthetic(self) -> bool:
        """Whether a generator has made any of the photographs or masks."""
        return any(record.by_model for record in self.records)


def read_part(source: Path) -> Part:
    """Read a folder that is to be merged; a hash or a likeness that its records lack is taken of the files.

    Raises:
        InputError: nothing but rejected pairs in it, or a photograph that is missing or damaged.
    """
    everything = read_metadata(source)
    records = used(everything)
    if everything and not records:
        raise InputError(
            f"{source} with nothing but pairs that were rejected in review",
            "a pair that was not rejected",
            "leave the folder out, or look at the decisions in `skindualgen ui`",
        )
    likeness: dict[str, str] = {}
    for record in records:
        path = source / record.file_name
        if not path.is_file():
            raise InputError(f"no file {path}", "every file that is named", "restore it")
        if record.sha256 is None:
            picture = decoded(path.read_bytes(), str(path))  # nothing else says that the file is whole
            record.sha256 = sha256_file(path)
            likeness[record.isic_id] = perceptual_hash(picture.convert("RGB"))
        if isinstance(recorded := getattr(record, "perceptual_hash", None), str):
            likeness[record.isic_id] = recorded.lower()
    unnamed = unnamed_files(source, everything)
    return Part(source, records, read_training_items(source), len(everything) - len(records), unnamed, likeness)


def refuse_held_out_synthetic(parts: Sequence[Part]) -> None:
    """Refuse synthetic pairs outside the train split."""
    for part in parts:
        wrong = [f"{r.isic_id} ({r.split})" for r in part.records if r.origin == "synthetic" and r.split != "train"]
        if wrong:
            raise InputError(
                f"{len(wrong)} synthetic pairs of {part.root} outside the train split: {listed(wrong, SHOWN)}",
                "synthetic pairs to train on alone",
                "leave them out, or set their split to train",
            )


def refuse_repeats(parts: Sequence[Part]) -> None:
    """Refuse an id or an image that two folders have; ``read_metadata`` refuses an id twice in one.

    As where ids come in (`skindualgen.data.sources`), letter case, blanks around and Unicode's forms tell no ids apart.
    """
    for field, what, remedy in (
        ("isic_id", "ids", "leave one of them out; to draw other pairs, give `skindualgen generate` an --id-prefix"),
        ("sha256", "images", "leave one of them out"),
    ):
        first: dict[str, tuple[Path, str]] = {}
        twice = []
        for part in parts:
            own = {key(getattr(record, field).strip()): record.isic_id for record in part.records}
            for value, isic_id in own.items():
                if value in first:
                    other_root, other_id = first[value]
                    twice.append(f"{isic_id} of {part.root} and {other_id} of {other_root}")
            first |= {value: (part.root, isic_id) for value, isic_id in own.items()}
        if twice:
            raise InputError(f"{len(twice)} {what} twice: {listed(twice, SHOWN)}", "each pair once", remedy)


def refuse_crossing(parts: Sequence[Part]) -> None:
    """Refuse a patient, lesion, group or photograph in two splits of the merged set.

    A photograph is the same if its file is, or its perceptual hash, as that of a copy that was encoded anew.
    """
    records = [record for part in parts for record in part.records]
    links = [
        [
            *record_links(record),
            ("sha256", record.sha256),
            ("perceptual_hash", part.likeness.get(record.isic_id, record.sha256)),
        ]
        for part in parts
        for record in part.records
    ]
    components = connected_components(links)
    crossing = crossing_components(components, [record.split for record in records])
    if crossing:
        first = [f"{records[index].isic_id} ({records[index].split})" for index in crossing[0]]
        raise InputError(
            f"{len(crossing)} groups of one patient, lesion, split group or picture in two splits, first "
            f"{listed(first, SHOWN)}",
            "each group on one side",
            "split the real data anew with `skindualgen prepare`",
        )


def seen_by_generators(parts: Sequence[Part]) -> list[str]:
    """Return one text for each folder whose generator has seen held-out pairs of the merged set."""
    held_out = [training_item(record) for part in parts for record in part.records if record.split != "train"]
    texts = []
    for part in parts:
        if part.seen is None or not part.synthetic:
            continue
        seen = {field: {shared_value(item, field) for item in part.seen.items} - {None} for field in SHARED_FIELDS}
        common = [text for item in held_out if (text := _common(item, seen))]
        if common:
            texts.append(f"the generator of {part.root} has seen {len(common)} held-out pairs: {listed(common, SHOWN)}")
    return texts


def _common(item: TrainingItem, seen: Mapping[str, set[str | None]]) -> str | None:
    """Return id and first shared field of a held-out photograph, None if it shares nothing."""
    field = next((field for field in SHARED_FIELDS if shared_value(item, field) in seen[field]), None)
    return f"{item.isic_id} (the same {field})" if field is not None else None
