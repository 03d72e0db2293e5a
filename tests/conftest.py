"""What all tests share: one thread (other work may run beside them) and the real photographs, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("SKINDUALGEN_REAL_DATA", REPOSITORY.parent / "shared" / "data" / "dermoscopy"))


def pytest_report_header() -> str:
    state = "found" if (REAL_DATA / "metadata.csv").is_file() else "NOT found: the tests that read it are skipped"
    return f"real dermoscopy data: {state} (SKINDUALGEN_REAL_DATA or ../shared/data/dermoscopy)"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pairs (images/, masks/, metadata.csv); read-only."""
    if not (REAL_DATA / "metadata.csv").is_file():
        pytest.skip("the real dermoscopy folder is not there: set SKINDUALGEN_REAL_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder of the real classes at tiny size (32 px, random weights)."""
    from tiny import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """An adapter of the tiny base, all of its tensors random."""
    from tiny import write_tiny_adapter

    return write_tiny_adapter(tmp_path_factory.mktemp("tiny") / "adapter", tiny_base)
