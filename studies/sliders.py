"""Measure how far generated pictures follow the studio's sliders for looks. One command:

    python studies/sliders.py

For every place of every slider the same prompts are drawn from the same noise; `appearance_of`, which also told the
training pairs their words, says where the pairs lie on that slider's scale. Writes docs/results/sliders.md and .json.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy import stats
from study_text import interval, table

from skindualgen.data.appearance import SCALES, appearance_at, appearance_of, with_appearance
from skindualgen.files import BUNDLED_ADAPTERS, atomic_write_json, atomic_write_text
from skindualgen.metrics.intervals import bootstrap
from skindualgen.sample.pipeline import SkinDualGenPipeline

PROMPTS = tuple(f"a dermoscopic image of a {name}" for name in ("nevus", "melanoma", "seborrheic keratosis"))
UNSAID = {"border": 2.5, "focus": 2.5, "hair": 0.0}
"""Where on its scale a picture lies of which nothing is said: between the inner words, or below the first."""


def place_of(name: str, word: str) -> float:
    """Return the place of a measured word on a slider's scale, from 1; NaN where nothing could be measured."""
    if not word:
        return UNSAID.get(name, float("nan"))
    tones = [known.removesuffix(" brown") for known in SCALES[name]]
    places = [place for place, tone in enumerate(tones, start=1) if word == tone or word.startswith(f"{tone} ")]
    return float(places[0]) if places else float("nan")


def measured_places(pipe: SkinDualGenPipeline, name: str, seeds: int) -> NDArray[np.float64]:
    """Return where pairs lie on a slider's scale [prompts x seeds, places]."""
    columns = []
    for place in range(1, len(SCALES[name]) + 1):
        asked = [with_appearance(prompt, appearance_at(**{name: place})) for prompt in PROMPTS for _ in range(seeds)]
        noise = [torch.Generator().manual_seed(seed) for seed in range(len(asked))]
        pairs = pipe(asked, generator=noise)
        looks = [
            appearance_of(np.asarray(image.convert("RGB")), np.asarray(mask) > 0)
            for image, mask in zip(pairs.images, pairs.masks, strict=True)
        ]
        columns.append([place_of(name, getattr(look, name)) for look in looks])
    return np.array(columns).T


def _rank_correlation(*groups: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Spearman's correlation of the group's number with the values in it, along the axis."""
    asked = np.concatenate([np.full_like(group, place) for place, group in enumerate(groups)], axis=axis)
    ranks = [stats.rankdata(values, axis=axis) for values in (asked, np.concatenate(groups, axis=axis))]
    first, second = (values - values.mean(axis=axis, keepdims=True) for values in ranks)
    spread = np.sqrt((first**2).sum(axis=axis) * (second**2).sum(axis=axis))
    return np.asarray((first * second).sum(axis=axis) / np.maximum(spread, 1e-12))


def main(
    out: Annotated[Path, typer.Option(help="Where sliders.md and sliders.json go.")] = Path("docs/results"),
    adapters: Annotated[str, typer.Option(help="Names or folders, separated by commas.")] = ",".join(BUNDLED_ADAPTERS),
    seeds: Annotated[int, typer.Option(min=2, help="Pairs of each of three diagnoses for each place.")] = 6,
) -> None:
    """Draw, measure and write."""
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    results = []
    for adapter in adapters.split(","):
        pipe = SkinDualGenPipeline.from_adapter(adapter)
        pipe.set_progress_bar_config(disable=True)
        for name, words in SCALES.items():
            places = measured_places(pipe, name, seeds)
            groups = [column[np.isfinite(column)] for column in places.T]
            correlation = asdict(bootstrap(groups, _rank_correlation, seed=0))
            means = [float(group.mean()) for group in groups]
            results.append({"adapter": adapter, "slider": name, "correlation": correlation, "means": means})
            ends = f"{means[0]:.1f}, {means[-1]:.1f} of 1, {len(words)}"
            rows.append([adapter, name, f"{words[0]} to {words[-1]}", interval(correlation), ends])
            print(*rows[-1], flush=True)
    command = f"python studies/sliders.py --adapters {adapters} --seeds {seeds}"
    head = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, torch {torch.__version__}."
    lines = table(["adapter", "slider", "words", "rank correlation", "mean place at both ends"], rows)
    text = "\n".join(["# Do pictures follow the sliders for looks?", "", head, "", _EXPLAINED, "", *lines, ""])
    atomic_write_json(out / "sliders.json", {"command": command, "sliders": results})
    atomic_write_text(out / "sliders.md", text)


_EXPLAINED = """\
For each place of each slider, the same prompts (nevus, melanoma, seborrheic keratosis) from the same noise. The place
that a finished pair has is measured as the words of training pairs were (`skindualgen.data.appearance`): this tells
whether words are followed, not whether a dermatologist would use them. Rank correlation (Spearman) of the place asked
for with the place measured: 1 follows, 0 does not; intervals of 95 %, bootstrap over pairs."""

if __name__ == "__main__":
    typer.run(main)
