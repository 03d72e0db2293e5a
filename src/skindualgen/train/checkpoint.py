"""Checkpoints that are whole or absent: temporary folder, fsync, completeness marker, rename, and only then prune."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skindualgen.contracts import InputError

MARKER = "COMPLETE"
STATE_FILE = "state.pt"
PREFIX = "step-"


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:
    """Write ``folder/step-XXXXXXX`` and remove all but the newest ``keep`` complete ones.

    Args:
        folder: of all checkpoints of a run.
        step: optimiser steps done.
        state: what ``torch.save`` takes and ``torch.load(weights_only=True)`` reads back.
        keep: number of checkpoints that stay, at least 1.
    """
    final = folder / f"{PREFIX}{step:07d}"
    if final in complete_checkpoints(folder):
        return final  # each step is a function of the settings: the same state, and never a moment without it
    for left_by_killed in folder.glob(f".{PREFIX}*"):
        shutil.rmtree(left_by_killed, ignore_errors=True)
    temporary = folder / f".{final.name}.{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        with (temporary / STATE_FILE).open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        size = (temporary / STATE_FILE).stat().st_size
        with (temporary / MARKER).open("w") as file:
            file.write(f"{size}\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints whose state has the size that its marker names, oldest first."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        marker, state = path / MARKER, path / STATE_FILE
        if marker.is_file() and state.is_file() and marker.read_text().strip() == str(state.stat().st_size):
            found.append(path)
    return found


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Load the newest complete checkpoint, or None where there is none.

    Raises:
        InputError: it cannot be read although it is complete.
    """
    found = complete_checkpoints(folder)
    if not found:
        return None
    try:
        return torch.load(found[-1] / STATE_FILE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"checkpoint {found[-1]} that cannot be read ({error})",
            "an intact one",
            f"remove {found[-1]} to go on from the one before",
        ) from error
