"""Walks, grids and nearest neighbours as pictures: their cells are what single calls give."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from typer.testing import CliRunner

from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.judges.neighbours import nearest, nearest_few
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.sheet import GAP_PX, LABEL_PX, outline
from skindualgen.sample.tours import grid, walk, walk_gif
from tiny import SIZE_PX, write_phantom_data

NEVUS, MELANOMA = "a dermoscopic image of a nevus", "a dermoscopic image of a melanoma"
STEPS = {"num_inference_steps": 2}


def alone(pipe: SkinDualGenPipeline, prompt: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    generator = torch.Generator().manual_seed(seed)
    images, masks = pipe(prompt, generator=generator, return_dict=False, **STEPS)
    return np.asarray(images[0]), np.asarray(masks[0])


def near(a: object, b: object) -> bool:
    """Equal but for what a batch's other size does to the last bit of a float."""
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1


def test_a_walk_begins_and_ends_at_what_its_prompts_give(pipe: SkinDualGenPipeline) -> None:
    images, masks = walk(pipe, NEVUS, MELANOMA, frames=3, seed=7, batch_size=2, **STEPS)
    for place, prompt in ((0, NEVUS), (2, MELANOMA)):
        image, mask = alone(pipe, prompt, 7)
        assert near(images[place], image)
        assert np.mean(np.asarray(masks[place]) != mask) < 0.01
    states = pipe.encode_prompt([NEVUS, MELANOMA]).mean(0, keepdim=True)
    middle = pipe(prompt_embeds=states, generator=torch.Generator().manual_seed(7), return_dict=False, **STEPS)[0][0]
    assert near(images[1], middle)
    assert not near(images[0], images[2])
    with pytest.raises(InputError, match="cuts the end off"):
        walk(pipe, NEVUS, "nevus " * 80, frames=2, seed=7)
    with pytest.raises(InputError, match="2 or more"):
        walk(pipe, NEVUS, MELANOMA, frames=1, seed=7)


def test_the_gif_goes_there_and_back_with_outlines() -> None:
    images = [Image.fromarray(np.full((16, 16, 3), 60 * k + 40, np.uint8)) for k in range(3)]
    masks = [Image.fromarray(np.pad(np.full((6, 6), 255, np.uint8), 5)) for _ in images]
    drawn = [np.asarray(outline(*pair)) for pair in zip(images, masks, strict=True)]
    with Image.open(io.BytesIO(walk_gif(images, masks))) as gif:
        assert gif.info["loop"] == 0
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.asarray(gif.convert("RGB")))
    assert len(frames) == 4
    for frame, expected in zip(frames, [*drawn, drawn[1]], strict=True):
        assert np.array_equal(frame, expected)


def test_a_grid_has_a_row_for_each_prompt_and_a_column_for_each_seed(pipe: SkinDualGenPipeline) -> None:
    prompts, seeds = [NEVUS, MELANOMA], [4, 5, 6]
    sheet = np.asarray(grid(pipe, prompts, seeds, batch_size=4, **STEPS))
    for row, prompt in enumerate(prompts):
        for column, seed in enumerate(seeds):
            y, x = row * (2 * SIZE_PX + GAP_PX + LABEL_PX), column * (SIZE_PX + GAP_PX)
            assert near(sheet[y : y + SIZE_PX, x : x + SIZE_PX], alone(pipe, prompt, seed)[0])


def test_the_few_nearest_are_those_of_a_sort_by_hand() -> None:
    random = np.random.default_rng(8)
    views, reference = [random.normal(size=(5, 3)) for _ in range(2)], random.normal(size=(7, 3))
    found = nearest_few(views, reference, 3)
    for row in range(5):
        distances = [min(np.linalg.norm(view[row] - other) for view in views) for other in reference]
        assert list(found.index[row]) == sorted(range(7), key=distances.__getitem__)[:3]
        assert found.distance[row] == pytest.approx(sorted(distances)[:3])
    one = nearest(views, reference)
    assert np.array_equal(one.index, found.index[:, 0]) and np.array_equal(one.distance, found.distance[:, 0])
    assert nearest_few([reference], reference, 9, within=True).index.shape == (7, 6)


def test_a_turned_copy_is_drawn_beside_what_it_is_a_copy_of(tmp_path: Path) -> None:
    """Guards against photographs that are compared upright only, and rows beside another's neighbours."""
    real = write_phantom_data(tmp_path / "real", train=6, val=0)
    made = write_phantom_data(tmp_path / "made", train=2, val=0)
    originals = [Dataset.open(real)[4], Dataset.open(real)[1]]
    for copy, original in zip(Dataset.open(made), originals, strict=True):
        ImageOps.mirror(Image.open(real / original.file_name)).save(made / copy.file_name)
    out = tmp_path / "pictures" / "near.png"
    line = f"picture neighbours --generated {made} --real {real} --size {SIZE_PX} --count 2 --out {out}"
    result = CliRunner().invoke(app, [*line.split(), "--judges", str(tmp_path / "judges")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    sheet = np.asarray(Image.open(out))
    for row, original in enumerate(originals):
        y, x = row * (2 * SIZE_PX + GAP_PX + LABEL_PX), SIZE_PX + GAP_PX
        shown = sheet[y : y + SIZE_PX, x : x + SIZE_PX]
        assert np.array_equal(shown, np.asarray(Image.open(real / original.file_name).convert("RGB")))


def test_commands_draw_what_they_say(tmp_path: Path, tiny_adapter: Path, own_threads: None) -> None:
    call = ["--adapter", str(tiny_adapter), "--steps", "1"]
    lines = {
        "walk.gif": ["walk", "--frames", "2", *call],
        "grid.png": ["grid", "--prompt", NEVUS, "--seeds", "2", *call],
    }
    for name, line in lines.items():
        out = tmp_path / name
        result = CliRunner().invoke(app, ["picture", *line, "--out", str(out)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        with Image.open(out) as picture:
            assert picture.format == out.suffix[1:].upper()
        wrong = CliRunner().invoke(app, ["picture", *line, "--out", str(tmp_path / "picture.bmp")])
        assert wrong.exit_code == 2 and "a name that ends in" in wrong.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(lines)
