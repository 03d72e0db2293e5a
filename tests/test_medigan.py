"""The package for medigan draws what the pipeline draws; `make test-medigan` runs medigan's own executor on one.

medigan 1.0 imports ``pkg_resources``, which newer setuptools have no more: it has an environment of its own.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.sample.medigan import MODEL_ID, export_medigan
from skindualgen.sample.pipeline import SkinDualGenPipeline

NAME = "skindualgen_package"
STEPS = 2


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Path:
    out = tmp_path_factory.mktemp("medigan") / NAME
    done = CliRunner().invoke(app, ["export", "--format", "medigan", "--adapter", str(tiny_adapter), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def test_the_package_draws_pairs_of_their_own(
    package: Path, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against the same pairs in each of medigan's batches, which it asks for with the same arguments."""
    monkeypatch.syspath_prepend(str(package.parent))
    metadata = json.loads((package / "metadata.json").read_text())[MODEL_ID]["execution"]
    model_file = package / f"{metadata['model_name']}{metadata['extension']}"
    generate = getattr(importlib.import_module(NAME), metadata["generate_method"]["name"])
    arguments = metadata["generate_method"]["args"]["custom"] | {"num_inference_steps": STEPS, "base": str(tiny_base)}
    batches = [tmp_path / "batch_0", tmp_path / "batch_1"]
    for folder in batches:
        folder.mkdir()
        generate(model_file=str(model_file), num_samples=2, output_path=f"{folder}/", save_images=True, **arguments)
        assert sorted(path.name for path in folder.iterdir()) == [
            f"{number}_{kind}.png" for number in range(2) for kind in ("image", "mask")
        ]
    drawn = [np.asarray(Image.open(folder / f"{number}_image.png")) for folder in batches for number in range(2)]
    assert len({picture.tobytes() for picture in drawn}) == 4
    returned = generate(str(model_file), 1, str(tmp_path / "12.5"), False, **arguments)
    ((image, mask),) = returned
    assert image.shape == (64, 64, 3) and mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 255}
    assert generate(str(model_file), 0, str(tmp_path), True, **arguments) is None
    again = generate(str(model_file), 1, str(tmp_path / "13.5"), False, **arguments)
    np.testing.assert_array_equal(again[0][0], image)


def test_the_package_is_an_adapter_too(package: Path, tiny_base: Path) -> None:
    pipeline = SkinDualGenPipeline.from_adapter(package, tiny_base)
    generator = torch.Generator().manual_seed(0)
    assert len(pipeline("a nevus", num_inference_steps=STEPS, generator=generator).masks) == 1


def test_names_that_python_cannot_import_are_refused(tmp_path: Path, tiny_adapter: Path) -> None:
    with pytest.raises(InputError, match="a name that Python can import"):
        export_medigan(tiny_adapter, tmp_path / "my-model")
    assert not list(tmp_path.iterdir())
