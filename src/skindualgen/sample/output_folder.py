"""A folder of results belongs to the settings that it was begun with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError
from skindualgen.files import TEMPORARY_SUFFIX, atomic_write_json

Report = Callable[[int, int], None]
"""called with the number of items done and the number of all"""


def claim(out: Path, name: str, settings: dict[str, Any], folders: Sequence[str]) -> None:
    """Record the settings in a new folder, or refuse a folder of other settings; make the folders of pictures in it.

    What a killed process left there of an atomic write is removed.

    Args:
        out: the folder.
        name: of the settings' file in it.
        settings: everything that decides the results.
        folders: names of the folders of pictures.

    Raises:
        InputError: ``out`` holds results of other settings, or something else.
    """
    path = out / name
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}, which is damaged ({error})", "its settings", "choose another --out") from error
        changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
        if changed:
            raise InputError(
                f"{out} with results of other settings ({', '.join(changed)})",
                "a new folder, or the same settings to go on",
                "choose another --out",
            )
    else:
        if out.exists() and any(out.iterdir()):
            raise InputError(f"{out}, which is not empty", "a new or empty folder", "choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, settings)
    for folder in folders:
        (out / folder).mkdir(exist_ok=True)
        for leftover in (out / folder).glob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
