"""Two processes, started as a user would, train what one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from torch.distributed.run import main as torchrun

from processes import launched
from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.training.loop import train
from tiny import tiny_config

STEPS = 6
SETTINGS: dict[str, Any] = {
    "max_train_steps": STEPS,
    "gradient_accumulation_steps": 2,
    "validation_steps": 3,
    "checkpointing_steps": 3,
    "lora": {"rank": 2, "alpha": 4},
    "learning_rate": 1e-3,
}


def curve(run: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """``torchrun -m skindualgen train`` on the CPU: what ``accelerate launch`` starts where there are GPUs.

    The loss curve, the terms, the validation and the adapter, within float tolerance; accumulation included.
    """
    one = train(tiny_config(phantom_data, tmp_path / "one", tiny_base, train_batch_size=4, **SETTINGS))
    config = tiny_config(phantom_data, tmp_path / "two", tiny_base, train_batch_size=2, **SETTINGS)
    settings = config.model_dump(mode="json", exclude_none=True)
    file = tmp_path / "c.toml"

    file.write_text(tomli_w.dumps(settings))
    command = ["--standalone", "--nproc_per_node", "2", "-m", "skindualgen", "train", "--config", str(file)]
    done = launched(capfd, lambda: torchrun(command))
    assert not done.failed, done.stderr
    two = config.out
    assert json.loads((two / "config.json").read_text())["settings"]["processes"] == 2
    for name in ("loss", "image", "mask", "dice", "val_loss", "grad_norm"):
        assert curve(two, name) == pytest.approx(curve(one, name), rel=2e-4), name
    ours, theirs = load_file(two / "adapter" / WEIGHTS_FILE), load_file(one / "adapter" / WEIGHTS_FILE)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=2e-5)
    other = tiny_config(phantom_data, tmp_path / "other", tiny_base, train_batch_size=4, **(SETTINGS | {"seed": 1}))
    assert curve(train(other), "loss") != pytest.approx(curve(one, "loss"), rel=2e-4)
