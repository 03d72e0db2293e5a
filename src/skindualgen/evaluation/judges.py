"""The independent judges of an evaluation: networks trained on the real TRAIN split only, and kept on disk.

A judge's file is named by the hash of its recipe and of the training files: it is trained again only when one changes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.terms import known
from skindualgen.evaluation.inputs import Inputs
from skindualgen.files import home_folder, sha256_bytes
from skindualgen.judges.classifier import Classifier, ClassifierConfig, train_classifier
from skindualgen.judges.features import PACKAGED_ENCODERS
from skindualgen.judges.folder import content_sha256
from skindualgen.judges.segmenter import Segmenter, SegmenterConfig, train_segmenter
from skindualgen.judges.training import Budget

CACHE_VARIABLE = "SKINDUALGEN_CACHE"
SEGMENTER_RATE, CLASSIFIER_RATE = 1e-3, 3e-4
"""AdamW's peak learning rates."""
STRIDE_PX = 32
"""Sides of the networks' inputs are multiples of the encoders' stride."""
CLASSIFIER_ENLARGEMENT = 1.25
"""Side on which the classifier works over the side of the photographs: lesion details span more of its filters."""

Progress = Callable[[str, int, int], None]
"""called with the name of the stage, and how many of its items are done of how many"""


@dataclass(frozen=True)
class JudgeRecipe:
    """How judges are trained.

    Attributes:
        steps: optimiser steps, 16 photographs each.
        encoder: timm name; :data:`skindualgen.judges.features.PACKAGED_ENCODERS` start from ImageNet weights, others
            from random ones.
        size_px: side to which real and generated photographs are reduced for the judges; a multiple of 32.
        seed: of initialisation, sampling and augmentation.
    """

    steps: int = 1000
    encoder: str = "tf_efficientnet_lite0"
    size_px: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px < STRIDE_PX or self.size_px % STRIDE_PX:
            raise InputError(f"judges of {self.size_px} px", f"a multiple of {STRIDE_PX} px", "change --judge-size")

    def within(self, size_px: int) -> JudgeRecipe:
        """Return the recipe for photographs of this side: judges trained on more detail than that would be misled."""
        return replace(self, size_px=min(self.size_px, max(STRIDE_PX, size_px // STRIDE_PX * STRIDE_PX)))

    @property
    def segmenter(self) -> SegmenterConfig:
        """The segmenter's full recipe."""
        return SegmenterConfig(
            encoder=self.encoder,
            pretrained=self.encoder in PACKAGED_ENCODERS,
            size_px=self.size_px,
            budget=Budget(steps=self.steps, learning_rate=SEGMENTER_RATE, seed=self.seed),
        )

    @property
    def classifier(self) -> ClassifierConfig:
        """The classifier's full recipe."""
        return ClassifierConfig(
            architecture=self.encoder,
            pretrained=self.encoder in PACKAGED_ENCODERS,
            image_size_px=self.size_px,
            size_px=STRIDE_PX * round(CLASSIFIER_ENLARGEMENT * self.size_px / STRIDE_PX),
            budget=Budget(steps=self.steps, learning_rate=CLASSIFIER_RATE, seed=self.seed),
        )


def default_cache() -> Path:
    """Return the folder that keeps judges and features: ``$SKINDUALGEN_CACHE``, or the platform's place for caches."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home_folder() / "AppData" / "Local")) / "skindualgen" / "Cache"
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Caches" / "skindualgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or home_folder() / ".cache") / "skindualgen"


def judge_file(cache: Path, kind: str, config: SegmenterConfig | ClassifierConfig, content: str) -> Path:
    """Return where a judge of this recipe, trained on files of this content hash, is kept."""
    recipe = json.dumps({"kind": kind, "config": asdict(config), "content": content}, sort_keys=True)
    return cache / f"{kind}-{sha256_bytes(recipe.encode())[:16]}.safetensors"


def at_side(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize square photographs [n, s, s, 3] as :func:`skindualgen.judges.folder.load_images` does."""
    if images.shape[1] == side_px:
        return images
    size = (side_px, side_px)
    resized = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in images]
    return np.array(resized, np.uint8).reshape(-1, side_px, side_px, 3)


def judge_name(judge: Segmenter | Classifier) -> str:
    """Return what a report calls a judge."""
    header, steps = judge.header, judge.header["budget"]["steps"]
    if isinstance(judge, Segmenter):
        return f"segmenter ({header['encoder']}, {steps} steps, {header['size_px']} px)"
    return f"classifier ({header['architecture']}, {steps} steps, {header['image_size_px']} px)"


class Judges:
    """The judges of one evaluation, trained or read when they are first asked for.

    Raises InputError where a judge that was given has seen held-out photographs.

    Attributes:
        recipes: of the judges that were used: name -> how it was trained, for the report.
    """

    def __init__(
        self,
        inputs: Inputs,
        recipe: JudgeRecipe,
        cache: Path,
        progress: Progress,
        *,
        segmenter_file: Path | None = None,
        classifier_file: Path | None = None,
    ) -> None:
        self.train, self.recipe, self.cache, self.progress = inputs.train, recipe, cache, progress
        self.held_out_ids = set(inputs.held_out.ids)
        self.segmenter_file, self.classifier_file = segmenter_file, classifier_file
        self.recipes: dict[str, dict[str, Any]] = {}

    @cached_property
    def segmenter(self) -> Segmenter:
        """The segmenter, trained on all pairs of the train split unless its file was given."""
        judge = Segmenter(self.segmenter_file or self._trained("segmenter", "segmenter", self._with_masks()))
        self._record("segmenter", judge.header)
        return judge

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier of diagnoses, trained on the labelled train split unless its file was given."""
        labelled = [record for record in self.train.records if record.diagnosis is not None]
        judge = Classifier(self.classifier_file or self._trained("classifier", "classifier of diagnoses", labelled))
        self._record("classifier", judge.header)
        return judge

    @cached_property
    def site_classifier(self) -> Classifier:
        """A classifier of body sites, with the classifier's recipe."""
        located = [
            record.model_copy(update={"diagnosis": known(record.anatom_site_general)})
            for record in self.train.records
            if known(record.anatom_site_general) is not None
        ]
        judge = Classifier(self._trained("classifier", "classifier of sites", located))
        self._record("site_classifier", judge.header)
        return judge

    def _with_masks(self) -> list[PairRecord]:
        return [record for record in self.train.records if record.mask_file_name is not None]

    def _trained(self, kind: str, called: str, records: Sequence[PairRecord]) -> Path:
        """Return the file of a judge from the cache, or train it now; it learns what stands in ``diagnosis``."""
        root = self.train.root
        config = self.recipe.segmenter if kind == "segmenter" else self.recipe.classifier
        path = judge_file(self.cache, kind, config, content_sha256(root, records))
        if path.is_file():
            return path
        steps, title = config.budget.steps, f"training the {called}"

        def progress(done: int, loss: float) -> None:
            self.progress(title, done, steps)

        if isinstance(config, SegmenterConfig):
            return train_segmenter(root, records, path, config, progress=progress)
        return train_classifier(root, records, path, config, progress=progress)

    def _record(self, name: str, header: dict[str, Any]) -> None:
        seen = sorted(self.held_out_ids & set(header["train_ids"]))
        if seen:
            got = f"a {name} that was trained on {len(seen)} held-out photographs, first {seen[0]}"
            raise InputError(got, "one that has seen the train split only", "leave its option out, and one is trained")
        self.recipes[name] = {key: value for key, value in header.items() if key != "train_ids"} | {
            "train_photographs": len(header["train_ids"])
        }
