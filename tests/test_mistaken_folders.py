"""Data set folders whose records could be mistaken: refused by whatever reads them, and by merge where two meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from picture_files import disc, pixels, save
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_dataset_info, read_metadata, write_dataset
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.sources import list_source
from skindualgen.data.splits import link_value
from skindualgen.data.training_items import write_training_items
from skindualgen.exchange.merge import merge

Fields = dict[str, Any]


def folder(root: Path, *rows: Fields) -> Path:
    """Write pairs without recorded hashes; ``picture`` names the photograph, by default the id."""
    records = []
    for number, row in enumerate(rows):
        picture = row.pop("picture", row["isic_id"])
        save(pixels(picture, width=32, height=32), root / f"images/{number}.png")
        save(disc(width=32, height=32, radius=0.2 + number / 50), root / f"masks/{number}.png")
        files = {"file_name": f"images/{number}.png", "mask_file_name": f"masks/{number}.png"}
        records.append(PairRecord.model_validate({**files, **row}))
    write_dataset(root, records, made_by={})
    return root


def change(root: Path, edit: Callable[[str], str]) -> Path:
    path = root / "metadata.jsonl"
    path.write_text("".join(map(edit, path.read_text().splitlines(keepends=True))))
    return root


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda line: line.replace('"split": "test"', '"split": "test", "split": "train"'), "line 2.*'split' twice"),
        (lambda line: line.replace('"isic_id": "b"', '"isic_id": " "'), "line 2, isic_id: .*an empty id"),
        (lambda line: line.replace("masks/1.png", "masks/0.png"), "1 repeated mask_file_name"),
    ],
    ids=["a name twice", "no id", "one mask of two photographs"],
)
def test_record_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, edit: Callable[[str], str], message: str
) -> None:
    """Guards against the last of two values, and against a mask that was copied to the wrong line."""
    root = folder(tmp_path, {"isic_id": "a", "split": "train"}, {"isic_id": "b", "split": "test"})
    assert [record.split for record in read_metadata(root)] == ["train", "test"]
    with pytest.raises(InputError, match=message):
        read_metadata(change(root, edit))


def test_dataset_file_that_an_editor_of_windows_saved_is_read_and_one_of_two_hashes_is_not(tmp_path: Path) -> None:
    root = folder(tmp_path, {"isic_id": "a"})
    path = root / "dataset.json"
    info, text = read_dataset_info(root), path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_dataset_info(root) == info
    path.write_text(text.replace("{", '{"schema_version": 0,', 1))
    with pytest.raises(InputError, match="'schema_version' twice"):
        read_dataset_info(root)


@pytest.mark.parametrize(
    ("ids", "same"),
    [
        (("7", 7, 7.0, "7.0", "007", " 7 "), True),
        (("IL_7", "il_7", "il_7 ", "IL 7"), True),
        (("caf\u00e9", "cafe\u0301"), True),
        (("7", "7.5", "70", "7a", "-7"), False),
        (("12345678901234567890123", "12345678901234567890124"), False),
    ],
)
def test_spellings_of_one_id(ids: Sequence[object], same: bool) -> None:
    assert len({link_value(value) for value in ids}) == (1 if same else len(ids))


@pytest.mark.parametrize("value", ["", " ", "nan", "unknown", "N/A", None, float("nan")])
def test_unknown_is_nobodys_id(value: object) -> None:
    assert link_value(value) is None


def test_one_patient_in_two_spellings_is_in_one_split_of_merge(tmp_path: Path) -> None:
    """Guards against 7 and 7.0, as pandas writes a column of whole numbers with a gap, on two sides of a split."""
    first = folder(tmp_path / "a", {"isic_id": "a", "patient_id": "7"}, {"isic_id": "b", "split_group": 3})
    spellings: list[Fields] = [{"patient_id": "7.0"}, {"split_group": 3.0}, {"patient_id": " 07"}]
    for number, fields in enumerate(spellings):
        other = folder(tmp_path / f"b{number}", {"isic_id": "c", "split": "test", **fields})
        with pytest.raises(InputError, match=r"1 groups .*c \(test\)"):
            merge([first, other], tmp_path / "out")
        seen = PairRecord.model_validate({"file_name": "-", "isic_id": "other", **fields})
        generated = folder(tmp_path / f"g{number}", {"isic_id": f"g{number}", "origin": "synthetic"})
        write_training_items(generated, [seen])
        held_out = folder(
            tmp_path / f"h{number}", {"isic_id": "h", "split": "test", "patient_id": "7", "split_group": "3"}
        )
        with pytest.raises(InputError, match="has seen 1 held-out pairs: h"):
            merge([held_out, generated], tmp_path / "out")
    for number, value in enumerate(["", "nan"]):
        alone = folder(tmp_path / f"n{number}", {"isic_id": "n", "split": "test", "patient_id": value})
        unknown = folder(tmp_path / f"m{number}", {"isic_id": "m", "patient_id": value})
        assert merge([alone, unknown], tmp_path / f"out{number}").counts["records"] == 2


def test_one_patient_in_two_spellings_is_in_one_split_of_prepare(tmp_path: Path) -> None:
    patients = ["7", "7.0", "07", "8", "8.0", "9", "", "nan"]
    rows = ["image,dx,patient_id", *(f"p{n},{'mel' if n % 2 else 'nv'},{value}" for n, value in enumerate(patients))]
    for n in range(len(patients)):
        save(pixels(f"p{n}"), tmp_path / f"in/images/p{n}.png")
    (tmp_path / "in/table.csv").write_text("\n".join(rows))
    for seed in range(4):
        out = tmp_path / f"out{seed}"
        prepare(tmp_path / "in", out, PrepareOptions(size=16, seed=seed, split="40/30/30"))
        split = {record.isic_id: record.split for record in read_metadata(out)}
        assert split["p0"] == split["p1"] == split["p2"] and split["p3"] == split["p4"]
        assert len(set(split.values())) > 1
    (tmp_path / "in/table.csv").unlink()
    for part, numbers in (("train", (0, 2, 3)), ("test", (1, 4, 5))):
        table = [rows[0], *(rows[n + 1] for n in numbers)]
        (tmp_path / f"in/{part}.csv").write_text("\n".join(table))
    with pytest.raises(InputError, match="--ignore-official-split"):
        prepare(tmp_path / "in", tmp_path / "out", PrepareOptions(size=16))
    assert len(list_source(tmp_path / "in").candidates) == len(patients)


@pytest.mark.parametrize("again", ["P0", "p0 ", "p0\u0301"])
def test_one_id_in_two_spellings_is_refused_by_merge(tmp_path: Path, again: str) -> None:
    own = "p\u00f30" if "\u0301" in again else "p0"
    again = "po\u03010" if "\u0301" in again else again
    first = folder(tmp_path / "a", {"isic_id": own})
    other = folder(tmp_path / "b", {"isic_id": again, "picture": "another"})
    with pytest.raises(InputError, match="1 ids twice"):
        merge([first, other], tmp_path / "out")


def test_one_photograph_in_two_splits_is_refused_by_merge(tmp_path: Path) -> None:
    """Guards against a test photograph in train under another id: as it is, encoded anew, and within one folder."""
    train = folder(tmp_path / "a", {"isic_id": "a"}, {"isic_id": "b"})
    test = folder(tmp_path / "b", {"isic_id": "c", "split": "test", "picture": "a"})
    with Image.open(test / "images/0.png") as picture:
        picture.save(test / "images/0.png", compress_level=random.Random(0).choice([0, 1]))
    with pytest.raises(InputError, match=r"picture in two splits, first a \(train\), c \(test\)"):
        merge([train, test], tmp_path / "out")
    both = folder(tmp_path / "d", {"isic_id": "d"}, {"isic_id": "e", "split": "val", "picture": "d"})
    with pytest.raises(InputError, match=r"picture in two splits, first d \(train\), e \(val\)"):
        merge([both], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (disc(width=16, height=16), "mask of 16x16 px for an image of 32x32 px"),
        (np.where(disc(width=32, height=32) > 0, 200, 0).astype(np.uint8), "a grey PNG of 0, 128 and 255"),
    ],
)
def test_mask_that_the_merged_set_could_not_use_is_refused(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    root = folder(tmp_path / "a", {"isic_id": "a"})
    write_dataset(root, read_metadata(root), made_by={}, mask_classes={"lesion": 255, "globules": 128})
    merge([root], tmp_path / "whole")
    save(mask, root / "masks/0.png")
    with pytest.raises(InputError, match=message):
        merge([root], tmp_path / "out")
