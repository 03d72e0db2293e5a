"""Draws chunks in one process: while a batch is drawn, the one before it is decoded, judged and encoded behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from skindualgen.planning.requests import PairRequest
from skindualgen.production.chunk import (
    ChunkResult,
    ChunkSettings,
    Drew,
    FinishedPair,
    Gate,
    Reject,
    Sampler,
    batched,
    finalize,
    pair_id,
    retries,
)

OPEN_CHUNKS = 2
"""Chunks in the making: while the last batch of one is judged, the next one's first is drawn."""


class ChunkInMaking:
    """A chunk whose pairs are drawn in rounds: all of them, then those that the gate refused, again and again."""

    def __init__(self, index: int, requests: Sequence[PairRequest], settings: ChunkSettings) -> None:
        self.result = ChunkResult(index)
        self.attempt = 0
        self.batches = deque(batched(requests, settings.batch_size))
        self._settings = settings
        self._settling: list[tuple[Sequence[PairRequest], Future[list[FinishedPair | Reject]]]] = []

    @property
    def settling(self) -> list[Future[list[FinishedPair | Reject]]]:
        """Of the batches that were drawn in this round."""
        return [future for _, future in self._settling]

    def draw(self, sampler: Sampler, gate: Gate | None, background: ThreadPoolExecutor) -> int:
        """Draw the next batch of this round and hand it to the background; return its number of pairs."""
        batch = self.batches.popleft()
        requests = retries(batch, self.attempt)
        decode = sampler.sample(requests)
        future = background.submit(finalize, requests, decode, attempt=self.attempt, gate=gate, settings=self._settings)
        self._settling.append((batch, future))
        return len(batch)

    def finished(self) -> bool:
        """Whether no draw is left; where a round is judged and pairs were refused, their next round begins."""
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
    """Draw chunks, given as number and requests; each result is a function of these, the settings and the judges alone.

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
    """Draw one chunk; see `draw_chunks`."""
    (result,) = draw_chunks(sampler, gate, [(index, requests)], settings)
    return result
