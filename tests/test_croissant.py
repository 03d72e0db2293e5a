"""A release's croissant.json is valid and loads, by MLCommons' own client."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from release_data import add_real, write_generated
from skindualgen.cli import app
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import sha256_file
from skindualgen.release.build import ReleaseOptions, build_release

pytestmark = pytest.mark.filterwarnings(
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning"  # of rdflib, by its own parser
)


def described(data: Path, **options: object) -> Path:
    out = data.parent / "release"
    build_release(ReleaseOptions(data=data, out=out, croissant=True, **options))  # type: ignore[arg-type]
    return out / "dataset"


def pictures_of(folder: Path, records: list[PairRecord], field: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / getattr(record, field)).convert("RGB")) for record in records]


def test_it_validates_without_a_warning_and_gives_the_records(tmp_path: Path) -> None:
    """Guards against a description of other files, or joined to the wrong pictures."""
    folder = described(
        write_generated(tmp_path / "pairs", scores={"dice": 0.5}), licence="cc-by-4.0", title="Six pairs"
    )
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert not dataset.metadata.issues.errors and not dataset.metadata.issues.warnings
    assert (dataset.metadata.name, dataset.metadata.license) == ("Six pairs", ["cc-by-4.0"])
    assert "xu2025skindualgen" in dataset.metadata.cite_as
    found, records = list(dataset.records("pairs")), read_metadata(folder)
    assert [row["pairs/isic_id"].decode() for row in found] == [record.isic_id for record in records]
    assert [row["pairs/diagnosis"].decode() for row in found] == [record.diagnosis for record in records]
    assert [row["pairs/seed"] for row in found] == [record.seed for record in records]
    assert [row["pairs/scores.dice"] for row in found] == [0.5, *[None] * 5]
    assert [row["pairs/scores.mask_area_fraction"] for row in found] == [None, *[0.2] * 5]
    for name, field in (("image", "file_name"), ("mask", "mask_file_name")):
        for row, truth in zip(found, pictures_of(folder, records, field), strict=True):
            np.testing.assert_array_equal(np.asarray(row[f"pairs/{name}"].convert("RGB")), truth)


def test_the_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    folder = described(write_generated(tmp_path / "pairs"))
    files = json.loads((folder / "croissant.json").read_text())["distribution"]
    hashed = {file["contentUrl"]: file["sha256"] for file in files if file["@type"] == "cr:FileObject"}
    assert {"metadata.jsonl", "dataset.json", "generate.json", "trained_on.json"} <= hashed.keys()
    assert hashed == {name: sha256_file(folder / name) for name in hashed}
    (folder / "metadata.jsonl").write_text((folder / "metadata.jsonl").read_text().replace("melanoma", "melanomas"))
    records = iter(mlcroissant.Dataset(folder / "croissant.json").records("pairs"))
    with pytest.raises(mlcroissant.GenerationError, match=r"Download\(metadata\.jsonl\)"):
        next(records)


def test_photographs_without_a_mask_stay_in(tmp_path: Path) -> None:
    data = write_generated(tmp_path / "pairs")
    add_real(data, "train", licence=None)
    records = read_metadata(data)
    (data / str(records[-1].mask_file_name)).unlink()
    records[-1] = records[-1].model_copy(update={"mask_file_name": None, "mask_sha256": None})
    write_dataset(data, records, made_by={})
    found = list(mlcroissant.Dataset(described(data) / "croissant.json").records("pairs"))
    by_id = {row["pairs/isic_id"].decode(): row for row in found}
    assert len(by_id) == 8 and by_id[records[-1].isic_id]["pairs/mask"] is None
    assert by_id[records[-1].isic_id]["pairs/image"] is not None and by_id[records[0].isic_id]["pairs/mask"] is not None


def test_the_command_names_the_extra_where_the_package_is_missing(tmp_path: Path) -> None:
    arguments = ["release", "--croissant", "--data", str(write_generated(tmp_path / "pairs")), "--out"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlcroissant", None)
        refused = CliRunner().invoke(app, [*arguments, str(tmp_path / "out")])
    assert refused.exit_code == 2 and "skindualgen[croissant]" in refused.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "out")])
    assert done.exit_code == 0 and (tmp_path / "out/dataset/croissant.json").is_file()
