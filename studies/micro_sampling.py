"""Which sampling options serve the micro adapter: one row of docs/results/micro_sampling.md for each. One command:

    python studies/micro_sampling.py --adapter runs/micro2/adapter --guide runs/micro2/early --real ../shared/data \\
        --cache ../judges --work ../micro_sampling

Every row is one ``skindualgen generate`` of the same captions (each val photograph's, rare diagnoses more often) with
the same seed. Resumable: rows whose result lies in --work are not made again. Everything is measured on val, as it is
here that settings are chosen.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from micro_judges import load_judges, real_records
from micro_measures import (
    Photographs,
    class_fidelity,
    class_matched,
    mask_shapes,
    segmenter_agreement,
)
from micro_quality import photographs, run_command, wanted_records
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from micro_samples import scores_of
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import atomic_write_json, atomic_write_text, run_record
from skindualgen.judges.features import CachedFeatures, ImageNetFeatures
from skindualgen.metrics.teaching import teaching

REPEATS, LEAST_PER_CLASS = 1, 66
TWELVE = "--steps 12 --best-of 1"
ROWS = {
    "no guidance": f"{TWELVE} --guidance 1",
    "empty prompt 1.5": f"{TWELVE} --guidance 1.5",
    "empty prompt 2": f"{TWELVE} --guidance 2",
    "empty prompt 3": f"{TWELVE} --guidance 3",
    "empty prompt 2, noise .1 to .7": f"{TWELVE} --guidance 2 --guidance-interval .1 .7",
    "empty prompt 2, rescale .7": f"{TWELVE} --guidance 2 --guidance-rescale .7",
    "empty prompt 2, prompt noise .1": f"{TWELVE} --guidance 2 --prompt-noise .1",
    "empty prompt 2, prompt noise .25": f"{TWELVE} --guidance 2 --prompt-noise .25",
    "empty prompt 2, 6 steps": "--steps 6 --best-of 1 --guidance 2",
    "empty prompt 2, 8 steps": "--steps 8 --best-of 1 --guidance 2",
    "guide 1.5": f"{TWELVE} --guidance 1.5 --guide {{guide}}",
    "guide 2": f"{TWELVE} --guidance 2 --guide {{guide}}",
    "guide 3": f"{TWELVE} --guidance 3 --guide {{guide}}",
    "guide 2, noise .1 to .7": f"{TWELVE} --guidance 2 --guidance-interval .1 .7 --guide {{guide}}",
    "guide 2, rescale .7": f"{TWELVE} --guidance 2 --guidance-rescale .7 --guide {{guide}}",
    "guide 2, prompt noise .1": f"{TWELVE} --guidance 2 --prompt-noise .1 --guide {{guide}}",
}
COLUMNS = {
    "kid": "kernel distance",
    "frechet": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "prompted": "prompted diagnosis",
    "worst_class": "its worst class",
    "taught_share": "taught share",
    "dice_gap": "Dice short of real",
    "touching": "touching the frame",
    "cpu_seconds": "CPU s a pair",
}

console = Console(stderr=True)


class Judged:
    """What every row is measured with: real val photographs, their features, and the judges."""

    def __init__(self, real: Path, cache: Path) -> None:
        self.val = photographs(real, real_records(real, "val"))
        train = photographs(real, real_records(real, "train"))
        self.segmenter, self.classifier = load_judges(real, cache)
        self.extractor = CachedFeatures(ImageNetFeatures(), cache / "features")
        self.val_features = self.extractor(self.val.images)
        self.train_taught = self.extractor(train.images), train.diagnoses

    def __call__(self, made: Photographs) -> dict[str, Any]:
        """Return the numbers of a row."""
        features = self.extractor(made.images)
        chosen = class_matched(made.diagnoses, self.val.diagnoses, seed=0)
        matched, matched_features = made[chosen], features[chosen]
        read = class_fidelity(self.classifier, made)
        taught = teaching(
            generated=(features, made.diagnoses),
            train=self.train_taught,
            held_out=(self.val_features, self.val.diagnoses),
        )
        return {
            "pairs": len(made.images),
            **scores_of(self.val_features, matched_features),
            "prompted": read["balanced_accuracy"]["value"],
            "worst_class": min(read["recall"].values()),
            "taught_share": taught.share.value,
            "dice_gap": segmenter_agreement(self.segmenter, matched, self.val)["dice_gap"]["value"],
            "touching": mask_shapes(matched, self.val)["touches_border"]["generated_mean"],
        }


def markdown(rows: dict[str, dict[str, Any]], run: dict[str, Any]) -> str:
    """Return the text of micro_sampling.md."""
    head = "| guidance | " + " | ".join(COLUMNS.values()) + " |"
    lines = [
        f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key == "kid" else f"{row[key]:.2f}" for key in COLUMNS) + " |"
        for name, row in rows.items()
    ]
    count = next(iter(rows.values()))["pairs"]
    table = "\n".join([head, "| --- " * (len(COLUMNS) + 1) + "|", *lines])
    return f"""# Micro model: sampling options

{table}

{count} pairs a row, the same captions of val photographs and the same seed, in 12 steps unless a row says others;
distances, recall and coverage on the part of them with val's class proportions. "empty prompt" is classifier-free
guidance, "guide" leads away from an earlier state of the same adapter (autoguidance); "noise .1 to .7" guides between
these levels alone. Prompted diagnosis: balanced accuracy
of an independent classifier. Taught share: what a plain classifier learns from them, as a share of what as
many real photographs teach over chance. Of real val photographs, {run["touching_real"]:.2f} have a lesion that touches
the frame.

    {shlex.join(["python", *run["command"]])}

{run["date_utc"]}, {run["platform"]} with {run["cores"]} cores. All numbers: [micro_sampling.json](micro_sampling.json).
"""


def main(
    adapter: Annotated[str, typer.Option(help="builtin, or a folder")],
    real: Annotated[Path, typer.Option(help="folder of the real data folders", envvar="SKINDUALGEN_REAL_DATA")],
    cache: Annotated[Path, typer.Option(help="folder that keeps the judges and features, outside the repository")],
    work: Annotated[Path, typer.Option(help="folder for the pairs and their results, outside the repository")],
    guide: Annotated[str | None, typer.Option(help="adapter to lead away from; none: no rows with a guide")] = None,
    rows: Annotated[list[str] | None, typer.Option(help="some of the rows; all if not given")] = None,
    out: Annotated[Path, typer.Option(help="where micro_sampling.md and .json go")] = Path("docs/results"),
) -> None:
    """Generate, measure and write docs/results/micro_sampling.md."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    if unknown := set(rows or ()) - set(ROWS):
        raise InputError(f"rows {sorted(unknown)}", f"some of {list(ROWS)}", "correct --rows")
    wanted = wanted_records(real_records(real, "val"), REPEATS, LEAST_PER_CLASS)
    captions = work / "captions"
    captions.mkdir(exist_ok=True)
    write_dataset(captions, wanted, made_by={"study": "micro_sampling"})
    judged = Judged(real, cache)
    results: dict[str, dict[str, Any]] = {}
    for name, options in ROWS.items():
        if (rows and name not in rows) or ("{guide}" in options and guide is None):
            continue
        slug = name.replace(" ", "_").replace(",", "")
        file, folder = work / f"{slug}.json", work / slug
        if not file.is_file():
            arguments = ["--adapter", adapter, "--like", str(captions), "-n", str(len(wanted)), "--out", str(folder)]
            seconds = run_command("generate", *arguments, *options.format(guide=guide).split())
            made = photographs(folder, read_metadata(folder))
            atomic_write_json(file, judged(made) | {"cpu_seconds": seconds / len(wanted)})
        results[name] = json.loads(file.read_text())
        console.print(name, {key: round(value, 3) for key, value in results[name].items()})
    touching = mask_shapes(judged.val, judged.val)["touches_border"]["real_mean"]
    run = run_record(seed=0, cores=os.cpu_count()) | {"touching_real": touching}
    atomic_write_json(out / "micro_sampling.json", {"rows": results, "run": run})
    atomic_write_text(out / "micro_sampling.md", markdown(results, run))


if __name__ == "__main__":
    typer.run(main)
