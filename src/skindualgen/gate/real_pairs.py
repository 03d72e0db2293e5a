"""What a gate is calibrated on: options, the real pairs, and whether anything has seen the held-out ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.reading import smallest_side
from skindualgen.data.training_items import TrainingItems
from skindualgen.gate.scores import SCORES
from skindualgen.judges.leaks import find_leaks, refuse_leaks

LEAST_REAL_PAIRS = 20
"""Held-out real pairs below which no tail can be found."""

SAME_PHOTOGRAPH = ("isic_id", "file", "pixels")
"""Kinds of leaks that are the same photograph; others may be another one of the same lesion or patient."""


@dataclass(frozen=True)
class CalibrateOptions:
    """What is calibrated, and on what.

    Attributes:
        real: data set folder of real pairs with a train split.
        size_px: side at which pairs are judged: that of the pairs that will be generated.
        accept: share of the held-out real pairs that shall pass all thresholds together, in (0, 1].
        split: their split; never train.
        use_test: allow the split test, which then must not be used to report results of gated pairs.
        without: scores that are left out.
        segmenter, classifier: files of judges; the scores that need one that is not given are left out.
    """

    real: Path
    size_px: int
    accept: float = 0.95
    split: str = "val"
    use_test: bool = False
    without: tuple[str, ...] = ()
    segmenter: Path | None = None
    classifier: Path | None = None

    def __post_init__(self) -> None:
        if self.size_px <= 0:
            raise InputError(f"a side of {self.size_px} px", "a number above 0", "for example 256")
        if not 0 < self.accept <= 1:
            raise InputError(f"an acceptance of {self.accept}", "a share above 0, at most 1", "for example 0.95")
        if self.split not in ("val", "test"):
            got = f"the split {self.split!r}"
            raise InputError(got, "val, which judges and adapter have not seen", "calibrate on val")
        if self.split == "test" and not self.use_test:
            raise InputError(
                "the test split", "val, as results are reported on test", "calibrate on val, or say --use-test"
            )
        unknown = sorted(set(self.without) - set(SCORES))
        if unknown:
            raise InputError(f"score {unknown[0]!r}", f"some of {', '.join(SCORES)}", "fix --without")


def read_parts(options: CalibrateOptions) -> tuple[Dataset, Dataset]:
    """Return the train split, and the held-out pairs.

    Raises:
        InputError: too few pairs, synthetic ones, or pictures smaller than the gate's side.
    """
    data = Dataset.open(options.real)
    synthetic = sum(record.origin == "synthetic" for record in data)
    if synthetic:
        got = f"{synthetic} synthetic records in {options.real}"
        raise InputError(got, "real pairs", "leave them out of --real")
    train, held_out = data.split("train"), data.split(options.split).with_masks()
    if len(held_out) < LEAST_REAL_PAIRS:
        got = f"{len(held_out)} real pairs in the split {options.split!r}"
        raise InputError(got, f"{LEAST_REAL_PAIRS} or more", "hold out more pairs with `skindualgen prepare`")
    for record in (*train, *held_out):
        side = smallest_side(data.root, [record])
        if side < options.size_px:
            raise InputError(
                f"{record.file_name} of {side} px for a gate of {options.size_px} px",
                "real photographs with at least the detail of the pairs that are judged",
                f"prepare them at {options.size_px} px or more, or give a smaller --size",
            )
    return train, held_out


def leak_caveats(*, train: Dataset, held_out: Dataset, trained_on: TrainingItems | None) -> list[str]:
    """Return, as sentences, what the held-out pairs share with what adapter and judges learnt from.

    Raises:
        InputError: some are the same photographs.
    """
    leaks = find_leaks(test=held_out, train=train, generated=None, generator_items=trained_on)
    same = [leak for leak in leaks if leak.kind in SAME_PHOTOGRAPH]
    if same:
        raise InputError(
            "; ".join(refuse_leaks(same, known=True)).replace("test photograph", "held-out photograph"),
            "held-out photographs that neither the judges nor the adapter have seen",
            "split anew with `skindualgen prepare`, or give an adapter trained on the train split",
        )
    return [f"{text}.".replace("test photograph", "held-out photograph") for text in refuse_leaks(leaks, known=True)]
