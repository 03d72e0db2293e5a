"""The page of a training: of a whole run, of one that was stopped and resumed, of one that ended early."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skindualgen.report.training import HTML_FILE, train_with_report, training_report
from skindualgen.sample.sheet import pair_sheet, pairs_of_row
from skindualgen.training.stopping import TrainingStopped
from skindualgen.training.validate import Validator
from tiny import tiny_config


@pytest.fixture(scope="module")
def stopped_and_resumed(
    tmp_path_factory: pytest.TempPathFactory, phantom_data: Path, tiny_base: Path
) -> tuple[Path, str]:
    """A run that SIGTERM reached in its first validation, gone on with; and its page of before."""
    config = tiny_config(
        phantom_data, tmp_path_factory.mktemp("report") / "run", tiny_base, max_train_steps=4, validation_steps=2
    )
    validate = Validator.run

    def stopped(self: Validator, *arguments: Any, **options: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "run", stopped)
        with pytest.raises(TrainingStopped):
            train_with_report(config)
    before = (config.out / HTML_FILE).read_text()
    assert train_with_report(config) == config.out
    return config.out, before


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_stopped_run_has_its_page(stopped_and_resumed: tuple[Path, str]) -> None:
    _, page = stopped_and_resumed
    assert "stopped at step 2 of 4" in page
    assert page.rstrip().endswith("</html>") and len(pictures(page)) == 4


def test_the_page_holds_what_the_run_folder_does(stopped_and_resumed: tuple[Path, str]) -> None:
    run, _ = stopped_and_resumed
    page = unescape((run / HTML_FILE).read_text())
    assert "finished after 4 steps" in page
    assert page.count("TensorBoard") == 2  # two parts
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page), "something is loaded from elsewhere"
    shown = pictures(page)
    assert len(shown) == 8
    with Image.open(run / "samples" / "step-0000004.png") as sheet:
        assert np.array_equal(np.asarray(shown[0]), np.asarray(sheet)[:64, :64])
    for setting in ("learning_rate", "lora.rank", "train_manifest_sha256"):
        assert f"<dt>{setting}</dt>" in page
    report = training_report(run)
    table = report.sections[0].tables[0]
    assert [label for label, _ in table.rows] == ["2", "4"]
    assert {"loss", "dice_read"} <= {column.title for column in table.columns}
    seen = dict(next(section for section in report.sections if section.anchor == "seen").tables[0].rows)
    assert seen["pairs to train on"] == ["12"] and seen["pairs to validate on"] == ["4"]
    assert seen["times that a pair was drawn, on average"] == ["1.3"]  # 4 steps of 4 pairs, of 12


def test_a_run_that_patience_ends_says_so(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    config = tiny_config(
        phantom_data,
        tmp_path / "run",
        tiny_base,
        max_train_steps=6,
        validation_steps=1,
        patience=1,
        best_by="val_dice_read",  # of an untrained model it stays what it is
        learning_rate=1e-12,
        ema_decay=0,
    )
    page = (train_with_report(config) / HTML_FILE).read_text()
    assert "ended at step 2 of 6, as 1 validations were not better" in page


def test_a_run_of_an_earlier_version_has_a_page(stopped_and_resumed: tuple[Path, str], tmp_path: Path) -> None:
    """Guards against a page that needs parts or records in pictures, which runs did not have."""
    run = tmp_path / "run"
    shutil.copytree(stopped_and_resumed[0], run)
    (run / "parts.json").unlink()
    for path in (run / "samples").iterdir():
        Image.open(path).crop((0, 0, 268, 128)).save(path)
    assert {section.anchor for section in training_report(run).sections} == {"loss", "val_dice_read", "seen", "parts"}


def test_a_sheet_is_taken_apart_into_what_it_was_made_of() -> None:
    random = np.random.default_rng(5)
    images = [Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(3)]
    masks = [Image.fromarray((random.random((24, 24)) < 0.5).astype(np.uint8) * 255) for _ in range(3)]
    for (image, mask), ours, theirs in zip(
        pairs_of_row(pair_sheet(images, masks, show_masks=True), 24, 3), images, masks, strict=True
    ):
        assert image.tobytes() == ours.tobytes() and mask.tobytes() == theirs.tobytes()
