"""Shards for very many pairs: the pairs of a folder, the same bytes however they were made, read by their clients."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from producer import contents, run
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.exchange.parquet import GENERATED_COLUMNS, generated_fields
from skindualgen.production.chunk import ChunkSettings, FinishedPair
from skindualgen.production.run import Layout
from skindualgen.production.shards import write_pairs
from skindualgen.production.source import ChunkReader

SHARDS = {"shards": "webdataset", "shard_pairs": 40}
"""Three chunks of 16 pairs a shard, so two shards for six chunks."""
NAMES = ("train-0000000", "train-0000048")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pairs as files; read-only."""
    out = tmp_path_factory.mktemp("files") / "out"
    run(out)
    return out


@pytest.fixture(scope="module", params=["webdataset", "parquet"])
def sharded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A folder of shards and their format; read-only."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    run(out, layout=SHARDS | {"shards": request.param})
    return out, request.param


def test_shards_hold_whole_chunks(sharded: tuple[Path, str], folder: Path) -> None:
    out, shard_format = sharded
    ending = {"webdataset": "tar", "parquet": "parquet"}[shard_format]
    assert sorted(path.name for path in (out / "shards").iterdir()) == [f"{name}.{ending}" for name in NAMES]
    assert not list((out / ".production" / "buffer").iterdir()) and not (out / "metadata.jsonl").exists()
    info, of_files = read_dataset_info(out), read_dataset_info(folder)
    assert info["counts"] == of_files["counts"] and info["manifest_sha256"] == of_files["manifest_sha256"]
    assert sum(shard["pairs"] for shard in info["made_by"]["shards"]) == len(read_metadata(folder))
    assert (out / "rejected.jsonl").read_bytes() == (folder / "rejected.jsonl").read_bytes()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
def test_webdataset_reads_them(folder: Path, tmp_path: Path) -> None:
    import webdataset

    out = tmp_path / "out"
    run(out, layout=SHARDS)
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        rows += list(webdataset.WebDataset(str(out / "shards" / f"{name}.tar"), shardshuffle=False))
    records = read_metadata(folder)
    assert [row["__key__"] for row in rows] == [record.isic_id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert row["png"] == (folder / record.file_name).read_bytes()
        assert row["mask.png"] == (folder / str(record.mask_file_name)).read_bytes()
        assert PairRecord.model_validate_json(row["json"]) == record.model_copy()
    with tarfile.open(out / "shards" / f"{NAMES[0]}.tar") as archive:
        assert {(entry.mtime, entry.uid, entry.gid) for entry in archive} == {(0, 0, 0)}


def test_datasets_reads_parquet(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    out = tmp_path / "out"
    run(out, layout=SHARDS | {"shards": "parquet"})
    rows = load_dataset("parquet", data_dir=str(out / "shards"), split="train", cache_dir=str(tmp_path / "cache"))
    records = read_metadata(folder)
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        with Image.open(folder / record.file_name) as image, Image.open(folder / str(record.mask_file_name)) as mask:
            assert np.array_equal(row["image"], image) and np.array_equal(row["mask"], mask)
        assert (row["isic_id"], row["prompt"], row["seed"]) == (record.isic_id, record.prompt, record.seed)
        assert json.loads(row["scores_json"]) == record.scores and row["attempt"] == record.attempt


def test_a_parquet_shard_holds_all_that_a_record_says(tmp_path: Path) -> None:
    """Pairs made from real ones say of which, and how they are labelled: nothing of that has a column."""
    further = {
        "anchor_id": "ISIC_1",
        "label_shares": {"nevus": 0.7, "melanoma": 0.3},
        "lesion_id": "IL_1",
        "weight": 0.5,
    }
    record = PairRecord(
        file_name="images/SDG_0.png",
        mask_file_name="masks/SDG_0.png",
        isic_id="SDG_0",
        origin="synthetic",
        appearance="small round, dark brown on bright tan skin",
        scores={"mask_area_fraction": 0.1},
        seed=3,
        **further,
    )
    plain = record.model_copy(update={"isic_id": "SDG_1", "appearance": None, "weight": None, "lesion_id": None})
    plain.__pydantic_extra__ = {}
    path = tmp_path / "train-0000000.parquet"
    write_pairs(path, "parquet", [[FinishedPair(each, b"image", b"mask") for each in (record, plain)]])
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for row, each in zip(rows, (record, plain), strict=True):
        fields = generated_fields({name: row[name] for name in GENERATED_COLUMNS})
        files = {"file_name": each.file_name, "mask_file_name": each.mask_file_name}
        assert PairRecord.model_validate(fields | files) == each
    assert rows[1]["further_json"] is None


def test_interrupted_shards_end_the_same(sharded: tuple[Path, str], tmp_path: Path) -> None:
    """Chunks without their shard wait on disk; finished shards are not written again."""
    whole, shard_format = sharded

    def interrupt(done: int, total: int) -> None:
        if done == total:  # the last chunk is not judged yet, the fourth is surely finished
            raise KeyboardInterrupt

    out = tmp_path / "out"
    layout = SHARDS | {"shards": shard_format}
    with pytest.raises(KeyboardInterrupt):
        run(out, layout=layout, report=interrupt)
    first, *others = sorted((out / "shards").iterdir())
    assert not others and list((out / ".production" / "buffer").iterdir())
    kept = first.stat().st_mtime_ns
    (out / "shards" / ".train-0000048.x.tmp").write_text("left by a killed process")
    run(out, layout=layout)
    assert contents(out) == contents(whole)
    assert first.stat().st_mtime_ns == kept
    # A shard that is cut off, and a buffer that is gone, are made again.
    first.write_bytes(first.read_bytes()[:-1])
    run(out, layout=layout)
    assert contents(out) == contents(whole)


def test_a_kill_between_shard_and_record_changes_nothing(sharded: tuple[Path, str], tmp_path: Path) -> None:
    """The shard is there and its record is not: its chunks have left the buffer only after the record."""
    import shutil

    whole, shard_format = sharded
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / ".production" / "shards" / "0000001.json").unlink()
    run(out, layout=SHARDS | {"shards": shard_format})
    assert contents(out) == contents(whole)


def test_the_order_of_chunks_does_not_matter(sharded: tuple[Path, str], tmp_path: Path) -> None:
    """As they come from workers: the last first."""
    from producer import DiscSampler, PictureGate, requests_of
    from skindualgen.production.drawing import draw_chunks
    from skindualgen.production.run import produce

    def backwards(reader: ChunkReader, chunks: Any, settings: ChunkSettings, drew: Any) -> Any:
        tasks = ((chunk, reader.read(chunk)) for chunk in reversed(list(chunks)))
        return draw_chunks(DiscSampler(), PictureGate(), tasks, settings, drew)

    whole, shard_format = sharded
    source, settings = requests_of(83), ChunkSettings(2, 2.0, batch_size=4, attempts=3)
    layout, described = Layout(**(SHARDS | {"shards": shard_format})), {"requests_sha256": source.sha256, "gate": True}
    produce(source, tmp_path / "out", backwards, settings, described=described, layout=layout)
    assert contents(tmp_path / "out") == contents(whole)


def test_a_stranger_among_the_shards_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, pairs=4, layout=SHARDS)
    (out / "shards" / "readme.txt").write_text("x")
    with pytest.raises(InputError, match=r"readme\.txt, which no run has put there"):
        run(out, pairs=4, layout=SHARDS)


def test_exchange_reads_them(sharded: tuple[Path, str], folder: Path, tmp_path: Path) -> None:
    """``skindualgen import-data`` brings shards back to files, without loss."""
    from skindualgen.exchange.transfer import import_data

    out, shard_format = sharded
    records = import_data(out / "shards", tmp_path / "read", shard_format)
    expected = {record.isic_id: record for record in read_metadata(folder)}
    assert {record.isic_id for record in records} == set(expected)
    for record in records:
        assert record.sha256 == expected[record.isic_id].sha256
        assert (tmp_path / "read" / record.file_name).read_bytes() == (
            folder / f"images/{record.isic_id}.png"
        ).read_bytes()


# --- parts of a job array ---


def test_parts_hold_the_chunks_of_the_whole(folder: Path, tmp_path: Path) -> None:
    """Three parts without overlap, each with the same bytes for its pairs."""
    found: list[PairRecord] = []
    for part in (1, 2, 3):
        out = tmp_path / str(part)
        run(out, layout={"part": part, "parts": 3})
        records = read_metadata(out)
        assert {int(record.isic_id[4:]) // 16 % 3 for record in records} == {part - 1}
        for record in records:
            assert (out / record.file_name).read_bytes() == (folder / record.file_name).read_bytes()
        found += records
    assert sorted(found, key=lambda record: record.isic_id) == read_metadata(folder)


def test_shards_of_parts_have_names_of_their_own(tmp_path: Path) -> None:
    names: list[str] = []
    for part in (1, 2):
        run(tmp_path / str(part), layout=SHARDS | {"part": part, "parts": 2})
        names += [path.name for path in (tmp_path / str(part) / "shards").iterdir()]
    assert sorted(names) == ["train-0000000.tar", "train-0000016.tar"]


@pytest.mark.parametrize(
    ("part", "said"), [((3, 2), "part 3 of 2"), ((0, 2), "part 0 of 2"), ((7, 9), "with 6 chunks")]
)
def test_parts_that_cannot_be_are_refused(tmp_path: Path, part: tuple[int, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path / "out", layout={"part": part[0], "parts": part[1]})
    assert not (tmp_path / "out").exists()


def test_another_part_is_another_folder(tmp_path: Path) -> None:
    run(tmp_path / "out", layout={"part": 1, "parts": 6})
    with pytest.raises(InputError, match=r'results of other settings \(part: "1/6" there, "2/6" now\)'):
        run(tmp_path / "out", layout={"part": 2, "parts": 6})


def test_pictures_inside_shards_can_be_decoded(tmp_path: Path) -> None:
    from skindualgen.production.shards import read_pairs

    run(tmp_path / "out", layout=SHARDS)
    for pair in read_pairs(tmp_path / "out" / "shards" / "train-0000048.tar"):
        with Image.open(io.BytesIO(pair.image)) as image, Image.open(io.BytesIO(pair.mask)) as mask:
            assert image.size == mask.size and set(np.unique(mask)) <= {0, 255}


# --- ids of one's own ---


def test_a_prefix_is_in_ids_and_files_alone(folder: Path, tmp_path: Path) -> None:
    """Interrupted and resumed, with refused draws: the same pairs under other names."""
    out = tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, settings={"id_prefix": "A_1", "thumbnails": True}, report=interrupt)
    run(out, settings={"id_prefix": "A_1", "thumbnails": True})
    records, others = read_metadata(out), read_metadata(folder)
    assert [record.isic_id for record in records] == [other.isic_id.replace("SDG", "A_1") for other in others]
    for record, other in zip(records, others, strict=True):
        with Image.open(out / record.file_name) as image, Image.open(folder / other.file_name) as expected:
            assert np.array_equal(image, expected)
            assert json.loads(image.text["skindualgen"])["isic_id"] == record.isic_id  # type: ignore[attr-defined]
    names = {path.name[:4] for place in ("images", "masks", "rejected") for path in (out / place).iterdir()}
    assert names == {"A_1_"}


@pytest.mark.parametrize("prefix", ["", "x" * 17, "a.b", "a b", "ü", "a/b", "val", "x-train"])
def test_prefixes_that_cannot_be(prefix: str) -> None:
    with pytest.raises(InputError, match=r"id prefix .*--id-prefix"):
        ChunkSettings(2, 2.0, id_prefix=prefix)


def test_loaders_find_one_split_whatever_the_prefix(tmp_path: Path) -> None:
    """Guards the refusal above: capitals and words that hold a split's name load as they are."""
    from datasets import load_dataset

    for prefix in ("TEST", "latest", "trainee", "-"):
        out = tmp_path / f"of{prefix}"
        run(out, pairs=3, gate=False, settings={"id_prefix": prefix})
        found = load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
        assert {name: len(rows) for name, rows in found.items()} == {"train": 3}
