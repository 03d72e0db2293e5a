"""A gate applied to a folder of pairs that is there already, of any generator: nothing in it is changed or deleted."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, REJECTS_FILE, InputError, PairRecord, Report
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import write_dataset
from skindualgen.data.reading import read_pair
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import atomic_path, atomic_write_bytes, atomic_write_text, run_record, sha256_file
from skindualgen.folders import new_folder
from skindualgen.gate.gate import GATE_FILE, Gate, Verdict
from skindualgen.gate.lines import score_lines

SCORES_FILE = "gate.csv"


@dataclass(frozen=True)
class Application:
    """Verdicts on the pairs of a folder.

    Attributes:
        gate: that gave them.
        pairs: the records that have a mask, ordered by file name.
        verdicts: one for each.
        without_mask: number of records that could not be judged, as they name no mask.
    """

    gate: Gate
    pairs: Dataset
    verdicts: list[Verdict]
    without_mask: int = 0

    @property
    def diagnoses(self) -> list[str | None]:
        """What was asked for, in the ISIC Archive's terms."""
        return [diagnosis_term(record.diagnosis) for record in self.pairs]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which pairs are accepted [n]."""
        return np.array([verdict.accepted for verdict in self.verdicts], bool)


def apply_gate(gate: Gate, pairs: Path, report: Report = lambda done, total: None) -> Application:
    """Judge all pairs of a data set folder.

    Raises:
        InputError: no data set folder, no pair with a mask, or pictures that the gate cannot judge.
    """
    everything = Dataset.open(pairs, rejected=True)
    data = everything.with_masks()
    if not len(data):
        raise InputError(f"{pairs} without masks", "image-mask pairs", "give another --pairs")
    verdicts = []
    for done, record in enumerate(data):
        report(done, len(data))
        image, mask = open_pair(pairs, record)
        verdicts += gate.judge([image], [mask], [record])
    report(len(data), len(data))
    return Application(gate, data, verdicts, len(everything) - len(data))


def open_pair(root: Path, record: PairRecord) -> tuple[Image.Image, Image.Image]:
    """Read the photograph (RGB) and the mask (L) of a record.

    Raises:
        InputError: a file is missing or damaged, or the record has no mask.
    """
    image, mask = read_pair(root, record)
    if mask is None:
        raise InputError(f"{record.isic_id} without a mask", "an image-mask pair", "leave this record out")
    return image, mask


def write_application(application: Application, out: Path) -> None:
    """Write ``gate.csv``, one line per pair, and ``rejected.jsonl``, a record with its reasons per refused pair."""
    names = [rule.score for rule in application.gate.file.rules]
    lines = score_lines(application.pairs.records, application.diagnoses, application.verdicts, names)
    atomic_write_text(out / SCORES_FILE, lines)
    rejects = [
        record.model_dump(exclude_none=True) | {"scores": verdict.scores, "reasons": list(verdict.reasons)}
        for record, verdict in zip(application.pairs, application.verdicts, strict=True)
        if not verdict.accepted
    ]
    text = "".join(json.dumps(reject, ensure_ascii=False, allow_nan=False) + "\n" for reject in rejects)
    atomic_write_text(out / REJECTS_FILE, text)


def keep_accepted(application: Application, out: Path) -> int:
    """Write a data set folder of the accepted pairs, with their scores; return their number.

    Files are copied as they are. What is recorded of the generator's training photographs goes along.

    Raises:
        InputError: ``out`` is not empty or inside the pairs' folder, or no pair is accepted.
    """
    chosen = [
        record.model_copy(update={"scores": (record.scores or {}) | verdict.scores})
        for record, verdict in zip(application.pairs, application.verdicts, strict=True)
        if verdict.accepted
    ]
    if not chosen:
        raise InputError("no pair that the gate accepts", "one or more to keep", "look at the reasons")
    with new_folder(out, application.pairs.root, remedy="choose another --keep") as folder:
        for name in (IMAGES_DIR, MASKS_DIR):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for record in chosen:
            for name in record.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(folder / name, durable=False) as temporary:
                    shutil.copyfile(application.pairs.root / name, temporary)
        recorded = application.pairs.root / TRAINING_ITEMS_FILE
        if recorded.is_file():
            atomic_write_bytes(folder / TRAINING_ITEMS_FILE, recorded.read_bytes())
        made_by: dict[str, object] = {"gate_sha256": sha256_file(application.gate.folder / GATE_FILE)}
        made_by |= {"judged": len(application.pairs), "refused": len(application.pairs) - len(chosen)}
        write_dataset(folder, chosen, made_by=run_record(gate=made_by), mask_classes=application.pairs.mask_classes)
    return len(chosen)
