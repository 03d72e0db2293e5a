"""What the downstream studies do with the ordinary commands: draw pairs, run the benchmark, keep its results."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from downstream_sets import write_captions
from micro_quality import run_command

from skindualgen.benchmarking import statistics
from skindualgen.benchmarking.trials import read_record
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.files import atomic_write_json, atomic_write_text
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.outcomes import SegmentationOutcome
from skindualgen.metrics.scores import SEGMENTATION_METRICS

SEEDS = 5
BATCH_SIZE = 8
DRAW_BATCH = 24
PAIR_STEPS = 10
"""Denoising steps of the pairs of ``main`` and ``few``, half the adapter's own: a core draws a pair in 0.7 s."""
DRAWN = f"pairs of {PAIR_STEPS} denoising steps"
SIZES_PX = {"segment": 64, "classify": 64}


def train_records(data: Path) -> list[PairRecord]:
    """Return the real pairs that generators may see."""
    return read_metadata(data, "train")


def lesion_of(record: PairRecord) -> str:
    """Return the lesion of a photograph, or its own id where that is unknown: what must not be on both sides."""
    return str(record.lesion_id or record.isic_id)


def class_sizes(records: Sequence[PairRecord]) -> Counter[str]:
    """Return the number of records of each diagnosis."""
    return Counter(str(record.diagnosis) for record in records)


def most_needed(task: str, sizes: Counter[str], ratio: float) -> dict[str, int]:
    """Return how many generated pairs of each class the largest hybrid arm of a task needs.

    Segmentation takes them in the real proportions; classification fills every class up to the same number.
    """
    if task == "segment":
        return {name: round(ratio * count) + 1 for name, count in sizes.items()}
    level = (1 + ratio) * sum(sizes.values()) / len(sizes)
    return {name: max(0, round(level - count)) + 1 for name, count in sizes.items()}


def draw_pairs(out: Path, rows: list[dict[str, object]], adapter: str, seed: int, *options: str) -> Path:
    """Draw a pair for each caption."""
    prompts = write_captions(out.parent / f"{out.name}.jsonl", rows)
    arguments = ["--adapter", adapter, "--prompts", str(prompts), "-n", str(len(rows)), "--seed", str(seed)]
    run_command("generate", *arguments, "--out", str(out), "--batch-size", str(DRAW_BATCH), *options)
    return out


def pairs_needed(sizes: Counter[str], ratios: Mapping[str, str]) -> dict[str, int]:
    """Return how many generated pairs of each class serve the largest hybrid arms of all tasks that have ratios."""
    tasks = [most_needed(task, sizes, max(map(float, listed.split(",")))) for task, listed in ratios.items()]
    return {name: max(counts[name] for counts in tasks) for name in sizes}


def hybrids(ratios: str) -> str:
    """The names of the hybrid arms of these ratios, with commas."""
    return ",".join(f"hybrid-{ratio}" for ratio in ratios.split(","))


def compare(
    real: Path,
    pairs: Path,
    out: Path,
    task: str,
    ratios: str,
    steps: int,
    *options: str,
    seeds: int = SEEDS,
    cores: int | None = None,
) -> None:
    """Run the benchmark of one task with the studies' size, seeds and steps, ``cores`` trainings at a time if given."""
    arguments = ["--real", str(real), "--generated", str(pairs), "--out", str(out), "--task", task]
    arguments += ["--ratios", ratios, "--steps", str(steps), "--size", str(SIZES_PX[task])]
    arguments += ["--batch-size", str(BATCH_SIZE), "--threads", "1", "--precision", "fp32"]
    if cores is not None:
        arguments += ["--jobs", str(cores)]
    run_command("benchmark", *arguments, "--seeds", str(seeds), *options)


@dataclass(frozen=True)
class Reading:
    """How well an adapter itself reads masks.

    Attributes:
        scores: by split; see :func:`downstream_sets.reading_scores`.
        minus_augment: its gain over networks; see :func:`reader_gain`.
    """

    scores: Mapping[str, Mapping[str, float]]
    minus_augment: Estimate


def reader_gain(trials: Path, reader: SegmentationOutcome, lesions: Sequence[str]) -> Estimate:
    """Return Dice of an adapter's own reading minus that of networks trained on the same masks with augmentation.

    Args:
        trials: folder of the benchmark that trained the networks, for one number of steps.
        reader: of the adapter on the same test photographs, in the same order.
        lesions: [n], of these photographs.

    The interval is over the networks' seeds and the lesions; the adapter is one.
    """
    networks = {}
    for path in sorted((trials / "trials").glob("*.json")):
        header = json.loads(path.read_text(encoding="utf-8"))
        record = read_record(path.parent, path.stem, "segment") if header["arm"] == "augment" else None
        if record is not None:
            networks[header["seed"]] = record.outcome
    arms = {"reader": dict.fromkeys(networks, reader), "networks": networks}
    gain = statistics.compare(SEGMENTATION_METRICS["dice"], arms, "networks", groups=lesions)["reader"]
    return Estimate(gain.value, gain.low, gain.high)


def keep_results(
    made: Path,
    out: Path,
    name: str,
    title: str,
    command: str,
    *,
    pairs: str = DRAWN,
    reading: Reading | None = None,
) -> None:
    """Copy a benchmark's numbers and its page, with a heading that says what wrote it, to the results.

    Args:
        made: folder of the benchmark.
        out: folder of the results.
        name: of both files.
        title: of the page.
        command: of this program.
        pairs: how the generated pairs were made.
        reading: how well the adapter itself reads masks, if that made them.
    """
    numbers = out / f"{name}.json"
    shutil.copyfile(made / "benchmark.json", numbers)
    result = json.loads(numbers.read_text(encoding="utf-8"))
    record = result["record"]
    page = (made / "benchmark.md").read_text(encoding="utf-8").partition("\n")[2]
    torch = record["versions"]["torch"]
    origin = (
        f"`python studies/downstream.py {command}`, {record['date_utc'][:10]}, {record['platform']}, PyTorch {torch}; "
        f"seeds 0 to {result['seeds'] - 1}, one thread a training, {pairs}."
    )
    if reading is not None:
        gain = reading.minus_augment
        atomic_write_json(numbers, {**result, "reading": asdict(reading)})
        said = (
            f"{of['dice']:.3f} +- {1.96 * of['standard_error']:.3f} on {of['n']} of the {split} split"
            for split, of in reading.scores.items()
        )
        origin += (
            f"\n\nDice of the adapter's own reading, without a network trained on it: {', '.join(said)}. "
            f"On the test split minus that of real + augmentation: {gain.value:+.3f} ({gain.low:+.3f} to "
            f"{gain.high:+.3f}) over networks' seeds and lesions, for one adapter."
        )
    atomic_write_text(out / f"{name}.md", f"# {title}\n\n{origin}\n{page}")
