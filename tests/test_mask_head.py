"""A mask half with layers of its own: the picture is the base's, and runs, files and pipelines know the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from pipeline_calls import call, difference, disc, quiet_pipeline
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
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
    last = model.get_base_model().mask_head.modules_to_save["default"].last
    torch.nn.init.normal_(last.weight[4:])
    latents, codes, t, text = inputs()
    before = joint_prediction(model, latents, codes, t, t, text)
    for name, parameter in named.items():
        if "mask_head" in name:
            parameter.data += 0.1
    for parameter in last.parameters():
        parameter.data[:4] = 0  # what a mask changes in the picture
    after = joint_prediction(model, latents, codes, t, t, text)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])
    after[1].square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in named.items() if "mask_head" in name)


def test_a_picture_sees_a_mask_by_its_share_of_signal() -> None:
    """A given mask changes it, the same mask in pure noise does not, and of a clean picture there is nothing to say."""
    torch.manual_seed(0)
    joint = widen_unet(tiny_unet(), head=HEAD)
    torch.nn.init.normal_(joint.conv_in.weight)
    torch.nn.init.normal_(joint.mask_head.last.weight)
    latents, codes, t, text = inputs()

    def change(t_image: int, t_mask: int) -> float:
        times = torch.full_like(t, t_image), torch.full_like(t, t_mask)
        with torch.no_grad():
            one, other = (joint_prediction(joint, latents, c, *times, text)[0] for c in (codes, codes.roll(1, -1)))
        return float((one - other).abs().mean())

    assert change(900, 0) > change(900, 500) > change(900, 900) > 0
    assert change(900, 999) == 0 == change(0, 0)


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


def test_another_pipeline_takes_over_a_unet_with_a_head(run: Path) -> None:
    """diffusers hands on only modules whose class is exactly the one in the signature."""
    pipe = quiet_pipeline(run)
    other = SkinDualGenPipeline.from_pipe(pipe, default_steps=2)
    assert other.unet is pipe.unet and other.config.default_steps == 2


def test_a_picture_is_led_towards_its_mask(run: Path) -> None:
    """As by two passes: with the mask, and with nothing told of it."""
    pipe = quiet_pipeline(run)
    torch.nn.init.normal_(pipe.unet.mask_head.last.weight)
    latents, codes, t, text = inputs()
    given = torch.zeros_like(t)

    def picture(w: float) -> torch.Tensor:
        return joint_prediction(pipe.unet, latents, codes, t, given, text, mask_guidance=w)[0]

    with torch.no_grad():
        assert torch.allclose(picture(3.0), picture(0.0) + 3 * (picture(1.0) - picture(0.0)), atol=1e-4)
    as_trained = call(pipe, mask_image=disc())
    assert difference(call(pipe, mask_image=disc(), mask_guidance_scale=1.0), as_trained) == 0
    led = call(pipe, mask_image=disc(), mask_guidance_scale=3.0)
    assert difference(led, as_trained)
    pipe.register_to_config(default_mask_guidance=3.0)
    assert difference(call(pipe, mask_image=disc()), led) == 0


def test_guidance_by_the_mask_is_an_option_and_recorded(run: Path, tiny_v_adapter: Path, tmp_path: Path) -> None:
    def generate(adapter: Path, *more: str) -> Result:
        words = ["generate", "--adapter", str(adapter), "--prompt", "a nevus", "-n", "1", "--steps", "2", *more]
        return CliRunner().invoke(app, [*words, "--out", str(tmp_path / f"out{len(more)}")])

    for more in ((), ("--mask-guidance", "3")):
        done = generate(run, *more)
        assert done.exit_code == 0, done.output
    assert read_metadata(tmp_path / "out0")[0].model_extra == {}
    assert read_metadata(tmp_path / "out2")[0].model_extra == {"mask_guidance": 3.0}
    refused = generate(tiny_v_adapter, "--mask-guidance", "3", "--plain-prompts")
    assert refused.exit_code == 2 and "an adapter without mask head" in refused.stderr
    assert not (tmp_path / "out3").exists()


def test_what_cannot_lead_a_picture_is_refused(pipe: SkinDualGenPipeline) -> None:
    with pytest.raises(InputError, match=r"mask_guidance_scale=2.0 with an adapter without mask head; expected 1"):
        call(pipe, mask_image=disc(), mask_guidance_scale=2.0)
    with pytest.raises(InputError, match="mask_guidance_scale -1; expected"):
        call(pipe, mask_image=disc(), mask_guidance_scale=-1)


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
