"""The notebook of the examples runs from its first cell to its last, and shows what it speaks of."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
SHEETS = 4
"""cells that end in a picture"""
SECONDS_A_CELL = 900


@pytest.fixture(scope="module")
def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def pictures(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    data = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    return [Image.open(io.BytesIO(base64.b64decode(found["image/jpeg"]))) for found in data if "image/jpeg" in found]


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output["text"] for output in outputs if output.output_type == "stream")


def test_the_stored_notebook_was_run_and_names_no_machine(stored: nbformat.NotebookNode) -> None:
    nbformat.validate(stored)
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(pictures(stored)) == SHEETS
    assert NOTEBOOK.stat().st_size < 400_000
    assert not [word for word in ("/work/", "/home/", "/root/") if word in NOTEBOOK.read_text()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_runs(stored: nbformat.NotebookNode, tmp_path: Path) -> None:
    notebook = nbformat.from_dict(stored)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    settings = {"timeout": SECONDS_A_CELL, "startup_timeout": SECONDS_A_CELL}
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, **settings).execute()
    drawn, before = pictures(notebook), pictures(stored)
    assert [sheet.size for sheet in drawn] == [sheet.size for sheet in before]
    assert all(len(sheet.convert("L").getcolors() or ()) > 50 for sheet in drawn)
    text = printed(notebook)
    assert "6 pairs in " in text
    assert "All as recorded." in text
    (dice,) = [line for line in text.splitlines() if line.startswith("dice")]
    assert float(dice.split()[1]) > 0.8
