"""`skindualgen recipe`: commands that exist, for the data at hand, and claims that docs/results shows."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmark_data import CLASSES
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.readiness import recipe as recipes
from skindualgen.readiness.recipe import Finding, recipe

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
FINDINGS = [*recipes.READ_FINDINGS, *recipes.MADE_FINDINGS, *recipes.DIAGNOSIS_FINDINGS]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: f"{finding.study}-{finding.arm}-{finding.metric}")
def test_claims_are_the_numbers_of_the_results(finding: Finding) -> None:
    [task] = json.loads((RESULTS / f"{finding.study}.json").read_text(encoding="utf-8"))["tasks"]
    [regime] = task["regimes"]
    [arm] = [arm for arm in regime["arms"] if arm["name"] == finding.arm]
    found = arm["differences"][finding.control][finding.metric]
    assert regime["real_pairs"] == finding.real_pairs
    assert [found[name] for name in ("value", "low", "high")] == pytest.approx(
        [finding.value, finding.low, finding.high], abs=5e-4
    )
    assert (RESULTS / f"{finding.study}.md").is_file()


def folder(root: Path, masked: int, bare: int, **splits: int) -> Path:
    """Records of two diagnoses in turn; the first training photographs alone have masks. Nothing looks at pictures."""
    names = ["train"] * (masked + bare) + [name for name, count in splits.items() for _ in range(count)]
    records = []
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index, split in enumerate(names):
        files = {"file_name": f"images/{index}.png", "mask_file_name": f"masks/{index}.png"}
        if split == "train" and index >= masked:
            files.pop("mask_file_name")
        for name in files.values():
            Image.new("L", (1, 1)).save(root / name)
        fields: dict[str, Any] = {"diagnosis": CLASSES[index % 2], "split": split, **files}
        records.append(PairRecord(isic_id=f"i{index}", **fields))
    write_dataset(root, records, made_by={})
    return root


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_few_masks_and_many_photographs(tmp_path: Path) -> None:
    root = folder(tmp_path / "my data", 20, 62, val=4, test=4)
    text = recipe(root)
    assert "# 20 training pairs with masks, 62 training photographs without; 4 val, 4 test." in text
    assert "Masks read from photographs helped in some measures" in text and "HD95, px, lower is better, -2.567" in text
    assert "Dice +0.022 (-0.000 to +0.044), no difference shown" in text
    assert "Generated pairs were not shown to help" in text
    found = commands(text)
    assert [words[1] for words in found] == [
        "check", "train", "generate", "benchmark", "generate", "benchmark", "benchmark",
    ]  # fmt: skip
    read = found[3]
    assert read[read.index("--ratios") + 1] == "3" and read[read.index("--real") + 1] == str(root)
    arms = read[read.index("--arms") + 1].split(",")
    assert {"hybrid-3", "self-train", "augment-tuned", "replay"} <= set(arms)
    group = typer.main.get_command(app)
    for words in found:
        command = group.commands[words[1]]  # type: ignore[attr-defined]
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_many_masks_are_told_that_generated_pairs_did_harm(tmp_path: Path) -> None:
    text = recipe(folder(tmp_path / "data", 90, 0, val=4))
    assert "Generated pairs did harm" in text and "Dice -0.008 (-0.014 to -0.003)" in text
    assert "--read" not in text and "self-train" not in text and "augment-tuned" not in text
    between = recipe(folder(tmp_path / "between", 200, 0, val=2))
    assert "not measured for about 200 masks; at no number were they shown to help" in between
    shown = [each for each in FINDINGS if "generated" in each.words and each.low > 0]
    assert not shown  # else the sentence above is not true any more


def test_data_that_have_no_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 training pairs with masks"):
        recipe(folder(tmp_path / "bare", 0, 4, val=2))
    with pytest.raises(InputError, match="a part to test on"):
        recipe(folder(tmp_path / "all", 4, 0))
    result = CliRunner().invoke(app, ["recipe", "--data", str(tmp_path)])
    assert result.exit_code == 2
    shown = CliRunner().invoke(app, ["recipe", "--data", str(folder(tmp_path / "fine", 6, 0, test=2))])
    assert shown.exit_code == 0 and shown.stdout.startswith("# 6 training pairs")
