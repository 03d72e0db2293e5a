"""What must not be published: paths and names of the machine that made the files."""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.release.png_text import read_image_text

TEXT_FILES = frozenset(
    {".md", ".txt", ".json", ".jsonl", ".csv", ".toml", ".yaml", ".yml", ".html", ".log", ".xmp", ".svg"}
)
IMAGE_FILES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
WEIGHTS_FILE = ".safetensors"
ABSOLUTE_PATH = re.compile(
    r"""(?: file:///?[^\s"'<>]+                                     # address of a local file
      | (?<![\w.$~/<-])(?<!jumbf=)/(?:[\w.@+-]+/)+[\w.@+-]+       # /two/parts or more, in no address or tag
      | (?<![A-Za-z0-9])[A-Za-z]:\\{1,2}[\w.@+ -]+\\{1,2}[\w.]+     # C:\two\parts, also as JSON writes it
      | (?<![\\\w.*+?)\]])\\{2,4}[A-Za-z0-9][\w-]*\\{1,2}\w[\w$-]* )  # \\server\share
    """,
    re.VERBOSE,
)
HASH_IN_BASE64 = re.compile(r'"[A-Za-z0-9+/]{86}=="')
"""64 bytes, as trained_on.json holds perceptual hashes: its slashes are no path's"""
ORDINARY_NAMES = frozenset(
    {"root", "user", "users", "admin", "ubuntu", "debian", "runner", "docker", "nobody", "guest", "test", "localhost"}
)
"""user and host names that say nothing of anybody, and are in ordinary text"""
LEAST_NAME = 3
"""letters of a name below which a text holds it by chance"""
SHOWN = 5


def refuse_private(folder: Path) -> None:
    """Look through every text file, PNG text and header of weights below a folder.

    Raises:
        InputError: an absolute path, or the name of this user or machine, in any of them; the first few are named.
    """
    names = _names_of_this_machine()
    found = [f"{path.relative_to(folder)}: {hit}" for path in _files(folder) for hit in private_parts(path, names)]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(
            f"{len(found)} places with paths or names of a machine ({'; '.join(found[:SHOWN])}{more})",
            "files that say nothing of the machine that made them",
            "run the command that wrote them with relative paths, or fix these files; nothing was published",
        )


def private_parts(path: Path, names: frozenset[str] = frozenset()) -> list[str]:
    """What a file gives away: absolute paths in it, and those of ``names`` that are in it as words."""
    found: dict[str, None] = {}
    for text in _texts(path):
        found |= dict.fromkeys(match.group() for match in ABSOLUTE_PATH.finditer(HASH_IN_BASE64.sub('""', text)))
        found |= dict.fromkeys(name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))
    return list(found)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _texts(path: Path) -> Iterator[str]:
    suffix = path.suffix.lower()
    if suffix in IMAGE_FILES:
        yield from (text for pair in read_image_text(path).texts for text in pair)
    elif suffix == WEIGHTS_FILE:
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            yield json.dumps(file.metadata() or {})
    elif suffix in TEXT_FILES:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


def _names_of_this_machine() -> frozenset[str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = ""
    names = {user, platform.node(), platform.node().partition(".")[0]}
    return frozenset(name for name in names if len(name) >= LEAST_NAME and name.lower() not in ORDINARY_NAMES)
