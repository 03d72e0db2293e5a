"""A base that is made deeper predicts what it did, learns with all of its layers, and keeps everything else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from micro_deepen import deepen, deepened
from micro_device import Processes
from micro_model import Base
from micro_nets import make_unet
from skindualgen.model.bases import MICRO_BASE

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def predicted(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy, text = torch.randn(2, 16, 16, 16, generator=generator), torch.randn(2, 77, 128, generator=generator)
    return unet(noisy, torch.tensor([10, 700]), text).sample


def test_a_deeper_network_predicts_the_same_and_all_of_it_learns() -> None:
    unet = make_unet(16)
    deeper = deepened(unet)
    assert deeper.config.layers_per_block == 2 and deeper.num_parameters() > 1.4 * unet.num_parameters()
    before = predicted(deeper)
    torch.testing.assert_close(before, predicted(unet))
    optimizer = torch.optim.SGD(deeper.parameters(), 0.1)
    for _ in range(2):  # the first step reaches only the layers that were zero
        optimizer.zero_grad()
        predicted(deeper).square().mean().backward()
        optimizer.step()
    still = [name for name, p in deeper.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    assert (predicted(deeper) - before).abs().max() > 1e-3


def test_twice_deeper_still_predicts_the_same() -> None:
    unet = deepened(make_unet(16))
    torch.testing.assert_close(predicted(deepened(unet)), predicted(unet))


def test_a_training_goes_on_from_the_deeper_base(tmp_path: Path) -> None:
    deepen(MICRO_BASE, tmp_path / "deep")
    names = {path.relative_to(MICRO_BASE) for path in MICRO_BASE.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "deep") for path in (tmp_path / "deep").rglob("*") if path.is_file()} == names
    (tmp_path / "deep" / "training.json").write_text(json.dumps({"samples": 3}))
    base = Base(16, "cpu", Processes("cpu"), layers_per_block=2)
    base.load(tmp_path / "deep")
    assert base.samples == 3
    kept = UNet2DConditionModel.from_pretrained(tmp_path / "deep" / "unet", torch_dtype=torch.float32)
    torch.testing.assert_close(predicted(base.models["unet"]), predicted(kept), atol=1e-3, rtol=1e-3)
