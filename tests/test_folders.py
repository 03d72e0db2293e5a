"""Folders of results: whole or not there, of one set of settings, and nobody else's files lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from skindualgen.contracts import InputError
from skindualgen.folders import claim, new_folder, own_folder, refuse_filled


def test_a_folder_belongs_to_its_settings(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim(out, "settings.json", {"steps": 2, "sizes": (1, 2)})
    (out / "result").write_text("x")
    (out / ".result.1.tmp").write_text("of a killed process")
    claim(out, "settings.json", {"sizes": [1, 2], "steps": 2})
    assert sorted(path.name for path in out.iterdir()) == ["result", "settings.json"]
    with pytest.raises(InputError, match=r"other settings \(seed: null there, 1 now; steps: 2 there, 3 now\)"):
        claim(out, "settings.json", {"steps": 3, "sizes": [1, 2], "seed": 1})
    claim(out, "settings.json", {"steps": 2, "sizes": [1, 2], "new": 0}, defaults={"new": 0})
    (out / "settings.json").write_text("[")
    with pytest.raises(InputError, match="which is damaged"):
        claim(out, "settings.json", {"steps": 2})


def test_a_claim_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / ".settings.json.1.tmp").write_text("half")
    claim(tmp_path, "settings.json", {})
    assert json.loads((tmp_path / "settings.json").read_text()) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_files_of_others_are_refused_and_stay(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / ".thesis.tmp").write_text("mine")
    for refused in (lambda: claim(tmp_path, "settings.json", {}), lambda: refuse_filled(tmp_path)):
        with pytest.raises(InputError, match="not empty"):
            refused()
    with pytest.raises(InputError, match="which is a file"):
        refuse_filled(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match=r"holds 'thesis\.txt'"), own_folder(tmp_path, {"report.json"}, "a report's"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".thesis.tmp", "thesis.txt"]
    refuse_filled(tmp_path, ignored=("thesis.txt", ".thesis.tmp"))


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_the_modes_of_linked_files_are_not_touched(tmp_path: Path) -> None:
    """Guards against a release that changes the data set whose pictures it links."""
    (tmp_path / "private").write_text("x")
    (tmp_path / "private").chmod(0o600)
    with new_folder(tmp_path / "out") as folder:
        os.link(tmp_path / "private", folder / "linked")
        (folder / "own").write_text("x")
        (folder / "own").chmod(0o600)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out" / "own").stat().st_mode & 0o777 == (tmp_path / "out").stat().st_mode & 0o666
