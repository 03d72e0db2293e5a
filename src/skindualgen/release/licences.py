"""The licences that are behind a data set: its photographs, what its generator learned from, the base model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from skindualgen.contracts import InputError, PairRecord
from skindualgen.model.card import LICENCES, UNKNOWN_LICENCE, Licence, base_license
from skindualgen.release.contents import NOT_RECORDED, Contents

PUBLIC_DOMAIN = frozenset({"cc0-1.0", "pddl", "unlicense"})
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""how the hub writes licences: huggingface.co/docs/hub/repositories-licenses"""
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Source:
    """Photographs of one source under one licence."""

    name: str
    licence: str
    count: int


@dataclass(frozen=True)
class LicenceChain:
    """What a recipient of the data set has to know of licences.

    Attributes:
        chosen: of the release, as the hub writes it; None if its publisher chose none.
        real: sources of real photographs in the folder.
        training: sources of the photographs that the generator learned from, as far as they are known.
        training_items: how many the generator records, None where it records none.
        training_unknown: how many of them have no known source here.
        training_unrecorded: parts of the generator whose training items are not recorded.
        base: name of the base model; base_licence: as the hub writes it; base_terms: its text, where known.
        restricted: whether the base's licence puts restrictions on use.
    """

    chosen: str | None
    real: list[Source]
    training: list[Source]
    training_items: int | None
    training_unknown: int
    training_unrecorded: tuple[str, ...]
    base: str
    base_licence: str
    base_terms: Licence | None

    @property
    def restricted(self) -> bool:
        """Whether the base's licence restricts uses, and asks that these restrictions are passed on."""
        return "openrail" in self.base_licence

    @property
    def attribution(self) -> list[str]:
        """Licences of photographs that ask for their source to be named."""
        licences = {source.licence for source in (*self.training, *self.real)}
        return sorted(licence for licence in licences if re.search(r"\bby\b", licence.lower()))

    @property
    def non_commercial(self) -> list[Source]:
        """Training sources whose licence excludes commercial use."""
        return [source for source in self.training if re.search(r"\bnc\b", source.licence.lower())]


def licence_chain(contents: Contents, chosen: str | None = None) -> LicenceChain:
    """Collect the licences behind a data set.

    Args:
        contents: of the release.
        chosen: licence of the release; None takes the one that all records name, if they name one.

    Raises:
        InputError: ``chosen`` is no licence's name as the hub writes it, or photographs in the folder are under
            another one: generated ones say so inside their files, and who publishes real ones again cannot put them
            under another licence.
    """
    if chosen is None:
        chosen = _recorded_licence(contents.records)
    else:
        _check_licence(chosen, contents)
    training = contents.training
    known = {record.isic_id for record in contents.training_records}
    base = contents.recorded("base_id")
    licence = UNKNOWN_LICENCE if base == NOT_RECORDED else base_license(base)
    return LicenceChain(
        chosen=chosen,
        real=_sources(contents.real),
        training=_sources(contents.training_records),
        training_items=None if training is None else len(training.items),
        training_unknown=0 if training is None else sum(item.isic_id not in known for item in training.items),
        training_unrecorded=() if training is None else training.unrecorded,
        base=base,
        base_licence=licence,
        base_terms=LICENCES.get(licence),
    )


def _recorded_licence(records: Sequence[PairRecord]) -> str | None:
    named = {(record.license or "").lower() for record in records}
    name = named.pop() if len(named) == 1 else ""
    return name if LICENCE_ID.fullmatch(name) else None


def _check_licence(chosen: str, contents: Contents) -> None:
    if not LICENCE_ID.fullmatch(chosen):
        raise InputError(
            f"--license {chosen!r}", "a licence as the hub writes it, in small letters", "try cc-by-4.0 or cc0-1.0"
        )
    of_real = ((record.license or NOT_STATED).lower() for record in contents.real)
    of_generated = (record.license.lower() for record in contents.synthetic if record.license)
    licences = Counter(name for name in of_real if name not in PUBLIC_DOMAIN | {chosen})
    licences.update(name for name in of_generated if name != chosen)
    if licences:
        counted = ", ".join(f"{count} under {name}" for name, count in sorted(licences.items()))
        raise InputError(
            f"--license {chosen} for a folder with photographs of other licences ({counted})",
            "the licence that these photographs came with, or were generated under",
            "leave --license out (the card then names each licence), or leave the photographs out",
        )


def _sources(records: Sequence[PairRecord]) -> list[Source]:
    counted = Counter((record.source or NOT_STATED, record.license or NOT_STATED) for record in records)
    return [Source(name, licence, count) for (name, licence), count in sorted(counted.items())]
