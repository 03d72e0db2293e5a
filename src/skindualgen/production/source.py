"""Where requests come from: a plan on disk or a list, cut into chunks by their place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from skindualgen.contracts import METADATA_FILE, InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.data.prompts import clip_token_bound, refuse_long
from skindualgen.data.review import count_rejected, left_out_line
from skindualgen.planning.anchors import Anchoring
from skindualgen.planning.looks import completed
from skindualgen.planning.plan import read_plan
from skindualgen.planning.prompt_files import read_prompts
from skindualgen.planning.requests import PairRequest, requests_from_file, requests_from_prompts, requests_like
from skindualgen.production import DEFAULT_COUNT

MAX_PAIRS = 10_000_000
"""Seven digits of a pair's id."""


class RequestSource(Protocol):
    """What is to be generated, in an order that never changes; `skindualgen.planning.plan.Plan` is one."""

    @property
    def sha256(self) -> str:
        """Hash of all requests, or of the file that states them."""

    @property
    def pairs(self) -> int:
        """Number of requests."""

    def requests(self, start: int = 0, stop: int | None = None) -> Iterator[PairRequest]:
        """Those of the places ``start`` to ``stop``, their ``index`` being their place."""


class RequestList:
    """Requests that are held in memory; their places are those of the list.

    Args:
        requests: with ``index`` 0, 1, 2 and so on.
        count_tokens: tokens of a text, start and end token included. Asked only for a prompt that could be too long by
            `clip_token_bound`, which stands in where no tokenizer is at hand and errs on the side of too many.

    Raises:
        InputError: no request, or a prompt whose end the text encoder would cut off.
    """

    def __init__(self, requests: Sequence[PairRequest], count_tokens: Callable[[str], int] = clip_token_bound) -> None:
        if not requests:
            raise InputError("no request", "one pair at least", "ask for one")
        for prompt in dict.fromkeys(request.prompt for request in requests):
            refuse_long(prompt, count_tokens)
        self._requests = list(requests)
        self.pairs = len(requests)
        self.sha256 = _hash(requests)

    def requests(self, start: int = 0, stop: int | None = None) -> Iterator[PairRequest]:
        """Those of the places ``start`` to ``stop``."""
        return islice(self._requests, start, stop)


@dataclass(frozen=True)
class CompletedRequests:
    """The requests of a source, each completed with words for looks (`skindualgen.planning.looks.completed`).

    Args:
        source: of the requests.
        appearances: words by diagnosis, as the adapter has them.
    """

    source: RequestSource
    appearances: Mapping[str, Sequence[str]]

    @property
    def sha256(self) -> str:
        """Hash of the source and of the words."""
        content = json.dumps([self.source.sha256, self.appearances], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def pairs(self) -> int:
        """Number of requests."""
        return self.source.pairs

    def requests(self, start: int = 0, stop: int | None = None) -> Iterator[PairRequest]:
        """Those of the places ``start`` to ``stop``."""
        return (completed(request, self.appearances) for request in self.source.requests(start, stop))


OpenSource = Callable[[Callable[[str], int]], RequestSource]
"""Opens what is to be generated, with a function that counts a prompt's tokens."""


@dataclass(frozen=True)
class Sources:
    """Where requests come from: exactly one of a plan, prompts, a file of prompts, a data set to be like, real pairs.

    Prompts may also go with the masks of real pairs, in place of what is known of these.

    Args:
        plan: CSV of ``skindualgen plan``.
        prompts: taken in turn.
        prompt_file: see `skindualgen.planning.prompt_files.read_prompts`.
        like: data set folder whose training records give prompts and labels.
        count: number of pairs; `DEFAULT_COUNT` if not given, or as many as ``per_pair`` says.
        seed: of the run; 0 if not given.
        anchoring: real pairs, and how pairs are made from them.
        per_pair: variations of each real pair; 1 if not given.

    Raises:
        InputError: none or several of them; a count or a seed with a plan, which states both.
    """

    plan: Path | None = None
    prompts: tuple[str, ...] | None = None
    prompt_file: Path | None = None
    like: Path | None = None
    count: int | None = None
    seed: int | None = None
    anchoring: Anchoring | None = None
    per_pair: int | None = None

    def __post_init__(self) -> None:
        given = [self.plan, self.prompts, self.prompt_file, self.like, self.anchoring]
        if self.anchoring is not None and self.anchoring.way == "masks":
            given.remove(self.prompts)
        if sum(source is not None for source in given) != 1:
            raise InputError(
                "not exactly one of --plan, --prompt, --prompts, --like, --redraw, --masks, --inpaint and --read",
                "one source of prompts",
                "try --prompt 'a melanoma'",
            )
        if self.plan is not None and (self.count, self.seed) != (None, None):
            raise InputError("--plan with --count or --seed", "a plan alone, which states both", "leave them out")
        if self.per_pair is not None and (self.anchoring is None or self.count is not None):
            raise InputError(
                "--per-pair without real pairs, or with --count", "one of them, with real pairs", "leave one out"
            )

    def open(
        self, count_tokens: Callable[[str], int], *, tell: Callable[[str], Any] = lambda line: None
    ) -> RequestSource:
        """The requests.

        Args:
            count_tokens: of a text, start and end token included.
            tell: is given a line about what is not used.

        Raises:
            InputError: a file that cannot be read, or a prompt that is too long.
        """
        if self.plan is not None:
            return read_plan(self.plan, count_tokens=count_tokens)
        if self.anchoring is not None:
            return RequestList(self._anchored(self.anchoring, tell), count_tokens)
        count, seed = DEFAULT_COUNT if self.count is None else self.count, self.seed or 0
        if self.like is not None:
            rejected = count_rejected(read_metadata(self.like, "train"))
            if (line := left_out_line({str(self.like): rejected})) is not None:
                tell(line)
            return RequestList(requests_like(self.like, count, seed), count_tokens)
        if self.prompt_file is not None:
            file = read_prompts(self.prompt_file)
            if file.unused:
                tell(f"note: {self.prompt_file}: columns not used: {', '.join(file.unused)}")
            return RequestList(requests_from_file(file, count, seed), count_tokens)
        return RequestList(
            requests_from_prompts([(text, {}) for text in self.prompts or ()], count, seed), count_tokens
        )

    def _anchored(self, anchoring: Anchoring, tell: Callable[[str], Any]) -> list[PairRequest]:
        if (anchoring.root / METADATA_FILE).is_file():
            records = read_metadata(anchoring.root)
            rejected = count_rejected(record for record in records if record.split == "train")
            if (line := left_out_line({str(anchoring.root): rejected})) is not None:
                tell(line)
            if held_out := sum(record.split != "train" for record in records):
                tell(f"note: {held_out} pairs of {anchoring.root} are of val or test and are not started from")
            reads = anchoring.way == "read"
            marked = sum(r.mask_file_name is not None for r in records if r.split == "train")
            unmarked = sum(r.mask_file_name is None for r in records if r.split == "train")
            if reads and marked:
                tell(f"note: {marked} photographs of {anchoring.root} have a mask and are not read")
            if not reads and unmarked:
                tell(f"note: {unmarked} photographs of {anchoring.root} have no mask and are not started from")
        elif anchoring.plain:
            for name, reason in anchoring.listing()[1].items():
                tell(f"note: not used of {anchoring.root}: {name} ({reason})")
        prompts = self.prompts or ()
        return anchoring.requests(self.seed or 0, count=self.count, per_pair=self.per_pair or 1, prompts=prompts)


class ChunkReader:
    """Reads the requests of chunks; in ascending order, one pass over the source serves them all.

    Args:
        source: of the requests.
        chunk_pairs: pairs of a chunk; the last one may have fewer.
    """

    def __init__(self, source: RequestSource, chunk_pairs: int) -> None:
        self._source, self._chunk_pairs = source, chunk_pairs
        self._next, self._stream = 0, source.requests()

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process, a reader begins anew."""
        return ChunkReader, (self._source, self._chunk_pairs)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self._source.pairs // self._chunk_pairs)

    def size(self, chunk: int) -> int:
        """Number of pairs of a chunk."""
        return min(self._chunk_pairs, self._source.pairs - chunk * self._chunk_pairs)

    def read(self, chunk: int) -> list[PairRequest]:
        """The requests of a chunk, which are cut by their place and not by what is left."""
        if chunk < self._next:
            self._next, self._stream = chunk, self._source.requests(chunk * self._chunk_pairs)
        skipped = (chunk - self._next) * self._chunk_pairs
        self._next = chunk + 1
        return list(islice(self._stream, skipped, skipped + self._chunk_pairs))


def _hash(requests: Sequence[PairRequest]) -> str:
    digest = hashlib.sha256()
    for request in requests:
        digest.update(json.dumps(request.described(), sort_keys=True, allow_nan=False).encode() + b"\n")
    return digest.hexdigest()
