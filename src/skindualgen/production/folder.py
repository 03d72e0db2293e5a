"""The folder that is produced into: it belongs to one set of settings, and at any time to one producer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skindualgen.folders import claim, only_writer, refuse_filled, remove_leftovers
from skindualgen.production.chunk import ID_PREFIX

SETTINGS_FILE = "generate.json"
WORK_DIR = ".production"
"""Everything in the folder that is the producer's own."""


@contextmanager
def production_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Hold a folder as its only producer; yield the folder of the producer's own files in it.

    Args:
        out: a new or empty folder, or one of an earlier run of the same settings.
        settings: everything that decides the results, as JSON takes it.

    Raises:
        InputError: another producer is at work there; ``out`` holds results of other settings, or something else; or
            it cannot be written to.
    """
    work = out / WORK_DIR
    if not (out / SETTINGS_FILE).is_file() and not work.is_dir():
        refuse_filled(out)
    with only_writer(out, work):
        claim(out, SETTINGS_FILE, settings, besides=(WORK_DIR,), defaults={"id_prefix": ID_PREFIX})
        remove_leftovers(out, work)
        yield work
