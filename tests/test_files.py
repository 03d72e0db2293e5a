"""Hashes, atomic writes, records: what a file says of itself is right, and no half-written file takes a final name."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from skindualgen import files


def test_hash_of_known_text() -> None:
    # NIST FIPS 180-4 example: SHA-256("abc").
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_bytes(b"abc") == expected


def test_hash_of_a_file_longer_than_one_piece_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * (2 * files.CHUNK_BYTES // 256) + b"end"
    path = tmp_path / "long"
    path.write_bytes(data)
    assert files.sha256_file(path) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("durable", [True, False])
def test_atomic_path_replaces_only_when_the_block_ends_well(tmp_path: Path, durable: bool) -> None:
    final = tmp_path / "file.txt"
    final.write_text("old")
    with files.atomic_path(final, durable=durable) as temporary:
        temporary.write_text("new")
        assert final.read_text() == "old"
        assert temporary.parent == final.parent
    assert final.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("letter", ["x", "ä", "皮", "🩺"])
def test_names_as_long_as_a_file_system_admits(tmp_path: Path, letter: str) -> None:
    name = letter * (255 // len(letter.encode()))
    files.atomic_write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_path_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "file.txt"
    final.write_text("old")

    def fail_halfway() -> None:
        with files.atomic_path(final) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_atomic_files_have_the_usual_permissions(tmp_path: Path) -> None:
    # tempfile makes files that only their owner can read; a shared data set must not inherit that.
    plain = tmp_path / "plain"
    plain.write_text("x")
    files.atomic_write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


def test_atomic_json_is_utf8_with_kept_order_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.atomic_write_json(path, {"b": "Nävus", "a": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "b": "Nävus",\n  "a": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.atomic_write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == 1


def test_versions_name_python_and_installed_packages_only() -> None:
    found = files.versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["pillow"]
    assert "" not in found.values()


def test_run_record_shows_no_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/bin/skindualgen", "prepare", "/home/someone/data", "--out=/home/someone/o"])
    record = files.run_record(seed=3)
    assert record["command"] == ["skindualgen", "prepare", "data", "--out=o"]
    assert record["seed"] == 3
    assert record["date_utc"].endswith("+00:00")
    assert "someone" not in json.dumps(record)


def test_run_record_shows_no_path_that_leads_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["studies/study.py", "--data", "../place/pairs", "--out=../place/out", "runs/mine", "1/2"]
    monkeypatch.setattr(sys, "argv", argv)
    expected = ["studies/study.py", "--data", "pairs", "--out=out", "runs/mine", "1/2"]
    assert files.run_record()["command"] == expected


def test_png_record_survives_saving_and_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4))
    image.save(tmp_path / "a.png", pnginfo=files.png_info({"seed": 1, "prompt": "Nävus"}))
    image.save(tmp_path / "b.png", pnginfo=files.png_info({"prompt": "Nävus", "seed": 1}))
    with Image.open(tmp_path / "a.png") as stored:
        assert json.loads(stored.text[files.PNG_KEY]) == {"seed": 1, "prompt": "Nävus"}
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
