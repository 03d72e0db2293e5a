"""One training set of several data set folders: real and synthetic, or the parts of one production."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import IGNORED_DIR, IMAGES_DIR, MASKS_DIR, InputError, PairRecord, Report, listed
from skindualgen.data.audit import LINK_FIELDS, record_links
from skindualgen.data.manifest import counts, manifest_sha256, read_metadata, write_dataset
from skindualgen.data.mask_classes import read_mask_classes
from skindualgen.data.prepare import file_stems
from skindualgen.data.review import used
from skindualgen.data.splits import connected_components, crossing_components
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import (
    TRAINING_ITEMS_FILE,
    TrainingItem,
    TrainingItems,
    read_training_items,
    training_item,
    write_training_items,
)
from skindualgen.exchange.folders import unnamed_files
from skindualgen.exchange.pairs import read_pairs
from skindualgen.exchange.pictures import decoded
from skindualgen.files import atomic_write_bytes, run_record, sha256_file
from skindualgen.folders import new_folder

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
    """

    root: Path
    records: list[PairRecord]
    seen: TrainingItems | None
    rejected: int
    unnamed: list[str]

    @property
    def synthetic(self) -> bool:
        """Whether a generator has made any of the photographs or masks."""
        return any(record.by_model for record in self.records)


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote, as ``dataset.json`` says it.

    Attributes:
        counts: of pairs.
        respelt: diagnosis as a folder has it -> the term that is written, where folders spell one term in several ways.
        known_leaks: what generators have seen of the held-out pairs, one text per folder.
        rejected: name of a folder -> its pairs that were left out, as a reviewer has rejected them.
        unnamed: folder -> its files in its folders of pictures that no record names.
    """

    counts: dict[str, Any]
    respelt: dict[str, str]
    known_leaks: list[str]
    rejected: dict[str, int]
    unnamed: dict[Path, list[str]]


def merge(
    sources: Sequence[Path],
    out: Path,
    *,
    link: bool = False,
    known_leaks: bool = False,
    report: Report = lambda done, total: None,
) -> Merged:
    """Merge data set folders into a new one; ``out`` appears when all is written.

    Origin and split of every pair are kept; a diagnosis as well, unless the folders spell it in several ways: all then
    have the ISIC Archive's term, so that a classifier sees one class. ``dataset.json`` says which folders were merged,
    ``trained_on.json`` what the generators of all synthetic pairs were trained on. Pairs that a reviewer has rejected
    are left out.

    Args:
        sources: data set folders; of one alone this is a copy of the pairs in use.
        out: new or empty folder.
        link: hard links instead of copies.
        known_leaks: go on although a generator has seen held-out pairs; ``dataset.json`` then says so.
        report: called with (pairs done, all pairs).

    Raises:
        InputError: a folder with nothing but rejected pairs; a synthetic pair outside the train split; masks of other
            classes; an id or an image in two folders; a patient, lesion or group in two splits; a generator that has
            seen held-out pairs; a missing or changed file.
    """
    if not sources:
        raise InputError("no folder", "one or more to merge", "name them")
    parts = [_part(source) for source in sources]
    _refuse_held_out_synthetic(parts)
    _refuse_repeats(parts)
    _refuse_crossing(parts)
    leaks = _seen_by_generators(parts)
    if leaks and not known_leaks:
        raise InputError(
            "; ".join(leaks),
            "val and test pairs that no generator has seen",
            "leave them out, or go on with --i-know, which dataset.json then says",
        )
    classes = [dict(read_mask_classes(part.root)) for part in parts]
    if any(each != classes[0] for each in classes):
        got = f"masks of other classes: {classes[0]} and {next(each for each in classes if each != classes[0])}"
        raise InputError(got, "folders of the same mask_classes", "merge those that are alike")
    merged = [_summary(part) for part in parts]
    respelt = _respelt({record.diagnosis for part in parts for record in part.records} - {None})
    with new_folder(out, *sources, remedy="choose another OUT") as folder:
        records = _write(folder, parts, link, report)
        for record in records:
            record.diagnosis = respelt.get(str(record.diagnosis), record.diagnosis)
        made_by = run_record(merged=merged, respelt=respelt, known_leaks=leaks)
        write_dataset(folder, records, made_by=made_by, mask_classes=classes[0])
        _write_training_items(folder, parts)
    rejected = {str(part.root): part.rejected for part in parts}
    return Merged(counts(records), respelt, leaks, rejected, {part.root: part.unnamed for part in parts})


def _part(source: Path) -> Part:
    everything = read_metadata(source)
    records = used(everything)
    if everything and not records:
        raise InputError(
            f"{source} with nothing but pairs that were rejected in review",
            "a pair that was not rejected",
            "leave the folder out, or look at the decisions in `skindualgen ui`",
        )
    for record in records:
        path = source / record.file_name
        if not path.is_file():
            raise InputError(f"no file {path}", "every file that is named", "restore it")
        if record.sha256 is None:
            decoded(path.read_bytes(), str(path))  # nothing else says that the file is whole
            record.sha256 = sha256_file(path)
    unnamed = unnamed_files(source, everything)
    return Part(source, records, read_training_items(source), len(everything) - len(records), unnamed)


def _refuse_held_out_synthetic(parts: Sequence[Part]) -> None:
    for part in parts:
        wrong = [f"{r.isic_id} ({r.split})" for r in part.records if r.origin == "synthetic" and r.split != "train"]
        if wrong:
            raise InputError(
                f"{len(wrong)} synthetic pairs of {part.root} outside the train split: {listed(wrong, SHOWN)}",
                "synthetic pairs to train on alone",
                "leave them out, or set their split to train",
            )


def _refuse_repeats(parts: Sequence[Part]) -> None:
    """Refuse an id or an image that two folders have; ``read_metadata`` refuses an id twice in one."""
    for field, what, remedy in (
        ("isic_id", "ids", "leave one of them out; to draw other pairs, give `skindualgen generate` an --id-prefix"),
        ("sha256", "images", "leave one of them out"),
    ):
        first: dict[str, tuple[Path, str]] = {}
        twice = []
        for part in parts:
            own = {str(getattr(record, field)): record.isic_id for record in part.records}
            for value, isic_id in own.items():
                if value in first:
                    other_root, other_id = first[value]
                    twice.append(f"{isic_id} of {part.root} and {other_id} of {other_root}")
            first |= {value: (part.root, isic_id) for value, isic_id in own.items()}
        if twice:
            raise InputError(f"{len(twice)} {what} twice: {listed(twice, SHOWN)}", "each pair once", remedy)


def _refuse_crossing(parts: Sequence[Part]) -> None:
    """Refuse a patient, lesion or group in two splits of the merged set."""
    records = [record for part in parts for record in part.records]
    components = connected_components([record_links(record) for record in records])
    crossing = crossing_components(components, [record.split for record in records])
    if crossing:
        first = [f"{records[index].isic_id} ({records[index].split})" for index in crossing[0]]
        raise InputError(
            f"{len(crossing)} groups of one patient, lesion or split group in two splits, first {listed(first, SHOWN)}",
            "each group on one side",
            "split the real data anew with `skindualgen prepare`",
        )


def _seen_by_generators(parts: Sequence[Part]) -> list[str]:
    """Return one text for each folder whose generator has seen held-out pairs of the merged set."""
    held_out = [training_item(record) for part in parts for record in part.records if record.split != "train"]
    texts = []
    for part in parts:
        if part.seen is None or not part.synthetic:
            continue
        seen = {field: {getattr(item, field) for item in part.seen.items} - {None} for field in SHARED_FIELDS}
        common = [text for item in held_out if (text := _common(item, seen))]
        if common:
            texts.append(f"the generator of {part.root} has seen {len(common)} held-out pairs: {listed(common, SHOWN)}")
    return texts


def _common(item: TrainingItem, seen: Mapping[str, set[str]]) -> str | None:
    """Return id and first shared field of a held-out photograph, None if it shares nothing."""
    field = next((field for field in SHARED_FIELDS if getattr(item, field) in seen[field]), None)
    return f"{item.isic_id} (the same {field})" if field is not None else None


def _respelt(diagnoses: Iterable[str | None]) -> dict[str, str]:
    """Return spelling -> term for the terms that have several spellings."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for diagnosis in diagnoses:
        if (term := diagnosis_term(diagnosis)) is not None:
            spellings[term].add(str(diagnosis))
    return {own: term for term, several in spellings.items() if len(several) > 1 for own in sorted(several - {term})}


def _write(folder: Path, parts: Sequence[Part], link: bool, report: Report) -> list[PairRecord]:
    """Write all files under names made of the ids, which two folders do not share, and return the new records."""
    stems = file_stems(record.isic_id for part in parts for record in part.records)
    total = len(stems)
    records: list[PairRecord] = []
    for part in parts:
        for pair in read_pairs(part.root, part.records, link=link):
            report(len(records), total)
            record = pair.record.model_copy()
            stem = stems[record.isic_id]
            record.file_name = f"{IMAGES_DIR}/{stem}{pair.suffix}"
            pair.put_image(folder / record.file_name)
            if record.mask_file_name is not None:
                record.mask_file_name = f"{MASKS_DIR}/{stem}{Path(record.mask_file_name).suffix.lower()}"
                pair.put_mask(folder / record.mask_file_name)
            if record.ignore_file_name is not None:
                record.ignore_file_name = f"{IGNORED_DIR}/{stem}.png"
                pair.put_ignored(folder / record.ignore_file_name)
            records.append(record)
    report(total, total)
    return records


def _write_training_items(folder: Path, parts: Sequence[Part]) -> None:
    """Write what all generators together were trained on; the file of one alone is passed on byte for byte."""
    generated = [part for part in parts if part.synthetic]
    contents = {
        path.read_bytes() if (path := part.root / TRAINING_ITEMS_FILE).is_file() else None for part in generated
    }
    if len(contents) > 1:
        write_training_items(folder, [], earlier={f"generator of {part.root.name}": part.seen for part in generated})
    elif contents and (content := contents.pop()) is not None:
        atomic_write_bytes(folder / TRAINING_ITEMS_FILE, content)


def _summary(part: Part) -> dict[str, Any]:
    path = part.root / TRAINING_ITEMS_FILE
    return {
        "name": part.root.resolve().name,
        "manifest_sha256": manifest_sha256(part.records),
        "origin": counts(part.records)["origin"],
        "rejected": part.rejected,
        "trained_on_sha256": sha256_file(path) if path.is_file() else None,
    }
