"""The commands for a data set, with what was measured for one like it, and nothing that docs/results does not show.

Where generated pairs were shown not to help, the recipe says so, and its commands find out whether they do here.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.terms import diagnosis_term

REDRAWN = ("--ratios", "1", "--replace", "0.5")
MOST_READ = 12.0
"""Read photographs for each mask at most, as in the study."""
FEW_FACTOR = math.sqrt(2)
"""A finding speaks of data sets of up to so many times as many pairs, or as few."""
STEPS, FIRST_STEPS, SEEDS = 400, 200, 10
"""Of the benchmark: the studies' longest trainings, or the shortest where val says how many; twice their seeds."""
ADAPTER_STEPS, ADAPTER_BATCH = 1600, 8
"""Of the adapters of the studies of few masks."""


@dataclass(frozen=True)
class Finding:
    """What one study has measured: the difference of an arm to a control, with its 95 % interval.

    Attributes:
        study: name of its page and its numbers in docs/results.
        real_pairs: with masks or diagnoses, that all arms had.
        arm, control, metric: as in the numbers.
        words: what the arm added to what.
        unit: of the metric, in words.
        value, low, high: of the difference.
    """

    study: str
    real_pairs: int
    arm: str
    control: str
    metric: str
    words: str
    unit: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as one sentence."""
        shown = f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        doubt = "" if self.differs else ", no difference shown"
        return f"{self.real_pairs} real pairs, {self.words}: {self.unit} {shown}{doubt} [docs/results/{self.study}.md]"

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


FEW_READ, NEARER = "downstream_read_400_steps_25", "HD95, px, lower is better,"
READ = "with 12 photographs each whose masks an adapter had read, against augmentation"
MADE = "with 1 generated pair each, against as many repeats"
READ_FINDINGS = (
    Finding(FEW_READ, 25, "hybrid-12", "replay", "dice", READ, "Dice", 0.022, -0.000, 0.044),
    Finding(FEW_READ, 25, "hybrid-12", "replay", "hd95_px", READ, NEARER, -2.567, -3.913, -1.221),
    Finding("downstream_read_400_steps_50", 50, "hybrid-12", "replay", "dice", READ, "Dice", -0.008, -0.020, 0.003),
    Finding("downstream_read_400_steps_100", 100, "hybrid-12", "replay", "dice", READ, "Dice", -0.002, -0.016, 0.011),
)
MADE_FINDINGS = (
    Finding("downstream_few_400_steps_25", 25, "hybrid-1", "replay", "dice", MADE, "Dice", 0.004, -0.016, 0.024),
    Finding("downstream_few_400_steps_50", 50, "hybrid-1", "replay", "dice", MADE, "Dice", -0.006, -0.019, 0.008),
    Finding("downstream_few_400_steps_100", 100, "hybrid-1", "replay", "dice", MADE, "Dice", -0.008, -0.014, -0.003),
    Finding("downstream_segment", 1325, "hybrid-1", "replay", "dice", MADE, "Dice", -0.023, -0.050, 0.005),
)
ACCURACY = "balanced accuracy"
DIAGNOSIS_FINDINGS = (
    Finding(
        "downstream_classify", 1325, "oversample", "augment", "balanced_accuracy",
        "each diagnosis drawn equally often, against drawing as they come", ACCURACY, 0.224, 0.148, 0.300,
    ),
    Finding(
        "downstream_classify", 1325, "hybrid-1", "replay", "balanced_accuracy",
        "rare diagnoses filled up by generated pairs, against filling them up by repeats", ACCURACY,
        -0.136, -0.221, -0.052,
    ),
    Finding(
        "downstream_classify_even", 1325, "hybrid-1", "replay", "balanced_accuracy",
        "with 1 generated pair each in every diagnosis, against repeats", ACCURACY, -0.029, -0.071, 0.013,
    ),
)  # fmt: skip


def recipe(folder: Path) -> str:
    """Return the recipe of a data set folder: lines of a shell, commands and the comments that give reasons.

    Raises:
        InputError: no data set folder, or one without training pairs with masks, or without a part to test on.
    """
    data = Dataset.open(folder)
    parts = {name: [record for record in data if record.split == name] for name in ("train", "val", "test")}
    masked = [record for record in parts["train"] if record.mask_file_name is not None]
    bare = [record for record in parts["train"] if record.mask_file_name is None]
    if not masked or not (parts["val"] or parts["test"]):
        got = f"{len(masked)} training pairs with masks, {len(parts['val'])} val and {len(parts['test'])} test records"
        raise InputError(got, "training pairs, and a part to test on", "make them with `skindualgen prepare`")
    tuned = ["augment-tuned"] if parts["val"] and parts["test"] else []
    lines = [
        f"# {len(masked)} training pairs with masks, {len(bare)} training photographs without; "
        f"{len(parts['val'])} val, {len(parts['test'])} test.",
        "# All gains were measured on ISIC 2017 at 64 px with the model of version 0.1 (docs/results/overview.md).",
        "",
        _command("check", folder, "--for", "benchmark"),
        "",
        *_segmentation(folder, masked, bare, tuned),
    ]
    names = Counter(diagnosis_term(record.diagnosis) for record in parts["train"] if record.diagnosis)
    if len(names) > 1:
        lines += ["", *_diagnosis(folder, tuned)]
    return "\n".join(lines) + "\n"


def _segmentation(
    folder: Path, masked: Sequence[PairRecord], bare: Sequence[PairRecord], tuned: Sequence[str]
) -> list[str]:
    count, ratio = len(masked), _readable_ratio(masked, bare)
    read, made = _like(READ_FINDINGS, count), _like(MADE_FINDINGS, count)
    adapter = ["--max-train-steps", str(ADAPTER_STEPS), "--train-batch-size", str(ADAPTER_BATCH)]
    trained = _command("train", "--data", folder, "--out", "run", *adapter, "--set", "lora.targets=all")
    lines = ["# Outlines of lesions"]
    if not ratio:
        lines += [f"# No photographs without masks to be read for {count} pairs."]
    elif not read:
        lines += [f"# Masks read from photographs: not measured for about {count} masks."]
    else:
        helped = any(finding.differs for finding in read)
        verdict = "helped in some measures" if helped else "were not shown to help"
        lines += [f"# Masks read from photographs {verdict}:", *(f"#   {finding}" for finding in read)]
        lines += ["# The base had seen these photographs; beside self-training it has not been measured: this does."]
    if ratio:
        lines += [
            trained,
            _command("generate", "--adapter", "run", "--read", folder, "--out", "read"),
            _benchmark(folder, "read", "segment", ["hybrid-" + ratio, "self-train", *tuned], "--ratios", ratio),
        ]
    if made:
        verdict = "did harm" if any(finding.differs for finding in made) else "were not shown to help"
        lines += [f"# Generated pairs {verdict}:", *(f"#   {finding}" for finding in made)]
    else:
        lines += [f"# Generated pairs: not measured for about {count} masks; at no number were they shown to help."]
    lines += ["# Whether pairs made from yours do is not measured: this finds out."]
    return [
        *lines,
        *([] if ratio else [trained]),
        _command("generate", "--adapter", "run", "--redraw", folder, "--per-pair", "2", "--out", "redrawn"),
        _benchmark(folder, "redrawn", "segment", ["hybrid-1", "replace-0.5", *tuned], *REDRAWN),
    ]


def _diagnosis(folder: Path, tuned: Sequence[str]) -> list[str]:
    return [
        "# Diagnoses: draw them equally often; generated pairs were not shown to help:",
        *(f"#   {finding}" for finding in DIAGNOSIS_FINDINGS),
        _benchmark(folder, None, "classify", ["oversample", "reweight", "mixup", "cutmix", *tuned]),
    ]


def _benchmark(folder: Path, generated: str | None, task: str, arms: Sequence[str], *options: str) -> str:
    given = [] if generated is None else ["--generated", generated]
    steps = [str(FIRST_STEPS), "--level-off"] if "augment-tuned" in arms else [str(STEPS)]
    effort = ["--steps", *steps, "--seeds", str(SEEDS)]
    named = ["--arms", ",".join(["real", "augment", "replay", *arms])]
    out = f"benchmark-{generated or task}"
    return _command("benchmark", "--real", folder, *given, "--out", out, "--task", task, *effort, *named, *options)


def _command(*words: str | Path) -> str:
    return shlex.join(["skindualgen", *map(str, words)])


def _like(findings: Sequence[Finding], count: int) -> list[Finding]:
    """The findings of the studies whose number of real pairs is near this one."""
    return [each for each in findings if max(each.real_pairs / count, count / each.real_pairs) <= FEW_FACTOR]


def _readable_ratio(masked: Sequence[PairRecord], bare: Sequence[PairRecord]) -> str:
    """Return how many photographs without masks each diagnosis has for each of its pairs, in quarters; "" for none."""
    needed, there = _diagnoses(masked), _diagnoses(bare)
    if set(needed) == {None}:
        there = Counter({None: sum(there.values())})
    ratio = min(MOST_READ, *(there[name] / count for name, count in needed.items()))
    return f"{math.floor(4 * ratio) / 4:g}" if ratio >= 0.25 else ""


def _diagnoses(records: Sequence[PairRecord]) -> Mapping[str | None, int]:
    return Counter(diagnosis_term(record.diagnosis) for record in records)
