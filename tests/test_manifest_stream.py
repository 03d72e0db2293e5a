"""Data set folders of any number of records: written as a stream, with the same files and hash as from a list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data import sorting
from skindualgen.data.manifest import manifest_sha256, read_dataset_info, write_dataset, write_dataset_stream


def record(number: int) -> PairRecord:
    """Every third one lacks its prompt, every fifth its mask; one has a letter outside ASCII."""
    name = f"{number:04d}"
    return PairRecord(
        file_name=f"images/{name}.png",
        mask_file_name=None if number % 5 == 0 else f"masks/{name}.png",
        isic_id=name,
        prompt=None if number % 3 == 0 else "a nævus",
        diagnosis=("nevus", "melanoma")[number % 2],
        origin="synthetic",
        scores={"light": number / 7},
    )


def test_a_stream_is_written_as_a_list_is(tmp_path: Path) -> None:
    records = [record(number) for number in range(50)]
    for name in ("list", "stream"):
        (tmp_path / name).mkdir()
    write_dataset(tmp_path / "list", reversed(records), made_by={"by": "test"})
    counted = write_dataset_stream(tmp_path / "stream", lambda: iter(records), made_by={"by": "test"})
    for name in ("metadata.jsonl", "dataset.json"):
        assert (tmp_path / "stream" / name).read_bytes() == (tmp_path / "list" / name).read_bytes()
    assert counted == read_dataset_info(tmp_path / "list")["counts"] and counted["with_mask"] == 40


def test_records_in_shards_have_no_metadata_file(tmp_path: Path) -> None:
    records = [record(number) for number in range(3)]
    write_dataset_stream(tmp_path, lambda: records, made_by={}, metadata=False)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
    assert read_dataset_info(tmp_path)["manifest_sha256"] == manifest_sha256(records)


@pytest.mark.parametrize("sorted_bytes", [200, 2_000, 20_000])
@pytest.mark.parametrize("merged_files", [2, 3, 64])
def test_the_hash_does_not_depend_on_what_fits_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sorted_bytes: int, merged_files: int
) -> None:
    """Nor on the order: sorted in pieces on disk, which are merged in turn."""
    records = [record(number) for number in range(120)]
    expected = manifest_sha256(records)
    random.Random(0).shuffle(records)
    monkeypatch.setattr(sorting, "SORTED_BYTES", sorted_bytes)
    monkeypatch.setattr(sorting, "MERGED_FILES", merged_files)
    assert manifest_sha256(iter(records), spill=tmp_path) == expected
    assert not list(tmp_path.iterdir())


def test_nothing_but_the_records_of_a_moment_is_held(tmp_path: Path) -> None:
    """The second is asked for only when the first was dealt with: no list is made of them."""
    alive, most = 0, 0

    class Counted(PairRecord):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[PairRecord]:
        nonlocal alive, most
        for number in range(200):
            alive += 1
            most = max(most, alive)
            yield Counted(**record(number).model_dump())

    write_dataset_stream(tmp_path, stream, made_by={})
    assert most <= 4


@pytest.mark.parametrize("numbers", [[1, 0], [0, 0], [0, 2, 1]])
def test_records_that_do_not_ascend_are_refused(tmp_path: Path, numbers: list[int]) -> None:
    with pytest.raises(InputError, match=r"after 'images/.* each file_name and isic_id once, ascending"):
        write_dataset_stream(tmp_path, lambda: [record(number) for number in numbers], made_by={})
    assert not list(tmp_path.iterdir())
