"""The independent judges of an evaluation or a gate: bundled ones, or networks trained on the real TRAIN split only.

The file of a judge that is trained here is named by the hash of its recipe and of the training files, and kept: it is
trained again only when one changes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.terms import known
from skindualgen.files import home_folder, sha256_bytes
from skindualgen.judges.classifier import Classifier, ClassifierConfig, train_classifier
from skindualgen.judges.extractors import extractor_named
from skindualgen.judges.features import PACKAGED_ENCODERS, CachedFeatures
from skindualgen.judges.segmenter import Segmenter, SegmenterConfig, train_segmenter
from skindualgen.judges.training import Budget, Kind, bundled_file

CACHE_VARIABLE = "SKINDUALGEN_CACHE"
FEATURES_DIR = "features"
"""Folder of the cache that keeps features."""
SEGMENTER_RATE, CLASSIFIER_RATE = 1e-3, 3e-4
"""AdamW's peak learning rates."""
STRIDE_PX = 32
"""Sides of the networks' inputs are multiples of the encoders' stride."""
CLASSIFIER_ENLARGEMENT = 1.25
"""Side on which the classifier works over the side of the photographs: lesion details span more of its filters."""

Judge = TypeVar("Judge", Segmenter, Classifier)
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


def cached_extractor(text: str, cache: Path, *, device: str = "cpu") -> CachedFeatures:
    """Build the extractor NAME or NAME=WEIGHTS of :func:`extractor_named`, whose features are kept in ``cache``."""
    name, _, weights = text.partition("=")
    extractor = extractor_named(name, device=device, weights=Path(weights) if weights else None)
    return CachedFeatures(extractor, cache / FEATURES_DIR)


def judge_file(cache: Path, kind: Kind, config: SegmenterConfig | ClassifierConfig, content: str) -> Path:
    """Return where a judge of this recipe, trained on files of this content hash, is kept."""
    recipe = json.dumps({"kind": kind, "config": asdict(config), "content": content}, sort_keys=True)
    return cache / f"{kind}-{sha256_bytes(recipe.encode())[:16]}.safetensors"


def trained_judge(
    kind: Kind, data: Dataset, recipe: JudgeRecipe, cache: Path, progress: Callable[[int, int], None]
) -> Path:
    """Return the file of a judge from the cache, or train it now.

    Args:
        kind: a segmenter learns from the pairs, a classifier from the photographs with a diagnosis.
        data: of the train split, with the diagnoses of `in_terms`.
        recipe: how it is trained.
        cache: folder of judges.
        progress: is given the optimiser steps done and their number.

    Raises:
        InputError: no pair, or fewer than two diagnoses.
    """
    if kind == "segmenter":
        data = data.with_masks()
    else:
        data = Dataset(data.root, [record for record in data if record.diagnosis is not None])
    config = recipe.segmenter if kind == "segmenter" else recipe.classifier
    path = judge_file(cache, kind, config, data.content_sha256())
    if path.is_file():
        return path

    def step_done(done: int, loss: float) -> None:
        progress(done, config.budget.steps)

    if isinstance(config, SegmenterConfig):
        return train_segmenter(data, path, config, progress=step_done)
    return train_classifier(data, path, config, progress=step_done)


def why_not_bundled(judge: Segmenter | Classifier, train: Dataset, held_out: Iterable[str], size_px: int) -> str | None:
    """Say why a bundled judge cannot judge these photographs; None: it can.

    Args:
        judge: a bundled one.
        train: the real train split, with the diagnoses of `in_terms`.
        held_out: ids of the photographs that no judge may have seen.
        size_px: side at which photographs are compared.
    """
    side = judge.header["size_px" if isinstance(judge, Segmenter) else "image_size_px"]
    if size_px < side:
        return f"was trained on more detail ({side} px) than there is at {size_px} px"
    if seen := seen_by(judge, held_out):
        return f"was trained on {len(seen)} of the held-out photographs, first {seen[0]}"
    if isinstance(judge, Classifier):
        named = {record.diagnosis for record in train if record.diagnosis is not None}
        if unknown := sorted(named - set(judge.terms)):
            return f"does not know {', '.join(unknown)}"
    return None


def judge_name(judge: Segmenter | Classifier) -> str:
    """Return what a report calls a judge."""
    header, steps = judge.header, judge.header["budget"]["steps"]
    if isinstance(judge, Segmenter):
        return f"segmenter ({header['encoder']}, {steps} steps, {header['size_px']} px)"
    return f"classifier ({header['architecture']}, {steps} steps, {header['image_size_px']} px)"


def seen_by(judge: Segmenter | Classifier, ids: Iterable[str]) -> list[str]:
    """Return those of the ids whose photographs a judge was trained on, in order."""
    return sorted(set(ids) & set(judge.header["train_ids"]))


def refuse_seen(judge: Segmenter | Classifier, held_out: Iterable[str], remedy: str) -> None:
    """Refuse a judge that was trained on photographs with one of the held-out ids.

    Raises:
        InputError: it was.
    """
    if seen := seen_by(judge, held_out):
        got = f"a {judge.header['kind']} that was trained on {len(seen)} held-out photographs, first {seen[0]}"
        raise InputError(got, "one that has seen the train split only", remedy)


class Judges:
    """The judges of one evaluation, read or trained when they are first asked for.

    Raises InputError where a judge that was given has seen held-out photographs.

    Args:
        train, held_out_ids: of the real photographs.
        recipe: how judges are trained; None: the bundled ones, and only where one of them cannot judge these
            photographs (`why_not_bundled`) another is trained by the recipe's defaults.
        size_px: side at which photographs are compared.
        cache: folder of judges.
        progress: is given how far a training is.
        segmenter_file, classifier_file: of judges to be used in any case.

    Attributes:
        recipes: of the judges that were used: name -> how it was trained, for the report.
        not_bundled: why bundled judges were not used, as sentences.
    """

    def __init__(
        self,
        train: Dataset,
        held_out_ids: Iterable[str],
        recipe: JudgeRecipe | None,
        size_px: int,
        cache: Path,
        progress: Progress,
        *,
        segmenter_file: Path | None = None,
        classifier_file: Path | None = None,
    ) -> None:
        self.train, self.held_out_ids = train, set(held_out_ids)
        self.recipe, self.cache, self.progress, self.size_px = recipe, cache, progress, size_px
        self.segmenter_file, self.classifier_file = segmenter_file, classifier_file
        self.recipes: dict[str, dict[str, Any]] = {}
        self.not_bundled: list[str] = []

    @cached_property
    def segmenter(self) -> Segmenter:
        """The segmenter: that of the file, else the bundled one, else trained on all pairs of the train split."""
        return self._judge(Segmenter, "segmenter", "segmenter", self.segmenter_file)

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier of diagnoses: that of the file, else the bundled one, else trained on the train split."""
        return self._judge(Classifier, "classifier", "classifier of diagnoses", self.classifier_file)

    @cached_property
    def site_classifier(self) -> Classifier:
        """A classifier of body sites, with the classifier's recipe."""
        sites = [record.model_copy(update={"diagnosis": known(record.anatom_site_general)}) for record in self.train]
        judge = Classifier(self._trained("classifier", "classifier of sites", Dataset(self.train.root, sites)))
        self._record("site_classifier", judge)
        return judge

    def _judge(self, made: Callable[[Path], Judge], kind: Kind, called: str, given: Path | None) -> Judge:
        bundled = made(bundled_file(kind)) if given is None and self.recipe is None else None
        if bundled is not None:
            reason = why_not_bundled(bundled, self.train, self.held_out_ids, self.size_px)
            if reason is not None:
                self.not_bundled.append(f"The bundled {kind} {reason}, so another was trained on the real train split.")
                bundled = None
        judge = bundled or made(given or self._trained(kind, called, self.train))
        self._record(kind, judge, bundled=bundled is not None)
        return judge

    def _trained(self, kind: Kind, called: str, data: Dataset) -> Path:
        stage, recipe = f"training the {called}", (self.recipe or JudgeRecipe()).within(self.size_px)
        return trained_judge(kind, data, recipe, self.cache, lambda done, steps: self.progress(stage, done, steps))

    def _record(self, name: str, judge: Segmenter | Classifier, *, bundled: bool = False) -> None:
        refuse_seen(judge, self.held_out_ids, "leave its option out, and one is trained")
        self.recipes[name] = {key: value for key, value in judge.header.items() if key != "train_ids"} | {
            "train_photographs": len(judge.header["train_ids"]),
            "bundled": bundled,
        }
