"""What the show measures: drawn pairs, photographs read, masks filled, a short training; and how each is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import imagehash
import numpy as np
from PIL import Image

from skindualgen.data.masks import lesion_pixels
from skindualgen.metrics.masks import ShapeStatistics, dice, shape_statistics

AREA_RANGE = (0.013, 0.878)
"""Share of the picture: 1st to 99th percentile of 1559 expert masks of ISIC 2017."""

LEAST_COMPACTNESS = 0.31
"""4 pi area / perimeter^2 at 128 x 128 px: 1st percentile of the same masks. A disc has 1, a ragged border less."""


@dataclass(frozen=True)
class DrawnPair:
    """A pair drawn from a prompt, and the mask that the model reads from the drawn photograph alone."""

    image: Image.Image
    mask: Image.Image
    reread: Image.Image
    prompt: str
    diagnosis: str
    seed: int

    @property
    def agreement(self) -> float:
        """Dice in [0, 1] of the drawn mask and the one read back; 0 where no lesion was drawn."""
        return agreement(self.reread, self.mask) if self.mask.getbbox() else 0.0

    @property
    def shape(self) -> ShapeStatistics:
        """Shape of the drawn mask."""
        return shape_statistics(np.asarray(self.mask))

    @property
    def plausible(self) -> bool:
        """Whether the mask is one piece, of an area and a compactness that expert masks have."""
        shape = self.shape
        within = AREA_RANGE[0] <= shape.area_fraction <= AREA_RANGE[1]
        return shape.components == 1 and within and shape.compactness >= LEAST_COMPACTNESS


@dataclass(frozen=True)
class Reading:
    """A photograph, the mask that the model reads from it, and the one it came with, if it did."""

    name: str
    image: Image.Image
    mask: Image.Image
    given: Image.Image | None = None
    diagnosis: str = ""

    @property
    def agreement(self) -> float:
        """Dice in [0, 1] of the read and the given mask; NaN without a given one."""
        return float("nan") if self.given is None else agreement(self.mask, self.given)


@dataclass(frozen=True)
class Filling:
    """A given mask and the photograph drawn into it; ``reread`` is what the model reads from that photograph alone."""

    given: Image.Image
    image: Image.Image
    reread: Image.Image
    diagnosis: str

    @property
    def agreement(self) -> float:
        """Dice in [0, 1] of the given mask and the one read back."""
        return agreement(self.reread, self.given)


@dataclass(frozen=True)
class Training:
    """A short training: the loss of each logged step, and the same photographs read again afterwards.

    ``held_out`` says whether those photographs were kept out of the training.
    """

    pairs: int
    seconds: float
    steps: Sequence[int]
    losses: Sequence[float]
    readings: Sequence[Reading] = ()
    held_out: bool = True


@dataclass
class Show:
    """All results so far; parts that were not (yet) done are empty."""

    seed: int
    num_inference_steps: int
    guidance_scale: float
    source: str
    pairs: list[DrawnPair] = field(default_factory=list)
    candidates: int = 1
    """of each pair, of which the one that shows its diagnosis best is kept"""
    seconds_per_pair: float = float("nan")
    readings: list[Reading] = field(default_factory=list)
    fillings: list[Filling] = field(default_factory=list)
    training: Training | None = None
    remarks: list[str] = field(default_factory=list)


def agreement(mask: Image.Image, truth: Image.Image) -> float:
    """Return the Dice of two masks in [0, 1]; ``mask`` is brought to the size of ``truth`` by nearest neighbour."""
    if mask.size != truth.size:
        mask = mask.resize(truth.size, Image.Resampling.NEAREST)
    return dice(lesion_pixels(mask), lesion_pixels(truth))


def variety(images: Sequence[Image.Image]) -> float:
    """Return the mean distance of each picture to the nearest other one, in bits of 64 of their perceptual hashes.

    0 = every picture has a twin. Random photographs of ISIC 2017: 24 among eight, 21 among 24. NaN for fewer than two.

    Source: pHash as in imagehash (discrete cosine transform of the 32 x 32 grey picture, signs about the median).
    """
    hashes = [imagehash.phash(image.convert("RGB")) for image in images]
    if len(hashes) < 2:
        return float("nan")
    return float(np.mean([min(a - b for j, b in enumerate(hashes) if j != i) for i, a in enumerate(hashes)]))


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Return for each value the mean of it and up to ``window - 1`` before it."""
    return [float(np.mean(values[max(0, index + 1 - window) : index + 1])) for index in range(len(values))]
