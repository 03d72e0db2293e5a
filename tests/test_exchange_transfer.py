"""Export and import as a whole: what is chosen, what is refused, and that no half-written folder is left."""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from exchange_data import write_exchange_data
from skindualgen.cli import CommandGroup, options
from skindualgen.cli import export_data as export_command
from skindualgen.cli import import_data as import_command
from skindualgen.contracts import InputError, Origin, PairRecord, Split
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.exchange.formats import FORMATS, ExchangeOptions, load_format, optional_package
from skindualgen.exchange.pairs import export_names
from skindualgen.exchange.pictures import encode_mask
from skindualgen.exchange.source import Account
from skindualgen.exchange.transfer import SIDECAR_FILE, export_data, import_data
from skindualgen.exchange.writing import FoundPair, PairWriter, recorded_inside
from skindualgen.folders import new_folder

DISK_FORMATS = ("imagefolder", "classes")
"""Formats that need no package of their own."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only."""
    root = tmp_path_factory.mktemp("transfer") / "data"
    write_exchange_data(root)
    return root


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder to be spoilt."""
    write_exchange_data(tmp_path / "data")
    return tmp_path / "data"


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is chosen ---


def test_one_split_or_one_origin(data: Path, tmp_path: Path) -> None:
    export_data(data, tmp_path / "val", "imagefolder", split="val")
    assert [record.isic_id for record in read_metadata(tmp_path / "val")] == ["IMD.003 é", "test_4"]
    export_data(data, tmp_path / "synthetic", "imagefolder", only="synthetic")
    assert {record.origin for record in read_metadata(tmp_path / "synthetic")} == {"synthetic"}
    assert len(list((tmp_path / "synthetic" / "images").iterdir())) == 3, "a file that no record names was copied"


def test_training_items_go_with_synthetic_pairs_alone(data: Path, tmp_path: Path) -> None:
    export_data(data, tmp_path / "real", "classes", only="real")
    export_data(data, tmp_path / "synthetic", "classes", only="synthetic")
    assert not (tmp_path / "real" / "trained_on.json").exists()
    assert (tmp_path / "synthetic" / "trained_on.json").read_bytes() == (data / "trained_on.json").read_bytes()


@pytest.mark.parametrize("shared", [{}, {"lesion_id": "IL_1"}])
def test_an_import_says_what_lies_in_two_splits(own: Path, tmp_path: Path, shared: dict[str, str]) -> None:
    """The folder is read as it is, and its leak is told: no other command would until it is checked."""
    records = [record.model_copy(update=shared if record.split == "val" else {}) for record in read_metadata(own)]
    write_dataset(own, records, made_by={})
    export_data(own, tmp_path / "out", "classes")
    accounts: list[Account] = []
    import_data(tmp_path / "out", tmp_path / "back", "classes", options=ExchangeOptions(told=accounts.append))
    notes = [note for note in accounts[0].notes if "in two splits" in note]
    assert len(notes) == bool(shared)
    assert all("ISIC_0000001 (train)" in note and "test_4 (val)" in note for note in notes), notes


def test_nothing_to_write_is_an_error(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such pair"):
        export_data(own, tmp_path / "out", "imagefolder", split="val", only="synthetic")


def test_progress_counts_every_pair(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = ExchangeOptions(report=lambda done, total: calls.append((done, total)))
    export_data(data, tmp_path / "out", "classes", options=options)
    assert calls == [(done, 9) for done in range(10)]


@pytest.mark.parametrize("name", DISK_FORMATS)
def test_hard_links_share_the_files(name: str, own: Path, tmp_path: Path) -> None:
    export_data(own, tmp_path / "out", name, options=ExchangeOptions(link=True))
    inodes = {path.stat().st_ino for folder in ("images", "masks") for path in (own / folder).iterdir()}
    written = {path.stat().st_ino for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".jpg")}
    assert written == inodes


def test_a_link_that_cannot_be_is_an_error(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InputError, match=r"cross-device.*leave out --link"):
        export_data(own, tmp_path / "out", "imagefolder", options=ExchangeOptions(link=True))
    assert named(tmp_path) == ["data"]


# --- what is refused ---


@pytest.mark.parametrize("name", DISK_FORMATS)
def test_a_changed_file_is_refused_by_name_and_leaves_nothing(name: str, own: Path, tmp_path: Path) -> None:
    record = read_metadata(own)[3]
    path = own / str(record.mask_file_name)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=path.name):
        export_data(own, tmp_path / "out", name)
    assert named(tmp_path) == ["data"]


def test_a_missing_file_is_refused_by_name(own: Path, tmp_path: Path) -> None:
    (own / "images" / "002.jpg").unlink()
    with pytest.raises(InputError, match=r"no file .*002\.jpg"):
        export_data(own, tmp_path / "out", "imagefolder")


def test_a_folder_in_use_or_inside_the_source_is_refused(own: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_data(own, tmp_path / "full", "imagefolder")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    with pytest.raises(InputError, match="inside"):
        export_data(own, own / "out", "imagefolder")
    (tmp_path / "empty").mkdir()
    export_data(own, tmp_path / "empty", "imagefolder")
    assert len(read_metadata(tmp_path / "empty")) == 9


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    seen = []
    with new_folder(tmp_path / "above" / "out") as folder:
        (folder / "file").write_text("content")
        seen = named(tmp_path / "above")
    assert seen == [folder.name] and folder.name.startswith(".out.")
    assert named(tmp_path / "above") == ["out"] and named(tmp_path / "above" / "out") == ["file"]
    assert (tmp_path / "above" / "out").stat().st_mode & 0o777 == (tmp_path / "above").stat().st_mode & 0o777


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert named(tmp_path) == []


def test_unknown_format_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'voc'.*imagefolder, parquet"):
        load_format("voc")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "pycocotools.mask", raising=False)
    with pytest.raises(InputError, match=r"no package pycocotools.*pip install 'skindualgen\[exchange\]'"):
        optional_package("pycocotools.mask")


def test_damaged_records_beside_a_format(own: Path, tmp_path: Path) -> None:
    export_data(own, tmp_path / "out", "classes")
    lines = (tmp_path / "out" / SIDECAR_FILE).read_text().splitlines()
    lines[2] = lines[2].replace('"isic_id"', '"isic-id"')
    (tmp_path / "out" / SIDECAR_FILE).write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"{SIDECAR_FILE}, line 3"):
        import_data(tmp_path / "out", tmp_path / "back", "classes")


# --- parts ---


def test_names_are_unique_and_without_dots() -> None:
    ids = ["a.b", "a_b", "A_B", "train_1", "é/x"]
    names = export_names([PairRecord(file_name=f"{row}.png", isic_id=name) for row, name in enumerate(ids)])
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert not any(set("./") & set(name) for name in names.values())
    assert names["train_1"] == "TRAIN_1", "datasets would take the file for the split train"


def test_pair_writer_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    image = encode_mask(np.zeros((40, 48), bool))
    writer = PairWriter(tmp_path)
    first = writer.add(FoundPair({"isic_id": "a_b"}, image, None, "x.png"))
    second = writer.add(FoundPair({"isic_id": "A_B"}, image, image, "x.png"))
    assert first.file_name.casefold() != second.file_name.casefold()
    assert first.model_fields_set == {"isic_id", "file_name", "sha256"}
    with pytest.raises(InputError, match="second a_b"):
        writer.add(FoundPair({"isic_id": "a_b"}, image, None, "x.png"))
    with pytest.raises(InputError, match="one size"):
        writer.add(FoundPair({"isic_id": "c"}, image, encode_mask(np.zeros((48, 40), bool)), "x.png"))
    with pytest.raises(InputError, match="cannot be decoded"):
        writer.add(FoundPair({"isic_id": "d"}, image[:45], None, "x.png"))
    with pytest.raises(InputError, match="age_approx of e"):
        writer.add(FoundPair({"isic_id": "e", "age_approx": 500}, image, None, "e.png"))


def test_only_a_record_inside_an_image_counts() -> None:
    image = Image.new("RGB", (8, 8))
    for text in ("no json", "[1]", '{"prompt": "no id"}', '{"isic_id": "a", "split": "nowhere"}'):
        image.info = {"skindualgen": text}
        assert recorded_inside(image) == {}, text
    image.info = {"skindualgen": '{"isic_id": "a", "file_name": "images/a.png", "origin": "synthetic"}'}
    assert recorded_inside(image) == {"isic_id": "a", "origin": "synthetic"}


# --- the commands ---


def commands() -> typer.Typer:
    app = typer.Typer(cls=CommandGroup)
    app.command("export-data")(export_command.export_data)
    app.command("import-data")(import_command.import_data)
    return app


def test_commands_there_and_back(data: Path, tmp_path: Path) -> None:
    run = CliRunner()
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    done = run.invoke(commands(), ["export-data", str(data), out, "--format", "classes", "--split", "train"])
    assert done.exit_code == 0 and "6 pairs in" in done.output and SIDECAR_FILE in done.output
    done = run.invoke(commands(), ["import-data", out, back, "--format", "classes"])
    assert done.exit_code == 0 and "6 pairs in" in done.output and "6 with a mask" in done.output
    info = json.loads((tmp_path / "back" / "dataset.json").read_text())
    assert info["made_by"]["imported_from"]["format"] == "classes" and info["counts"]["origin"]["synthetic"] == 3
    done = run.invoke(commands(), ["export-data", str(data), out, "--format", "classes"])
    assert done.exit_code == 2 and "not empty" in done.output


def test_names_of_choices_are_those_of_the_library() -> None:
    assert get_args(options.FormatName) == tuple(FORMATS)
    assert get_args(options.SplitName) == get_args(Split)
    assert get_args(options.OriginName) == get_args(Origin)
    defaults = {name: getattr(ExchangeOptions(), name) for name in ("shard_size", "dataset_id", "name", "link")}
    parameters = {name: part.default for name, part in inspect.signature(export_command.export_data).parameters.items()}
    assert {name: parameters[name] for name in defaults} == defaults
