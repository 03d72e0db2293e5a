"""The data set folder: what is written is read again, bad lines are refused, and Hugging Face datasets loads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picture_files import disc, pixels, save
from skindualgen.contracts import DATASET_FILE, METADATA_FILE, InputError, PairRecord
from skindualgen.data.manifest import counts, manifest_sha256, read_dataset_info, read_metadata, write_dataset

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\\/"), min_size=1, max_size=12)
RECORDS = st.lists(
    st.builds(
        PairRecord,
        isic_id=TEXT.filter(str.strip),
        file_name=st.just(""),
        prompt=st.none() | TEXT,
        diagnosis=st.none() | st.sampled_from(["nevus", "melanoma", "Nävus"]),
        age_approx=st.none() | st.integers(0, 120),
        split=st.sampled_from(["train", "val", "test"]),
        origin=st.sampled_from(["real", "synthetic"]),
        scores=st.none() | st.dictionaries(st.sampled_from(["dice", "kid"]), st.floats(0, 1), max_size=2),
    ),
    max_size=6,
    unique_by=lambda record: record.isic_id,
).map(lambda records: [r.model_copy(update={"file_name": f"images/{i}.png"}) for i, r in enumerate(records)])


@settings(max_examples=60)
@given(records=RECORDS)
def test_written_records_are_read_again(records: list[PairRecord], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("round")
    write_dataset(root, reversed(records), made_by={"command": "test"})
    assert read_metadata(root) == records
    assert read_dataset_info(root)["manifest_sha256"] == manifest_sha256(records)
    assert read_dataset_info(root)["counts"]["records"] == len(records)


@settings(max_examples=40)
@given(records=RECORDS, data=st.data())
def test_hash_ignores_order_and_notices_any_change(records: list[PairRecord], data: st.DataObject) -> None:
    assert manifest_sha256(data.draw(st.permutations(records))) == manifest_sha256(records)
    if records:
        changed = [records[0].model_copy(update={"prompt": f"{records[0].prompt} more"}), *records[1:]]
        assert manifest_sha256(changed) != manifest_sha256(records)


def test_unknown_fields_survive_and_lines_share_one_schema(tmp_path: Path) -> None:
    records = [
        PairRecord(file_name="images/a.png", isic_id="a", device="dermatoscope"),
        PairRecord(file_name="images/b.png", isic_id="b", mask_file_name="masks/b.png"),
    ]
    write_dataset(tmp_path, records, made_by={})
    lines = [json.loads(line) for line in (tmp_path / METADATA_FILE).read_text().splitlines()]
    assert lines[0].keys() == lines[1].keys()
    assert lines[0]["device"] == "dermatoscope"
    assert lines[1]["device"] is None
    assert "seed" not in lines[0]  # no record has one


def test_split_is_chosen_and_an_absent_one_is_refused(tmp_path: Path) -> None:
    records = [
        PairRecord(file_name=f"images/{i}.png", isic_id=str(i), split=split)
        for i, split in enumerate(["train", "val", "train"])
    ]
    write_dataset(tmp_path, records, made_by={})
    assert [record.isic_id for record in read_metadata(tmp_path, "train")] == ["0", "2"]
    with pytest.raises(InputError, match="one of train, val"):
        read_metadata(tmp_path, "test")


def test_counts_of_a_hand_made_set() -> None:
    records = [
        PairRecord(file_name="a", isic_id="a", mask_file_name="m", diagnosis="nevus"),
        PairRecord(file_name="b", isic_id="b", split="test"),
    ]
    assert counts(records) == {
        "records": 2,
        "with_mask": 1,
        "split": {"test": 1, "train": 1},
        "origin": {"real": 2},
        "diagnosis": {"test": {"unknown": 1}, "train": {"nevus": 1}},
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"isic_id": "a"}'], "line 1, file_name"),
        (["{"], "line 1"),
        (['{"file_name": "../x.png", "isic_id": "a"}'], "inside the data set folder"),
        (['{"file_name": "/x.png", "isic_id": "a"}'], "inside the data set folder"),
        (['{"file_name": "a.png", "mask_file_name": "m/../../x", "isic_id": "a"}'], "inside the data set folder"),
        (['{"file_name": "a.png", "isic_id": "a"}', '{"file_name": "a.png", "isic_id": "b"}'], "repeated file_name"),
        (['{"file_name": "a.png", "isic_id": "a"}', '{"file_name": "b.png", "isic_id": "a"}'], "repeated isic_id"),
        (['{"file_name": "a.png", "isic_id": "a", "age_approx": 300}'], "age_approx"),
    ],
)
def test_bad_lines_are_refused_with_their_place(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / METADATA_FILE).write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        read_metadata(tmp_path)


def test_records_that_leave_the_folder_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inside the data set folder"):
        write_dataset(tmp_path, [PairRecord(file_name="../a.png", isic_id="a")], made_by={})
    assert list(tmp_path.iterdir()) == []


def test_missing_or_newer_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without metadata\.jsonl"):
        read_metadata(tmp_path)
    with pytest.raises(InputError, match=r"without dataset\.json"):
        read_dataset_info(tmp_path)
    (tmp_path / DATASET_FILE).write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="schema version 99"):
        read_dataset_info(tmp_path)
    (tmp_path / DATASET_FILE).write_text("{")
    with pytest.raises(InputError, match="expected JSON"):
        read_dataset_info(tmp_path)


def test_datasets_library_reads_image_and_mask_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    records = []
    for name, with_mask in (("a", False), ("b", True)):
        save(pixels(name), tmp_path / "data" / "images" / f"{name}.png")
        if with_mask:
            save(disc(), tmp_path / "data" / "masks" / f"{name}.png")
        mask = f"masks/{name}.png" if with_mask else None
        records.append(PairRecord(file_name=f"images/{name}.png", mask_file_name=mask, isic_id=name))
    write_dataset(tmp_path / "data", records, made_by={})
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["isic_id"][:] == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(loaded[1]["image"]), pixels("b"))
    np.testing.assert_array_equal(np.asarray(loaded[1]["mask"]), disc())
    assert loaded[0]["mask"] is None
