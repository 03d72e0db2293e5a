"""Folders of shards are verified pair by pair: sound ones, and one planted fault at a time."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from producer import run
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_dataset_info
from skindualgen.files import atomic_write_json, png_bytes, sha256_file
from skindualgen.production.shards import read_pairs, write_pairs
from skindualgen.verify.deviations import Tally
from skindualgen.verify.folder import verify_folder
from skindualgen.verify.shards import PairShards

SHARDS = {"shard_pairs": 40}
FIRST, SECOND = "shards/train-0000000.tar", "shards/train-0000048.tar"
Entries = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Format -> a folder of two shards; read-only."""
    folders = {name: tmp_path_factory.mktemp(name) / "out" for name in ("webdataset", "parquet")}
    for name, out in folders.items():
        run(out, layout=SHARDS | {"shards": name})
    return folders


@pytest.fixture
def tars(whole: dict[str, Path], tmp_path: Path) -> Path:
    """A folder of tar shards that a test may harm."""
    return shutil.copytree(whole["webdataset"], tmp_path / "data")


@pytest.fixture
def tables(whole: dict[str, Path], tmp_path: Path) -> Path:
    """The same as Parquet."""
    return shutil.copytree(whole["parquet"], tmp_path / "data")


def found(root: Path, **options: int) -> list[tuple[str, str]]:
    return [(deviation.kind, deviation.file) for deviation in verify_folder(root, **options)]


def entries(path: Path) -> Entries:
    with tarfile.open(path) as archive:
        return [(entry, archive.extractfile(entry).read()) for entry in archive]  # type: ignore[union-attr]


def rewrite(root: Path, shard: str, change: Callable[[Entries], Entries]) -> None:
    """Change a shard, and what ``dataset.json`` says of its file: what a careful hand would do."""
    path = root / shard
    changed = change(entries(path))
    with tarfile.open(path, "w") as archive:
        for entry, content in changed:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    describe_again(root)


def describe_again(root: Path) -> None:
    info = read_dataset_info(root)
    for shard in info["made_by"]["shards"]:
        path = root / "shards" / shard["name"]
        shard |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    atomic_write_json(root / "dataset.json", info)


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def ids_of(root: Path, shard: str) -> list[str]:
    return [pair.record.isic_id for pair in read_pairs(root / shard)]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shard_format", ["webdataset", "parquet"])
def test_sound_shards_have_no_deviations(whole: dict[str, Path], shard_format: str, workers: int) -> None:
    tally, reports = Tally(), []
    root = whole[shard_format]
    told = verify_folder(root, workers=workers, tally=tally, report=lambda *numbers: reports.append(numbers))
    assert list(told) == []
    pairs = read_dataset_info(root)["counts"]["records"]
    assert (tally.records, tally.synthetic, tally.images, tally.masks, tally.hashes, tally.marked) == (
        pairs,
        pairs,
        pairs,
        pairs,
        2 * pairs,
        pairs,
    )
    assert reports[-1] == (pairs, pairs) and pairs > 30


@pytest.mark.parametrize("shard_format", ["webdataset", "parquet"])
def test_the_command_verifies_shards(whole: dict[str, Path], shard_format: str) -> None:
    done = CliRunner().invoke(app, ["verify", str(whole[shard_format])])
    assert done.exit_code == 0 and "All as recorded." in done.stdout, done.output


def test_the_command_names_shard_and_pair(tars: Path, tmp_path: Path) -> None:
    entry, content = entries(tars / FIRST)[5]
    assert entry.name == f"{ids_of(tars, FIRST)[1]}.png"
    flip(tars / FIRST, entry.offset_data + len(content) // 2)
    done = CliRunner().invoke(app, ["verify", str(tars), "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 3, done.output
    assert f"changed_file: {FIRST}: SHA-256 " in done.stdout
    assert f"changed_file: {FIRST}/{entry.name}: SHA-256 " in done.stdout
    deviations = json.loads((tmp_path / "found.json").read_text())["deviations"]
    assert {each["file"] for each in deviations} == {FIRST, f"{FIRST}/{entry.name}"}


def test_any_flipped_bit_is_named_by_shard_and_pair(tars: Path) -> None:
    """In contents as in headers, which a tar reader alone would take for the archive's end.

    Not tried: the check sum's own digits, of which readers take several spellings; the pair is then whole.
    """
    path = tars / FIRST
    sound, random = path.read_bytes(), np.random.default_rng(0)
    kinds = set()
    for entry, content in entries(path)[3:9]:
        isic_id = entry.name.partition(".")[0]
        header = int(random.choice([*range(8), *range(100, 108), *range(124, 136), 156]))
        for place in (header - tarfile.BLOCKSIZE, int(random.integers(len(content)))):
            flip(path, entry.offset_data + place, int(random.integers(7)))
            deviations = found(tars)
            path.write_bytes(sound)
            assert ("changed_file", FIRST) in deviations
            named = [(kind, file) for kind, file in deviations if file.startswith(f"{FIRST}/{isic_id}")]
            assert named, (entry.name, place, deviations)
            assert not [file for _, file in deviations if file.startswith(SECOND)]
            kinds |= {kind for kind, _ in named}
    assert {"changed_file", "missing_file"} <= kinds


def test_a_shard_that_is_cut_off(tars: Path) -> None:
    whole = shutil.copytree(tars, tars.with_name("whole"))
    entry, content = entries(tars / SECOND)[4]
    path = tars / SECOND
    path.write_bytes(path.read_bytes()[: entry.offset_data + len(content) // 2])
    deviations = [(each.kind, each.file, each.found) for each in verify_folder(tars)]
    broken = [told for kind, file, told in deviations if (kind, file) == ("unreadable", SECOND)]
    assert len(broken) == 1 and f"cannot be read behind {ids_of(whole, SECOND)[1]}.json" in broken[0]
    assert ("changed_file", SECOND) in {each[:2] for each in deviations}
    assert [told for kind, file, told in deviations if (kind, file) == ("dataset", SECOND)] == ["2 pairs"]


def test_a_pair_that_was_taken_out_everywhere_but_from_the_hash(tars: Path) -> None:
    rewrite(tars, FIRST, lambda held: held[3:])
    info = read_dataset_info(tars)
    info["made_by"]["shards"][0]["pairs"] -= 1
    atomic_write_json(tars / "dataset.json", info)
    assert set(found(tars)) == {("dataset", "dataset.json")}
    told = [each.found.partition(" ")[0] for each in verify_folder(tars)]
    assert told == ["diagnosis", "origin", "records", "split", "with_mask", "manifest_sha256"]


def test_swapped_masks_are_told_apart(tars: Path) -> None:
    first, second = ids_of(tars, FIRST)[:2]
    names = {f"{first}.mask.png": f"{second}.mask.png", f"{second}.mask.png": f"{first}.mask.png"}

    def swap(held: Entries) -> Entries:
        contents = {entry.name: content for entry, content in held}
        return [(entry, contents[names.get(entry.name, entry.name)]) for entry, _ in held]

    rewrite(tars, FIRST, swap)
    deviations = list(verify_folder(tars))
    assert [(each.kind, each.file) for each in deviations] == [
        (kind, f"{FIRST}/{name}.mask.png") for name in (first, second) for kind in ("changed_file", "mask_id")
    ]
    assert deviations[0].found == f"the content of masks/{second}.png (swapped or copied)"


def test_a_record_that_was_changed_is_not_what_the_image_says(tars: Path) -> None:
    def relabel(held: Entries) -> Entries:
        entry, content = held[0]
        held[0] = (entry, content.replace(b'"seed":', b'"seed":1'))
        return held

    rewrite(tars, FIRST, relabel)
    assert set(found(tars)) == {("dataset", "dataset.json"), ("embedded", f"{FIRST}/{ids_of(tars, FIRST)[0]}.png")}


def test_records_are_of_their_entries_and_lead_nowhere(tars: Path, tmp_path: Path) -> None:
    """A record that names a file outside is neither read there nor written there."""
    first, second = ids_of(tars, FIRST)[:2]
    outside = tmp_path / "outside.png"

    def forge(held: Entries) -> Entries:
        record = json.loads(held[0][1]) | {"file_name": str(outside)}
        held[0] = (held[0][0], json.dumps(record).encode())
        held[3] = (held[3][0], held[3][1].replace(second.encode(), first.encode()))
        return held

    rewrite(tars, FIRST, forge)
    deviations = found(tars)
    assert ("bad_record", f"{FIRST}/{second}.json") in deviations and ("dataset", "dataset.json") in deviations
    assert not outside.exists()


def test_a_pair_twice_and_what_no_pair_has(tars: Path) -> None:
    def add(held: Entries) -> Entries:
        stray = tarfile.TarInfo(f"{held[0][0].name.partition('.')[0]}.txt")
        return [*held[:3], (stray, b"x"), *held[3:], *held[:3]]

    rewrite(tars, FIRST, add)
    first = ids_of_entries(tars)[0]
    assert {("repeated", f"{FIRST}/{first}"), ("unnamed_file", f"{FIRST}/{first}.txt")} <= set(found(tars))


def ids_of_entries(root: Path) -> list[str]:
    return [entry.name.partition(".")[0] for entry, _ in entries(root / FIRST)]


def test_files_that_are_missing_or_that_nothing_names(tars: Path) -> None:
    (tars / SECOND).rename(tars / "shards" / "train-0000999.tar")
    (tars / "shards" / "notes.txt").write_text("x")
    (tars / "stray.png").write_bytes(b"x")
    (tars / "README.md").write_text("a card")
    assert set(found(tars)) == {
        ("missing_file", SECOND),
        ("unnamed_file", "shards/train-0000999.tar"),
        ("unnamed_file", "shards/notes.txt"),
        ("unnamed_file", "stray.png"),
    }


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 1}', '{"schema_version": 1, "made_by": 3}'])
def test_a_description_that_is_damaged(tars: Path, content: str | None) -> None:
    if content is None:
        (tars / "dataset.json").unlink()
    else:
        (tars / "dataset.json").write_text(content)
    assert set(found(tars)) == {("dataset", "dataset.json")}


def test_a_shard_without_content(tars: Path) -> None:
    (tars / SECOND).write_bytes(b"")
    assert {("unreadable", SECOND), ("changed_file", SECOND), ("dataset", SECOND)} <= set(found(tars))


def test_training_items_that_are_damaged(tars: Path) -> None:
    (tars / "trained_on.json").write_text("{")
    assert found(tars) == [("training_items", "trained_on.json")]


def test_a_flipped_bit_in_a_picture_of_a_table(tables: Path) -> None:
    path = tables / "shards" / "train-0000000.parquet"
    place = path.read_bytes().find(b"IDAT") + 200
    flip(path, place)
    deviations = found(tables)
    assert ("changed_file", "shards/train-0000000.parquet") in deviations
    named = [file for kind, file in deviations if kind == "changed_file" and file.endswith(".png")]
    assert len(named) == 1 and named[0].startswith("shards/train-0000000.parquet/SDG_")


def test_a_table_without_its_end(tables: Path) -> None:
    path = tables / "shards" / "train-0000048.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    assert ("unreadable", "shards/train-0000048.parquet") in found(tables)


def test_a_stopped_run_deviates_from_its_counts(tmp_path: Path) -> None:
    """Its last pairs are finished and in no shard yet."""

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", layout=SHARDS | {"shards": "webdataset"}, report=interrupt)
    assert set(found(tmp_path / "out")) == {("dataset", "dataset.json")}


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a shard"):
        PairShards(tmp_path)
    (tmp_path / "shards").mkdir()
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 2 and "without a shard" in done.stderr


@pytest.mark.no_cover
def test_memory_does_not_grow_with_the_pairs(tars: Path, tmp_path: Path) -> None:
    """One shard of a hundred and of four hundred pairs: neither the entries of a tar nor its pairs are held."""
    pairs = list(read_pairs(tars / FIRST))[:5]
    peaks = []
    for times in (20, 20, 80):  # the first for imports and caches
        root = tmp_path / str(len(peaks))
        (root / "shards").mkdir(parents=True)
        copies = [pairs] * times
        write_pairs(root / "shards" / "train-0000000.tar", "webdataset", copies)
        tracemalloc.start()
        assert sum(each.kind == "repeated" for each in verify_folder(root)) == 5 * (times - 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 100_000, peaks  # 300 entries or records alone would take several hundred thousand


def test_masks_in_shards_have_the_levels_of_the_classes(tars: Path) -> None:
    def of_two_levels(entries: Entries) -> Entries:
        first = next(place for place, (entry, _) in enumerate(entries) if entry.name.endswith(".mask.png"))
        mask = np.asarray(Image.open(io.BytesIO(entries[first][1])))
        content = png_bytes(Image.fromarray(np.where(np.arange(mask.shape[1]) % 2, mask, mask // 255 * 128)))
        return [*entries[:first], (entries[first][0], content), *entries[first + 1 :]]

    rewrite(tars, FIRST, of_two_levels)
    assert "mask_values" in {kind for kind, _ in found(tars)}
    atomic_write_json(tars / "dataset.json", read_dataset_info(tars) | {"mask_classes": {"lesion": 255, "core": 128}})
    assert {kind for kind, _ in found(tars)} == {"changed_file", "mask_id"}
