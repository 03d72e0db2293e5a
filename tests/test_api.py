"""The stable face: what it loads, the data set, and what the functions refuse. Its examples run in test_docs.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader
from typer.testing import CliRunner

import skindualgen
from skindualgen import Dataset
from skindualgen.cli import app
from skindualgen.contracts import InputError


def test_the_package_loads_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, skindualgen; dir(skindualgen); "
        "print([m for m in ('torch', 'diffusers', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "[]\n"
    assert set(skindualgen.__all__) <= set(dir(skindualgen))
    # A submodule of the same name would take a function's place once it is imported.
    assert all(callable(getattr(skindualgen, name)) for name in skindualgen.__all__ if not name.startswith("_"))
    assert not [name for name in skindualgen.__all__ if f"skindualgen.{name}" in sys.modules]


def test_a_data_set_is_a_sequence_of_its_records(phantom_data: Path) -> None:
    data = Dataset.open(phantom_data)
    assert len(data) == 16 and data.splits == ["train", "val"] and len(data.split("val")) == 4
    assert [record.isic_id for record in data[2:4]] == [data[2].isic_id, data[3].isic_id]
    assert len(Dataset.open(phantom_data, "val")) == 4 and not len(data.split("test"))
    assert data.sha256 == data.info["manifest_sha256"] != data[:3].sha256
    image, mask = data.image(0), data.mask(0)
    assert image.mode == "RGB" and mask is not None and mask.mode == "L" and mask.size == image.size
    assert set(mask.tobytes()) == {0, 255}
    record = data[1].model_copy(update={"mask_file_name": None, "diagnosis": None})
    changed = Dataset(phantom_data, [data[0], record])
    assert changed.mask(1) is None and len(changed.with_masks()) == 1
    with pytest.raises(InputError, match="no record of the split 'test'"):
        Dataset.open(phantom_data, "test")


def test_a_data_set_is_filtered_counted_and_read_as_arrays(phantom_data: Path) -> None:
    data = Dataset.open(phantom_data)
    nevi = data.where(lambda record: record.diagnosis == "nevus")
    assert 0 < len(nevi) < len(data) and nevi.diagnoses == ["nevus"]
    assert data.counts == data.info["counts"] and data.counts["records"] == 16
    side = data.image(0).width
    images, masks = data[:2].images(side), data[:2].masks(side)
    assert images.shape == (2, side, side, 3) and (images[0] == np.asarray(data.image(0))).all()
    assert masks.shape == (2, side, side) and (masks[1] == (np.asarray(data.mask(1)) > 0)).all()
    assert data[:1].images(side // 2).shape == (1, side // 2, side // 2, 3)
    assert data.smallest_side_px == side and not data[:0].smallest_side_px
    assert not Dataset(phantom_data, [data[0].model_copy(update={"mask_file_name": None})]).masks(side).any()


def test_a_part_is_written_as_a_data_set(phantom_data: Path, tmp_path: Path) -> None:
    data = Dataset.open(phantom_data, "val")
    for name in (name for record in data for name in (record.file_name, record.mask_file_name)):
        (tmp_path / str(name)).parent.mkdir(exist_ok=True)
        shutil.copy(phantom_data / str(name), tmp_path / str(name))
    Dataset(tmp_path, data.records).write({"command": "a part"})
    part = Dataset.open(tmp_path)
    assert part.records == data.records and part.sha256 == data.sha256 == part.info["manifest_sha256"]
    assert part.content_sha256() == data[::-1].content_sha256() != data[1:].content_sha256()
    (tmp_path / part[0].file_name).unlink()
    with pytest.raises(InputError, match="no file"):
        part.check_files()


def test_tensors_say_what_is_there(phantom_data: Path) -> None:
    data = Dataset.open(phantom_data)
    bare = data[1].model_copy(update={"mask_file_name": None, "diagnosis": None})
    pairs = Dataset(phantom_data, [data[0], bare]).torch(48, diagnoses=data.diagnoses)
    (batch,) = DataLoader(pairs, batch_size=2, collate_fn=pairs.collate)
    assert batch["image"].shape == (2, 3, 48, 48) and batch["image"].min() >= -1 and batch["image"].max() <= 1
    assert batch["mask"].unique().tolist() == [0, 1] and not batch["mask"][1].any()
    assert batch["has_mask"].tolist() == [True, False]
    assert batch["label"].tolist() == [data.diagnoses.index(str(data[0].diagnosis)), -1]
    assert [record.isic_id for record in batch["record"]] == [data[0].isic_id, bare.isic_id]
    with pytest.raises(InputError, match="the diagnoses"):
        data.torch(48, diagnoses=["wart"])
    with pytest.raises(InputError, match="size of 0 px"):
        data.torch(0)


def test_a_plan_is_what_the_command_writes(phantom_data: Path, tmp_path: Path) -> None:
    planned = skindualgen.plan(phantom_data, tmp_path / "own.csv", target="uniform", count=20, seed=3)
    line = ["plan", "--data", phantom_data, "--out", tmp_path / "plan.csv", "--target", "uniform", "-n", 20]
    done = CliRunner().invoke(app, [str(word) for word in [*line, "--seed", 3]])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "plan.csv").read_bytes() and planned.pairs == 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: skindualgen.prepare(root, root / "out", sise=3), "the argument 'sise'; expected one of layout"),
        (lambda root: skindualgen.train(root, root / "out", stepps=3), "stepps"),
        (lambda root: skindualgen.generate(root / "out", prompts="a", stepps=3), "the argument 'stepps'"),
        (lambda root: skindualgen.generate(root / "out"), "not exactly one of"),
        (lambda root: skindualgen.generate(root / "out", prompts="a", like=root), "not exactly one of"),
        (lambda root: skindualgen.plan(root, root / "out", weak_for="segment"), "one of --weak-for and --model"),
        (lambda root: skindualgen.plan(root, root / "out", target="uniform"), "uniform without --count"),
        (lambda root: skindualgen.plan(root, root / "out", wildcards="words"), "--wildcards without --templates"),
        (lambda root: skindualgen.evaluate(root, root, sektions=()), "the argument 'sektions'"),
        (lambda root: skindualgen.benchmark(root, None, root / "out", stepps=3), "the argument 'stepps'"),
    ],
)
def test_an_argument_that_is_none_is_named(call, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path)
    assert not (tmp_path / "out").exists()
