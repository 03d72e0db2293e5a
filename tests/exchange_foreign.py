"""Folders as other tools lay them out, imported and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from exchange_data import lesion_of
from skindualgen.cli import CommandGroup
from skindualgen.cli import import_data as import_command
from skindualgen.contracts import PairRecord
from skindualgen.exchange.formats import ExchangeOptions
from skindualgen.exchange.source import Account
from skindualgen.exchange.transfer import import_data

WIDTH, HEIGHT = 48, 40
POLYGON = [10, 8, 30, 8, 30, 28, 10, 28]
SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[8:28, 10:30] = True
INPUT_ERROR = 2


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> None:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)


def read(source: Path, name: str, **options: Any) -> tuple[dict[str, PairRecord], Account]:
    """Import into a folder beside the source; records by id, and what was said."""
    told: list[Account] = []
    out = source.parent / f"{source.name}_out"
    records = import_data(source, out, name, options=ExchangeOptions(told=told.append, **options))
    return {record.isic_id: record for record in records}, told[0]


def mask_of(source: Path, record: PairRecord) -> np.ndarray:
    return lesion_of(source.parent / f"{source.name}_out", record)


def reasons(account: Account) -> dict[str, str]:
    return {item.file: item.reason for item in account.left_out}


def command(source: Path, out: Path, name: str) -> Result:
    """Run ``skindualgen import-data``."""
    app = typer.Typer(cls=CommandGroup)
    app.command("import-data")(import_command.import_data)
    app.command("other")(lambda: None)  # with one command alone its name is none of the arguments
    return CliRunner().invoke(app, ["import-data", str(source), str(out), "--format", name])


def refused(source: Path, name: str, *words: str) -> None:
    """The command ends with exit code 2 and one line that holds these words, and leaves no folder."""
    done = command(source, source.parent / "refused", name)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.exit_code == INPUT_ERROR and len(lines) == 1, done.output
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert not [path.name for path in source.parent.iterdir() if "refused" in path.name]


def coco(
    root: Path, *, image: Mapping[str, Any] | None = None, document: Mapping[str, Any] | None = None, **annotation: Any
) -> Path:
    """A folder of one picture and one annotation, changed as said; ``...`` takes a key away."""
    picture(root / "train" / "a.png")
    entry = {"id": 5, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 8, 20, 20], "segmentation": [POLYGON]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT} | dict(image or {})],
        "annotations": [{key: value for key, value in (entry | annotation).items() if value is not ...}],
        "categories": [{"id": 1, "name": "melanoma"}],
    } | dict(document or {})
    content["images"] = [{key: value for key, value in item.items() if value is not ...} for item in content["images"]]
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


LINE = "0 0.208334 0.2 0.625 0.2 0.625 0.7 0.208334 0.7"


def yolo(root: Path, labels: str = LINE, data: str = "train: ../train/images\nnc: 1\nnames: ['melanoma']\n") -> Path:
    """As Roboflow lays it out."""
    picture(root / "train" / "images" / "a.png")
    (root / "train" / "labels").mkdir(exist_ok=True)
    (root / "train" / "labels" / "a.txt").write_bytes(labels.encode())
    (root / "data.yaml").write_bytes(data.encode())
    return root
