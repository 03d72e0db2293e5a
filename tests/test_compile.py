"""``compile``: the same losses, the same adapter, the same resuming, and names without the compiler's prefixes.

The UNet is captured and differentiated as a compiled one is, and the graphs are run as they are ("aot_eager"): the C++
that inductor would write for them takes minutes to build on a CPU.
"""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.training.loop import train
from test_distributed import curve
from tiny import tiny_config, write_tiny_base


@pytest.mark.slow
def test_a_compiled_run_is_an_eager_one_and_resumes(
    tmp_path: Path, phantom_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_tiny_base(tmp_path / "base", levels=1)  # capturing two levels takes twice as long
    compiled_call = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compiled_call)
    settings = {"max_train_steps": 3, "checkpointing_steps": 1, "checkpoints_total_limit": 3, "learning_rate": 1e-3}
    eager = train(tiny_config(phantom_data, tmp_path / "eager", base, **settings))
    torch._dynamo.reset()
    counters.clear()
    config = tiny_config(phantom_data, tmp_path / "compiled", base, compile=True, **settings)
    train(config, stop_after=2)
    compiled = train(config)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]  # the steps'; validation runs eager
    for name in ("loss", "mask", "val_loss"):
        assert curve(compiled, name) == pytest.approx(curve(eager, name), rel=1e-4), name
    ours, theirs = load_file(compiled / "adapter" / WEIGHTS_FILE), load_file(eager / "adapter" / WEIGHTS_FILE)
    assert ours.keys() == theirs.keys() and not any("_orig_mod" in name for name in ours)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)
