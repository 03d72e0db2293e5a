"""The widened UNet is the base, to the last bit, until something is trained; what cannot be widened is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from skindualgen.contracts import InputError
from skindualgen.model.bases import base_folder, base_sha256, load_base
from skindualgen.model.joint_unet import joint_prediction, widen_unet
from tiny import tiny_unet


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "latents": torch.randn(3, 4, 8, 8, generator=generator),
        "codes": torch.randn(3, 4, 8, 8, generator=generator),
        "text": torch.randn(3, 77, 32, generator=generator),
    }


@pytest.mark.parametrize("kind", ["tiny_base", "tiny_v_base"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@torch.no_grad()
def test_the_image_half_is_the_base(kind: str, scale: float, request: pytest.FixtureRequest) -> None:
    """Difference exactly 0.0, whatever the mask half and the mask's timestep hold."""
    base = load_base(request.getfixturevalue(kind)).unet
    joint = widen_unet(base).eval()
    given, t_image = inputs(), torch.tensor([1, 500, 999])
    expected = base(given["latents"], t_image, encoder_hidden_states=given["text"]).sample
    for t_mask in (0, 1, 999):
        t = torch.full((3,), t_mask)
        image, mask = joint_prediction(joint, given["latents"], given["codes"] * scale, t_image, t, given["text"])
        assert (image - expected).abs().max().item() == 0.0
        assert mask.shape == (3, 4, 8, 8)
        assert mask.abs().max().item() == 0.0


@torch.no_grad()
def test_the_mask_enters_once_the_new_layers_move() -> None:
    """Guards the wiring: both new inputs, the code and its timestep, reach the output."""
    torch.manual_seed(0)
    joint = widen_unet(tiny_unet()).eval()
    torch.nn.init.normal_(joint.conv_in.weight[:, 4:])
    torch.nn.init.normal_(joint.class_embedding.linear_2.weight)
    given, t = inputs(), torch.tensor([10, 500, 999])
    call = lambda codes, t_mask: joint_prediction(joint, given["latents"], codes, t, t_mask, given["text"])[0]  # noqa: E731
    reference = call(given["codes"], t)
    assert (call(given["codes"] + 1, t) - reference).abs().max() > 1e-3
    assert (call(given["codes"], t.flip(0)) - reference).abs().max() > 1e-3


def test_the_base_is_left_alone() -> None:
    base = tiny_unet()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    joint = widen_unet(base)
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.add_(1)
    assert base.config.in_channels == 4 and base.class_embedding is None
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())


def test_a_half_precision_base_makes_a_half_precision_joint_unet() -> None:
    joint = widen_unet(tiny_unet().to(torch.bfloat16))
    assert {parameter.dtype for parameter in joint.parameters()} == {torch.bfloat16}


def test_more_classes_make_more_channels() -> None:
    joint = widen_unet(tiny_unet(), mask_channels=8)
    assert (joint.config.in_channels, joint.config.out_channels) == (12, 12)
    assert joint.conv_in.weight[:, 4:].abs().max().item() == 0.0


def test_an_inpainting_unet_is_refused() -> None:
    base = UNet2DConditionModel(
        in_channels=9,
        out_channels=4,
        block_out_channels=(32,),
        cross_attention_dim=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=8,
    )
    with pytest.raises(InputError, match="9 input and 4 output"):
        widen_unet(base)


def test_a_joint_unet_is_not_widened_twice() -> None:
    with pytest.raises(InputError, match="class_embed_type 'timestep'"):
        widen_unet(widen_unet(tiny_unet()))


def test_a_folder_without_a_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diffusers folder"):
        base_folder(tmp_path / "nothing")


def test_a_base_with_an_unknown_autoencoder_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    config = tmp_path / "base" / "vae" / "config.json"
    config.write_text(config.read_text().replace("AutoencoderKL", "VQModel"))
    with pytest.raises(InputError, match="VQModel"):
        load_base(tmp_path / "base")


def test_a_base_that_is_not_whole_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    """Guards against a traceback, and against asking a server for a part that the folder lacks."""
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        folder = shutil.copytree(tiny_base, tmp_path / name)
        shutil.rmtree(folder / name)
        with pytest.raises(InputError, match=f"without.*{name}"):
            load_base(folder)
    weights = next((shutil.copytree(tiny_base, tmp_path / "damaged") / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_base(tmp_path / "damaged")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="safetensors"):
        load_base(tmp_path / "damaged")


def test_the_base_hash_sees_every_part(tmp_path: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    assert base_sha256(tmp_path / "base") == base_sha256(tiny_base) == load_base(tiny_base).sha256
    for name in (
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ):
        path = tmp_path / "base" / name
        before, content = base_sha256(tmp_path / "base"), path.read_bytes()
        path.write_bytes(content + b"\n")
        assert base_sha256(tmp_path / "base") != before
        path.write_bytes(content)


@torch.no_grad()
def test_a_loaded_base_is_frozen_and_long_prompts_are_cut(tiny_base: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = load_base(tiny_base)
    assert base.prediction_type == "epsilon"
    for part in (base.unet, base.vae, base.text_encoder):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    long = "a melanoma " * 60
    assert base.embed(["", "a nevus", long]).shape == (3, 77, 32)
    # SD 2.0's text encoder is causal; the tokens that fit are read as if nothing followed.
    torch.testing.assert_close(base.embed([long]), base.embed([long + "on the back"]))
    fits = "a " * 75
    base.embed([fits])
    cuts = [record.getMessage() for record in caplog.records]
    assert [cut.split(" of the")[0] for cut in cuts] == [
        f"The text encoder reads only 75 of {n} tokens" for n in (540, 549)
    ]  # once
