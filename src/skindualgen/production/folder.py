"""The folder that is produced into: it belongs to one set of settings, and at any time to one producer."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from skindualgen.contracts import InputError
from skindualgen.files import TEMPORARY_SUFFIX, atomic_write_bytes, atomic_write_json
from skindualgen.production.chunk import ID_PREFIX

SETTINGS_FILE = "generate.json"
WORK_DIR = ".production"
"""Everything in the folder that is the factory's own."""
LOCK_FILE = "lock"
OWNER_FILE = "owner.json"
SHOWN_CHARACTERS = 60


@contextmanager
def production_folder(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Hold a folder as its only producer; yield the folder of the factory's own files in it.

    The operating system lets go of the lock when its owner ends, however it ends.

    Args:
        out: a new or empty folder, or one of an earlier run of the same settings.
        settings: everything that decides the results, as JSON takes it.

    Raises:
        InputError: another producer is at work there; ``out`` holds results of other settings, or something else; or
            it cannot be written to.
    """
    ours = (out / SETTINGS_FILE).is_file() or (out / WORK_DIR).is_dir()
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise _foreign(out)
    work = out / WORK_DIR
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _occupied(out, work) from None
    except OSError as error:
        raise InputError(
            f"{out}, which cannot be written to ({error.strerror or error})",
            "a folder with write access, on a file system with file locks",
            "fix its permissions or name another place",
        ) from error
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        atomic_write_bytes(work / OWNER_FILE, json.dumps(owner).encode(), durable=False)
        _claim(out, settings)
        yield work
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left of atomic writes in a folder."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink()


def sync(paths: list[Path]) -> None:
    """Force files or folders to disk; folders only where the system has it."""
    for path in paths:
        if path.is_dir() and os.name != "posix":
            continue
        handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Record the settings in a new folder, or refuse a folder of other settings."""
    remove_leftovers(out)
    path = out / SETTINGS_FILE
    settings = json.loads(json.dumps(settings))
    if not path.is_file():
        if any(entry.name != WORK_DIR for entry in out.iterdir()):
            raise _foreign(out)
        atomic_write_json(path, settings)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}", "the settings of an earlier run", "choose another --out") from None
    before = {"id_prefix": ID_PREFIX} | before  # folders from before there was a choice do not state it
    changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
    if changed:
        told = "; ".join(f"{key}: {_short(before.get(key))} there, {_short(settings.get(key))} now" for key in changed)
        raise InputError(
            f"{out} with results of other settings ({told})",
            "a new folder, or the same settings to go on",
            "choose another --out",
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def _foreign(out: Path) -> InputError:
    if not out.is_dir():
        return InputError(f"{out}, which is a file", "a new or empty folder", "choose another --out")
    return InputError(f"{out}, which is not empty", "a new or empty folder", "choose another --out")


def _occupied(out: Path, work: Path) -> InputError:
    try:
        owner = json.loads((work / OWNER_FILE).read_text(encoding="utf-8"))
        who = f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return InputError(
        f"{out}, which {who} is writing to", "one producer a folder", "wait for it, end it, or choose another --out"
    )
