"""The examples run as they stand, as a reader would run them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> str:
    """Run a file as ``python FILE`` does, in this process, which has imported the libraries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_every_example_is_tested() -> None:
    in_test_studio_app = "studio_client.py"
    tested = {"pairs_from_text.py", "three_ways.py", "judge_a_folder.py", in_test_studio_app}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_pairs_from_text(tmp_path: Path, tiny_adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--adapter", str(tiny_adapter), "--count", "2", "--out", str(tmp_path / "pairs")]
    said = run(capsys, "pairs_from_text.py", *arguments)
    assert said.startswith("2 pairs in ")
    names = sorted(path.name for path in (tmp_path / "pairs").iterdir())
    assert names == ["0_image.png", "0_mask.png", "1_image.png", "1_mask.png"]
    assert {size_of(tmp_path / "pairs" / name) for name in names} == {(64, 64)}


def test_three_ways(tmp_path: Path, tiny_adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "three_ways.py", "--adapter", str(tiny_adapter), "--out", str(tmp_path / "sheet.png"))
    assert "photograph -> mask: Dice" in said
    assert size_of(tmp_path / "sheet.png") == (3 * 64, 2 * 64)


def test_judge_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from skindualgen.data.phantom import write_phantom_folder
    from skindualgen.data.prepare import PrepareOptions, prepare

    write_phantom_folder(tmp_path / "phantoms", 4, size=64)
    prepare(tmp_path / "phantoms", tmp_path / "data", PrepareOptions(size=64))
    said = run(capsys, "judge_a_folder.py", str(tmp_path / "data"), "--out", str(tmp_path / "folder.html"))
    assert said.startswith("report of 4 pairs")
    assert "4 pairs of data" in (tmp_path / "folder.html").read_text(encoding="utf-8")
