"""The stable face: what it loads, the data set, and what the functions refuse. Its examples run in test_docs.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import skindualgen
from skindualgen import Dataset
from skindualgen.contracts import InputError


def test_the_package_loads_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, skindualgen; dir(skindualgen); "
        "print([m for m in ('torch', 'diffusers', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
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
    assert set(mask.get_flattened_data()) == {0, 255}
    record = data[1].model_copy(update={"mask_file_name": None, "diagnosis": None})
    changed = Dataset(phantom_data, [data[0], record])
    assert changed.mask(1) is None and len(changed.with_masks()) == 1
    with pytest.raises(InputError, match="no record of the split 'test'"):
        Dataset.open(phantom_data, "test")


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: skindualgen.prepare(root, root / "out", sise=3), "the argument 'sise'; expected one of layout"),
        (lambda root: skindualgen.train(root, root / "out", stepps=3), "stepps"),
        (lambda root: skindualgen.generate(root / "out", prompts="a", stepps=3), "the argument 'stepps'"),
        (lambda root: skindualgen.generate(root / "out"), "not exactly one of"),
        (lambda root: skindualgen.generate(root / "out", prompts="a", like=root), "not exactly one of"),
        (lambda root: skindualgen.evaluate(root, root, sektions=()), "the argument 'sektions'"),
        (lambda root: skindualgen.benchmark(root, None, root / "out", stepps=3), "the argument 'stepps'"),
    ],
)
def test_an_argument_that_is_none_is_named(call, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path)
    assert not (tmp_path / "out").exists()
