"""The studio's workspace: what visitors may name, and what they may send."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.studio.uploads import Limits, checked_mask, read_mask, read_photograph
from skindualgen.studio.workspace import DATASETS_DIR, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a data set, a run, a report, and a secret beside it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "metadata.jsonl").write_text("")
    root = tmp_path / "work"
    made = Workspace.open(root)
    for folder, name, content in (
        ("datasets/a", "metadata.jsonl", ""),
        ("runs/r/adapter", "adapter_config.json", "{}"),
        ("reports/e", "report.json", json.dumps({"fidelity": {}})),
        ("reports/other", "report.json", "[]"),
        ("datasets/a/b/c", "metadata.jsonl", ""),
        ("datasets/images-of-mine", "metadata.jsonl", ""),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(content)
    return made


def test_finds_what_lies_in_it_and_not_too_deep(workspace: Workspace) -> None:
    assert workspace.datasets() == ["datasets/a", "datasets/images-of-mine"]
    assert workspace.adapters() == ["runs/r"]
    assert workspace.reports() == ["reports/e"]
    assert workspace.path("datasets/a") == workspace.root / "datasets" / "a"


@pytest.mark.parametrize(
    "name", ["../secret", "datasets/../../secret", "/etc", "", "..", "datasets\\..\\secret", "datasets/a\0b"]
)
def test_names_that_lead_out_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(InputError, match="inside the workspace"):
        workspace.path(name)


def test_links_that_lead_out_are_refused_and_not_found(workspace: Workspace) -> None:
    (workspace.root / "datasets" / "link").symlink_to(workspace.root.parent / "secret")
    assert workspace.datasets() == ["datasets/a", "datasets/images-of-mine"]
    with pytest.raises(InputError, match="inside the workspace"):
        workspace.path("datasets/link")
    with pytest.raises(InputError, match="inside the workspace"):
        workspace.path("datasets/link/metadata.jsonl")


def test_a_link_that_stays_inside_is_fine(workspace: Workspace) -> None:
    (workspace.root / "datasets" / "again").symlink_to(workspace.root / "datasets" / "a")
    assert workspace.path("datasets/again").is_dir()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "x" * 65, "é", "-rf"])
def test_new_folders_have_simple_names(workspace: Workspace, name: str) -> None:
    with pytest.raises(InputError, match="simpler name"):
        workspace.new_folder(DATASETS_DIR, name)


def test_a_taken_name_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="taken"):
        workspace.new_folder(DATASETS_DIR, "a")
    assert workspace.new_folder(DATASETS_DIR, "b") == workspace.root / "datasets" / "b"


def test_nothing_new_is_made_behind_a_link_that_leads_out(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace.root / "plans").symlink_to(outside)
    with pytest.raises(InputError, match="inside the workspace"):
        workspace.new_folder("plans", "a.csv")
    (workspace.root / "datasets" / "gone").symlink_to(outside / "nothing")
    with pytest.raises(InputError, match="taken"):
        workspace.new_folder(DATASETS_DIR, "gone")


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="--workspace"):
        Workspace.open(tmp_path / "file")


def picture(path: Path, side: int = 16) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(path)
    return path


def test_pictures_are_decoded_and_the_rest_is_refused(tmp_path: Path) -> None:
    assert read_photograph(picture(tmp_path / "a.png"), Limits()).size == (16, 16)
    bad = {
        "a.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "type .svg"),
        "b.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        "c.png": ((tmp_path / "a.png").read_bytes()[:200], "damaged_image"),
        "d.exe": (b"MZ", "type .exe"),
        "e": (b"", r"type \(none\)"),
    }
    for name, (content, message) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_photograph(tmp_path / name, Limits())


def test_bytes_and_pixels_are_limited(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 64)
    with pytest.raises(InputError, match="MiB"):
        read_photograph(path, Limits(upload_bytes=100))
    with pytest.raises(InputError, match="decompression_bomb"):
        read_photograph(path, Limits(upload_pixels=1000))


def test_masks_are_white_where_the_lesion_is(tmp_path: Path) -> None:
    grey = np.zeros((8, 8), np.uint8)
    grey[2:4, 2:5] = 200
    Image.fromarray(grey).save(tmp_path / "m.png")
    assert (np.asarray(read_mask(tmp_path / "m.png", Limits())) == (grey > 0) * 255).all()
    for flat, what in ((False, "without a lesion"), (True, "all lesion")):
        with pytest.raises(InputError, match=what):
            checked_mask(np.full((4, 4), flat))
