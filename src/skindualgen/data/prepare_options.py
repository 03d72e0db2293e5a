"""All that decides what `skindualgen.data.prepare.prepare` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from skindualgen.contracts import InputError
from skindualgen.data.annotators import AnnotatorRule, Annotators, check_rule
from skindualgen.data.images import MAX_PIXELS, Crop
from skindualgen.data.mask_classes import check_labels
from skindualgen.data.prompts import parse_template
from skindualgen.data.sources import Layout, Options
from skindualgen.files import sha256_file

RATIOS = "70/15/15"
SPLITS = ("train", "val", "test")
MIN_SIZE_PX, MAX_SIZE_PX = 8, 4096


@dataclass(frozen=True)
class PrepareOptions:
    """All that decides what `prepare` writes.

    Attributes:
        layout: how the source is laid out, or ``auto``.
        size: pixels; see ``crop``.
        crop: ``centre`` cuts the middle square and scales it to size; ``pad`` scales the whole picture into a black
            square; ``none`` scales the short side to size and keeps the aspect.
        split: shares of train, val and test, ``/`` between them.
        split_file: table with the columns ``isic_id`` and ``split``: those ids and those splits, no others.
        keep_split: keep the source's split column even if it names one split only.
        ignore_official_split: split anew although the source has splits.
        val_from_train: share of an official train part that becomes val where the source has no val; 0 leaves it.
        seed: of splits and prompts.
        columns: field -> column of the source's table.
        labels: label of the source -> diagnosis.
        diagnosis_level: level of the ISIC Archive's five that becomes the diagnosis, or None for the source's term.
        templates: own prompt templates instead of the built-in ones.
        llm_url: base of an OpenAI-compatible endpoint that paraphrases the prompts, or None.
        llm_model: name of its model.
        llm_cache: folder that keeps its answers; None takes the user's cache folder. See `skindualgen.data.paraphrase`.
        license: licence of the items for which the source names none.
        require_masks: reject photographs without a mask.
        annotator: which of several masks of one photograph is used; None refuses them. See
            `skindualgen.data.annotators`.
        mask_classes: name -> level of the classes in the source's masks, the lesion outside its parts first; empty: the
            lesion alone. See `skindualgen.data.mask_classes`.
        max_pixels: width x height from which a file counts as a decompression bomb.
    """

    layout: Layout | Literal["auto"] = "auto"
    size: int = 512
    crop: Crop = "centre"
    split: str = RATIOS
    split_file: Path | None = None
    keep_split: bool = False
    ignore_official_split: bool = False
    val_from_train: float = 0.0
    seed: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    diagnosis_level: int | None = None
    templates: Sequence[str] = ()
    llm_url: str | None = None
    llm_model: str | None = None
    llm_cache: Path | None = None
    license: str | None = None
    require_masks: bool = False
    annotator: AnnotatorRule | None = None
    mask_classes: Mapping[str, int] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS

    def check(self) -> None:
        """Raise InputError if a value is out of range."""
        if not MIN_SIZE_PX <= self.size <= MAX_SIZE_PX:
            raise InputError(f"size {self.size}", f"{MIN_SIZE_PX} to {MAX_SIZE_PX} pixels", "use for example 512")
        if self.crop not in get_args(Crop):
            raise InputError(f"crop {self.crop!r}", f"one of {', '.join(get_args(Crop))}", "use for example centre")
        if self.max_pixels < 1:
            raise InputError(f"max_pixels {self.max_pixels}", "a positive number", f"use for example {MAX_PIXELS}")
        if self.split_file is not None and (self.keep_split or self.ignore_official_split):
            raise InputError("a split file and another rule for splits", "one of them", "leave the other out")
        if not 0 <= self.val_from_train < 1:
            raise InputError(f"val_from_train {self.val_from_train}", "0 up to 1, 1 excluded", "use for example 0.15")
        if (self.llm_url is None) != (self.llm_model is None):
            got = "an endpoint without a model" if self.llm_model is None else "a model without an endpoint"
            raise InputError(got, "both or none", "give --llm-url and --llm-model")
        if self.llm_url is not None and find_spec("httpx2") is None:
            remedy = "run `pip install skindualgen[paraphrase]`, or leave --llm-url out"
            raise InputError("--llm-url without httpx2", "the package httpx2, which asks the endpoint", remedy)
        if self.annotator is not None:
            check_rule(self.annotator)
        if self.mask_classes:
            check_labels(self.mask_classes)
            if self.annotator in ("majority", "staple"):
                got = f"annotator {self.annotator!r} of masks of several classes"
                raise InputError(got, "one annotator's mask", "choose first or random")
        parse_ratios(self.split)
        for template in self.templates:
            parse_template(template)

    def of_pictures(self) -> dict[str, Any]:
        """Return the options that decide a picture's pixels."""
        pictures: dict[str, Any] = {"size": self.size, "crop": self.crop, "max_pixels": self.max_pixels}
        if self.mask_classes:
            pictures["mask_classes"] = dict(self.mask_classes)
        if self.annotator is None:
            return pictures
        return {**pictures, "annotator": self.annotator} | (
            {"annotator_seed": self.seed} if self.annotator == "random" else {}
        )

    def of_source(self) -> Options:
        """Return what the readers of sources need."""
        return Options(self.columns, self.labels, self.diagnosis_level, annotators=self.annotator is not None)

    def annotators(self) -> Annotators | None:
        """Return the rule for several masks of one photograph."""
        return None if self.annotator is None else Annotators(self.annotator, self.seed)

    def record(self, layout: str) -> dict[str, Any]:
        """Return the options as they are written down; the split file by its hash, the layout as it was found.

        The endpoint's address is left out: it may name a private machine.
        """
        return {
            "layout": layout,
            **self.of_pictures(),
            "split": self.split,
            "split_file_sha256": sha256_file(self.split_file) if self.split_file else None,
            "keep_split": self.keep_split,
            "ignore_official_split": self.ignore_official_split,
            "val_from_train": self.val_from_train,
            "seed": self.seed,
            "columns": dict(sorted(self.columns.items())),
            "labels": dict(sorted(self.labels.items())),
            "templates": list(self.templates),
            "llm_model": self.llm_model,
            "license": self.license,
            "require_masks": self.require_masks,
            # Named only where it is chosen: folders that were made before it could be are still the same.
            **({} if self.diagnosis_level is None else {"diagnosis_level": self.diagnosis_level}),
        }


def parse_ratios(text: str) -> dict[str, float]:
    """Return the shares of ``"70/15/15"`` (train, val, test; any positive sum) by split.

    Raises:
        InputError: not three numbers >= 0 with a positive sum.
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        expected = "three shares for train, val and test like 70/15/15"
        raise InputError(f"split {text!r}", expected, "use for example 80/10/10")
    return dict(zip(SPLITS, shares, strict=True))
