"""Two data set folders as the parts that an evaluation compares: real train, real held-out, generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skindualgen.benchmarking.leaks import DatasetPart, find_leaks, provenance_caveats, refuse_leaks
from skindualgen.benchmarking.pictures import Pictures, load_pictures
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import counts, manifest_sha256, read_metadata
from skindualgen.data.reading import smallest_side
from skindualgen.data.review import left_out_line, used
from skindualgen.data.terms import diagnosis_term, known
from skindualgen.data.training_items import read_training_items
from skindualgen.evaluation.results import SetInfo

HELD_OUT_SPLITS = ("test", "val")
"""Splits that can play the held-out part, in the order in which one is taken if none is named."""
LEAST_PICTURES = 10
"""Fewer photographs in a part are refused: no distribution can be compared on them."""
FEW_PICTURES = 50
"""Fewer photographs in a part make every interval wide, and are pointed out."""


@dataclass(frozen=True)
class Part:
    """Photographs of one folder at one size, and their records; diagnoses are the ISIC Archive's terms."""

    root: Path
    records: list[PairRecord]
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Part:
        """Return the photographs that are marked True, [n]."""
        positions = np.flatnonzero(chosen)
        return Part(self.root, [self.records[i] for i in positions], self.pictures.take(positions))

    @property
    def images(self) -> NDArray[np.uint8]:
        """RGB uint8 [n, s, s, 3]."""
        return self.pictures.images

    @property
    def masks(self) -> NDArray[np.bool_]:
        """True is lesion, [n, s, s]; all False where there is no mask."""
        return self.pictures.masks

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """Which photographs have a mask, [n]."""
        return self.pictures.has_mask

    @property
    def diagnoses(self) -> list[str | None]:
        """The diagnosis of each photograph, None where it is not known."""
        return self.pictures.diagnoses

    @property
    def ids(self) -> list[str]:
        """The id of each photograph."""
        return self.pictures.ids


@dataclass(frozen=True)
class Inputs:
    """What is compared, and what must be known about it before any number is believed.

    ``left_out`` is the line that says how many pairs a reviewer has rejected; None if that is none.
    """

    train: Part
    held_out: Part
    generated: Part
    held_out_split: str
    size_px: int
    real_info: SetInfo
    generated_info: SetInfo
    caveats: list[str] = field(default_factory=list)
    left_out: str | None = None

    @property
    def groups(self) -> list[str]:
        """The diagnoses and body sites that a real or generated photograph has: what measures may be of."""
        parts = (self.train, self.held_out, self.generated)
        names = {name for part in parts for name in part.diagnoses}
        names |= {known(record.anatom_site_general) for part in parts for record in part.records}
        return sorted(name for name in names if name is not None)


def read_inputs(real: Path, generated: Path, *, held_out: str | None = None, size_px: int | None = None) -> Inputs:
    """Read both folders at one size, without the pairs that a reviewer has rejected.

    Args:
        real: a data set folder with the splits ``train`` and ``test`` or ``val``.
        generated: a data set folder of any generator; its splits do not matter.
        held_out: the real split that no generator has seen; None takes the first of :data:`HELD_OUT_SPLITS` there is.
        size_px: side to which all photographs are brought; None takes the smaller one of both folders' own, so that
            real photographs hold no more detail than generated ones.

    Raises:
        InputError: a folder that cannot be read, a split that is not there, generated photographs in the real folder,
            or fewer than :data:`LEAST_PICTURES` in a part.
    """
    (real_records, real_rejected), (generated_records, generated_rejected) = _records(real), _records(generated)
    left_out = left_out_line({real.resolve().name: real_rejected, generated.resolve().name: generated_rejected})
    synthetic = sum(record.origin == "synthetic" for record in real_records)
    if synthetic:
        raise InputError(f"{synthetic} synthetic records in {real}", "real photographs", "leave them out of --real")
    split = _held_out_split(real, real_records, held_out)
    chosen = {
        "train": [record for record in real_records if record.split == "train"],
        split: [record for record in real_records if record.split == split],
        "generated": generated_records,
    }
    for name, records in chosen.items():
        if len(records) < LEAST_PICTURES:
            got = f"{len(records)} photographs in the part {name!r}"
            raise InputError(got, f"{LEAST_PICTURES} or more", "add photographs")
    real_side, generated_side = smallest_side(real, real_records), smallest_side(generated, generated_records)
    size = size_px or min(real_side, generated_side)
    return Inputs(
        train=Part(real, chosen["train"], load_pictures(real, chosen["train"], size)),
        held_out=Part(real, chosen[split], load_pictures(real, chosen[split], size)),
        generated=Part(generated, generated_records, load_pictures(generated, generated_records, size)),
        held_out_split=split,
        size_px=size,
        real_info=_info(real, real_records, real_side),
        generated_info=_info(generated, generated_records, generated_side),
        caveats=[
            *_caveats(chosen, split, size, min(real_side, generated_side)),
            *_leak_caveats(real, generated, chosen, split),
            *([f"{left_out}."] if left_out else []),
        ],
        left_out=left_out,
    )


@dataclass(frozen=True)
class ClassMatch:
    """Which photographs of a real and of a generated part have the same class proportions; [n] and [m] bool."""

    real: NDArray[np.bool_]
    generated: NDArray[np.bool_]
    note: str


def class_matched(real: Part, generated: Part, *, seed: int) -> ClassMatch:
    """Choose the largest generated part with the class proportions of the real one, so that like is compared with like.

    Diagnoses that one of them lacks are left out of both. Without any in common, all photographs are chosen.
    """
    available, wanted = Counter(generated.diagnoses), Counter(real.diagnoses)
    common = sorted(name for name in set(available) & set(wanted) if name is not None)
    if not common:
        everything = np.ones(len(real), bool), np.ones(len(generated), bool)
        return ClassMatch(*everything, "No diagnosis is in both sets: class proportions are not matched.")
    scale = min(available[name] / wanted[name] for name in common)
    random, of_generated = np.random.default_rng(seed), np.asarray(generated.diagnoses, dtype=object)
    chosen = np.zeros(len(generated), bool)
    for name in common:
        chosen[random.permutation(np.flatnonzero(of_generated == name))[: max(1, round(scale * wanted[name]))]] = True
    kept = np.array([name in common for name in real.diagnoses], bool)
    return ClassMatch(
        kept,
        chosen,
        f"Over all diagnoses, {chosen.sum()} of {len(generated)} generated photographs are compared with {kept.sum()} "
        "real ones: the largest part with their class proportions, chosen at random.",
    )


def _records(root: Path) -> tuple[list[PairRecord], int]:
    """Read a folder's records in use, and the number of the rejected ones.

    Diagnoses are in the ISIC Archive's terms, so that two spellings are one class.
    """
    everything = read_metadata(root)
    records = used(everything)
    in_terms = [record.model_copy(update={"diagnosis": diagnosis_term(record.diagnosis)}) for record in records]
    return in_terms, len(everything) - len(records)


def _held_out_split(root: Path, records: Sequence[PairRecord], wanted: str | None) -> str:
    present: Counter[str] = Counter(record.split for record in records)
    found = [split for split in HELD_OUT_SPLITS if present[split] and wanted in (None, split)]
    if not found or not present["train"]:
        raise InputError(
            f"{root} with the splits {dict(sorted(present.items()))}",
            f"photographs in 'train' and in {wanted or ' or '.join(HELD_OUT_SPLITS)!r}",
            "split it with `skindualgen prepare`, or name another --held-out",
        )
    return found[0]


def _info(root: Path, records: Sequence[PairRecord], side_px: int) -> SetInfo:
    return SetInfo(
        name=root.resolve().name, manifest_sha256=manifest_sha256(records), side_px=side_px, counts=counts(records)
    )


def _caveats(chosen: dict[str, list[PairRecord]], split: str, size: int, native: int) -> list[str]:
    found = []
    for name, records in chosen.items():
        if len(records) < FEW_PICTURES:
            found.append(f"Only {len(records)} photographs in the part “{name}”: every interval is wide.")
    not_synthetic = sum(record.origin != "synthetic" for record in chosen["generated"])
    if not_synthetic:
        found.append(f"{not_synthetic} records of the generated folder say that they are real.")
    if not any(record.lesion_id for name in ("train", split) for record in chosen[name]):
        found.append("The real folder names no lesions: that train and held-out lesions differ rests on looks alone.")
    if size > native:
        found.append(
            f"Photographs of {native} px were enlarged to {size} px: one side holds less detail than the other."
        )
    return found


def _leak_caveats(real: Path, generated: Path, chosen: dict[str, list[PairRecord]], split: str) -> list[str]:
    """What the held-out photographs share with the train split or with what the generator is known to have seen.

    It does not stop an evaluation: nothing is trained on the held-out photographs, but what they share makes them look
    nearer to the train split than new ones are.
    """
    items = read_training_items(generated)
    leaks = find_leaks(
        test=DatasetPart(real, chosen[split]), train=DatasetPart(real, chosen["train"]), generated=None,
        generator_items=items,
    )  # fmt: skip
    texts = [f"The held-out photographs are not all unseen: {text}." for text in refuse_leaks(leaks, known=True)]
    return texts + provenance_caveats(items)
