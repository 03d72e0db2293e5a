"""Draws several candidates for each request and keeps the one that shows the prompted diagnosis best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.gate.scores import CLASS_PROBABILITY, DIGITS
from skindualgen.planning.requests import PairRequest, derived_seed
from skindualgen.production.chunk import Choice, Decode, Decoded, Sampler

if TYPE_CHECKING:
    from skindualgen.judges.classifier import Classifier

MOST = 64


@dataclass(frozen=True)
class BestOf:
    """A sampler that chooses among what another one draws.

    The first candidate has the seed of its request, as without a choice; the others' are functions of it. A request
    whose diagnosis the classifier does not know is drawn once.

    Attributes:
        sampler: draws the candidates.
        classifier: reads their pictures.
        count: candidates of a request, at most.
        threshold: probability of the diagnosis from which on a candidate is kept without drawing further ones; 1 draws
            all of them.
    """

    sampler: Sampler
    classifier: Classifier
    count: int
    threshold: float = 1.0

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Generate the candidates of the requests; what is returned decodes those that are not yet, and chooses."""
        best = _Best(self.classifier, requests)
        for number in range(self.count):
            places = best.below(self.threshold) if number else range(len(requests))
            if not places:
                break
            asked = [_candidate(requests[place], number) for place in places]
            drawn = partial(best.take, places, asked, self.sampler.sample(asked))
            if self.threshold < 1 and number + 1 < self.count:
                drawn()  # whether there is a next candidate depends on it
            else:
                best.undecoded.append(drawn)
        return best.chosen


class _Candidate(NamedTuple):
    image: Image.Image
    mask: Image.Image
    choice: Choice


class _Best:
    """The best candidate of each request so far."""

    def __init__(self, classifier: Classifier, requests: Sequence[PairRequest]) -> None:
        self.undecoded: list[Callable[[], None]] = []
        self._classifier, self._diagnoses = classifier, [request.attributes.get("diagnosis") for request in requests]
        self._known = [place for place, name in enumerate(self._diagnoses) if classifier.term_of(name)]
        self._best: dict[int, _Candidate] = {}

    def below(self, threshold: float) -> list[int]:
        """Places of the requests whose best candidate is not known to reach the threshold, but could."""
        return [place for place in self._known if self._score(place) < threshold]

    def take(self, places: Sequence[int], asked: Sequence[PairRequest], decode: Decode) -> None:
        """Decode a candidate for each of some places and keep it where it is the best; the first ones are for all."""
        images, masks, _, _ = Decoded(*decode())  # no readings: masks of photographs that are read have no candidates
        for place, request, image, mask in zip(places, asked, images, masks, strict=True):
            probability = self._classifier.probability(np.asarray(image), self._diagnoses[place])
            score = {} if probability is None else {CLASS_PROBABILITY: round(probability, DIGITS)}
            if place not in self._best or score.get(CLASS_PROBABILITY, -1.0) > self._score(place):
                self._best[place] = _Candidate(image, mask, Choice(request.seed, score))

    def chosen(self) -> Decoded:
        """The best candidate of each request, in their order."""
        for decode in self.undecoded:
            decode()
        pairs = [self._best[place] for place in range(len(self._diagnoses))]
        images, masks, choices = zip(*pairs, strict=True)
        return Decoded(list(images), list(masks), None, list(choices))

    def _score(self, place: int) -> float:
        best = self._best.get(place)
        return -1.0 if best is None else best.choice.scores.get(CLASS_PROBABILITY, -1.0)


def check_best_of(count: int | None, classifier: Path | None, threshold: float | None = None, *, reads: bool) -> None:
    """Refuse what cannot be chosen.

    Raises:
        InputError: a number of candidates or a threshold out of range, several of a photograph whose mask is read, a
            classifier or a threshold without candidates.
    """
    if count is not None and not 1 <= count <= MOST:
        raise InputError(f"the best of {count}", f"1 to {MOST} candidates of a pair", "correct --best-of")
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"a threshold of {threshold}", "a probability above 0, up to 1", "correct --best-of-threshold")
    several = count is not None and count > 1
    if several and reads:
        raise InputError(
            f"the best of {count} for photographs that are read", "1: the picture is given", "leave --best-of out"
        )
    if not several and classifier is not None:
        raise InputError("a classifier without candidates", "two or more to choose from", "add --best-of 2")
    if not several and threshold is not None:
        raise InputError("a threshold without candidates", "two or more to draw below it", "add --best-of 2")


def _candidate(request: PairRequest, number: int) -> PairRequest:
    return request if number == 0 else replace(request, seed=derived_seed("candidate", request.seed, number))
