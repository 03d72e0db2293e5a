"""Annotations and prompts of others that could be mistaken: refused, or said."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange_foreign import coco, read, refused, yolo
from skindualgen.contracts import InputError
from skindualgen.exchange.source import Source
from skindualgen.planning.prompt_files import read_prompts


@pytest.mark.parametrize(
    "name", ["not_melanoma", "nonmelanoma", "normal", "negative", "hair", "Normal-Skin", "pen_marks", "ruler"]
)
def test_class_that_denies_or_lies_beside_lesions_is_no_diagnosis(name: str, tmp_path: Path) -> None:
    source = yolo(tmp_path / "yolo", "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    data = source / "data.yaml"
    data.write_text(data.read_text().replace("melanoma", name))
    refused(source, "yolo", name, "lesion")


def test_name_twice_in_a_json_file_is_refused(tmp_path: Path) -> None:
    """Guards against annotations of which Python keeps the last list alone."""
    source = coco(tmp_path / "coco")
    (file,) = source.rglob("*.json")
    file.write_text(file.read_text().rstrip().removesuffix("}") + ', "annotations": []}')
    refused(source, "coco", "'annotations' twice")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a nevus", "prompt": "a melanoma"}\n')
    with pytest.raises(InputError, match=r"line 1: the name 'prompt' twice"):
        read_prompts(prompts)


def test_outlines_that_are_all_boxes_are_said(tmp_path: Path) -> None:
    box = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"
    _, account = read(yolo(tmp_path / "boxes", box * 5), "yolo")
    assert any("upright rectangles" in note for note in account.notes)
    _, account = read(yolo(tmp_path / "outlines", box * 5 + "0 0.1 0.1 0.5 0.1 0.5 0.5\n"), "yolo")
    assert not any("upright rectangles" in note for note in account.notes)
    assert Source(tmp_path).account().notes == []
