"""A checkpoint is whole or absent, and the old ones go only when a new one stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from processes import full_disk
from skindualgen.contracts import InputError
from skindualgen.training import checkpoint
from skindualgen.training.checkpoint import MARKER, STATE_FILE, complete_checkpoints, load_newest, save_checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "parameters": [torch.full((100,), float(step))]}


def steps_in(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in complete_checkpoints(folder)]


def test_the_newest_is_loaded_and_the_oldest_go(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    for step in (2, 9, 10):
        path = save_checkpoint(tmp_path, step, state(step), keep=2)
        assert path.name == f"step-{step:07d}"
    assert steps_in(tmp_path) == [9, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000009", "step-0000010"]
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded["step"] == 10
    assert torch.equal(loaded["parameters"][0], torch.full((100,), 10.0))


@pytest.mark.parametrize("damage", ["truncated", "no marker", "empty marker", "no state"])
def test_an_incomplete_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, 1, state(1), keep=5)
    newest = save_checkpoint(tmp_path, 2, state(2), keep=5)
    if damage == "truncated":
        os.truncate(newest / STATE_FILE, (newest / STATE_FILE).stat().st_size - 1)
    elif damage == "no marker":
        (newest / MARKER).unlink()
    elif damage == "empty marker":
        (newest / MARKER).write_text("")
    else:
        (newest / STATE_FILE).unlink()
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded["step"] == 1
    save_checkpoint(tmp_path, 2, state(2), keep=5)  # written anew in its place
    assert steps_in(tmp_path) == [1, 2]


def test_a_failed_write_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: with keep=1 the only checkpoint must outlive the attempt, and nothing half-written stays."""
    save_checkpoint(tmp_path, 1, state(1), keep=1)

    def full_disk(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(InputError, match=r"full disk.*newest checkpoint is step-0000001.*free some"):
        save_checkpoint(tmp_path, 2, state(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


def test_the_old_ones_go_after_the_new_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, state(1), keep=1)
    present: list[list[int]] = []
    remove = checkpoint.shutil.rmtree

    def watched(path: Path, **options: bool) -> None:
        present.append(steps_in(tmp_path))
        remove(path, **options)

    monkeypatch.setattr(checkpoint.shutil, "rmtree", watched)
    save_checkpoint(tmp_path, 2, state(2), keep=1)
    assert present == [[1, 2]] or present[-1] == [1, 2]
    assert steps_in(tmp_path) == [2]


def test_saving_a_step_again_never_removes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped right after a checkpoint saves the same step once more."""
    path = save_checkpoint(tmp_path, 3, state(3), keep=1)
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: pytest.fail("removed the only checkpoint"))
    assert save_checkpoint(tmp_path, 3, state(3), keep=1) == path


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".step-0000004.99999"
    left.mkdir()
    (left / STATE_FILE).write_bytes(b"half")
    save_checkpoint(tmp_path, 5, state(5), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000005"]


@pytest.mark.skipif(os.name != "posix", reason="limits what the process may write")
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(1), keep=1)
    large = {"step": 2, "parameters": [torch.zeros(100_000)]}
    with full_disk(20_000), pytest.raises(InputError, match=r"full disk.*newest checkpoint is step-0000001"):
        save_checkpoint(tmp_path, 2, large, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


def test_an_error_that_is_not_a_full_disk_is_not_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(5, "Input/output error"), RuntimeError("cannot be written")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(checkpoint.torch, "save", fail)
        with pytest.raises(type(error), match=error.args[-1]):
            save_checkpoint(tmp_path, 2, state(2), keep=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["zeros", "one bit"])
def test_a_damaged_one_of_the_right_size_is_passed_over(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, 1, state(1), keep=2)
    path = save_checkpoint(tmp_path, 2, state(2), keep=2)
    content = bytearray((path / STATE_FILE).read_bytes())
    if damage == "zeros":
        content = bytearray(len(content))
    else:
        content[len(content) // 2] ^= 1
    (path / STATE_FILE).write_bytes(content)
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded["step"] == 1
    assert "step-0000002 is damaged; going on from step-0000001" in caplog.text


def test_damaged_ones_alone_are_reported(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, state(1), keep=1)
    size = (path / STATE_FILE).stat().st_size
    (path / STATE_FILE).write_bytes(b"\0" * size)
    with pytest.raises(InputError, match="step-0000001"):
        load_newest(tmp_path)
