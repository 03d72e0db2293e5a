"""Calibration of a gate on held-out real pairs, into a folder that can be shipped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from skindualgen.contracts import Report
from skindualgen.data.training_items import TrainingItems
from skindualgen.files import (
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    run_record,
    sha256_file,
)
from skindualgen.folders import own_folder
from skindualgen.gate.gate import (
    CLASSIFIER_FILE,
    GATE_FILE,
    REAL_SCORES_FILE,
    REFERENCE_FILE,
    SEGMENTER_FILE,
    GateFile,
    KeptFile,
    Share,
    Verdict,
)
from skindualgen.gate.lines import score_lines
from skindualgen.gate.real_pairs import CalibrateOptions, leak_caveats, read_parts
from skindualgen.gate.reference import build_reference
from skindualgen.gate.rules import Rule, ScoreTable, accepted, find_rules, held_back_acceptance, reasons, score_table
from skindualgen.gate.scorer import Scorer
from skindualgen.gate.scores import SCORES, MaskReader
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.pictures import PictureSet, read_pictures
from skindualgen.judges.segmenter import Segmenter
from skindualgen.judges.trained import judge_name, refuse_seen

OWN_FILES = frozenset({GATE_FILE, REFERENCE_FILE, REAL_SCORES_FILE, SEGMENTER_FILE, CLASSIFIER_FILE})


def calibrate(
    options: CalibrateOptions,
    out: Path,
    *,
    read_masks: MaskReader | None,
    adapter: Mapping[str, str] | None = None,
    trained_on: TrainingItems | None = None,
    report: Report = lambda done, total: None,
) -> GateFile:
    """Calibrate a gate and write its folder.

    Args:
        options: what is calibrated.
        out: new folder, or one of an earlier calibration.
        read_masks: the adapter's reading; without it ``self_agreement`` is left out.
        adapter: ids and hashes of that adapter.
        trained_on: its training photographs, among which no held-out one may be.
        report: progress.

    Raises:
        InputError: too few pairs, pictures smaller than the gate's side, held-out photographs that the adapter or a
            judge has seen, or ``out`` holds something else.
    """
    with claim_gate_folder(out):
        train, held_out = read_parts(options)
        segmenter = Segmenter(options.segmenter) if options.segmenter is not None else None
        classifier = Classifier(options.classifier) if options.classifier is not None else None
        for judge in (segmenter, classifier):
            if judge is not None:
                ids = [record.isic_id for record in held_out]
                refuse_seen(judge, ids, "give another file, or --train-judges")
        caveats = leak_caveats(train=train, held_out=held_out, trained_on=trained_on)
        known = read_pictures(train, options.size_px)
        reference = build_reference(known.images, known.with_masks().masks)
        names = _names(options, read_masks)
        scorer = Scorer(names, reference, options.size_px, read_masks, segmenter, classifier)
        pairs = read_pictures(held_out, options.size_px)
        scores = _scored(scorer, pairs, report)
        table = score_table(scores, names, pairs.diagnoses, pairs.groups)
        rules = find_rules(table, options.accept)
        verdicts = [
            Verdict(each, reasons(each, rules, diagnosis))
            for each, diagnosis in zip(scores, pairs.diagnoses, strict=True)
        ]
        reference.save(out / REFERENCE_FILE)
        atomic_write_text(out / REAL_SCORES_FILE, score_lines(held_out.records, pairs.diagnoses, verdicts, names))
        good = accepted(table, rules)
        file = GateFile(
            size_px=options.size_px,
            accept=options.accept,
            split=options.split,
            rules=tuple(rules),
            real=Share.of(good),
            held_back=Share.of(held_back_acceptance(table, options.accept)),
            by_diagnosis=Share.by_diagnosis(good, pairs.diagnoses),
            real_manifest_sha256=held_out.sha256,
            train_manifest_sha256=train.sha256,
            adapter=dict(adapter or {}) if "self_agreement" in names else None,
            files=_files(out, options, segmenter, classifier, sizes=(len(train), len(held_out))),
            caveats=(*caveats, *_own_caveats(table, rules, options)),
            made_by=run_record(),
        )
        atomic_write_json(out / GATE_FILE, file.model_dump(mode="json"))
    return file


def claim_gate_folder(out: Path) -> AbstractContextManager[None]:
    """Hold the folder of a gate, new or of an earlier one, while it is made: see `own_folder`.

    Raises:
        InputError: it holds something else.
    """
    return own_folder(out, OWN_FILES, "a new folder, or one of a gate")


def _names(options: CalibrateOptions, read_masks: MaskReader | None) -> tuple[str, ...]:
    lacking = {
        "self_agreement": read_masks,
        "segmenter_agreement": options.segmenter,
        "class_probability": options.classifier,
    }
    absent = {name for name, judge in lacking.items() if judge is None} | set(options.without)
    return tuple(name for name in SCORES if name not in absent)


def _scored(scorer: Scorer, pairs: PictureSet, report: Report) -> list[dict[str, float]]:
    scores = []
    for i, diagnosis in enumerate(pairs.diagnoses):
        report(i, len(pairs))
        scores += scorer(pairs.images[i : i + 1], pairs.masks[i : i + 1], [diagnosis])
    report(len(pairs), len(pairs))
    return scores


def _files(
    out: Path,
    options: CalibrateOptions,
    segmenter: Segmenter | None,
    classifier: Classifier | None,
    *,
    sizes: tuple[int, int],
) -> dict[str, KeptFile]:
    """Copy the judges next to ``gate.json`` and describe all files there; ``sizes`` are of train and held-out."""
    whats = {
        REFERENCE_FILE: f"reference of {sizes[0]} training photographs",
        REAL_SCORES_FILE: f"scores of {sizes[1]} real pairs",
    }
    for name, source, judge in (
        (SEGMENTER_FILE, options.segmenter, segmenter),
        (CLASSIFIER_FILE, options.classifier, classifier),
    ):
        if source is None or judge is None:
            (out / name).unlink(missing_ok=True)  # of an earlier calibration
            continue
        if not (out / name).is_file() or not source.samefile(out / name):
            with atomic_path(out / name) as temporary:
                shutil.copyfile(source, temporary)
        whats[name] = judge_name(judge)
    return {
        Path(name).stem: KeptFile(file=name, sha256=sha256_file(out / name), what=what) for name, what in whats.items()
    }


def _own_caveats(table: ScoreTable, rules: Sequence[Rule], options: CalibrateOptions) -> list[str]:
    """What the numbers of pairs and the choice of the split say about the thresholds."""
    found = []
    refusals = round((1 - options.accept) * len(table))
    if refusals < 2 * len(rules):
        found.append(
            f"{len(table)} real pairs at an acceptance of {options.accept:.0%} leave {refusals} refusals for "
            f"{len(rules)} scores: thresholds rest on single pairs."
        )
    untouched = [rule.score for rule in rules if not rule.tail]
    if untouched:
        found.append(
            f"No real pair is refused by {', '.join(untouched)}: they refuse only what is far from all of them."
        )
    if options.split == "test":
        found.append("Calibrated on the test split: no result on it may be reported for gated pairs.")
    return found
