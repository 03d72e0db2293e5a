"""A chunk of pairs, the unit of work: what decides its content, what comes of it, who makes and judges its pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from PIL import Image

from skindualgen.contracts import HASH_FIELDS, InputError, PairRecord
from skindualgen.data.prepare import LOADER_WORDS
from skindualgen.planning.requests import PairRequest

CHUNK_BATCHES = 4
"""Batches of a chunk: enough for refused pairs to fill batches of their own, few enough to be lost by a killed run."""

AREA_SCORE = "mask_area_fraction"
"""Share of the picture that the mask calls lesion, in each record's ``scores``."""

ID_PREFIX = "SDG"
"""What ids begin with by default, and what those of all earlier folders begin with."""
ID_PREFIX_FORM = re.compile(r"[A-Za-z0-9_-]{1,16}")

Images = Sequence[Image.Image]


class Reading(NamedTuple):
    """What goes with a mask that was read from a real photograph.

    Attributes:
        ignored: of the mask's size, L: 255 where it is not to be learnt from or counted, 0 elsewhere.
        scores: of the reading, for the record.
    """

    ignored: Image.Image
    scores: Mapping[str, float]


class Choice(NamedTuple):
    """The candidate that a pair is, of several that were drawn for its request.

    Attributes:
        seed: of the candidate's generator.
        scores: that it was chosen by, for the record; none where there was nothing to choose by.
    """

    seed: int
    scores: Mapping[str, float]


class Decoded(NamedTuple):
    """What a batch of requests has become.

    Attributes:
        images: RGB.
        masks: L, 0 or 255.
        readings: where the images are real photographs, whose masks were read.
        choices: where the pairs were chosen among candidates.
    """

    images: Images
    masks: Images
    readings: Sequence[Reading] | None = None
    choices: Sequence[Choice] | None = None


Decode = Callable[[], tuple[Any, ...]]
"""Makes what was generated, the fields of `Decoded`; called once, while the next batch is generated."""


Drew = Callable[[int], None]
"""Called with the number of pairs that were generated for the first time."""


class Sampler(Protocol):
    """Generates pairs, each a function of its request, and of the batch's size by a grey level at most."""

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Generate the requests, in their order; what is returned decodes them, and may be called in another thread."""


class Verdict(Protocol):
    """What a gate says of a pair; `skindualgen.gate.gate.Verdict` is one."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Its measurements."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused, each beginning with the name of a score; none: it is accepted."""


class Gate(Protocol):
    """Judges pairs, each for itself and always alike; `skindualgen.gate.gate.Gate` is one."""

    def judge(self, images: Images, masks: Images, records: Sequence[PairRecord]) -> Sequence[Verdict]:
        """One verdict per pair, in their order."""


@dataclass(frozen=True)
class ChunkSettings:
    """What decides the content of a chunk apart from its requests, its sampler and its gate.

    Args:
        steps, guidance: as the sampler takes them; written into each record.
        made_with: ``adapter_sha256``, ``base_sha256`` and the like, as `SkinDualGenPipeline.config.provenance`.
        batch_size: pairs generated together.
        attempts: at most so many for a pair, where a gate refuses.
        thumbnails: keep small pictures of refused pairs.
        watermark: add the invisible watermark to images.
        license: SPDX id to be written into each record.
        id_prefix: what ids begin with; another one for pairs that are to be joined with those of another run.
        further_guidance: further settings of guidance, name -> number; written into each record.
        anchored: how pairs are made from real ones, if they are; written into each record.

    Raises:
        InputError: see `check_id_prefix`.
    """

    steps: int
    guidance: float
    made_with: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    attempts: int = 4
    thumbnails: bool = False
    watermark: bool = False
    license: str | None = None
    id_prefix: str = ID_PREFIX
    further_guidance: Mapping[str, float] = field(default_factory=dict)
    anchored: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_id_prefix(self.id_prefix)

    @property
    def chunk_pairs(self) -> int:
        """Pairs of a chunk; the last one of a source may have fewer."""
        return CHUNK_BATCHES * self.batch_size


@dataclass(frozen=True)
class FinishedPair:
    """An accepted pair, encoded; its record has no hashes yet. ``ignored`` is None if no pixel is ignored."""

    record: PairRecord
    image: bytes
    mask: bytes
    ignored: bytes | None = None

    @property
    def contents(self) -> dict[str, bytes]:
        """Field of the record that names a file -> its content, for each file of the pair."""
        contents = dict(zip(HASH_FIELDS, (self.image, self.mask, self.ignored), strict=True))
        return {field: content for field, content in contents.items() if content is not None}


@dataclass(frozen=True)
class Reject:
    """A refused attempt: its record, the gate's reasons, and a small picture of image and contour if it is kept."""

    record: PairRecord
    reasons: tuple[str, ...]
    thumbnail: bytes | None = None


@dataclass
class ChunkResult:
    """What came of a chunk.

    Args:
        index: of the chunk.
        pairs: in the order of their requests.
        rejects: in the order of their requests, then of their attempts.
        unmet: ids of the pairs whose every attempt was refused.
    """

    index: int
    pairs: list[FinishedPair] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)


def check_id_prefix(prefix: str) -> None:
    """Refuse what ids, which name files as well, cannot begin with.

    Raises:
        InputError: other characters, too many of them, or a word for which loaders would take the files for a split.
    """
    if not ID_PREFIX_FORM.fullmatch(prefix):
        got, expected = f"the id prefix {prefix!r}", "1 to 16 letters (a to z), digits, - and _"
        raise InputError(got, expected, "fix --id-prefix")
    if (word := LOADER_WORDS.search(pair_id(0, prefix))) is not None:
        raise InputError(
            f"the id prefix {prefix!r}",
            f"one without the word {word[0]!r}: `datasets` would take the files for a split of that name",
            f"write {word[0].upper()}, or choose another --id-prefix",
        )


def pair_id(index: int, prefix: str) -> str:
    """Name of the pair at a place of the plan."""
    return f"{prefix}_{index:07d}"
