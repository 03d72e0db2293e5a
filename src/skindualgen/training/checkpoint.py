"""Checkpoints that are whole or absent: temporary folder, fsync, completeness marker, rename, and only then prune."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skindualgen.contracts import InputError
from skindualgen.files import found_no_room, sha256_file

logger = logging.getLogger(__name__)

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
        with (temporary / MARKER).open("w", encoding="utf-8") as file:
            file.write(f"{(temporary / STATE_FILE).stat().st_size} {sha256_file(temporary / STATE_FILE)}\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not found_no_room(error):
            raise
        raise full_disk(folder) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def full_disk(folder: Path) -> InputError:
    """What a checkpoint that found no room is answered with."""
    found = complete_checkpoints(folder)
    kept = f"the newest checkpoint is {found[-1].name}" if found else "there is no checkpoint yet"
    return InputError(
        f"a full disk at {folder}: no room for a checkpoint ({kept})",
        "room for one more than checkpoints_total_limit",
        "free some and run the same command again",
    )


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints whose state has the size that its marker names, oldest first."""
    return [path for path in sorted(folder.glob(f"{PREFIX}*")) if (marked := _marked(path)) and marked[0]]


def _marked(path: Path) -> tuple[bool, str] | None:
    """Whether the state has the size that the marker names, and the hash that it names; None without a marker."""
    marker, state = path / MARKER, path / STATE_FILE
    if not (marker.is_file() and state.is_file()):
        return None
    size, _, sha256 = marker.read_text(encoding="utf-8", errors="replace").strip().partition(" ")
    return size == str(state.stat().st_size), sha256


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Load the newest intact checkpoint, or None where there is none; each damaged one that is passed over is named.

    Raises:
        InputError: there are checkpoints, and all of them are damaged.
    """
    damaged: list[Path] = []
    for path in sorted(folder.glob(f"{PREFIX}*"), reverse=True):
        marked = _marked(path)
        if marked is not None and marked[0] and sha256_file(path / STATE_FILE) == marked[1]:
            for other in damaged:
                logger.warning("The checkpoint %s is damaged; going on from %s.", other, path.name)
            return torch.load(path / STATE_FILE, map_location="cpu", weights_only=True)
        damaged.append(path)
    if damaged:
        raise InputError(
            f"damaged checkpoints and no intact one in {folder} ({', '.join(path.name for path in damaged)})",
            "an intact one",
            "remove them to start from the beginning, or copy an intact one back",
        )
    return None
