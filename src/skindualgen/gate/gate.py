"""The gate: a folder of calibrated thresholds with all that judges need, and the verdicts that it gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from skindualgen.contracts import SCHEMA_VERSION, InputError, PairRecord, each_name_once, first_problem
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.masks import load_mask
from skindualgen.data.reading import resized_square
from skindualgen.data.terms import diagnosis_term
from skindualgen.files import sha256_file
from skindualgen.gate.reference import Reference
from skindualgen.gate.rules import Rule, reasons
from skindualgen.gate.scorer import Scorer
from skindualgen.gate.scores import MaskReader
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.segmenter import Segmenter
from skindualgen.metrics.intervals import rate

GATE_FILE, REFERENCE_FILE, REAL_SCORES_FILE = "gate.json", "reference.safetensors", "real_scores.csv"
SEGMENTER_FILE, CLASSIFIER_FILE = "segmenter.safetensors", "classifier.safetensors"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one pair.

    Attributes:
        scores: name -> value, of those that have a meaning for the pair.
        reasons: why it is refused, as ``"name value <= threshold"``; it is accepted if there is none.
    """

    scores: dict[str, float]
    reasons: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the pair."""
        return not self.reasons


class KeptFile(BaseModel):
    """A file of the gate's folder: its name, its hash, and what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str
    what: str


class Share(BaseModel):
    """A share of n pairs, with Wilson's 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: Sequence[bool] | NDArray[np.bool_]) -> Share:
        """Return the share of pairs that are marked True [n]."""
        return cls(**asdict(rate(int(np.sum(hits)), len(hits))), n=len(hits))

    @classmethod
    def by_diagnosis(
        cls, hits: Sequence[bool] | NDArray[np.bool_], diagnoses: Sequence[str | None]
    ) -> dict[str, Share]:
        """Return the share for each diagnosis that is there."""
        labels, marked = np.asarray(diagnoses, dtype=object), np.asarray(hits, bool)
        names = sorted({name for name in diagnoses if name is not None})
        return {name: cls.of(marked[labels == name]) for name in names}


class GateFile(BaseModel):
    """Content of ``gate.json``.

    Attributes:
        size_px: side to which every pair is brought before it is judged.
        accept: share of held-out real pairs that was to pass.
        split: that the real pairs are of.
        rules: a threshold for each score.
        real: share of these pairs that passes.
        held_back: the same for pairs that set no threshold: each part of them under rules found without it.
        by_diagnosis: the same for each diagnosis.
        real_manifest_sha256, train_manifest_sha256: of the records of both parts.
        adapter: ids and hashes of the adapter that reads masks; None if none does.
        files: reference, scores of the real pairs, judges.
        caveats: what must be known before the gate is believed.
        made_by: command, date, versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    size_px: int = Field(gt=0)
    accept: float = Field(gt=0, le=1)
    split: str
    rules: tuple[Rule, ...]
    real: Share
    held_back: Share
    by_diagnosis: dict[str, Share]
    real_manifest_sha256: str
    train_manifest_sha256: str
    adapter: dict[str, str] | None
    files: dict[str, KeptFile]
    caveats: tuple[str, ...]
    made_by: dict[str, Any]

    @field_validator("rules")
    @classmethod
    def _each_score_once(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if len({rule.score for rule in rules}) < len(rules):
            raise ValueError("two rules of one score")
        return rules


class Gate:
    """A calibrated gate; :func:`load_gate` reads one.

    Attributes:
        file: what ``gate.json`` says.
        folder: where it is.
    """

    def __init__(self, file: GateFile, folder: Path, scorer: Scorer) -> None:
        self.file, self.folder, self.scorer = file, folder, scorer

    def judge(
        self, images: Sequence[Image.Image], masks: Sequence[Image.Image], records: Sequence[PairRecord]
    ) -> list[Verdict]:
        """Judge pairs, each by itself: a pair's verdict depends neither on the others nor on their number.

        Args:
            images: square photographs, brought to the gate's side if they are larger.
            masks: of the same sizes; lesion where above 127.
            records: whose ``diagnosis`` is what was asked for.

        Raises:
            InputError: a picture that is not square, or smaller than what the gate was calibrated for.
        """
        verdicts = []
        for image, mask, record in zip(images, masks, records, strict=True):
            pixels, lesion = pair_at_side(image, mask, self.file.size_px)
            diagnosis = diagnosis_term(record.diagnosis)
            scores = self.scorer(pixels[None], lesion[None], [diagnosis])[0]
            verdicts.append(Verdict(scores, reasons(scores, self.file.rules, diagnosis)))
        return verdicts


def pair_at_side(image: Image.Image, mask: Image.Image, side_px: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a pair as arrays [side, side, 3] and [side, side], reduced as real pairs are.

    Raises:
        InputError: not square, smaller than the side, or photograph and mask of two sizes; or one of them cannot be
            read.
    """
    if image.size != mask.size or image.width != image.height or image.width < side_px:
        raise InputError(
            f"a photograph of {image.width} x {image.height} px and a mask of {mask.width} x {mask.height} px",
            f"a square pair of {side_px} px or more, for which the gate was calibrated",
            "calibrate a gate at this size, or generate larger pairs",
        )
    try:
        image, mask = load_photograph(image).image, load_mask(mask, allow_uniform=True)[0]
    except ItemError as error:
        raise error.input_error("a pair") from None
    image, mask = (resized_square(picture, side_px, "a pair") for picture in (image, mask))
    return np.array(image, np.uint8), np.asarray(mask) > 0


def read_gate_file(path: Path) -> tuple[GateFile, Path]:
    """Read ``gate.json``, given itself or its folder, and check that the files next to it are those it was made with.

    Returns:
        Its content, and the folder.

    Raises:
        InputError: it is missing, damaged, of a newer version, or a file next to it is missing or another one.
    """
    path = path / GATE_FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=each_name_once)
        if content["schema_version"] != SCHEMA_VERSION:
            got = f"schema version {content['schema_version']!r} in {path}"
            raise InputError(got, f"version {SCHEMA_VERSION}", "update skindualgen, or calibrate the gate again")
        file = GateFile.model_validate(content)
    except FileNotFoundError:
        raise InputError(f"no file {path}", "a calibrated gate", "make one with `skindualgen gate calibrate`") from None
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        problem = ": ".join(first_problem(error)) if isinstance(error, ValidationError) else str(error)
        got = f"{path}, which cannot be read ({type(error).__name__}, {problem})"
        raise InputError(got, "the file of a gate", "calibrate it again") from error
    for kept in file.files.values():
        found = path.parent / kept.file
        if not found.is_file() or sha256_file(found) != kept.sha256:
            got = f"{'another' if found.is_file() else 'no'} file {kept.file} next to {path}"
            raise InputError(got, f"the {kept.what} that the gate was calibrated with", "copy the whole folder again")
    return file, path.parent


def load_gate(path: Path, read_masks: MaskReader | None = None, *, adapter_sha256: str | None = None) -> Gate:
    """Read a gate with its judges.

    Args:
        path: ``gate.json``, or its folder.
        read_masks: the adapter's reading; needed if the gate scores ``self_agreement``.
        adapter_sha256: hash of that adapter; another one than the gate's is refused, as its readings differ.

    Raises:
        InputError: the folder is not whole, or the reading is missing or another adapter's.
    """
    file, folder = read_gate_file(path)
    own = (file.adapter or {}).get("adapter_sha256")
    names = tuple(rule.score for rule in file.rules)
    if "self_agreement" in names and adapter_sha256 not in (None, own):
        raise InputError(
            f"the adapter {str(adapter_sha256)[:12]} with a gate of the adapter {str(own)[:12]}",
            "the adapter that the gate was calibrated with",
            "give that adapter, or calibrate a gate for this one",
        )

    def kept_file(name: str) -> Path | None:
        return folder / file.files[name].file if name in file.files else None

    segmenter, classifier = kept_file("segmenter"), kept_file("classifier")
    scorer = Scorer(
        names,
        Reference.load(folder / file.files["reference"].file),
        file.size_px,
        read_masks=read_masks,
        segmenter=Segmenter(segmenter) if segmenter is not None else None,
        classifier=Classifier(classifier) if classifier is not None else None,
    )
    return Gate(file, folder, scorer)
