"""Picture work that can be interrupted: one item processed, many in parallel, results kept in a journal."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from skindualgen.contracts import ANNOTATORS_DIR, IGNORED_DIR, IMAGES_DIR, MASKS_DIR, InputError
from skindualgen.data.annotators import combined
from skindualgen.data.appearance import appearance_of
from skindualgen.data.images import Adjustment, ItemError, Photograph, fit, fit_pixels, load_photograph
from skindualgen.data.masks import load_mask, looks_like_mask
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.sources import Candidate
from skindualgen.files import (
    TEMPORARY_SUFFIX,
    atomic_write_bytes,
    atomic_write_text,
    sha256_bytes,
    sha256_file,
)

WORK_DIR = ".prepare"
JOURNAL_FILE = "journal.jsonl"
HASH_SIDE = 16
IS_MASK = "photograph_is_mask"
"""Reason of a picture that names of files and folders let pass for a photograph."""
IN_FLIGHT_PER_WORKER = 4
"""Items handed to the workers ahead of the slowest: bounds memory whatever the number of items."""


@dataclass(frozen=True)
class Task:
    """One item of a source folder to process, and the stem of its new files in ``out``.

    ``source_sha256`` is a hash of the files' names, sizes and times: an earlier result of the same id is this task's if
    it has the same.
    """

    candidate: Candidate
    source_sha256: str
    source: Path
    out: Path
    stem: str
    options: PrepareOptions


@dataclass(frozen=True)
class Result:
    """What became of an item: new files (relative to the data set folder) with their hashes, or why there are none.

    ``content_sha256`` is of the upright source pixels; ``reason`` and ``detail`` are of a rejection, which is about the
    mask number ``of_mask`` (from 0) or, if that is None, about the photograph; ``annotator_masks`` are files and hashes
    of the masks by each of several annotators; ``ignore_file_name`` is the picture of ignored pixels, if any is left.
    """

    isic_id: str
    source_sha256: str
    file_name: str | None = None
    mask_file_name: str | None = None
    sha256: str | None = None
    mask_sha256: str | None = None
    content_sha256: str | None = None
    perceptual_hash: str | None = None
    appearance: str | None = None
    adjustments: tuple[Adjustment, ...] = ()
    reason: str | None = None
    detail: str | None = None
    of_mask: int | None = None
    annotator_masks: tuple[tuple[str, str], ...] = ()
    ignore_file_name: str | None = None
    ignore_sha256: str | None = None


def process(task: Task) -> Result:
    """Decode, check, resize and write one item; a bad item is a result with a reason, never an exception."""
    read: int | None = None
    masks: list[Image.Image] = []
    adjustments: list[Adjustment] = []
    options, isic_id = task.options, task.candidate.isic_id
    annotators = options.annotators()
    files = [task.source / file for file in task.candidate.masks]
    try:
        photograph = load_photograph(task.source / task.candidate.image, max_pixels=options.max_pixels)
        if (seen := looks_like_mask(photograph.image)) is not None:
            raise ItemError(IS_MASK, f"{seen}, as a mask has: name it a_mask.png, or put it into a folder named masks")
        for read in range(len(files)):
            mask, changes = load_mask(
                files[read], photograph, max_pixels=options.max_pixels, labels=options.mask_classes or None
            )
            masks.append(mask)
            adjustments += changes
        read = None
        chosen = combined(masks, annotators, isic_id) if masks else None
        image, fitted, changes = fit(photograph.image, chosen, size=options.size, crop=options.crop)
        adjustments += changes
        several = masks if len(masks) > 1 else []
        own = [fit(photograph.image, mask, size=options.size, crop=options.crop)[1] for mask in several]
        ignored = _ignored(task, photograph)
    except ItemError as error:
        if read is None and masks and error.code.startswith("mask_"):
            read = 0
        return Result(isic_id, task.source_sha256, reason=error.code, detail=error.detail, of_mask=read)
    file_name = f"{IMAGES_DIR}/{task.stem}.png"
    mask_file_name = f"{MASKS_DIR}/{task.stem}.png" if fitted is not None else None
    ignore_file_name = f"{IGNORED_DIR}/{task.stem}.png" if ignored is not None else None
    own_files = [f"{ANNOTATORS_DIR}/{task.stem}.{number}.png" for number in range(1, len(own) + 1)]
    if own and annotators is not None:
        adjustments.append(Adjustment("annotators", f"{annotators.rule} of {', '.join(f.name for f in files)}"))
    return Result(
        isic_id,
        task.source_sha256,
        file_name,
        mask_file_name,
        sha256=_write_png(image, task.out / file_name),
        mask_sha256=_write_png(fitted, task.out / mask_file_name) if fitted and mask_file_name else None,
        content_sha256=photograph.content_sha256,
        perceptual_hash=perceptual_hash(image),
        appearance=_looks(image, fitted),
        adjustments=(*photograph.adjustments, *adjustments),
        annotator_masks=tuple(
            (file, _write_png(mask, task.out / file)) for file, mask in zip(own_files, own, strict=True) if mask
        ),
        ignore_file_name=ignore_file_name,
        ignore_sha256=_write_png(ignored, task.out / ignore_file_name) if ignored and ignore_file_name else None,
    )


def _ignored(task: Task, photograph: Photograph) -> Image.Image | None:
    """Which pixels of an item are not to be learnt from, turned and scaled as its mask; None if none are left.

    Raises:
        ItemError: ``ignored_unusable``, a file that cannot be read as a mask of the photograph.
    """
    if task.candidate.ignored is None:
        return None
    options = task.options
    try:
        marked, _ = load_mask(
            task.source / task.candidate.ignored, photograph, max_pixels=options.max_pixels, allow_uniform=True
        )
    except ItemError as error:
        raise ItemError("ignored_unusable", f"{task.candidate.ignored}: {error.code}: {error.detail}") from None
    fitted = fit_pixels(marked, size=options.size, crop=options.crop)
    return fitted if fitted.getbbox() is not None else None


def _looks(image: Image.Image, mask: Image.Image | None) -> str | None:
    """Words for what a photograph looks like; none without a mask, as most of them tell lesion and skin apart."""
    if mask is None:
        return None
    return appearance_of(np.asarray(image), np.asarray(mask) > 0).phrase() or None


def perceptual_hash(image: Image.Image) -> str:
    """Return a 512-bit perceptual hash as 128 hexadecimal digits: 256 bits of imagehash's pHash, then 256 of its dHash.

    One alone does not do: a dark spot on plain skin is what most dermoscopy shows. `MAX_DISTANCE_BITS` (audit.py) has
    the measurement.
    """
    import imagehash

    return f"{imagehash.phash(image, HASH_SIDE)}{imagehash.dhash(image, HASH_SIDE)}"


def run(tasks: Iterable[Task], *, workers: int) -> Iterator[Result]:
    """Process tasks, in worker processes if ``workers`` > 1, and yield results as they come."""
    if workers == 1:
        yield from map(process, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    pending: set[Future[Result]] = set()
    try:
        for task in tasks:
            pending.add(pool.submit(process, task))
            if len(pending) >= IN_FLIGHT_PER_WORKER * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)


class Journal:
    """Results on disk, one JSON line each, by id, so that an interrupted run goes on where it stopped."""

    def __init__(self, out: Path, options: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        """Open or begin the journal of a data set folder, and forget results of other files than those of ``tasks``.

        Raises:
            InputError: the folder was begun with other options of the pictures.
        """
        self.path = out / WORK_DIR / JOURNAL_FILE
        self.results: dict[str, Result] = {}
        wanted = {(task.candidate.isic_id, task.source_sha256) for task in tasks}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A power failure can leave anything in the last blocks: what is no line of ours is done again.
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        header, *lines = text.splitlines() or [""]
        with suppress(ValueError):
            refuse_other_options(out, _OPTIONS.validate_json(header), options)
        for result in filter(None, map(_result, lines)):
            if (result.isic_id, result.source_sha256) in wanted and _still_there(out, result):
                self.results[result.isic_id] = result
        # Written anew, since the last line of a killed run may be cut off.
        kept = [json.dumps(dict(options)), *(json.dumps(asdict(result)) for result in self.results.values())]
        atomic_write_text(self.path, "".join(f"{line}\n" for line in kept))
        further = {
            ANNOTATORS_DIR: any(task.candidate.other_masks for task in tasks),
            IGNORED_DIR: any(task.candidate.ignored for task in tasks),
        }
        for folder in (IMAGES_DIR, MASKS_DIR, *(name for name, needed in further.items() if needed)):
            (out / folder).mkdir(exist_ok=True)
            for leftover in (out / folder).glob(f".*{TEMPORARY_SUFFIX}"):
                leftover.unlink()

    def record(self, results: Iterable[Result]) -> Iterator[Result]:
        """Write results down as they come, and pass them on."""
        with self.path.open("a", encoding="utf-8") as file:
            for result in results:
                file.write(f"{json.dumps(asdict(result))}\n")
                file.flush()
                self.results[result.isic_id] = result
                yield result


def refuse_other_options(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError if a data set folder was begun or made with other options."""
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        shown = ", ".join(f"{name} {before.get(name)!r} instead of {now.get(name)!r}" for name in changed[:4])
        raise InputError(f"{out}, made with {shown}", "the same options as before", "give these, or another folder")


def _still_there(out: Path, result: Result) -> bool:
    files = (
        (result.file_name, result.sha256),
        (result.mask_file_name, result.mask_sha256),
        (result.ignore_file_name, result.ignore_sha256),
        *result.annotator_masks,
    )
    return all((out / name).is_file() and sha256_file(out / name) == digest for name, digest in files if name)


_OPTIONS, _RESULT = TypeAdapter(dict[str, Any]), TypeAdapter(Result)


def _result(line: str) -> Result | None:
    """The result that a line holds; None if it holds none."""
    try:
        return _RESULT.validate_json(line)
    except ValueError:
        return None


def _write_png(image: Image.Image, path: Path) -> str:
    buffer = io.BytesIO()
    # A fresh image carries no EXIF, comment or colour profile of the source into the data set.
    Image.frombytes(image.mode, image.size, image.tobytes()).save(buffer, "PNG")
    atomic_write_bytes(path, buffer.getvalue(), durable=False)
    return sha256_bytes(buffer.getvalue())


def _follow_parent() -> None:
    """Leave Ctrl-C, which reaches every process of the terminal, to the main process, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker process when the process that started it is gone, killed as well as ended."""
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
