"""A file of a data set folder that is missing or no picture is named in one line by every command that reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark_data import write_folder
from skindualgen.cli import app
from skindualgen.data.manifest import read_metadata, write_dataset

DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "a page": lambda path: path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>"),
}
SPLITS = {"train": 24, "val": 52, "test": 14}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damaged")
    write_folder(root / "real", range(sum(SPLITS.values())), split=SPLITS)
    write_folder(root / "generated", range(200, 214), split={"train": 14}, origin="synthetic")
    return root


def commands(root: Path, base: Path) -> dict[str, list[str]]:
    """Command lines that read the real folder, by a name."""
    real, generated, out = str(root / "real"), str(root / "generated"), str(root / "out")
    quick = [
        "--base",
        str(base),
        "--resolution",
        "64",
        "--max-train-steps",
        "1",
        "--rank",
        "2",
        "--train-batch-size",
        "2",
    ]
    return {
        "train": ["train", "--data", real, "--out", out, *quick, "--mixed-precision", "fp32", "--set", "views=1"],
        "audit": ["prepare", real, "--audit"],
        "export-data": ["export-data", real, out, "--format", "classes"],
        "merge": ["merge", real, generated, "--out", out],
        "benchmark": [
            "benchmark",
            "--real",
            real,
            "--generated",
            generated,
            "--out",
            out,
            *(
                "--size 32 --threads 1 --network test_efficientnet --weights random --precision fp32 "
                "--devices cpu --steps 1 --seeds 1 --task segment"
            ).split(),
        ],
        "evaluate": [
            "evaluate",
            "--real",
            real,
            "--generated",
            generated,
            "--judges",
            str(root / "cache"),
            "--out",
            out,
            *"--judge-steps 1 --judge-size 32".split(),
        ],
        "gate": ["gate", "calibrate", "--real", real, "--out", out, "--size", "32"],
    }


READ_WITHOUT_A_MODEL = ("audit", "export-data", "merge")
CASES = [
    *((command, kind, part) for command in READ_WITHOUT_A_MODEL for kind in DAMAGES for part in ("image", "mask")),
    ("train", "missing", "mask"),
    ("train", "truncated", "image"),
    ("train", "a page", "mask"),
    ("benchmark", "a page", "mask"),
    ("evaluate", "truncated", "image"),
    ("gate", "truncated", "mask"),
]


@pytest.mark.parametrize(
    ("command", "kind", "part"), [case for case in CASES if case[0] != "audit" or case[2] == "image"]
)
def test_the_file_is_named_in_one_line(
    whole: Path, tiny_base: Path, tmp_path: Path, command: str, kind: str, part: str
) -> None:
    """No hash of it is recorded, as in folders that others have written."""
    root = shutil.copytree(whole, tmp_path / "data")
    records = [
        record.model_copy(update={"sha256": None, "mask_sha256": None}) for record in read_metadata(root / "real")
    ]
    write_dataset(root / "real", records, made_by={})
    split = {"train": "train", "benchmark": "test", "evaluate": "test"}.get(command, "val")
    record = next(each for each in records if each.split == split)
    name = record.file_name if part == "image" else str(record.mask_file_name)
    DAMAGES[kind](root / "real" / name)
    done = CliRunner().invoke(app, commands(root, tiny_base)[command])
    assert done.exit_code == 2, (done.output, done.exception)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert name in line


def test_verify_names_it_too(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "data") / "real"
    names = [record.file_name for record in read_metadata(root)[: len(DAMAGES)]]
    for name, damage in zip(names, DAMAGES.values(), strict=True):
        damage(root / name)
    done = CliRunner().invoke(app, ["verify", str(root), "--workers", "1"])
    assert done.exit_code == 3
    assert all(name in done.output for name in names)
