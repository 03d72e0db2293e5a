"""The tutorials run as written, each in an empty folder: Python as it stands, commands in this process."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.cli import app
from skindualgen.data.manifest import read_metadata
from skindualgen.studio.review import Library
from skindualgen.studio.workspace import Workspace
from test_docs import BLOCK, TUTORIALS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_threads")]
EXIT_CODE = re.compile(r"# exit code (\d)")


def follow(tutorial: str) -> Iterator[list[str]]:
    """Do all that a tutorial says; give the words of each command once it has ended as the page says: 0, or stated."""
    (page,) = [page for page in TUTORIALS if page.stem == tutorial]
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] == "python":
            exec(compile(block["code"], str(page), "exec"), {})
            continue
        for line in block["code"].replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "skindualgen"
            stated = EXIT_CODE.search(line)
            done = CliRunner().invoke(app, words)
            assert done.exit_code == (int(stated[1]) if stated else 0), f"{line}\n{done.output}\n{done.exception!r}"
            yield words


def arms() -> set[str]:
    """What the benchmark has trained."""
    (task,) = BenchmarkResult.model_validate_json(Path("benchmark/benchmark.json").read_text()).tasks
    return {arm.name for arm in task.regimes[0].arms}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a reader begins; judges and features are kept there too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKINDUALGEN_CACHE", str(tmp_path / "cache"))


def test_from_25_masks_to_a_hybrid_training() -> None:
    assert [words[0] for words in follow("few-masks")][-2:] == ["merge", "export-data"]
    assert len(read_metadata(Path("data"), "train")) == 25
    assert {"replay", "hybrid-1", "replace-0.5"} <= arms()
    assert {record.origin for record in read_metadata(Path("hybrid"), "train")} == {"real", "synthetic"}
    assert {record.origin for record in read_metadata(Path("hybrid"), "test")} == {"real"}


def test_a_rare_class_is_planned_gated_and_measured() -> None:
    assert [words[0] for words in follow("rare-class")][-1] == "benchmark"
    real = [record.diagnosis for record in read_metadata(Path("data"), "train")]
    planned = [record.diagnosis for record in read_metadata(Path("synthetic"))]
    assert real.count("melanoma") < 10 < real.count("nevus")
    assert {planned.count(diagnosis) for diagnosis in set(real)} == {3}
    refused = [json.loads(line) for line in Path("gated/rejected.jsonl").read_text().splitlines()]
    assert refused
    assert {"oversample", "hybrid-0.25"} <= arms()


def test_a_released_data_set_holds_no_pair_that_was_rejected() -> None:
    """The reviewer rejects one, as the studio does it, when the pairs have been verified."""
    rejected = ""
    for words in follow("released-data-set"):
        if words == ["verify", "synthetic/"]:
            rejected = read_metadata(Path("synthetic"))[0].isic_id
            Library(Workspace.open(Path())).decide("synthetic", {rejected: "rejected"})
    released = {record.isic_id for record in read_metadata(Path("release/dataset"))}
    assert len(released) == 11 and rejected and rejected not in released
    assert "fidelity" in json.loads(Path("release/dataset/evaluation.json").read_text())
