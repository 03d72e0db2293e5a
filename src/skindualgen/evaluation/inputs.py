"""Two data set folders as the parts that an evaluation compares: real train, real held-out, generated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import counts, read_metadata
from skindualgen.data.reading import smallest_side
from skindualgen.data.review import left_out_line, used
from skindualgen.data.terms import known
from skindualgen.data.training_items import read_training_items
from skindualgen.evaluation.results import SetInfo
from skindualgen.judges.leaks import find_leaks, provenance_caveats, real_caveats, refuse_leaks
from skindualgen.judges.pictures import PictureSet, in_terms, read_pictures

HELD_OUT_SPLITS = ("test", "val")
"""Splits that can play the held-out part, in the order in which one is taken if none is named."""
LEAST_PICTURES = 10
"""Fewer photographs in a part are refused: no distribution can be compared on them."""
FEW_PICTURES = 50
"""Fewer photographs in a part make every interval wide, and are pointed out."""


@dataclass(frozen=True)
class Inputs:
    """What is compared, and what must be known about it before any number is believed.

    ``left_out`` is the line that says how many pairs a reviewer has rejected; None if that is none.
    """

    train: PictureSet
    held_out: PictureSet
    generated: PictureSet
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
        names |= {known(record.anatom_site_general) for part in parts for record in part.data}
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
    (real_data, real_rejected), (generated_data, generated_rejected) = _used(real), _used(generated)
    left_out = left_out_line({real.resolve().name: real_rejected, generated.resolve().name: generated_rejected})
    synthetic = sum(record.origin == "synthetic" for record in real_data)
    if synthetic:
        raise InputError(f"{synthetic} synthetic records in {real}", "real photographs", "leave them out of --real")
    split = _held_out_split(real_data, held_out)
    chosen = {"train": real_data.split("train"), split: real_data.split(split), "generated": generated_data}
    for name, part in chosen.items():
        if len(part) < LEAST_PICTURES:
            got = f"{len(part)} photographs in the part {name!r}"
            raise InputError(got, f"{LEAST_PICTURES} or more", "add photographs")
    real_side, generated_side = (smallest_side(data.root, data) for data in (real_data, generated_data))
    size = size_px or min(real_side, generated_side)
    return Inputs(
        train=read_pictures(chosen["train"], size),
        held_out=read_pictures(chosen[split], size),
        generated=read_pictures(generated_data, size),
        held_out_split=split,
        size_px=size,
        real_info=_info(real_data, real_side),
        generated_info=_info(generated_data, generated_side),
        caveats=[
            *_caveats(chosen, split, size, min(real_side, generated_side)),
            *_leak_caveats(train=chosen["train"], held_out=chosen[split], generated=generated),
            *([f"{left_out}."] if left_out else []),
        ],
        left_out=left_out,
    )


def _used(root: Path) -> tuple[Dataset, int]:
    """Read a folder's records in use, with the ISIC Archive's terms, and the number of the rejected ones."""
    everything = read_metadata(root)
    records = used(everything)
    return in_terms(Dataset(root, records)), len(everything) - len(records)


def _held_out_split(data: Dataset, wanted: str | None) -> str:
    found = [split for split in HELD_OUT_SPLITS if split in data.splits and wanted in (None, split)]
    if not found or "train" not in data.splits:
        raise InputError(
            f"{data.root} with the splits {dict(sorted(Counter(record.split for record in data).items()))}",
            f"photographs in 'train' and in {wanted or ' or '.join(HELD_OUT_SPLITS)!r}",
            "split it with `skindualgen prepare`, or name another --held-out",
        )
    return found[0]


def _info(data: Dataset, side_px: int) -> SetInfo:
    return SetInfo(
        name=data.root.resolve().name, manifest_sha256=data.sha256, side_px=side_px, counts=counts(data.records)
    )


def _caveats(chosen: dict[str, Dataset], split: str, size: int, native: int) -> list[str]:
    found = []
    for name, part in chosen.items():
        if len(part) < FEW_PICTURES:
            found.append(f"Only {len(part)} photographs in the part “{name}”: every interval is wide.")
    found += real_caveats(chosen["generated"])
    if not any(record.lesion_id for name in ("train", split) for record in chosen[name]):
        found.append("The real folder names no lesions: that train and held-out lesions differ rests on looks alone.")
    if size > native:
        found.append(
            f"Photographs of {native} px were enlarged to {size} px: one side holds less detail than the other."
        )
    return found


def _leak_caveats(*, train: Dataset, held_out: Dataset, generated: Path) -> list[str]:
    """What the held-out photographs share with the train split or with what the generator is known to have seen.

    It does not stop an evaluation: nothing is trained on the held-out photographs, but what they share makes them look
    nearer to the train split than new ones are.
    """
    items = read_training_items(generated)
    leaks = find_leaks(test=held_out, train=train, generated=None, generator_items=items)
    texts = [f"The held-out photographs are not all unseen: {text}." for text in refuse_leaks(leaks, known=True)]
    return texts + provenance_caveats(items)
