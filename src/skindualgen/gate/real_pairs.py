"""What a gate is calibrated on: options, the real pairs, and whether anything has seen the held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skindualgen.benchmarking.leaks import DatasetPart, find_leaks, refuse_leaks
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.reading import smallest_side
from skindualgen.data.review import read_used
from skindualgen.data.training_items import TrainingItems
from skindualgen.gate.scores import SCORES
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.segmenter import Segmenter

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


def read_parts(options: CalibrateOptions) -> tuple[list[PairRecord], list[PairRecord]]:
    """Return the records of the train split, and the held-out ones with masks.

    Raises:
        InputError: too few pairs, synthetic ones, or pictures smaller than the gate's side.
    """
    records = read_used(options.real)
    synthetic = sum(record.origin == "synthetic" for record in records)
    if synthetic:
        got = f"{synthetic} synthetic records in {options.real}"
        raise InputError(got, "real pairs", "leave them out of --real")
    train = [record for record in records if record.split == "train"]
    held_out = [record for record in records if record.split == options.split and record.mask_file_name is not None]
    if len(held_out) < LEAST_REAL_PAIRS:
        got = f"{len(held_out)} real pairs in the split {options.split!r}"
        raise InputError(got, f"{LEAST_REAL_PAIRS} or more", "hold out more pairs with `skindualgen prepare`")
    _refuse_small(options.real, [*train, *held_out], options.size_px)
    return train, held_out


def _refuse_small(root: Path, records: Sequence[PairRecord], size_px: int) -> None:
    for record in records:
        side = smallest_side(root, [record])
        if side < size_px:
            raise InputError(
                f"{record.file_name} of {side} px for a gate of {size_px} px",
                "real photographs with at least the detail of the pairs that are judged",
                f"prepare them at {size_px} px or more, or give a smaller --size",
            )


def refuse_seen(judge: Segmenter | Classifier, held_out: Sequence[PairRecord]) -> None:
    """Refuse a judge that was trained on the pairs that it is to be calibrated on.

    Raises:
        InputError: it was.
    """
    seen = sorted({record.isic_id for record in held_out} & set(judge.header["train_ids"]))
    if seen:
        got = f"a {judge.header['kind']} that was trained on {len(seen)} of the held-out pairs, first {seen[0]}"
        raise InputError(got, "one that has seen the train split only", "give another file, or --train-judges")


def leak_caveats(
    options: CalibrateOptions,
    held_out: Sequence[PairRecord],
    train: Sequence[PairRecord],
    trained_on: TrainingItems | None,
) -> list[str]:
    """Return, as sentences, what the held-out pairs share with what adapter and judges learnt from.

    Raises:
        InputError: some are the same photographs.
    """
    leaks = find_leaks(
        test=DatasetPart(options.real, held_out),
        train=DatasetPart(options.real, train),
        generated=None,
        generator_items=trained_on,
    )
    same = [leak for leak in leaks if leak.kind in SAME_PHOTOGRAPH]
    if same:
        raise InputError(
            "; ".join(refuse_leaks(same, known=True)).replace("test photograph", "held-out photograph"),
            "held-out photographs that neither the judges nor the adapter have seen",
            "split anew with `skindualgen prepare`, or give an adapter trained on the train split",
        )
    texts = [f"{text}." for text in refuse_leaks(leaks, known=True)]
    return [text.replace("test photograph", "held-out photograph") for text in texts]
