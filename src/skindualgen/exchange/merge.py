"""One training set of several data set folders: real and synthetic, or the parts of one production."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import IGNORED_DIR, IMAGES_DIR, MASKS_DIR, InputError, PairRecord, Report
from skindualgen.data.manifest import counts, manifest_sha256, write_dataset
from skindualgen.data.mask_classes import read_mask_classes
from skindualgen.data.prepare import file_stems
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, write_training_items
from skindualgen.exchange.merge_parts import (
    Part,
    read_part,
    refuse_crossing,
    refuse_held_out_synthetic,
    refuse_repeats,
    seen_by_generators,
)
from skindualgen.exchange.pairs import read_pairs
from skindualgen.files import atomic_write_bytes, run_record, sha256_file
from skindualgen.folders import new_folder


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
            classes; an id or an image in two folders; a patient, lesion, group or picture in two splits; a generator
            that has seen held-out pairs; a missing or changed file.
    """
    if not sources:
        raise InputError("no folder", "one or more to merge", "name them")
    parts = [read_part(source) for source in sources]
    refuse_held_out_synthetic(parts)
    refuse_repeats(parts)
    refuse_crossing(parts)
    leaks = seen_by_generators(parts)
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
