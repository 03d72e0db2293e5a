"""Photographs or masks of a folder without any list of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skindualgen.contracts import InputError
from skindualgen.data.decoding import SUFFIXES

SHOWN_FILES = 4


def plain_files(
    folder: Path, said: str, *, what: str = "photograph", endings: Sequence[str] = SUFFIXES
) -> tuple[list[Path], dict[str, str]]:
    """Files of a kind in a folder by name, and the reason for everything else there; hidden files are passed over.

    Args:
        folder: not searched deeper.
        said: the option that names it.
        what: "photograph" or "mask".
        endings: of such files, in lower case.

    Raises:
        InputError: no folder, no such file in it, or two of one stem, whose masks or pairs would have one name.
    """
    if not folder.is_dir():
        raise InputError(f"{said} {folder}", f"a folder of {what}s", "check the path")
    paths, not_used = [], {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.suffix.lower() in endings:
            paths.append(path)
        elif path.is_file():
            not_used[path.name] = f"none of {', '.join(endings)}"
        else:
            not_used[path.name] = "a folder, which is not searched" if path.is_dir() else "no file: a link to nothing"
    if not paths:
        others = f", with {', '.join(list(not_used)[:SHOWN_FILES])}" if not_used else ""
        raise InputError(f"{folder} without {what}s{others}", f"files of {', '.join(endings)}", "check the path")
    stems: dict[str, Path] = {}
    for path in paths:
        if (other := stems.setdefault(path.stem, path)) != path:
            raise InputError(
                f"{other.name} and {path.name}, which would share masks/{path.stem}.png",
                f"one {what} per stem",
                "rename one of them",
            )
    return paths, not_used
