"""Draws several candidates for each request and keeps the one that shows the prompted diagnosis best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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
        count: candidates of a request.
    """

    sampler: Sampler
    classifier: Classifier
    count: int

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Generate the candidates of the requests; what is returned decodes all of them and chooses."""
        known = [i for i, request in enumerate(requests) if self.classifier.term_of(_diagnosis(request))]
        places = [list(range(len(requests))), *([known] * (self.count - 1) if known else [])]
        drawn = []
        for number, some in enumerate(places):
            asked = [_candidate(requests[place], number) for place in some]
            drawn.append((some, asked, self.sampler.sample(asked)))
        return lambda: self._chosen([(some, asked, Decoded(*decode())) for some, asked, decode in drawn])

    def _chosen(self, drawn: list[tuple[list[int], list[PairRequest], Decoded]]) -> Decoded:
        """The best candidate of each place; the first draw has all places."""
        _, asked, first = drawn[0]
        images, masks = list(first.images), list(first.masks)
        choices = [Choice(request.seed, {}) for request in asked]
        for some, candidates, decoded in drawn:
            for place, request, image, mask in zip(some, candidates, decoded.images, decoded.masks, strict=True):
                probability = self.classifier.probability(np.asarray(image), _diagnosis(request))
                if probability is None:
                    continue
                score = round(probability, DIGITS)
                if score > choices[place].scores.get(CLASS_PROBABILITY, -1.0):
                    images[place], masks[place] = image, mask
                    choices[place] = Choice(request.seed, {CLASS_PROBABILITY: score})
        return Decoded(images, masks, first.readings, choices)


def check_best_of(count: int | None, classifier: Path | None, *, reads: bool) -> None:
    """Refuse what cannot be chosen.

    Raises:
        InputError: a number of candidates out of range, several of a photograph whose mask is read, a classifier
            without candidates.
    """
    if count is not None and not 1 <= count <= MOST:
        raise InputError(f"the best of {count}", f"1 to {MOST} candidates of a pair", "correct --best-of")
    several = count is not None and count > 1
    if several and reads:
        raise InputError(
            f"the best of {count} for photographs that are read", "1: the picture is given", "leave --best-of out"
        )
    if not several and classifier is not None:
        raise InputError("a classifier without candidates", "two or more to choose from", "add --best-of 2")


def _diagnosis(request: PairRequest) -> str | None:
    return request.attributes.get("diagnosis")


def _candidate(request: PairRequest, number: int) -> PairRequest:
    return request if number == 0 else replace(request, seed=derived_seed("candidate", request.seed, number))
