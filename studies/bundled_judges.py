"""Train the judges that come with the package, write them in bytes, and say what they are worth. One command:

    python studies/bundled_judges.py --real ../shared/data --cache ../judges

They are those of `micro_quality.py`: taught by the train part of docs/results/micro2_split.csv alone. Writes
segmenter.safetensors and classifier.safetensors to --out and docs/results/judges.md, with the scores of the trained
networks and of what is written, on val or (`--part test`) on test, which nothing is chosen on.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from micro_judges import load_judges, real_records
from micro_measures import class_fidelity, mask_scores
from micro_quality import SIZE_PX, photographs
from numpy.typing import NDArray
from study_text import fill_block, interval, table

from skindualgen.judges.classifier import Classifier
from skindualgen.judges.segmenter import Segmenter
from skindualgen.judges.training import BUNDLED_JUDGES, bundled_file, save_model
from skindualgen.metrics.intervals import bootstrap, mean_of_means

PAGE = Path(__file__).parents[1] / "docs" / "results" / "judges.md"


def scores(segmenter: Segmenter, classifier: Classifier, real: Path, part: str) -> dict[str, Any]:
    """Dice with experts' masks, mean with its interval, and what the classifier reads, on one part."""
    pictures = photographs(real, real_records(real, part))
    dice: NDArray[np.float64] = np.array(
        [score["dice"] for score in mask_scores(segmenter.masks(pictures.images), pictures.masks)]
    )
    return {"n": len(dice), "dice": asdict(bootstrap([dice], mean_of_means))} | {
        "read": class_fidelity(classifier, pictures)
    }


def main(
    real: Annotated[Path, typer.Option(help="Folder of the data folders that the split names.")],
    cache: Annotated[Path, typer.Option(help="Folder that keeps the trained judges.")],
    part: Annotated[str, typer.Option(help="Which photographs: val, or at the very end test.")] = "val",
    out: Annotated[Path, typer.Option(help="Folder of the judges in bytes.")] = BUNDLED_JUDGES,
    page: Annotated[Path, typer.Option(help="Page with a block for each part.")] = PAGE,
    seed: Annotated[int, typer.Option(help="Of the judges.")] = 0,
) -> None:
    """Train, write and measure the judges."""
    torch.set_num_threads(1)
    trained = load_judges(real, cache, seed=seed)
    files = [out / bundled_file(judge.header["kind"]).name for judge in trained]
    for judge, file in zip(trained, files, strict=True):
        save_model(file, judge.network, judge.header, in_bytes=True)
    written = Segmenter(files[0]), Classifier(files[1])
    rows: list[list[object]] = []
    for name, judges in (("as trained", trained), ("in bytes, as bundled", written)):
        found = scores(*judges, real, part)
        read = found["read"]
        rows.append([name, found["n"], interval(found["dice"]), interval(read["balanced_accuracy"])])
        rows[-1] += [f"{value:.2f}" for value in read["recall"].values()]
    sizes = ", ".join(f"{path.stem} {path.stat().st_size / 1e6:.1f} MB" for path in sorted(files))
    command = f"python studies/bundled_judges.py --real DIR --cache DIR --part {part} --seed {seed}"
    head = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {SIZE_PX} px, torch {torch.__version__}."
    names = ["judges", "pairs", "Dice with experts", "balanced accuracy", *trained[1].classes]
    lines = "\n".join(table(names, rows))
    fill_block(page, f"<!-- {part} -->", f"{head} Files: {sizes}.\n\n{lines}")


if __name__ == "__main__":
    typer.run(main)
