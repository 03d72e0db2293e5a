"""What to generate: one request a pair, from a prompt, a file of prompts, or the joint distribution of real records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.labels import ATTRIBUTES, labels_of
from skindualgen.data.prompts import prompt_for
from skindualgen.data.review import read_used
from skindualgen.planning.prompt_files import PromptFile

SEED_BITS = 62


@dataclass(frozen=True)
class Anchor:
    """The real pair that a pair is made from.

    Args:
        isic_id, sha256, mask_sha256: of the record; what provenance says.
        file_name, mask_file_name: in the data set folder.
        lesion_id, patient_id: of the record, whose own id stands in where the lesion has none.
        label_shares: diagnosis -> share, where the pair was redrawn towards another diagnosis.
        appearance: measured words for looks that the prompt may go on with: all of them where the photograph is
            redrawn, those of size, shape and place where only the mask is given.
    """

    isic_id: str
    file_name: str
    mask_file_name: str | None
    sha256: str | None
    mask_sha256: str | None
    lesion_id: str
    patient_id: str | None
    label_shares: dict[str, float] | None = None
    appearance: str | None = None

    @classmethod
    def of(
        cls, record: PairRecord, label_shares: dict[str, float] | None = None, appearance: str | None = None
    ) -> Anchor:
        """The anchor that a record is."""
        return cls(
            record.isic_id,
            record.file_name,
            record.mask_file_name,
            None if record.file_name == record.mask_file_name else record.sha256,  # a mask without its photograph
            record.mask_sha256,
            record.lesion_id or record.isic_id,
            record.patient_id,
            label_shares,
            appearance,
        )

    def provenance(self) -> dict[str, Any]:
        """What the record of a pair says of it."""
        named = {
            "anchor_isic_id": self.isic_id,
            "anchor_sha256": self.sha256,
            "anchor_mask_sha256": self.mask_sha256,
            "lesion_id": self.lesion_id,
            "patient_id": self.patient_id,
            "label_shares": self.label_shares,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class PairRequest:
    """One pair to generate.

    Args:
        index: its place in the run; names the files.
        prompt: the text.
        seed: of its own generator.
        attributes: what the pair is labelled with, keys out of ``ATTRIBUTES``, of a plan also ``skin_tone``; of a
            photograph whose mask is read, all that its record says of it.
        plan_row: the row of the plan that asks for it, 0 is the first; None without a plan.
        extrapolation: whether the real data have no pair with this combination of attributes; None where that is not
            known.
        anchor: the real pair that it is made from, if it is made from one.
    """

    index: int
    prompt: str
    seed: int
    attributes: dict[str, Any] = field(default_factory=dict)
    plan_row: int | None = None
    extrapolation: bool | None = None
    anchor: Anchor | None = None

    def described(self) -> dict[str, Any]:
        """As JSON takes it; without an anchor, as version 0.1 described it."""
        return {name: value for name, value in asdict(self).items() if name != "anchor" or value is not None}


def pair_seed(run_seed: int, index: int) -> int:
    """Seed of one pair: a function of the run's seed and the pair's place, so order and batches do not matter."""
    return derived_seed("pair", run_seed, index)


def derived_seed(what: Literal["pair", "attempt", "candidate"], seed: int, number: int) -> int:
    """Seed of what a seed leads to by number: as good as independent of the seed, of other numbers and other kinds."""
    digest = hashlib.sha256(f"{what}:{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - SEED_BITS)


def requests_from_prompts(prompts: Sequence[tuple[str, dict[str, Any]]], count: int, seed: int) -> list[PairRequest]:
    """``count`` requests that go through the prompts in turn.

    Args:
        prompts: text and labels; an empty dict takes the diagnosis from the text, where it names exactly one.
        count: number of pairs.
        seed: of the run.
    """
    labelled = [(text, labels or labels_of(text)) for text, labels in prompts]
    requests = []
    for index in range(count):
        text, labels = labelled[index % len(labelled)]
        requests.append(PairRequest(index, text, pair_seed(seed, index), labels))
    return requests


def places_in_turn(records: int, count: int, seed: int) -> list[int]:
    """``count`` places among so many records, drawn without bias: each once, in a seeded order, before any twice."""
    rng = np.random.default_rng([seed, count])
    rounds = -(-count // records)
    return np.concatenate([rng.permutation(records) for _ in range(rounds)])[:count].tolist()


def attributes_of(record: PairRecord) -> dict[str, Any]:
    """What is known of a record that a pair can be labelled with."""
    return {name: value for name in ATTRIBUTES if (value := getattr(record, name)) is not None}


def requests_like(root: Path, count: int, seed: int) -> list[PairRequest]:
    """``count`` requests with attributes of real training records, drawn without bias, and prompts from them.

    Records that a reviewer has rejected are nobody's model.

    Raises:
        InputError: ``root`` is no data set folder, or has no training records.
    """
    records = read_used(root, "train")
    requests = []
    for index, chosen in enumerate(places_in_turn(len(records), count, seed)):
        record, pair = records[chosen], pair_seed(seed, index)
        requests.append(PairRequest(index, prompt_for(record, seed=pair), pair, attributes_of(record)))
    return requests


def requests_from_file(file: PromptFile, count: int, seed: int) -> list[PairRequest]:
    """``count`` requests that go through the rows of a prompt file in turn.

    A row with a seed of its own gets it in the first turn and counts up from it in the next ones, as in a plan.

    Raises:
        InputError: two pairs would have one seed.
    """
    requests = requests_from_prompts([(row.prompt, row.labels) for row in file.rows], count, seed)
    lines: dict[int, int] = {}
    for request in requests:
        turn, place = divmod(request.index, len(file.rows))
        row = file.rows[place]
        if row.seed is None:
            continue
        own = row.seed + turn
        if own in lines:
            got = f"{file.path}, line {row.line}, seed: seed {own}, which line {lines[own]} has too"
            expected = "each seed once, or the same pair comes twice"
            raise InputError(got, expected, "fix the seed, or leave it blank")
        lines[own] = row.line
        requests[request.index] = replace(request, seed=own)
    return requests
