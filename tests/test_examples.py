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
    tested |= {"torchvision_loader.py", "sklearn_benchmark.py"}
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


def test_torchvision_loader(phantom_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(phantom_data), "--size", "64", "--out", str(tmp_path / "batch.png")]
    assert run(capsys, "torchvision_loader.py", *arguments).startswith("8 pairs in ")
    assert size_of(tmp_path / "batch.png") == (4 * 64 + 10, 2 * 64 + 6)  # make_grid frames each with 2 px


def test_sklearn_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Phantoms stand in for both; one that is in training and test is refused."""
    from skindualgen.contracts import InputError
    from skindualgen.data.manifest import read_metadata, write_dataset
    from skindualgen.data.phantom import write_phantom_folder
    from skindualgen.data.prepare import PrepareOptions, prepare

    for name, count, seed in (("real", 16, 0), ("generated", 8, 99)):
        write_phantom_folder(tmp_path / name, count, size=64, seed=seed)
        prepare(tmp_path / name, tmp_path / f"{name}_data", PrepareOptions(size=64))
    real, generated = tmp_path / "real_data", tmp_path / "generated_data"
    records = read_metadata(real)
    alone: dict[str, object] = {"patient_id": None, "lesion_id": None}  # two phantoms of one patient would be a leak
    halves = [
        record.model_copy(update={**alone, "split": ("train", "test")[row % 2]}) for row, record in enumerate(records)
    ]
    write_dataset(real, halves, made_by={})
    made = [record.model_copy(update={"split": "train", "origin": "synthetic"}) for record in read_metadata(generated)]
    write_dataset(generated, made, made_by={})
    arguments = ["--real", str(real), "--generated", str(generated), "--size", "64"]
    said = run(capsys, "sklearn_benchmark.py", *arguments).splitlines()
    assert said[0].startswith("balanced accuracy on 8 real photographs")
    scores = {line.split(":")[0].strip(): line.split()[1:] for line in said[1:]}
    assert [scores[name][2] for name in ("real", "generated", "both")] == ["8", "8", "16"]
    assert all(0 <= float(words[0]) <= 1 for words in scores.values())
    write_dataset(real, [record.model_copy(update={"patient_id": "P1"}) for record in halves], made_by={})
    with pytest.raises(InputError, match="test split"):
        run(capsys, "sklearn_benchmark.py", *arguments)
