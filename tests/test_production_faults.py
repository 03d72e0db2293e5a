"""Whatever happens to a producer, what it leaves is whole, and the next one ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from producer import contents, run
from skindualgen.contracts import InputError
from skindualgen.data.manifest import manifest_sha256, read_dataset_info, read_metadata
from skindualgen.files import sha256_file
from skindualgen.production.run import ProductionStopped

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, forks and limits of processes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nothing has interrupted; read-only."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(out)
    return out


def child(out: Path, **keywords: Any) -> subprocess.Popen[str]:
    """A producer of its own process."""
    command = [sys.executable, str(TESTS / "producer.py"), str(out), json.dumps(keywords)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_manifest_agrees_with_the_folder(whole: Path) -> None:
    records = read_metadata(whole)
    assert sorted(path.name for path in (whole / "images").iterdir()) == [f"{r.isic_id}.png" for r in records]
    assert sorted(path.name for path in (whole / "masks").iterdir()) == [f"{r.isic_id}.png" for r in records]
    for record in records:
        assert record.sha256 == sha256_file(whole / record.file_name)
        assert record.mask_sha256 == sha256_file(whole / str(record.mask_file_name))
    info = read_dataset_info(whole)
    assert info["manifest_sha256"] == manifest_sha256(records) and info["counts"]["records"] == len(records)


def test_twenty_kills_change_nothing(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(TESTS / "killer.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == 20
    expected = contents(whole)
    for folder in range(told["folders"]):
        out = tmp_path / str(folder)
        assert contents(out) == expected
        assert read_dataset_info(out)["manifest_sha256"] == read_dataset_info(whole)["manifest_sha256"]
        assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(whole: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The folder loads with what was finished, and tells how much is missing."""

    def stop(done: int, total: int) -> None:
        if done == 36:  # in the third chunk
            os.kill(os.getpid(), number)

    out = tmp_path / "out"
    plain = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, plain)  # a shell has SIGINT ignored for its background jobs, which the factory respects
    before = signal.getsignal(number)
    with pytest.raises(ProductionStopped) as stopped:
        run(out, gate=False, report=stop)
    assert signal.getsignal(number) is before
    assert stopped.value.asked == 83
    assert stopped.value.pairs in {16, 32}  # the second chunk may still be in the background
    assert len(read_metadata(out)) == stopped.value.pairs == read_dataset_info(out)["counts"]["records"]
    run(out, gate=False)
    run(tmp_path / "whole", gate=False)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_full_disk_is_said_and_resumed(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    producer = child(out, full_disk_after=68)
    _, said = producer.communicate()
    assert producer.returncode == 1
    assert "InputError: got a full disk at" in said and "free some and run the same command again" in said
    finished = list((out / ".production" / "chunks").iterdir())
    assert finished and len(finished) < 6 and not list(out.rglob("*.tmp"))
    # What could not be finished has been taken away again: its room is needed.
    chunks = {int(path.stem.removeprefix("SDG_")) // 16 for path in (out / "images").iterdir()}
    assert chunks == {int(path.stem) for path in finished}
    run(out)
    assert contents(out) == contents(whole)


def test_a_second_producer_is_refused_until_the_first_is_dead(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = child(out, seconds=0.2)
    assert first.stdout is not None
    first.stdout.readline()  # it has begun
    with pytest.raises(InputError, match=rf"which process {first.pid} on .+ is writing to; expected one producer"):
        run(out)
    first.kill()
    first.communicate()
    run(out)
    assert contents(out) == contents(whole)


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="which is a file"):
        run(tmp_path / "thesis.txt")


@pytest.mark.parametrize("place", ["thesis.txt/out", "/proc/skindualgen"])
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, place: str) -> None:
    """Below a file; and where not even root may write."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="cannot be written to"):
        run(tmp_path / place)


def test_a_stranger_among_the_pictures_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, pairs=4)
    (out / "images" / ".DS_Store").write_text("harmless")
    run(out, pairs=4)
    (out / "images" / "holiday.jpg").write_text("x")
    with pytest.raises(InputError, match=r"holiday\.jpg, which no run has put there"):
        run(out, pairs=4)
    assert (out / "images" / "holiday.jpg").is_file()


@pytest.mark.parametrize("damage", ["cut", "gone", "record"])
def test_a_damaged_chunk_is_made_again(whole: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    run(out)
    record = read_metadata(out)[20]
    chunk = out / ".production" / "chunks" / "0000001.jsonl"
    if damage == "cut":
        path = out / record.file_name
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        (out / str(record.mask_file_name)).unlink()
    else:
        chunk.write_text(chunk.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    other = out / ".production" / "chunks" / "0000002.jsonl"
    kept, before = other.stat().st_mtime_ns, chunk.stat().st_mtime_ns
    run(out)
    assert contents(out) == contents(whole)
    assert other.stat().st_mtime_ns == kept and chunk.stat().st_mtime_ns != before


def test_an_error_of_the_sampler_comes_through(tmp_path: Path) -> None:
    """And what was finished before it stays usable."""
    out = tmp_path / "out"

    def fail(done: int, total: int) -> None:
        if done == 36:
            raise ZeroDivisionError("of the sampler")

    with pytest.raises(ZeroDivisionError):
        run(out, gate=False, report=fail)
    assert len(read_metadata(out)) in {16, 32}  # the second chunk may still have been in the background


def test_an_error_in_the_background_comes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a gate or a disk whose failure nobody hears of."""
    from producer import PictureGate

    judged = 0

    def fail(self: PictureGate, *_: object) -> Any:
        nonlocal judged
        judged += 1
        raise ZeroDivisionError("of the gate")

    monkeypatch.setattr(PictureGate, "judge", fail)
    with pytest.raises(ZeroDivisionError, match="of the gate"):
        run(tmp_path / "out", pairs=400)
    assert judged < 20  # of a hundred batches
