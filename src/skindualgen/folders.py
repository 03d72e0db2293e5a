"""The one policy for folders of results: new ones, ones that belong to settings, and ones with a single writer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from skindualgen.contracts import InputError
from skindualgen.files import TEMPORARY_SUFFIX, atomic_write_bytes, atomic_write_json, cut_name

LOCK_FILE, OWNER_FILE = "lock", "owner.json"
OTHER_OUT = "choose another --out"
SHOWN_CHARACTERS = 60
"""Of a setting in a message."""


def refuse_filled(out: Path, remedy: str = OTHER_OUT, *, ignored: Collection[str] = ()) -> None:
    """Refuse a place that is neither free nor an empty folder; names in ``ignored`` do not count.

    Raises:
        InputError: it is a file, or a folder that holds something.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}, which is a file", "a new or empty folder", remedy)
    if out.exists() and any(entry.name not in ignored for entry in out.iterdir()):
        raise InputError(f"{out}, which is not empty", "a new or empty folder", remedy)


@contextmanager
def new_folder(out: Path, *sources: Path, remedy: str = OTHER_OUT) -> Iterator[Path]:
    """Yield an empty folder next to ``out``, which takes that name when the block ends well; on an error it is removed.

    Args:
        out: new or empty; the folders above it are made.
        sources: folders that are read, inside which ``out`` may not lie.
        remedy: what to do where ``out`` cannot be used.

    Raises:
        InputError: ``out`` holds something, is a file, or lies inside a source.
    """
    refuse_filled(out, remedy)
    for source in sources:
        if out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{out} inside {source}", "a folder outside of what is read", remedy)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{cut_name(out.name)}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            # safetensors are written for this user alone; the folder's own mode follows the umask. A hard link shares
            # its mode with the file that it was made from.
            if path.is_file() and path.stat().st_nlink == 1:
                path.chmod(temporary.stat().st_mode & 0o666)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_foreign(
    out: Path, own: Collection[str], expected: str, holds_earlier: Callable[[Path], bool] = lambda out: True
) -> None:
    """Refuse a folder that holds anything but earlier results, which new ones are to replace.

    Args:
        out: the folder; it need not be there.
        own: names of the results' files and folders.
        expected: what the folder should be, for the error.
        holds_earlier: whether a folder of such names holds earlier results.

    Raises:
        InputError: it holds something else.
    """
    names = {path.name for path in out.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)} if out.exists() else set()
    foreign = sorted(names - set(own)) or sorted(names if names and not holds_earlier(out) else [])
    if foreign:
        raise InputError(f"{out}, which holds {foreign[0]!r}", expected, "give another --out")


@contextmanager
def own_folder(
    out: Path, own: Collection[str], expected: str, holds_earlier: Callable[[Path], bool] = lambda out: True
) -> Iterator[None]:
    """Make a folder of results, or take one that holds nothing but earlier ones; a failure leaves no new, empty folder.

    Args, raises: see `refuse_foreign`.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    refuse_foreign(out, own, expected, holds_earlier)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):  # something was written: it stays
                out.rmdir()
        raise


def claim(
    out: Path,
    name: str,
    settings: Mapping[str, Any],
    *,
    ignored: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Record in a new folder which settings its results are of, or refuse a folder of other settings.

    Args:
        out: the folder; what a killed process left in it of atomic writes is removed.
        name: of the settings' file.
        settings: everything that decides the results, as JSON takes it.
        ignored: names that a folder without settings may hold.
        defaults: settings that earlier versions did not write.

    Raises:
        InputError: ``out`` holds results of other settings, or something else.
    """
    path = out / name
    settings = json.loads(json.dumps(settings))
    for leftover in out.glob(f".{name}.*{TEMPORARY_SUFFIX}"):
        leftover.unlink()
    if not path.is_file():
        refuse_filled(out, ignored=ignored)
        out.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, settings)
        return
    remove_leftovers(out)
    try:
        before = {**(defaults or {}), **json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}, which is damaged ({error})", "the settings of an earlier run", OTHER_OUT) from None
    changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
    if changed:
        shown = "; ".join(f"{key}: {_short(before.get(key))} there, {_short(settings.get(key))} now" for key in changed)
        raise InputError(
            f"{out} with results of other settings ({shown})", "a new folder, or the same settings to go on", OTHER_OUT
        )


@contextmanager
def only_writer(out: Path, work: Path) -> Iterator[None]:
    """Be the only process that writes to a folder; the operating system ends that with the process, however it ends.

    Args:
        out: the folder.
        work: folder in it for the lock; made with those above it.

    Raises:
        InputError: another process writes to it, or nobody can.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{out}, which {_owner(work)} is writing to",
                "one producer per folder",
                "wait for it, end it, or choose another --out",
            ) from None
    except OSError as error:
        raise InputError(
            f"{out}, which cannot be written to ({error.strerror or error})",
            "a folder with write access, on a file system with file locks",
            "fix its permissions or name another place",
        ) from error
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        atomic_write_bytes(work / OWNER_FILE, json.dumps(owner).encode(), durable=False)
        yield
    finally:
        lock.release()


def remove_leftovers(*folders: Path) -> None:
    """Remove what a killed process left of atomic writes in folders."""
    for folder in folders:
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            if leftover.is_file():
                leftover.unlink()


def _owner(work: Path) -> str:
    try:
        owner = json.loads((work / OWNER_FILE).read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
