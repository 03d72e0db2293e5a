"""Archives, tables and records that are damaged or contradict themselves: each is named in one line."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from exchange_data import HEIGHT, WIDTH, write_exchange_data
from exchange_foreign import picture, read, reasons, refused
from skindualgen.cli import CommandGroup
from skindualgen.cli import export_data as export_command
from skindualgen.cli import merge as merge_command
from skindualgen.contracts import InputError, PairRecord, first_not_finite
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.exchange.pictures import encode_mask
from skindualgen.exchange.transfer import SIDECAR_FILE, export_data, import_data

NAN = float("nan")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only."""
    root = tmp_path_factory.mktemp("damaged") / "data"
    write_exchange_data(root, synthetic=1)
    return root


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A folder to be spoilt."""
    return shutil.copytree(data, tmp_path / "data")


def png(size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
        buffer, format="PNG"
    )
    return buffer.getvalue()


# --- records ---


def test_records_hold_finite_numbers_alone() -> None:
    assert first_not_finite({"a": [1, {"b": [0.5, NAN]}]}) == "a[1].b[1] is nan"
    assert first_not_finite({"a": [1, "nan", None, True, 10**400]}) is None
    known = {"file_name": "a", "isic_id": "a"}
    for field in ({"guidance_scale": NAN}, {"scores": {"x": float("inf")}}, {"area": [1, NAN]}, {"age_approx": True}):
        with pytest.raises(ValueError, match=next(iter(field))):
            PairRecord.model_validate(known | field)
    assert PairRecord.model_validate(known | {"extrapolation": True, "age_approx": 55.0}).age_approx == 55


def test_records_beside_a_format(data: Path, tmp_path: Path) -> None:
    export_data(data, tmp_path / "out", "classes")
    path = tmp_path / "out" / SIDECAR_FILE
    lines = path.read_text().splitlines()
    spoilt = json.dumps(json.loads(lines[0]) | {"scores": {"agreement": NAN}})
    for text, word in ((spoilt, "line 1"), ("\n".join([*lines, lines[2]]), "a second time"), ("[1]", "line 1")):
        path.write_text(text)
        refused(tmp_path / "out", "classes", SIDECAR_FILE, word)
    more = json.dumps({"isic_id": "gone", "diagnosis": "nevus"})
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, more, "", ""]).encode())
    records, account = read(tmp_path / "out", "classes")
    assert len(records) == 7 and [(item.file, item.isic_id) for item in account.left_out] == [(SIDECAR_FILE, "gone")]


# --- tar shards ---


def shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_a_shard_cut_anywhere_is_named(tmp_path: Path) -> None:
    """Also between two members, where `tarfile` sees nothing wrong; the zeros at the end may go."""
    path = tmp_path / "shards" / "train-000000.tar"
    shard(path, {f"{key}.{ending}": content for key in "ab" for ending, content in (("png", png()), ("json", b"{}"))})
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        places = [member.offset for member in tar] + [max(member.offset_data + member.size for member in tar)]
    for place in (*places, places[1] + 7, places[-1] - 40, 700):
        path.write_bytes(content[:place])
        refused(tmp_path / "shards", "webdataset", "train-000000.tar")
    header = bytearray(content)
    header[places[2] + 148] ^= 0xFF  # the checksum of the third member
    path.write_bytes(header)
    refused(tmp_path / "shards", "webdataset", "train-000000.tar", "cut short or damaged")
    path.write_bytes(content[: -(-places[-1] // 512) * 512 + 512])
    assert len(read(tmp_path / "shards", "webdataset")[0]) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.json": b'{"scores": {"x": NaN}}'}, ("scores.x", "a in train-0.tar")),
        ({"a.json": b'{"guidance_scale": Infinity}'}, ("guidance_scale", "a in train-0.tar")),
        ({"a.json": b'{"isic_id": 7}'}, ("isic_id 7", "a in train-0.tar")),
        ({"a.json": b'{"split": "validation"}'}, ("split", "a in train-0.tar")),
        ({"a.json": b"[1]"}, ("a.json in train-0.tar",)),
        ({"a.json": b'{"a": '}, ("a.json in train-0.tar",)),
        ({"a.mask.png": b"<html>"}, ("a.mask.png in train-0.tar", "cannot be decoded")),
        ({"a.mask.png": png()}, ("a.mask.png in train-0.tar", "0 and 255")),
        ({"a.mask.png": encode_mask(np.ones((HEIGHT, HEIGHT), bool))}, ("a in train-0.tar", "one size")),
        ({"a.png": png()[:300]}, ("a in train-0.tar", "cannot be decoded")),
        ({"a.jpg": png()}, ("2 images of a",)),
        ({"b.json": b"{}"}, ("0 images of b",)),
        ({"b/a.png": png()}, ("a second a", "b/a in train-0.tar")),
        ({"../b.png": png()}, ("../b.png in train-0.tar",)),
        ({"a.json": b'{"prompt": "a nevus"}', "a.txt": b"a melanoma"}, ("txt of a in train-0.tar",)),
        ({"a.json": b'{"extra": ' + b"[" * 600 + b"]" * 600 + b"}"}, ("extra of a in train-0.tar",)),
    ],
)
def test_samples_that_cannot_be_are_named(files: dict[str, bytes], words: tuple[str, ...], tmp_path: Path) -> None:
    shard(tmp_path / "shards" / "train-0.tar", {"a.png": png()} | files)
    refused(tmp_path / "shards", "webdataset", *words)


def test_files_of_a_shard_that_are_not_read_are_listed(tmp_path: Path) -> None:
    members = {
        "a.png": png(),
        "a.txt": b"a nevus\n",
        "a.seg.png": png(),
        "b.png": png(),
        "b.seg.png": png(),
        "._b.png": b"x",
    }
    shard(tmp_path / "shards" / "data" / "0.tar", members)
    records, account = read(tmp_path / "shards", "webdataset")
    assert {name: record.prompt for name, record in records.items()} == {"a": "a nevus", "b": None}
    assert "data/0.tar states no split" in account.notes[0]
    assert [(item.file, item.detail.split(";")[0]) for item in account.left_out] == [("data/0.tar", "2 files .seg.png")]


def test_a_member_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """Its size is no reason to ask for the memory."""
    shard(tmp_path / "shards" / "train-0.tar", {"a.png": png()})
    entry = tarfile.TarInfo("b.png")
    entry.size = 10**14
    path = tmp_path / "shards" / "train-0.tar"
    path.write_bytes(path.read_bytes()[: 512 + -(-len(png()) // 512) * 512] + entry.tobuf())
    refused(tmp_path / "shards", "webdataset", "cut short in b.png")


# --- Parquet ---


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)


def test_parquet_files_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table" / "data" / "train-00000-of-00001.parquet"
    parquet(path, [{"isic_id": "a", "image": {"bytes": png(), "path": None}}])
    content = path.read_bytes()
    places = range(8, len(content) - 8, 501)
    for spoilt in (content[:-200], b"PAR1", b"", content[:4] + bytes(40) + content[44:]):
        path.write_bytes(spoilt)
        refused(tmp_path / "table", "parquet", "data/train-00000-of-00001.parquet")
    for place in places:  # a byte anywhere: the file is named, or the byte was of no account
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        message = _message(tmp_path / "table", tmp_path / f"out{place}")
        assert not message or path.name in message, place


def _message(source: Path, out: Path) -> str:
    """What a refused import says, "" of one that works."""
    try:
        import_data(source, out, "parquet")
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"age_approx": NAN}, "age_approx"),
        ({"scores": {"x": NAN}}, "scores.x"),
        ({"note": float("inf")}, "note is inf"),
        ({"isic_id": 5}, "isic_id 5"),
        ({"isic_id": None}, "without an image or an id"),
        ({"photographer": b"name"}, "photographer"),
        ({"image": "a.png"}, "without bytes"),
        ({"image": {"bytes": b"<html>", "path": "a.png"}}, "cannot be decoded"),
    ],
)
def test_parquet_values_that_cannot_be_are_named(row: dict[str, Any], word: str, tmp_path: Path) -> None:
    usual = {"isic_id": "a", "image": {"bytes": png(), "path": "a.png"}}
    parquet(tmp_path / "table" / "test.parquet", [usual | row])
    refused(tmp_path / "table", "parquet", "test.parquet", word)


def test_parquet_pictures_without_a_name_get_the_ending_of_their_format(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, format="JPEG")
    parquet(
        tmp_path / "table" / "Validation" / "0000.parquet", [{"isic_id": "a", "image": {"bytes": buffer.getvalue()}}]
    )
    records, account = read(tmp_path / "table", "parquet")
    assert (records["a"].file_name, records["a"].split) == ("images/a.jpg", "val") and account.notes == []


# --- DICOM ---


def spoil(path: Path, **changes: Any) -> None:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_dicom_files_that_contradict_others_are_named(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    out = tmp_path / "out"
    export_data(data, out, "dicom", split="val")
    masks = sorted(out.rglob("*_mask.dcm"))
    images = sorted(out.rglob("*_image.dcm"))
    keep = {path: path.read_bytes() for path in (*masks, *images)}

    def spoilt(path: Path, *words: str, **changes: Any) -> None:
        spoil(path, **changes)
        refused(out, "dicom", *words)
        path.write_bytes(keep[path])

    shares = {"SegmentationFractionalType": "PROBABILITY", "MaximumFractionalValue": 255}
    spoilt(masks[0], masks[0].name, "FRACTIONAL", SegmentationType="FRACTIONAL", **shares)
    spoilt(images[0], images[0].name, PhotometricInterpretation="PALETTE COLOR")
    spoilt(images[0], images[0].name, images[1].name, SOPInstanceUID=_uid(images[1]))
    spoilt(images[0], images[0].name, BitsStored=7, HighBit=6)
    for path in (masks[0], images[0]):
        path.write_bytes(keep[path][: len(keep[path]) // 2])
        refused(out, "dicom", path.name)
        path.write_bytes(keep[path])
    shutil.copy(masks[0], masks[0].with_name("other_mask.dcm"))
    refused(out, "dicom", "two segmentations", masks[0].name)
    (out / "val" / "other_mask.dcm").write_bytes(b"no dicom")
    refused(out, "dicom", "val/other_mask.dcm")


def _uid(path: Path) -> str:
    return str(pytest.importorskip("pydicom").dcmread(path).SOPInstanceUID)


def test_dicom_attributes_and_files_that_are_not_used_are_listed(data: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    out = tmp_path / "out"
    export_data(data, out, "dicom", split="test")
    (image,) = out.rglob("*_image.dcm")
    dataset = pydicom.dcmread(image)
    dataset.remove_private_tags()
    dataset.PatientAge, dataset.PatientSex, dataset.SOPInstanceUID = "130Y", "O", "1.2.3"
    dataset.save_as(image)
    (out / "notes.txt").write_text("mine")
    records, account = read(out, "dicom")
    (record,) = records.values()
    assert (record.mask_file_name, record.age_approx, record.sex) == (None, None, None)
    name = image.relative_to(out).as_posix()
    assert reasons(account) == {
        "notes.txt": "other_file",
        name.replace("_image", "_mask"): "mask_without_image",
        name: "value_not_used",
    }
    assert sum(item.reason == "value_not_used" for item in account.left_out) == 2


# --- data set folders: export, merge, and import as they are ---


def without_hashes(root: Path) -> list[PairRecord]:
    """The records as somebody else writes them, without the hashes of files."""
    records = [record.model_copy(update={"sha256": None, "mask_sha256": None}) for record in read_metadata(root)]
    write_dataset(root, records, made_by={})
    return records


@pytest.mark.parametrize("fault", ["cut", "page", "empty", "levels", "turned"])
def test_files_without_a_hash_are_looked_at_by_every_command(fault: str, own: Path, tmp_path: Path) -> None:
    record = without_hashes(own)[0]
    name = str(record.mask_file_name) if fault == "levels" else record.file_name
    path = own / name
    if fault == "levels":  # 0 and 1: above a threshold of 127 no lesion would be left
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    elif fault == "turned":
        exif = Image.Exif()
        exif[0x0112] = 8
        Image.open(path).save(path, exif=exif)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-300], "page": b"<html>", "empty": b""}[fault])
    app = typer.Typer(cls=CommandGroup)
    app.command("export-data")(export_command.export_data)
    app.command("merge")(merge_command.merge)
    for command in (
        ["export-data", str(own), str(tmp_path / "out"), "--format", "coco"],
        ["export-data", str(own), str(tmp_path / "out"), "--format", "classes"],
        ["merge", str(own), "--out", str(tmp_path / "out")],
    ):
        done = CliRunner().invoke(app, command)
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert done.exit_code == 2 and len(lines) == 1 and name in lines[0], done.output
    refused(own, "imagefolder", name)


def test_files_that_no_record_names_are_said(own: Path, tmp_path: Path) -> None:
    picture(own / "images" / "spare.png")
    (own / "images" / ".DS_Store").write_bytes(b"x")
    app = typer.Typer(cls=CommandGroup)
    app.command("export-data")(export_command.export_data)
    app.command("merge")(merge_command.merge)
    for command in (
        ["export-data", str(own), str(tmp_path / "exported"), "--format", "classes", "--split", "val"],
        ["merge", str(own), "--out", str(tmp_path / "merged")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and f"1 files of {own} that no record names: images/spare.png" in done.output
    account = read(own, "imagefolder")[1]
    assert reasons(account) == {"images/spare.png": "not_named"}


def test_a_damaged_record_of_training_items_is_named(own: Path) -> None:
    (own / "trained_on.json").write_text('{"schema_version": 1')
    refused(own, "imagefolder", "trained_on.json")
