"""FiftyOne's format: what we write is built as its own exporter builds it, and what it wrote is read.

``fiftyone_reference`` was written by FiftyOne 1.22.1 (`Dataset.export`). The package needs older releases of what other
tests need, and a database: `make test-fiftyone` opens an export with it, in an environment of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exchange_data import write_exchange_data
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.exchange.formats import ExchangeOptions
from skindualgen.exchange.source import Account
from skindualgen.exchange.transfer import export_data, import_data
from skindualgen.files import sha256_bytes

REFERENCE = Path(__file__).parent / "fiftyone_reference"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what FiftyOne wrote, to be changed."""
    return Path(shutil.copytree(REFERENCE, tmp_path / "folder"))


def documents(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    metadata, samples = (json.loads((folder / f"{name}.json").read_text()) for name in ("metadata", "samples"))
    return metadata, samples["samples"]


def typed(field: dict[str, Any]) -> dict[str, Any]:
    """What a field is, without what FiftyOne fills in itself: when it was made, and what people say of it."""
    kept = {name: field[name] for name in ("name", "ftype", "embedded_doc_type", "subfield", "db_field")}
    return {**kept, "fields": [typed(inner) for inner in field["fields"]]}


def kinds(value: Any) -> Any:
    """The types of a document's values; ids and dates are objects of one key."""
    return {name: kinds(inner) for name, inner in value.items()} if isinstance(value, dict) else type(value).__name__


def test_fields_and_samples_are_as_fiftyone_writes_them(tmp_path: Path) -> None:
    export_data(import_reference(tmp_path), tmp_path / "out", "fiftyone")
    ours, (sample,) = documents(tmp_path / "out")
    theirs, (reference,) = documents(REFERENCE)
    known = {field["name"]: typed(field) for field in theirs["sample_fields"]}
    # FiftyOne adds these of an image's metadata, which we do not state, when it computes them.
    known["metadata"]["fields"] = []
    written = {field["name"]: typed(field) for field in ours["sample_fields"]}
    assert written.pop("origin")["ftype"] == "fiftyone.core.fields.StringField"
    assert written == known
    assert (ours["media_type"], ours["default_mask_targets"]) == ("image", theirs["default_mask_targets"])
    of_import = ("_dataset_id", "created_at", "last_modified_at")  # set when a folder is read
    expected = {name: value for name, value in reference.items() if name not in of_import}
    assert kinds(sample) == kinds({**expected, "metadata": None, "origin": ""})
    assert (tmp_path / "out" / sample["mask"]["mask_path"]).is_file() and (
        tmp_path / "out" / sample["filepath"]
    ).is_file()


def import_reference(tmp_path: Path) -> Path:
    import_data(REFERENCE, tmp_path / "data", "fiftyone")
    return tmp_path / "data"


def test_what_fiftyone_wrote_is_read(tmp_path: Path) -> None:
    accounts: list[Account] = []
    options = ExchangeOptions(told=accounts.append)
    (record,) = import_data(REFERENCE, tmp_path / "data", "fiftyone", options=options)
    assert (record.isic_id, record.split, record.diagnosis, record.prompt) == ("A1", "val", "nevus", "a nevus")
    assert (record.seed, record.weight, record.scores) == (2**62, 0.5, {"dice": 0.5}) and record.extrapolation is True
    mask = np.asarray(Image.open(tmp_path / "data" / str(record.mask_file_name)))
    np.testing.assert_array_equal(mask, [[0, 0, 255, 255, 0, 0]] * 4)
    assert record.ignore_file_name is not None and accounts == [Account()]


def test_ignored_pixels_and_an_integer_beside_a_fraction(tmp_path: Path) -> None:
    records = write_exchange_data(tmp_path / "data")
    ignored = (tmp_path / "data" / str(records[0].mask_file_name)).read_bytes()
    (tmp_path / "data/masks_ignore").mkdir()
    (tmp_path / "data/masks_ignore/0.png").write_bytes(ignored)
    changed = {"ignore_file_name": "masks_ignore/0.png", "ignore_sha256": sha256_bytes(ignored), "width_mm": 3}
    changes = [changed, {"width_mm": 2.5}, {"tags": "seen"}]
    records[:3] = [record.model_copy(update=change) for record, change in zip(records, changes, strict=False)]
    write_dataset(tmp_path / "data", records, made_by={})
    written = export_data(tmp_path / "data", tmp_path / "out", "fiftyone")
    assert written.ignored_lost == 0
    metadata, samples = documents(tmp_path / "out")
    types = {field["name"]: field["ftype"].rpartition(".")[2] for field in metadata["sample_fields"]}
    assert (types["width_mm"], types["seed"], types["scores"]) == ("FloatField", "IntField", "DictField")
    assert all({"width_mm", "ignore", "seed"} <= sample.keys() for sample in samples)  # null where there is none
    assert samples[2]["tags"] == [records[2].split]  # FiftyOne's own, not the record's field of that name
    import_data(tmp_path / "out", tmp_path / "back", "fiftyone")
    back = {record.isic_id: record for record in read_metadata(tmp_path / "back")}
    assert (tmp_path / "back" / str(back[records[0].isic_id].ignore_file_name)).read_bytes() == ignored
    assert (back[records[2].isic_id].model_extra or {})["tags"] == "seen"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filepath": "/elsewhere/a.png"}, "absolute|leaves|outside|inside"),
        ({"filepath": "data/b.png"}, "filepath 'data/b.png'"),
        (
            {"mask": {"_cls": "Segmentation", "mask": {"$binary": {"base64": "eJw=", "subType": "00"}}}},
            "mask_path None",
        ),
        ({"second": {"_cls": "Segmentation", "mask_path": "fields/mask/m.png"}}, "masks mask, second"),
        ({"other": {"_cls": "Classification", "label": "melanoma"}}, "labels melanoma, nevus"),
        ({"tags": ["train", "test"]}, "tags test and train"),
        ({"seed": "three"}, "seed"),
    ],
)
def test_what_is_no_pair_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    _, (sample,) = documents(folder)
    (folder / "samples.json").write_text(json.dumps({"samples": [sample | change]}))
    with pytest.raises(InputError, match=words):
        import_data(folder, tmp_path / "data", "fiftyone")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("targets", [3, {"0": []}, {"one": "lesion"}, {"1": "lesion"}])
def test_targets_that_name_no_levels_are_refused(folder: Path, tmp_path: Path, targets: Any) -> None:
    metadata, _ = documents(folder)
    (folder / "metadata.json").write_text(json.dumps({**metadata, "default_mask_targets": targets}))
    with pytest.raises(InputError, match=r"mask_targets|mask_classes"):
        import_data(folder, tmp_path / "data", "fiftyone")


@pytest.mark.parametrize("text", ["[]", '{"samples": [3]}', '{"samples": {}}', "{"])
def test_damaged_samples_are_refused(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / "samples.json").write_text(text)
    with pytest.raises(InputError, match="samples"):
        import_data(folder, tmp_path / "data", "fiftyone")
    (folder / "samples.json").unlink()
    with pytest.raises(InputError, match=r"without samples\.json"):
        import_data(folder, tmp_path / "data", "fiftyone")
