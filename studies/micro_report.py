"""The micro model's results as micro.md, micro.json and pictures of generated pairs (never of real ones)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from micro_measures import Photographs
from numpy.typing import NDArray
from picture_sheets import picture_grid
from PIL import Image
from study_text import fill_block, interval

from skindualgen.files import atomic_path, atomic_write_json, atomic_write_text

SAMPLES_PER_CLASS = 8
_USE = {"val": "Settings were chosen on it.", "test": "Nothing was chosen on it."}
PAGE_MARK = "<!-- table of docs/results/micro.md -->"


@dataclass(frozen=True)
class Target:
    """A goal of the micro model: the measured number must not be below (or above) the limit."""

    name: str
    value: float
    shown: str
    limit: float
    at_least: bool
    real: str

    @property
    def reached(self) -> bool:
        """Whether the number meets the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> str:
        """Return the line of the table."""
        sign = ">=" if self.at_least else "<="
        return (
            f"| {self.name} | {self.shown} | {self.real} | {sign} {self.limit:g} | {'yes' if self.reached else 'no'} |"
        )


def report_name(results: dict[str, Any]) -> str:
    """Return the name of a report, without its ending: that of its part is added, but for val."""
    name, part = results.get("name", "micro"), results["part"]
    return name if part == "val" else f"{name}_{part}"


def targets(results: dict[str, Any]) -> list[Target]:
    """Return the goals with what was measured."""
    dice, agreement = results["image_to_mask"]["dice"], results["agreement"]
    distances, classes = results["fidelity"]["against_unseen"], results["classifier"]
    kernel, frechet, manifold = distances["kernel"], distances["frechet"], results["fidelity"]["manifold"]
    unseen, taught = results["fidelity"]["manifold_floor"], results["teaching"]
    floor = f"{frechet['floor_mean']:.1f} ({frechet['floor_low']:.1f} to {frechet['floor_high']:.1f})"
    real_dice, made_dice = (agreement[part]["dice"]["mean"] for part in ("real", "generated"))
    read, read_real = (classes[part] for part in ("generated", "real"))
    worst, worst_real = min(read["recall"].values()), min(read_real["recall"].values())
    edge, copies = results["mask_shapes"]["touches_border"], results["memorisation"]
    copy_rate, expected = copies["near_copy_rate"], copies["expected_rate"]
    goals = [
        Target(
            "feature kernel distance (KID)",
            kernel["value"],
            f"{kernel['value']:.4f}, s.e. {kernel['standard_error']:.4f}",
            0.035,
            False,
            f"{kernel['floor_mean']:.4f} ({kernel['floor_low']:.4f} to {kernel['floor_high']:.4f})",
        ),
        Target(
            "feature Frechet distance / real against real",
            frechet["ratio_to_floor"],
            f"{frechet['ratio_to_floor']:.2f}; itself {frechet['value']:.1f}, s.e. {frechet['standard_error']:.1f}",
            1.6,
            False,
            floor,
        ),
        Target("recall", manifold["recall"], f"{manifold['recall']:.2f}", 0.25, True, f"{unseen['recall']:.2f}"),
        Target(
            "coverage", manifold["coverage"], f"{manifold['coverage']:.2f}", 0.70, True, f"{unseen['coverage']:.2f}"
        ),
        Target(
            "prompted diagnosis, balanced accuracy",
            read["balanced_accuracy"]["value"],
            interval(read["balanced_accuracy"]),
            0.62,
            True,
            interval(read_real["balanced_accuracy"]),
        ),
        Target("prompted diagnosis, worst class's recall", worst, f"{worst:.2f}", 0.45, True, f"{worst_real:.2f}"),
        Target(
            f"train on generated, test on real: share of what {taught['per_class']} real ones a class teach",
            taught["share"]["value"],
            f"{interval(taught['share'])}; accuracy {interval(taught['generated'])}",
            0.8,
            True,
            f"accuracy {interval(taught['real'])}",
        ),
        Target(
            "segmenter agreement, Dice short of real pairs",
            agreement["dice_gap"]["value"],
            f"{interval(agreement['dice_gap'])}; itself {interval(made_dice)}",
            0.03,
            False,
            interval(real_dice),
        ),
        Target(
            "image -> mask Dice, mean",
            dice["mean"]["value"],
            interval(dice["mean"]),
            0.885,
            True,
            f"{interval(real_dice)} (the segmenter)",
        ),
        Target(
            "lesions touching the frame, away from real",
            abs(edge["generated_mean"] - edge["real_mean"]),
            f"{edge['generated_mean']:.2f}",
            0.06,
            False,
            f"{edge['real_mean']:.2f}",
        ),
        Target(
            "near-copies, lower end of the rate's interval",
            copy_rate["low"],
            interval(copy_rate),
            expected,
            False,
            f"{expected:.3f} or less",
        ),
    ]
    if "cpu_seconds_per_pair" in results["speed"]:
        seconds = results["speed"]["cpu_seconds_per_pair"]
        goals.append(Target("CPU seconds a pair, one thread, with start-up", seconds, f"{seconds:.2f}", 1.0, False, ""))
    return goals


def _definitions(results: dict[str, Any]) -> str:
    near, far = results["fidelity"]["against_unseen"], results["fidelity"]["against_train"]
    budgets = results["judges"]
    counts = ", ".join(f"{name} {count}" for name, count in sorted(results["generated"].items()))
    part, per_part = results["part"], near["n_generated"]
    return f"""* Real: the parts of [micro2_split.csv](micro2_split.csv), lesion-disjoint as far as lesions are named,
  but for one of val, of which train has another photograph (IL_2031122, found late). The judges learnt from the train
  part; all numbers are on its part "{part}", which neither they nor the generator have seen. {_USE[part]}
  Photographs are compared at 128 x 128 px.
* Generated: {counts}; by default the captions of the real photographs, twice each, rare
  classes more often. The prompted diagnosis is scored on all of them, every class weighing the same, and so is what
  they teach. All else is measured on the largest part of them with the real part's class proportions ({per_part}
  pairs): more of the rare classes would count as a fault.
* Features: {results["fidelity"]["extractor"]}, {results["fidelity"]["preprocessing"]}.
  These are not Inception's, so the Frechet distance is not the FID. Floor: random disjoint parts of the real
  photographs of the same two sizes ({near["n_generated"]} and {near["n_real"]}), mean and range over
  {near["frechet"]["floor_repeats"]} draws.
* Against the train part, {far["n_generated"]} generated to {far["n_real"]} real: kernel distance
  {far["kernel"]["value"]:.4f} (floor {far["kernel"]["floor_mean"]:.4f}), Frechet distance {far["frechet"]["value"]:.1f}
  (floor {far["frechet"]["floor_mean"]:.1f}).
* Train on generated, test on real: a logistic regression on the features of class-balanced photographs, generated or
  real, tested on the unseen real ones; the share is of the gain over chance ({results["teaching"]["chance"]:.2f}).
* Image -> mask is scored at the real masks' own size. Intervals: 95 %, percentile bootstrap over photographs (within
  each class for balanced accuracy); s.e.: grouped jackknife; rates: Wilson.
* Judges: a U-Net ({budgets["segmenter"]["steps"]} steps of {budgets["segmenter"]["batch_size"]}) from
  EfficientNet-Lite0 and a classifier ({budgets["classifier"]["steps"]} steps of {budgets["classifier"]["batch_size"]})
  {_reader(results)}, with ImageNet weights, predictions averaged over 8 flips and quarter turns."""


def _reader(results: dict[str, Any]) -> str:
    """The classifier that reads, and, where candidates were chosen among, that it is not the one that chose."""
    architecture = str(results["judges"].get("architecture", "tf_efficientnet_lite0"))
    text = f"from {architecture.removeprefix('tf_').replace('efficientnet_lite', 'EfficientNet-Lite')}"
    drawn = results.get("drawn")
    if not drawn or drawn["best_of"] == 1:
        return text
    return (
        f"{text}, which is another network than the one by which each pair was chosen, out of {drawn['best_of']} "
        f"candidates of {drawn['steps']} steps"
    )


def _manifold_table(results: dict[str, Any]) -> str:
    made, floor = results["fidelity"]["manifold"], results["fidelity"]["manifold_floor"]
    rows = [f"| {name} | {made[name]:.2f} | {floor[name]:.2f} |" for name in made]
    return "\n".join(["| against unseen real ones | generated | train part, as many |", "| --- | --- | --- |", *rows])


def _memorisation(memory: dict[str, Any], name: str) -> str:
    feature, bits = memory["feature_distance"], memory["hash_bits"]
    rows = [
        f"| {space} | {part} | " + " | ".join(f"{table[part][p]:.1f}" for p in ("p0", "p5", "p50", "p95")) + " |"
        for space, table in (("features", feature), ("perceptual hash, bits of 64", bits))
        for part in ("generated", "held_out")
    ]
    table = "\n".join(["| distance to train | of | least | 5 % | median | 95 % |", "| --- " * 6 + "|", *rows])
    return f"""Nearest training photograph over 8 flips and quarter turns, of {memory["n_generated"]} generated and, for
comparison, {memory["n_held_out"]} unseen real photographs.

{table}

* Near-copies (nearer in features, or fitting better when laid over a training photograph, than nearly all unseen real
  ones): {interval(memory["near_copy_rate"])}; of unseen real ones, {memory["expected_rate"]:.3f} or less are expected.
* Chance that a generated photograph is nearer to training than an unseen real one: {memory["closer_than_held_out"]:.2f}
  (0.5 = as new as real ones, 1 = copies); that it fits better when laid over it:
  {memory["fits_better_than_held_out"]:.2f}.
* Generated photographs with a near-duplicate among the others: {interval(memory["duplicate_rate"])}; unseen real ones:
  {interval(memory["held_out_duplicate_rate"])}.

![the generated photographs that are nearest to a training photograph]({name}_closest.png)"""


def _confusion(part: dict[str, Any]) -> str:
    head = "| prompted / true | " + " | ".join(part["classes"]) + " | recall |"
    rows = [
        f"| {name} | " + " | ".join(map(str, counts)) + f" | {part['recall'][name]:.2f} |"
        for name, counts in zip(part["classes"], part["confusion"], strict=True)
    ]
    return "\n".join([head, "| --- " * (len(part["classes"]) + 2) + "|", *rows])


def _masks(results: dict[str, Any]) -> str:
    head = ["| on | Dice mean | Dice median | IoU | HD95, px | boundary F |", "| --- " * 6 + "|"]
    parts = {
        "generated pairs, independent segmenter": results["agreement"]["generated"],
        "unseen real pairs, independent segmenter": results["agreement"]["real"],
        "unseen real photographs, the adapter (px of the real masks)": results["image_to_mask"],
    }
    rows = [
        f"| {name} | {part['dice']['mean']['value']:.3f} | {part['dice']['median']:.3f} | "
        f"{part['iou']['mean']['value']:.3f} | {part['hd95_px']['mean']['value']:.1f} | "
        f"{part['boundary_f']['mean']['value']:.3f} |"
        for name, part in parts.items()
    ]
    shapes = results["mask_shapes"]
    shape_rows = [
        f"| {name} | {shape['generated_mean']:.3f} | {shape['real_mean']:.3f} | {shape['ks_distance']:.3f} |"
        for name, shape in shapes.items()
        if isinstance(shape, dict)
    ]
    shape_head = ["| mask shape, mean | generated | real | KS distance |", "| --- " * 4 + "|"]
    return "\n".join([*head, *rows, "", *shape_head, *shape_rows])


def goals_table(results: dict[str, Any]) -> str:
    """Return the goals with what was measured, as a table."""
    rows = [goal.row() for goal in targets(results)]
    return "\n".join(
        ["| measure | generated | real, same judge | target | reached |", "| --- | --- | --- | --- | --- |", *rows]
    )


def weak_spot(results: dict[str, Any]) -> str:
    """Say which prompted diagnosis is recognised least, and as what the other pictures of it are mostly read."""
    read = results["classifier"]["generated"]
    names = [name.replace("_", " ") for name in read["classes"]]
    weakest = min(range(len(names)), key=lambda i: read["recall"][read["classes"][i]])
    counts = read["confusion"][weakest]
    taken = max((i for i in range(len(names)) if i != weakest), key=lambda i: counts[i])
    return (
        f"The weak spot is {names[weakest]}: the classifier recognises {counts[weakest] / sum(counts):.0%} of "
        f"{sum(counts)} pictures drawn for it, and takes {counts[taken] / sum(counts):.0%} for {names[taken]}."
    )


def fill_overview(page: Path, results: dict[str, Any]) -> None:
    """Put the table of goals, and the weak spot, between the two marks of docs/results/overview.md."""
    fill_block(page, PAGE_MARK, f"{goals_table(results)}\n\n{weak_spot(results)}")


def markdown(results: dict[str, Any]) -> str:
    """Return the text of micro.md."""
    run, name = results["run"], report_name(results)
    return f"""# Micro model: measured quality

{goals_table(results)}

![generated pairs, a row of photographs and a row of masks for each diagnosis]({name}_samples.png)

The first {SAMPLES_PER_CLASS} pairs of each diagnosis ({", ".join(sorted(results["generated"]))}), none left out.

## What the numbers mean

{_definitions(results)}

## Diversity and coverage

{_manifold_table(results)}

## Masks

{_masks(results)}

## Diagnosis, read by the independent classifier

Generated:

{_confusion(results["classifier"]["generated"])}

Unseen real photographs:

{_confusion(results["classifier"]["real"])}

## Memorisation

{_memorisation(results["memorisation"], name)}

## How it was made

    {shlex.join(["python", *run["command"]])}

Seed {run["seed"]}, {run["date_utc"]}, {run["platform"]} with {run["cores"]} cores and no GPU, adapter
{", ".join(run["adapter"])}. All numbers: [{name}.json]({name}.json).
"""


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as part, part.open("wb") as file:
        picture.save(file, "PNG")


def write_report(out: Path, results: dict[str, Any], generated: Photographs, closest: NDArray[np.uint8]) -> None:
    """Write NAME.md, NAME.json, NAME_samples.png and NAME_closest.png, each atomically."""
    name = report_name(results)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Sequence[Any]] = []
    for diagnosis in sorted(set(generated.diagnoses)):
        chosen = np.flatnonzero(np.asarray(generated.diagnoses) == diagnosis)[:SAMPLES_PER_CLASS]
        rows += [list(generated.images[chosen]), list(generated.masks[chosen])]
    _save(picture_grid(rows), out / f"{name}_samples.png")
    _save(picture_grid([list(closest[:6]), list(closest[6:])]), out / f"{name}_closest.png")
    reached = {
        goal.name: {"value": goal.value, "limit": goal.limit, "reached": goal.reached} for goal in targets(results)
    }
    atomic_write_json(out / f"{name}.json", {"targets": reached, **results})
    atomic_write_text(out / f"{name}.md", markdown(results))
