"""From any source folder to the data set layout: checked, brought to size, split without leaks, with prompts."""

from __future__ import annotations

import csv
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, REJECTED_FILE, InputError, PairRecord
from skindualgen.data.assembly import SHOWN_IDS, Assembled, assemble, read_split_file
from skindualgen.data.audit import Audit, audit
from skindualgen.data.images import Adjustment
from skindualgen.data.journal import WORK_DIR, Journal, Result, Task, refuse_other_options, run
from skindualgen.data.manifest import counts, read_dataset_info, read_metadata, write_dataset
from skindualgen.data.mask_classes import levels_of_labels
from skindualgen.data.masks import LOOKS_INVERTED
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.sources import Candidate, Listing, Rejection, list_source
from skindualgen.data.sources.base import rejections_csv
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import atomic_write_text, csv_text, home_folder, sha256_bytes, versions

ADJUSTED_FILE = "adjusted.csv"
PICTURES_A_WORKER = 16
"""To start a worker takes a core about as long as to read so many photographs of a few megapixels."""
STEM_CHARACTERS = 80

# `datasets.load_dataset("imagefolder")` takes a file whose name holds one of these words, set off by these signs, for a
# split of its own (datasets/data_files.py, SPLIT_KEYWORDS, case-sensitive), and would lose all others.
LOADER_WORDS = re.compile(
    r"(?<![^-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![^-._ 0-9])"
)


@dataclass(frozen=True)
class Summary:
    """What `prepare` did.

    Counts are as in ``dataset.json``; items are counted by reason of rejection and by adjustment.
    """

    out: Path
    layout: str
    counts: Mapping[str, Any]
    rejected: Mapping[str, int]
    adjusted: Mapping[str, int]
    notes: Sequence[str]
    audit: Audit | None = None


def prepare(
    source: Path,
    out: Path,
    options: PrepareOptions | None = None,
    *,
    strict: bool = False,
    workers: int | None = 1,
    with_audit: bool = False,
    show_progress: bool = False,
) -> Summary:
    """Turn a source folder into a data set folder.

    An interrupted or refused run goes on when it is started again, and ends with the bytes of one that was not.
    Rejected items are in ``rejected.csv``, changed ones in ``adjusted.csv``. The order of ids decides everything that
    could depend on an order, so the number of workers changes nothing.

    Args:
        source: the source folder; it is only read.
        out: a new or empty folder, one that was begun with pictures of the same size and crop, or the finished result.
        options: all that decides the result.
        strict: stop at the first rejected item instead of leaving it out.
        workers: processes that decode; ``None`` takes one for each core, but no more than the pictures are worth.
        with_audit: write ``audit.csv`` as well.
        show_progress: show a progress bar on the terminal.

    Raises:
        InputError: an option or the source cannot be used, nothing is left, or ``strict`` and an item is rejected.
    """
    options = options or PrepareOptions()
    options.check()
    _refuse_nested(source, out)
    given = read_split_file(options.split_file) if options.split_file is not None else None
    listing = list_source(source, layout=options.layout, options=options.of_source())
    header = {"options": options.record(listing.layout), "listing_sha256": _fingerprint(source, listing)}
    if _is_finished(out, header):
        _stop_if_strict(strict, _rejections(out))
        return _summary_of_finished(out, listing, with_audit)
    _stop_if_strict(strict, listing.rejections)
    candidates = _with_masks(listing) if options.require_masks else listing.candidates
    tasks = list(_tasks(source.resolve(), out, candidates, options))
    journal = Journal(out, options.of_pictures(), tasks)
    todo = [task for task in tasks if task.candidate.isic_id not in journal.results]
    fitting = min(os.cpu_count() or 1, max(1, len(todo) // PICTURES_A_WORKER))
    running = journal.record(run(todo, workers=workers or fitting))
    with _progress("pictures", len(candidates), show_progress) as advance:
        for result in running:
            advance(len(journal.results))
            if result.reason is not None:
                detail = str(result.detail) if result.of_mask is None else f"mask: {result.detail}"
                _stop_if_strict(strict, [Rejection(result.isic_id, "", result.reason, detail)])
    assembled = assemble(listing, candidates, journal.results, options, given)
    _stop_if_strict(strict, assembled.rejections)
    if options.llm_url is not None:
        _paraphrase(assembled, options, show_progress)
    _remove_unused(out, assembled.records, journal.results)
    _note_inverted(assembled)
    adjusted = [(isic_id, code, detail) for isic_id, (code, detail) in assembled.adjustments]
    atomic_write_text(out / REJECTED_FILE, rejections_csv(assembled.rejections))
    atomic_write_text(out / ADJUSTED_FILE, csv_text([("isic_id", "adjustment", "detail"), *adjusted]))
    made_by = {"command": "prepare", **header, "versions": versions(), "notes": assembled.notes}
    mask_classes = levels_of_labels(options.mask_classes) if options.mask_classes else None
    write_dataset(out, assembled.records, made_by=made_by, mask_classes=mask_classes)
    if (source / DATASET_FILE).is_file() and (source / TRAINING_ITEMS_FILE).is_file():
        shutil.copyfile(source / TRAINING_ITEMS_FILE, out / TRAINING_ITEMS_FILE)
    shutil.rmtree(out / WORK_DIR)
    return _summary_of_finished(out, listing, with_audit)


def file_stems(ids: Iterable[str]) -> dict[str, str]:
    """Return for each id the stem of its files: portable, unique regardless of case, and no split word of a loader."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for isic_id in sorted(ids):
        plain = unicodedata.normalize("NFC", isic_id)
        safe = re.sub(r"[^\w.-]", "_", plain).strip(".")[:STEM_CHARACTERS]
        safe = LOADER_WORDS.sub(lambda match: match[0].upper(), safe)
        if safe.upper() != plain.upper() or safe.casefold() in taken:
            safe = f"{safe}_{sha256_bytes(isic_id.encode())[:8]}"
        taken.add(safe.casefold())
        stems[isic_id] = safe
    return stems


def _refuse_nested(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise InputError(f"{source}, which is no folder", "a folder of photographs", "check the path")
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError(f"OUT {out} inside SRC {source}", "a folder outside the source", "give another OUT")


def _is_finished(out: Path, header: Mapping[str, Any]) -> bool:
    """Tell whether ``out`` is the finished result of these options; raise InputError if it is anything else of use."""
    if out.is_file():
        raise InputError(f"OUT {out}, which is a file", "a new or empty folder", "give another OUT")
    if not out.is_dir() or (out / WORK_DIR).is_dir() or not any(out.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        return False
    if any(not (out / name).is_file() for name in (DATASET_FILE, METADATA_FILE, REJECTED_FILE, ADJUSTED_FILE)):
        got = f"OUT {out}, which holds other files or a part of a data set"
        raise InputError(got, "a new or empty folder, or the whole result", "give another OUT")
    made_by = read_dataset_info(out).get("made_by", {})
    refuse_other_options(out, made_by.get("options", {}), header["options"])
    if made_by.get("listing_sha256") != header["listing_sha256"]:
        raise InputError(
            f"{out}, made from other files or another table than SRC has now",
            "an unchanged source",
            "give another folder, or remove this one and start again",
        )
    return True


def _rejections(out: Path) -> list[Rejection]:
    with (out / REJECTED_FILE).open(encoding="utf-8", newline="") as file:
        return [Rejection(**row) for row in csv.DictReader(file)]


def _summary_of_finished(out: Path, listing: Listing, with_audit: bool) -> Summary:
    info = read_dataset_info(out)
    rejected = Counter(rejection.reason for rejection in _rejections(out))
    with (out / ADJUSTED_FILE).open(encoding="utf-8", newline="") as file:
        adjusted = Counter(row["adjustment"] for row in csv.DictReader(file))
    notes = info["made_by"]["notes"]
    findings = audit(out) if with_audit else None
    return Summary(out, listing.layout, counts(read_metadata(out)), rejected, adjusted, notes, findings)


def _fingerprint(source: Path, listing: Listing) -> str:
    """Hash what the listing says and the size and time of each picture: a changed source is noticed before any work."""
    lines = [f"{candidate!r} {_stats(source, candidate)}{_ignored(candidate)}" for candidate in listing.candidates]
    lines += [repr(rejection) for rejection in listing.rejections]
    return sha256_bytes("\n".join(lines).encode())


def _stats(source: Path, candidate: Candidate) -> list[tuple[int, int]]:
    """Return size and time of an item's files."""
    stats = [(source / file).stat() for file in candidate.files]
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


def _ignored(candidate: Candidate) -> str:
    """What hashes of an item hold besides: nothing where it has no such file, as before there were any."""
    return "" if candidate.ignored is None else f" {candidate.ignored!r}"


def _with_masks(listing: Listing) -> list[Candidate]:
    kept = [candidate for candidate in listing.candidates if candidate.mask is not None]
    for candidate in listing.candidates:
        if candidate.mask is None:
            listing.reject(candidate.isic_id, candidate.image, "image_without_mask", "a mask is required")
    return kept


def _tasks(source: Path, out: Path, candidates: Sequence[Candidate], options: PrepareOptions) -> Iterator[Task]:
    stems = file_stems(candidate.isic_id for candidate in candidates)
    for candidate in candidates:
        masks = f"{candidate.mask!r} {candidate.other_masks!r}" if candidate.other_masks else f"{candidate.mask!r}"
        files = f"{candidate.image!r} {masks} {stems[candidate.isic_id]} {_stats(source, candidate)}"
        files += _ignored(candidate)
        yield Task(candidate, sha256_bytes(files.encode()), source, out, stems[candidate.isic_id], options)


@contextmanager
def _progress(title: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr; yield the function that sets how many are done."""
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, *times, console=Console(stderr=True), disable=not show) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda done: progress.update(bar, completed=done)


def _stop_if_strict(strict: bool, rejections: Sequence[Rejection]) -> None:
    if strict and rejections:
        first = rejections[0]
        raise InputError(
            f"{first.isic_id or first.file}: {first.reason}: {first.detail}",
            "no rejected item (--strict)",
            "fix or remove it, or leave --strict out",
        )


def _paraphrase(assembled: Assembled, options: PrepareOptions, show: bool) -> None:
    """Let the endpoint vary the prompts that templates made; captions that the source gives stay as they are."""
    from skindualgen.data.paraphrase import paraphrase_prompts

    records = [record for record in assembled.records if record.isic_id in assembled.from_template]
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or home_folder() / ".cache")
    cache = options.llm_cache or cache_home / "skindualgen" / "paraphrases"
    prompts = [(record.prompt or "", record) for record in records]
    with _progress("prompts", len({prompt for prompt, _ in prompts}), show) as advance:
        result = paraphrase_prompts(
            prompts, options.llm_url or "", options.llm_model or "", cache, on_progress=lambda done, _: advance(done)
        )
    for record, prompt in zip(records, result.prompts, strict=True):
        record.prompt = prompt
    for dropped in result.dropped_with_reasons:
        assembled.adjustments.append((dropped.isic_id, Adjustment("paraphrase_dropped", dropped.reason)))
    assembled.notes.append(f"{result.kept} of {len(records)} prompts paraphrased by {options.llm_model}")


def _note_inverted(assembled: Assembled) -> None:
    inverted = sorted(isic_id for isic_id, (code, _) in assembled.adjustments if code == LOOKS_INVERTED)
    if inverted:
        assembled.notes.append(
            f"{len(inverted)} masks look inverted, as their four corners are lesion: {', '.join(inverted[:SHOWN_IDS])}"
            f"{' ...' if len(inverted) > SHOWN_IDS else ''}; they are kept as they are, see {ADJUSTED_FILE}"
        )


def _remove_unused(out: Path, records: Sequence[PairRecord], results: Mapping[str, Result]) -> None:
    """Remove the pictures of items that were rejected after they had been written."""
    used = {name for record in records for name in record.files}
    used.update(file for record in records for file, _ in results[record.isic_id].annotator_masks)
    for path in sorted(out.glob("*/*.png")):
        if path.relative_to(out).as_posix() not in used:
            path.unlink()
