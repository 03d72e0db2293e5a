"""Generates chunks in one process: during a batch, the one before it is decoded, judged and encoded behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from skindualgen._version import __version__
from skindualgen.contracts import CHOOSER_FIELD, IGNORED_DIR, IMAGES_DIR, MASKS_DIR, PairRecord
from skindualgen.files import png_bytes
from skindualgen.marks.embed import image_png, mask_png, photograph_png
from skindualgen.planning.requests import PairRequest, derived_seed
from skindualgen.production.chunk import (
    AREA_SCORE,
    ChunkResult,
    ChunkSettings,
    Decode,
    Decoded,
    Drew,
    FinishedPair,
    Gate,
    Reading,
    Reject,
    Sampler,
    pair_id,
)

OPEN_CHUNKS = 2
"""Chunks in the making: while the last batch of one is judged, the next one's first is generated."""

FURTHER_HASHES = ("guide_sha256", CHOOSER_FIELD)
"""Of what a pair is made with, those that are further fields of its record."""
MASK_ORIGIN = "mask_origin"
"""Field of a real photograph's record whose mask is not an annotator's."""
THUMBNAIL_PX = 96
"""Longer side of the picture that is kept of a refused pair."""


class ChunkInMaking:
    """A chunk whose pairs are generated in rounds: all of them, then those that the gate refused, again and again."""

    def __init__(self, index: int, requests: Sequence[PairRequest], settings: ChunkSettings) -> None:
        self.result = ChunkResult(index)
        self.attempt = 0
        self.batches = deque(batched(requests, settings.batch_size))
        self._settings = settings
        self._settling: list[tuple[Sequence[PairRequest], Future[list[FinishedPair | Reject]]]] = []

    @property
    def settling(self) -> list[Future[list[FinishedPair | Reject]]]:
        """Of the batches that were generated in this round."""
        return [future for _, future in self._settling]

    def draw(self, sampler: Sampler, gate: Gate | None, background: ThreadPoolExecutor) -> int:
        """Generate the next batch of this round and hand it to the background; return its number of pairs."""
        batch = self.batches.popleft()
        requests = retries(batch, self.attempt)
        decode = sampler.sample(requests)
        future = background.submit(finalize, requests, decode, attempt=self.attempt, gate=gate, settings=self._settings)
        self._settling.append((batch, future))
        return len(batch)

    def finished(self) -> bool:
        """Whether no attempt is left; where a round is judged and pairs were refused, their next round begins."""
        if self.batches or not all(future.done() for future in self.settling):
            return False
        refused: list[PairRequest] = []
        for batch, future in self._settling:
            for request, outcome in zip(batch, future.result(), strict=True):
                if isinstance(outcome, FinishedPair):
                    self.result.pairs.append(outcome)
                else:
                    self.result.rejects.append(outcome)
                    refused.append(request)
        self._settling = []
        self.attempt += 1
        if refused and self.attempt < self._settings.attempts:
            self.batches.extend(batched(refused, self._settings.batch_size))
            return False
        self.result.unmet = [pair_id(request.index, self._settings.id_prefix) for request in refused]
        self.result.pairs.sort(key=lambda pair: pair.record.isic_id)
        self.result.rejects.sort(key=lambda reject: reject.record.isic_id)  # stable: attempts stay in their order
        return True


def draw_chunks(
    sampler: Sampler,
    gate: Gate | None,
    chunks: Iterable[tuple[int, Sequence[PairRequest]] | None],
    settings: ChunkSettings,
    drew: Drew = lambda count: None,
) -> Generator[ChunkResult, None, None]:
    """Generate chunks, given as number and requests; a result is a function of these, settings and judges alone.

    The sampler stays in the calling thread; decoding, the gate and encoding run in one other. Where ``chunks`` gives
    None, there is no next one yet: those in the making go on, and it is asked again.

    Raises:
        Exception: whatever sampler or gate raise.
    """
    waiting = iter(chunks)
    making: list[ChunkInMaking] = []
    with ThreadPoolExecutor(1, "finalize") as background:
        try:
            while True:
                for finished in [chunk for chunk in making if chunk.finished()]:
                    making.remove(finished)
                    yield finished.result
                chunk = next((chunk for chunk in making if chunk.batches), None)
                if chunk is None and len(making) < OPEN_CHUNKS and (task := next(waiting, None)) is not None:
                    chunk = ChunkInMaking(*task, settings)
                    making.append(chunk)
                if chunk is not None:
                    count = chunk.draw(sampler, gate, background)
                    if chunk.attempt == 0:
                        drew(count)
                elif making:
                    open_ones = [future for chunk in making for future in chunk.settling if not future.done()]
                    wait(open_ones, return_when=FIRST_COMPLETED)
                else:
                    return
        finally:
            background.shutdown(wait=False, cancel_futures=True)


def make_chunk(
    sampler: Sampler, gate: Gate | None, index: int, requests: Sequence[PairRequest], settings: ChunkSettings
) -> ChunkResult:
    """Generate one chunk; see `draw_chunks`."""
    (result,) = draw_chunks(sampler, gate, [(index, requests)], settings)
    return result


def attempt_seed(seed: int, attempt: int) -> int:
    """Seed of a pair after ``attempt`` refused attempts: its own, and then functions of it."""
    return seed if attempt == 0 else derived_seed("attempt", seed, attempt)


def finalize(
    requests: Sequence[PairRequest],
    decode: Decode,
    *,
    attempt: int,
    gate: Gate | None,
    settings: ChunkSettings,
) -> list[FinishedPair | Reject]:
    """Decode a generated batch, judge it and encode what is accepted; the outcomes are in the order of the requests."""
    images, masks, readings, choices = Decoded(*decode())
    read: Sequence[Reading | None] = readings or [None] * len(masks)
    records = [
        _record(request, mask, reading, attempt if gate else None, settings)
        for request, mask, reading in zip(requests, masks, read, strict=True)
    ]
    if choices is not None:
        for record, choice in zip(records, choices, strict=True):
            record.seed, record.scores = choice.seed, {**(record.scores or {}), **choice.scores}
    verdicts = gate.judge(images, masks, records) if gate else [None] * len(records)
    outcomes: list[FinishedPair | Reject] = []
    for image, mask, reading, record, verdict in zip(images, masks, read, records, verdicts, strict=True):
        if verdict is not None:
            record.scores = {**(record.scores or {}), **verdict.scores}
        if verdict is not None and verdict.reasons:
            thumbnail = _thumbnail(image, mask) if settings.thumbnails else None
            outcomes.append(Reject(record, tuple(verdict.reasons), thumbnail))
        else:
            generated = record.origin == "synthetic"
            encoded = image_png(image, record, watermark=settings.watermark) if generated else photograph_png(image)
            ignored = None
            if reading is not None and record.ignore_file_name is not None:
                ignored = mask_png(reading.ignored, record.isic_id)
            outcomes.append(FinishedPair(record, encoded, mask_png(mask, record.isic_id), ignored))
    return outcomes


def retries(requests: Sequence[PairRequest], attempt: int) -> list[PairRequest]:
    """The requests as attempt number ``attempt`` takes them."""
    return [replace(request, seed=attempt_seed(request.seed, attempt)) for request in requests]


def batched(requests: Sequence[PairRequest], batch_size: int) -> Iterator[Sequence[PairRequest]]:
    """Batches of the requests in their order; the last one may be smaller."""
    for start in range(0, len(requests), batch_size):
        yield requests[start : start + batch_size]


def _record(
    request: PairRequest, mask: Image.Image, reading: Reading | None, attempt: int | None, settings: ChunkSettings
) -> PairRecord:
    name = pair_id(request.index, settings.id_prefix)
    further: dict[str, Any] = dict(settings.further_guidance)
    further |= {name: settings.made_with[name] for name in FURTHER_HASHES if name in settings.made_with}
    if request.anchor is not None:
        further |= request.anchor.provenance() | dict(settings.anchored)
    described: dict[str, Any] = {"prompt": request.prompt, "license": settings.license}
    described |= {"origin": "synthetic", "source": f"skindualgen {__version__}"}
    scores = {AREA_SCORE: round(float((np.asarray(mask) > 127).mean()), 4)}
    if reading is not None:  # a real photograph, of which its own record says what it is
        described |= {"prompt": None, "origin": "real", "source": None}
        further |= {MASK_ORIGIN: "model"}
        scores |= reading.scores
        if reading.ignored.getbbox() is not None:
            described["ignore_file_name"] = f"{IGNORED_DIR}/{name}.png"
    return PairRecord(
        file_name=f"{IMAGES_DIR}/{name}.png",
        mask_file_name=f"{MASKS_DIR}/{name}.png",
        isic_id=name,
        split="train",
        seed=request.seed,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        adapter_sha256=settings.made_with.get("adapter_sha256"),
        base_sha256=settings.made_with.get("base_sha256"),
        plan_row=request.plan_row,
        attempt=attempt,
        extrapolation=request.extrapolation,
        scores=scores,
        **{**described, **request.attributes, **further},
    )


def _thumbnail(image: Image.Image, mask: Image.Image) -> bytes:
    from skindualgen.sample.sheet import outline

    picture = outline(image, mask)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return png_bytes(picture)
