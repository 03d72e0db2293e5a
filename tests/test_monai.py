"""MONAI's own classes take a data set folder, and run an exported bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai import bundle
from monai.bundle.properties import MetaProperties
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged, Transposed
from PIL import Image
from typer.testing import CliRunner

from skindualgen import Dataset
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.sample.mask_reader import MaskReader
from skindualgen.sample.segmentation import segment_folder

pytestmark = pytest.mark.filterwarnings(
    "ignore:parsing config_file:UserWarning",  # MONAI's, on every bundle: a configuration is code
    "ignore:NvImgCodecPydicomReader:UserWarning",  # of a reader that nobody asked for
)
STEPS = 2
WIDTH, HEIGHT = 72, 48
"""Sides in px: not equal, so that an exchange of axes shows."""


def test_a_folder_feeds_a_cache_dataset(phantom_data: Path) -> None:
    data = Dataset.open(phantom_data, "train")
    keys = ["image", "mask"]
    load = [
        LoadImaged(keys, reader="PILReader"),
        EnsureChannelFirstd(keys),
        Transposed(keys, indices=[0, 2, 1]),  # MONAI loads width first
        ScaleIntensityRanged(keys, 0, 255, 0, 1),
    ]
    cached = CacheDataset(data.files(), Compose(load), progress=False)
    batch = next(iter(DataLoader(cached, batch_size=4)))
    for row in range(4):
        image = np.asarray(data.image(row)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(batch["image"][row].numpy(), image, atol=1e-6)
        np.testing.assert_array_equal(batch["mask"][row, 0].numpy() > 0, np.asarray(data.mask(row)) > 0)
    assert [data.diagnoses[label] for label in batch["label"]] == [record.diagnosis for record in data[:4]]
    assert list(batch["isic_id"]) == [record.isic_id for record in data[:4]]


def test_files_name_what_is_there(phantom_data: Path) -> None:
    data = Dataset.open(phantom_data)
    bare = Dataset(data.root, [data[0].model_copy(update={"mask_file_name": None, "diagnosis": None})])
    (item,) = bare.files(diagnoses=["nevus"])
    assert item == {"image": str(data.root / data[0].file_name), "label": -1, "isic_id": data[0].isic_id}
    with pytest.raises(InputError, match="the diagnoses"):
        data.files(diagnoses=["no such diagnosis"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path, tiny_base: Path) -> Path:
    out = tmp_path_factory.mktemp("monai") / "bundle"
    options = ["--adapter", str(tiny_adapter), "--base", str(tiny_base), "--out", str(out)]
    done = CliRunner().invoke(app, ["export", "--format", "monai", *options])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(3)
    for name in ("a.png", "b.png"):
        small = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT)).save(folder / name)
    return folder


def test_monai_runs_the_bundle_as_segment_does(
    exported: Path, photographs: Path, tmp_path: Path, tiny_adapter: Path, tiny_base: Path
) -> None:
    """Guards against turned axes, another scale of values, and masks under other names."""
    configs = exported / "configs"
    bundle.run(
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        bundle_root=str(exported),
        dataset_dir=str(photographs),
        output_dir=str(tmp_path / "out"),
        **{"network_def#num_inference_steps": STEPS},
    )
    pipeline = MaskReader(exported / "models", STEPS).pipeline
    segment_folder(pipeline, photographs, tmp_path / "own", num_inference_steps=STEPS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_mask.png", "b_mask.png"]
    for name in ("a", "b"):
        own = np.asarray(Image.open(tmp_path / "own" / "masks" / f"{name}.png"))
        assert own.shape == (HEIGHT, WIDTH) and 0 < own.mean() < 255
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / f"{name}_mask.png")), own)


def test_the_bundle_has_what_monai_asks_of_one(exported: Path) -> None:
    workflow = bundle.ConfigWorkflow(
        workflow_type="infer",
        config_file=str(exported / "configs/inference.json"),
        meta_file=str(exported / "configs/metadata.json"),
        logging_file=False,
        bundle_root=str(exported),
        dataset_dir=str(exported),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    needed = [field["id"] for field in MetaProperties.values() if field["required"]]
    assert needed and all(workflow.parser[name] for name in needed)
    assert {path.name for path in (exported / "docs").iterdir()} == {"README.md"}
    metadata = json.loads((exported / "configs/metadata.json").read_text())
    assert str(exported.parent) not in json.dumps(metadata)


def test_masks_do_not_depend_on_the_batch(exported: Path) -> None:
    reader = MaskReader(exported / "models", STEPS, ensemble_size=1)
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    together = reader(images)
    assert together.shape == (2, 1, HEIGHT, WIDTH) and set(together.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(together[1:], reader(images[1:]))
    assert next(reader.parameters()).device == images.device
