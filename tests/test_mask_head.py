"""A mask half with layers of its own: the picture is the base's, and runs, files and pipelines know the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline_calls import call, difference, quiet_pipeline
from skindualgen.contracts import InputError
from skindualgen.model.adapter import (
    WEIGHTS_FILE,
    attach_adapter,
    mask_head_of,
    read_header,
    restore_adapter,
    trainable_parameters,
)
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import joint_prediction, widen_unet
from skindualgen.model.mask_head import HeadedUNet
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.estimate import estimate
from skindualgen.training.loop import train
from tiny import tiny_config, tiny_unet

HEAD = {"width": 24, "levels": 2, "features": 8}


def inputs(pairs: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents, codes = torch.randn(2, pairs, 4, 8, 8, generator=generator)
    return latents, codes, torch.tensor([5, 900][:pairs]), torch.randn(pairs, 77, 32, generator=generator)


def test_at_first_the_picture_is_the_bases_and_the_mask_zero() -> None:
    base = tiny_unet().eval()
    joint = widen_unet(base, head=HEAD)
    latents, codes, t, text = inputs()
    image, mask = joint_prediction(joint, latents, codes, t, t.flip(0), text)
    assert torch.equal(image, base(latents, t, text).sample)
    assert mask.shape == codes.shape and not mask.any()
    assert joint.config.out_channels == 4 + HEAD["features"]


def test_masks_are_learnt_by_the_head_without_the_pictures_layers() -> None:
    """The head sees the mask's noise itself: a gradient of the mask need not reach any layer of the base."""
    torch.manual_seed(0)
    model = attach_adapter(widen_unet(tiny_unet(), head=HEAD), rank=2, alpha=2, targets="all")
    named = trainable_parameters(model)
    assert not [name for name in named if "mask_head" in name and "lora_" in name]
    torch.nn.init.normal_(model.get_base_model().mask_head.modules_to_save["default"].last.weight)
    latents, codes, t, text = inputs()
    before = joint_prediction(model, latents, codes, t, t, text)
    for name, parameter in named.items():
        if "mask_head" in name:
            parameter.data += 0.1
    after = joint_prediction(model, latents, codes, t, t, text)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])
    after[1].square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in named.items() if "mask_head" in name)


@pytest.fixture(scope="module")
def run(phantom_data: Path, tiny_v_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("headed") / "run"
    config = tiny_config(phantom_data, out, tiny_v_base, max_train_steps=2, mask_head=HEAD, ema_decay=0.0)
    return train(config)


def test_an_adapter_says_its_head_and_is_restored_with_it(run: Path, tiny_v_base: Path) -> None:
    assert read_header(run / "adapter")["recipe"]["mask_head"] == HEAD
    model = restore_adapter(load_base(str(tiny_v_base)), run / "adapter")
    assert mask_head_of(model) == HEAD
    assert model.get_base_model().mask_head.modules_to_save["default"].last.weight.any()


def test_a_merged_pipeline_is_saved_and_draws_the_same(run: Path, tmp_path: Path) -> None:
    pipe = quiet_pipeline(run)
    assert isinstance(pipe.unet, HeadedUNet)
    pipe.save_pretrained(tmp_path)
    loaded = SkinDualGenPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert difference(call(loaded), call(pipe)) == 0


def test_a_run_goes_on_with_the_head_of_its_adapter(
    run: Path, phantom_data: Path, tiny_v_base: Path, tmp_path: Path
) -> None:
    given = {"init_adapter": str(run), "max_train_steps": 1, "lora": {}}
    train(tiny_config(phantom_data, tmp_path / "on", tiny_v_base, **given))
    assert read_header(tmp_path / "on" / "adapter")["recipe"]["mask_head"] == HEAD
    other = tiny_config(phantom_data, tmp_path / "other", tiny_v_base, mask_head={**HEAD, "width": 30}, **given)
    with pytest.raises(InputError, match=r"mask_head\.width = 30 with init_adapter"):
        train(other)


def test_a_head_is_trained_alone(phantom_data: Path, tiny_v_base: Path, tmp_path: Path) -> None:
    """And a run that starts from it may go on with everything."""
    settings = {"loss": {"image": 0.0}, "mask_head": {**HEAD, "alone": True}, "ema_decay": 0.0}
    train(tiny_config(phantom_data, tmp_path / "head", tiny_v_base, max_train_steps=1, **settings))
    state = load_file(tmp_path / "head" / "adapter" / WEIGHTS_FILE)
    assert not any(
        value.any() for name, value in state.items() if "lora_B" in name or "class_embedding.linear_2" in name
    )
    assert all(value.any() for name, value in state.items() if "mask_head.last" in name)
    given = {"init_adapter": str(tmp_path / "head"), "max_train_steps": 1, "lora": {}, "ema_decay": 0.0}
    train(tiny_config(phantom_data, tmp_path / "on", tiny_v_base, **given))
    state = load_file(tmp_path / "on" / "adapter" / WEIGHTS_FILE)
    assert any(value.any() for name, value in state.items() if "lora_B" in name)


def test_no_head_is_trained_alone(phantom_data: Path, tiny_v_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mask_head\.alone without a mask head"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_v_base, mask_head={"alone": True}))


def test_the_estimate_counts_the_head(phantom_data: Path, tiny_v_base: Path, tmp_path: Path) -> None:
    plain, headed = (
        estimate(tiny_config(phantom_data, tmp_path / "run", tiny_v_base, **settings))
        for settings in ({}, {"mask_head": HEAD})
    )
    assert plain != headed


def test_an_adapter_without_head_has_none_in_its_file(tiny_v_adapter: Path, tiny_v_base: Path) -> None:
    assert "mask_head" not in read_header(tiny_v_adapter)["recipe"]
    assert mask_head_of(restore_adapter(load_base(str(tiny_v_base)), tiny_v_adapter)) is None
    assert (tiny_v_adapter / WEIGHTS_FILE).is_file()
