"""Files and records of runs: content hashes, atomic writes, versions, PNG records."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from skindualgen.contracts import InputError

BUNDLED = Path(__file__).resolve().parent / "bundled"
"""Where the weights are that come with the package."""

BUILTIN = "builtin"
BUNDLED_ADAPTERS = {BUILTIN: BUNDLED / "adapter", "builtin-fast": BUNDLED / "fast"}
"""Folders of the adapters that come with the package, by the names that stand for them."""

PNG_KEY = "skindualgen"
"""Keyword of the PNG text chunk that holds a record as JSON."""

TEMPORARY_SUFFIX = ".tmp"
"""Ending of the hidden files that `atomic_path` writes to; one left behind belongs to a killed process."""

CHUNK_BYTES = 1 << 20

MAX_NAME_BYTES = 80
"""of a file's own name in the name of its temporary file: file systems admit 255 bytes, of which a letter may take 4"""

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""error numbers of a write that found no room: disk, quota, limit of the process"""

RECORDED_PACKAGES = (
    "skindualgen",
    "numpy",
    "pillow",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
)
"""Packages whose versions can change a result."""


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_path(final: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``final``, which takes that name only when the block ends well.

    On any error, interrupts included, the temporary file is removed and whatever stood under ``final`` stays as it was.

    Args:
        final: the name to appear; its folder must exist.
        durable: force file and folder entry to disk before and after the renaming, so that not even a power
            failure leaves an empty file. ``False`` suits many small files whose hashes are checked later.
    """
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{cut_name(final.name)}.", suffix=TEMPORARY_SUFFIX)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        if durable:
            sync([temporary])
        temporary.replace(final)
        if durable:
            sync([final.parent])
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write ``data`` under ``path`` entirely or not at all; parameters as `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with newlines as given, entirely or not at all."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` as indented UTF-8 JSON with a final newline; key order is kept, NaN and infinity are refused.

    Raises:
        ValueError: a float is not finite.
        TypeError: a value has no JSON form.
    """
    atomic_write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cut_name(name: str) -> str:
    """Return the beginning of a file's name that leaves room for more in the name of a temporary file."""
    while len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = name[:-1]
    return name


def sync(paths: Iterable[Path]) -> None:
    """Force files or folders to disk; folders only where the system has it."""
    for path in paths:
        if path.is_dir() and os.name != "posix":
            continue
        handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def home_folder() -> Path:
    """Return the user's home folder, which need not be there.

    Raises:
        InputError: nobody knows it: HOME is not set, and the user has no name (as in many containers).
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise InputError("no home folder", "a place for caches", "set HOME or XDG_CACHE_HOME") from error


def found_no_room(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised in handling of (torch's writers hide theirs), is of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return True
        error = error.__cause__ or error.__context__
    return False


def versions() -> dict[str, str]:
    """Return the versions of Python and of those `RECORDED_PACKAGES` that are installed, importing none of them."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def run_record(**fields: Any) -> dict[str, Any]:
    """Describe the running command: command line, UTC date, versions, platform, and ``fields``.

    Paths in the command line that are absolute or lead upwards are cut to their last part, and no host or user name is
    recorded, so that the record can be published.
    """
    return {
        "command": [_public_argument(argument) for argument in sys.argv],
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        **fields,
    }


def png_info(record: Mapping[str, Any]) -> PngInfo:
    """Return ``record`` as the text chunk `PNG_KEY` of a PNG file: ``image.save(path, pnginfo=png_info(record))``.

    The JSON is sorted and ASCII, so equal records give equal bytes. Read it back with
    ``json.loads(Image.open(path).text[PNG_KEY])``.
    """
    info = PngInfo()
    info.add_text(PNG_KEY, json.dumps(dict(record), sort_keys=True, ensure_ascii=True, allow_nan=False))
    return info


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as comma separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def png_bytes(image: Image.Image, info: PngInfo | None = None, **options: Any) -> bytes:
    """Encode a picture as PNG with the texts in ``info`` and no others; ``options`` are Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info or PngInfo(), **options)
    return buffer.getvalue()


def _public_argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if equals and _leads_outside(Path(value)):
        return f"{option}={Path(value).name}"
    return Path(argument).name if _leads_outside(Path(argument)) else argument


def _leads_outside(path: Path) -> bool:
    return path.is_absolute() or path.parts[:1] == ("..",)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
