"""The whole chain as a user runs it: prepare, train, generate, segment; and the folder reloads."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from skindualgen.cli import app
from skindualgen.data.manifest import read_metadata
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.data.training_items import read_training_items
from skindualgen.sample.pipeline import SkinDualGenPipeline

SMALL = ["--set", "lora.rank=4", "--set", "sampling.default_steps=2", "--set", "sampling.default_segment_steps=2"]
QUICK = [
    "--set",
    "views=2",
    "--set",
    "validation_steps=4",
    "--set",
    "lr_warmup_steps=1",
    "--set",
    "lora.alpha=4",
    *SMALL,
]
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}


def call(*arguments: object, expect: int = 0) -> Result:
    """A command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PLAIN.items():
            patch.setenv(name, value)
        done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == expect, f"{arguments}\n{done.output}"
    return done


def chain(source: Path, base: Path, work: Path) -> None:
    """Run every command on ``source`` and check what each leaves."""
    from datasets import load_dataset

    call("prepare", source, work / "data", "--size", 64, "--seed", 1, "--ignore-official-split")
    records = read_metadata(work / "data")
    assert {"train", "val"} <= {record.split for record in records}
    train = [record for record in records if record.split == "train"]

    options = ["--base", base, "--max-train-steps", 4, "--train-batch-size", 4, "--mixed-precision", "fp32", *QUICK]
    trained = call("train", "--data", work / "data", "--out", work / "run", *options)
    assert "4/4" in trained.stdout and f"Run folder: {work / 'run'}" in trained.stdout
    items = read_training_items(work / "run" / "adapter")
    assert items is not None and [item.isic_id for item in items.items] == sorted(r.isic_id for r in train)
    assert json.loads((work / "run" / "metrics.jsonl").read_text().splitlines()[-1])["val_loss"] > 0

    made = call("generate", "--adapter", work / "run", "--like", work / "data", "-n", 3, "--out", work / "generated")
    assert "3 pairs in" in made.stdout
    assert "Warning" not in made.stderr and "generating" in made.stderr
    drawn = read_metadata(work / "generated", "train")
    assert {record.diagnosis for record in drawn} <= {record.diagnosis for record in train}
    rows = load_dataset("imagefolder", data_dir=str(work / "generated"), split="train", cache_dir=str(work / "cache"))
    assert len(rows) == 3 and rows[0]["image"].size == rows[0]["mask"].size == (64, 64)

    segmented = call(
        "segment",
        "--adapter",
        work / "run",
        "--images",
        work / "generated" / "images",
        "--out",
        work / "masks",
        "--ensemble",
        2,
    )
    assert "3 masks written, 0 were there, 0 photographs refused" in segmented.stdout
    assert {path.stem for path in (work / "masks" / "masks").iterdir()} == {record.isic_id for record in drawn}

    # The same adapter loaded anew, without the command line: the first pair again.
    pipe = SkinDualGenPipeline.from_adapter(work / "run")
    pipe.set_progress_bar_config(disable=True)
    import torch

    first = drawn[0]
    again = pipe([r.prompt for r in drawn], generator=[torch.Generator().manual_seed(r.seed or 0) for r in drawn])
    with Image.open(work / "generated" / first.file_name) as image:
        assert np.abs(np.asarray(again.images[0], int) - np.asarray(image, int)).max() <= 1


@pytest.mark.slow
def test_phantom_pairs(tiny_v_base: Path, tmp_path: Path) -> None:
    write_phantom_folder(tmp_path / "source", 16, size=96)
    chain(tmp_path / "source", tiny_v_base, tmp_path)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_pairs(real_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Twenty-four pairs of the real folder, laid out as it is, on a base of Stable Diffusion 2.0's classes, in here."""
    source = tmp_path / "source"
    with (real_data / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::60][:24]
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (source / folder).mkdir(parents=True)
        for row in rows:
            shutil.copy(real_data / folder / f"{row['image_id']}.{suffix}", source / folder)
    with (source / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    chain(source, tiny_base, tmp_path)


def test_nothing_readable_to_segment_is_wrong_input(tiny_adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    adapter = ["--adapter", tiny_adapter]
    done = call("segment", "--images", tmp_path / "in", "--out", tmp_path / "out", *adapter, expect=2)
    lines = done.stderr.splitlines()
    assert any("broken.png: not_an_image" in line for line in lines)
    assert lines[-1].startswith("Error: got ") and "without a photograph that can be read" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "x"], "data"),
        (["train", "--data", "x", "--out", "y", "--set", "lora.rank=0"], "lora.rank = 0"),
        (["train", "--data", "x", "--out", "y", "--set", "lora.rank"], "name=value"),
        (
            ["generate", "--out", "x"],
            "not exactly one of --plan, --prompt, --prompts, --like, --redraw, --masks, --inpaint and --read",
        ),
        (["generate", "--out", "x", "--prompt", "a", "--like", "y"], "not exactly one of"),
        (["generate", "--out", "x", "--prompt", "a", "--adapter", "nowhere"], "adapter 'nowhere'"),
        (["segment", "--out", "x", "--images", "y", "--adapter", "nowhere"], "adapter 'nowhere'"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    """Called as the command line is, in this process: a new one for each would take its start-up time seven times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = call(*arguments, expect=2)
    assert done.stderr.startswith("Error: got ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_effective_settings_are_shown(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('data = "d"\nmax_train_steps = 7\n[lora]\nrank = 8\n')
    out = str(tmp_path / "o")
    arguments = ["train", "--config", str(tmp_path / "c.toml"), "--out", out, "--rank", "6", "--set", "noise.equal=1"]
    done = call(*arguments, "--set", "mixed_precision=fp32", "--dry-run")
    settings = tomllib.loads(done.stdout)  # what it would take stands there as comments
    assert (settings["max_train_steps"], settings["lora"]["rank"], settings["noise"]["equal"]) == (7, 6, 1)
    assert "# trained parameters: " in done.stdout and "# memory, estimated: " in done.stdout
    assert not (tmp_path / "o").exists()


def test_resuming_what_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    arguments = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "none"), "--resume"]
    done = call(*arguments, expect=2)
    assert "holds no run" in done.stderr and not (tmp_path / "none").exists()
