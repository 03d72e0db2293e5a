"""Measure the micro model against its targets, on the val part of docs/results/micro2_split.csv. One command:

    python studies/micro_quality.py --real ../shared/data --cache ../judges --work ../micro_quality

It trains the judges (or takes them from the cache), lets ``skindualgen generate`` make pairs for the captions of the
val part and ``skindualgen segment`` outline its photographs, and writes micro.md, micro.json and pictures to
docs/results. Folders made before are taken with --generated and --predicted; then nothing is generated. `--part test`
measures on the test photographs instead, which nothing was chosen on, and writes micro_test.md.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from micro_judges import CLASSES, load_reader, load_segmenter, real_records
from micro_measures import (
    Photographs,
    class_fidelity,
    class_matched,
    fidelity,
    mask_scores,
    mask_shapes,
    memorisation,
    segmenter_agreement,
    summary,
)
from micro_report import fill_overview, report_name, write_report
from numpy.typing import NDArray
from picture_sheets import closest_pairs_sheet
from PIL import Image
from rich.console import Console

from skindualgen.contracts import IMAGES_DIR, MASKS_DIR, InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import run_record
from skindualgen.judges.features import CachedFeatures, ImageNetFeatures
from skindualgen.judges.novelty import novelty
from skindualgen.judges.pictures import PictureSet
from skindualgen.metrics.teaching import teaching

SIZE_PX = 128
CAPTION_REPEATS = 2
"""Pairs made for the caption of each photograph: the generated set then has the class proportions of its part."""
LEAST_PER_CLASS = 110
"""Rare classes are made more often, for the classifiers' sake; the set distances use a class-matched part."""
CLOSEST_SHOWN = 12
NOVELTY_COUNT = 234
"""Generated photographs searched for copies (8 views each), about as many as unseen real ones."""

console = Console(stderr=True)


def wanted_records(
    val: list[PairRecord], repeats: int = CAPTION_REPEATS, least: int = LEAST_PER_CLASS
) -> list[PairRecord]:
    """Return the captions to generate: each real record ``repeats`` times, rare classes up to ``least`` in all."""
    per_class = Counter(record.diagnosis for record in val)
    wanted = []
    for record in val:
        for repeat in range(max(repeats, -(-least // per_class[record.diagnosis]))):
            name = f"{record.isic_id}_{repeat}"
            update = {"isic_id": name, "file_name": f"{IMAGES_DIR}/{name}.jpg", "mask_file_name": None}
            wanted.append(record.model_copy(update=update))
    return wanted


def run_command(*arguments: str) -> float:
    """Run ``skindualgen`` on one core and return the CPU seconds that it took.

    Raises:
        InputError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "skindualgen", *arguments], env=environment, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise InputError(f"exit code {done.returncode}", f"skindualgen {arguments[0]} to end well", "see its message")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def generate(adapter: str, val: list[PairRecord], work: Path, seed: int) -> tuple[Path, float]:
    """Let the generator draw the wanted captions; returns its folder and the CPU seconds a pair."""
    like, out = work / "captions", work / "generated"
    if out.exists():
        raise InputError(
            f"{out} from before", "no such folder, for an honest timing", f"remove it or --generated {out}"
        )
    like.mkdir(parents=True, exist_ok=True)
    wanted = wanted_records(val)
    write_dataset(like, wanted, made_by={"study": "micro_quality"})
    arguments = ["--adapter", adapter, "--out", str(out), "--like", str(like), "-n", str(len(wanted))]
    seconds = run_command("generate", *arguments, "--seed", str(seed))
    return out, seconds / len(wanted)


def segment(adapter: str, real: Path, val: list[PairRecord], work: Path) -> tuple[Path, float]:
    """Let the generator outline the photographs; returns the folder of masks and the CPU seconds a photograph."""
    photographs, out = work / "val_photographs", work / "segmented"
    photographs.mkdir(parents=True, exist_ok=True)
    for record in val:
        link = photographs / Path(record.file_name).name
        if not link.exists():
            link.symlink_to((real / record.file_name).resolve())
    seconds = run_command("segment", "--adapter", adapter, "--images", str(photographs), "--out", str(out))
    return out / MASKS_DIR, seconds / len(val)


def image_to_mask(predicted: Path, real: Path, val: list[PairRecord]) -> dict[str, Any]:
    """Score predicted masks ``<id>.png`` against the experts', each at the real mask's own size."""
    pairs = []
    for record in val:
        mask_file = predicted / f"{record.isic_id}.png"
        if not mask_file.is_file():
            raise InputError(f"no {mask_file}", "a mask for each val photograph", "segment the whole val part")
        with Image.open(mask_file) as made, Image.open(real / str(record.mask_file_name)) as truth:
            pairs.append((np.asarray(made.convert("L")) > 127, np.asarray(truth.convert("L")) > 127))
    return summary(mask_scores([made for made, _ in pairs], [truth for _, truth in pairs]))


def photographs(root: Path, records: list[PairRecord]) -> Photographs:
    """Load pairs at the study's size."""
    if any(record.diagnosis is None for record in records):
        raise InputError(f"records without a diagnosis in {root}", "the prompted one for each", "generate with --like")
    diagnoses = [str(record.diagnosis) for record in records]
    data = Dataset(root, records)
    return Photographs(data.images(SIZE_PX), data.masks(SIZE_PX), diagnoses)


def measure(
    generated: Photographs, real: Path, part: str, *, cache: Path, work: Path, seed: int
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Compute everything that needs no generator; the couples of closest pairs go to the work folder only.

    Args:
        generated: what is measured.
        real: folder of the real data folders.
        part: "val" or "test", what is compared with.
        cache: folder of judges and features.
        work: folder of the pictures that show real photographs.
        seed: of judges and resampling.

    Returns:
        The results, and the generated photographs that are nearest to a training photograph.
    """
    train, val = (photographs(real, real_records(real, name)) for name in ("train", part))
    every_record = real_records(real, "train", pairs=False)
    every = Dataset(real, every_record).images(SIZE_PX)
    segmenter, classifier = load_segmenter(real, cache, seed=seed), load_reader(real, cache)
    extractor = CachedFeatures(ImageNetFeatures(), cache / "features")
    matched = generated[class_matched(generated.diagnoses, val.diagnoses, seed=seed)]
    console.print("judging masks and diagnoses ...")
    results: dict[str, Any] = {
        "judges": {"segmenter": segmenter.header["budget"], "classifier": classifier.header["budget"]}
        | {"architecture": classifier.header["architecture"]},
        "agreement": segmenter_agreement(segmenter, matched, val),
        "classifier": {"generated": class_fidelity(classifier, generated), "real": class_fidelity(classifier, val)},
        "mask_shapes": mask_shapes(matched, val),
    }
    console.print("comparing feature distributions ...")
    results["fidelity"] = fidelity(extractor, train=train, val=val, generated=matched, seed=seed)
    taught = teaching(
        generated=(extractor(generated.images), generated.diagnoses),
        train=(extractor(every), [r.diagnosis if r.diagnosis in CLASSES else None for r in every_record]),
        held_out=(extractor(val.images), val.diagnoses),
        seed=seed,
    )
    results["teaching"] = asdict(taught) | {"share": asdict(taught.share), "chance": taught.chance}
    console.print("searching for copies ...")
    searched = matched[np.random.default_rng(seed).permutation(len(matched.images))[:NOVELTY_COUNT]]
    compared = {"generated": (searched.images, searched.diagnoses), "held_out": (val.images, val.diagnoses)}
    compared["train"] = (every, [r.diagnosis for r in every_record])
    found = novelty(**{name: PictureSet.of_arrays(*part) for name, part in compared.items()}, extractor=extractor)
    results["memorisation"] = memorisation(found)
    sheet = closest_pairs_sheet(generated=searched.images, train=every, neighbours=found.generated.features, pairs=32)
    sheet.save(work / "closest_pairs.png")
    closest = searched.images[np.argsort(found.generated.features.distance, kind="stable")[:CLOSEST_SHOWN]]
    return results, closest


def main(
    real: Annotated[Path, typer.Option(help="folder that holds the real data folders", envvar="SKINDUALGEN_REAL_DATA")],
    cache: Annotated[Path, typer.Option(help="folder that keeps the judges and features, outside the repository")],
    work: Annotated[Path, typer.Option(help="folder for what is generated on the way, outside the repository")],
    out: Annotated[Path, typer.Option(help="where micro.md, micro.json and the pictures go")] = Path("docs/results"),
    adapter: Annotated[str, typer.Option(help="the adapter to measure: builtin, or a folder")] = "builtin",
    generated: Annotated[Path | None, typer.Option(help="a generated data set folder; none: generate one")] = None,
    predicted: Annotated[Path | None, typer.Option(help="masks of the val photographs; none: segment them")] = None,
    overview: Annotated[Path | None, typer.Option(help="a page whose table of goals is renewed")] = None,
    name: Annotated[str, typer.Option(help="of the report, such as micro_fast")] = "micro",
    part: Annotated[str, typer.Option(help="val, or test: for final numbers only")] = "val",
    seed: Annotated[int, typer.Option(help="of judges, generation and resampling")] = 0,
) -> None:
    """Measure the micro model and write docs/results/micro.md."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    work.mkdir(parents=True, exist_ok=True)
    records = real_records(real, part)
    speed: dict[str, float] = {}
    if generated is None:
        generated, speed["cpu_seconds_per_pair"] = generate(adapter, records, work, seed)
    if predicted is None:
        predicted, speed["cpu_seconds_per_mask"] = segment(adapter, real, records, work)
    made_records = read_metadata(generated)
    made = photographs(generated, made_records)
    results, closest = measure(made, real, part, cache=cache, work=work, seed=seed)
    results["image_to_mask"] = image_to_mask(predicted, real, records)
    results["speed"] = speed
    results["generated"] = dict(Counter(made.diagnoses))
    first = made_records[0]
    results["drawn"] = {"steps": first.num_inference_steps, "best_of": (first.model_extra or {}).get("best_of", 1)}
    adapters = sorted({str(record.adapter_sha256) for record in made_records})
    results["run"] = run_record(seed=seed, adapter=adapters, cores=os.cpu_count())
    results["name"], results["part"] = name, part
    write_report(out, results, made, closest)
    if overview is not None:
        fill_overview(overview, results)
    console.print(
        f"wrote {out / report_name(results)}.md; closest pairs with their real neighbours: {work / 'closest_pairs.png'}"
    )


if __name__ == "__main__":
    typer.run(main)
