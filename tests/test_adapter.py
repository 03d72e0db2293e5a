"""An adapter holds all that was trained, loads bit for bit, merges faithfully, and knows its base."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.model.adapter import (
    CONFIG_FILE,
    LORA_TARGETS,
    RUN_FILE,
    WEIGHTS_FILE,
    adapter_folder,
    attach_adapter,
    base_place,
    load_adapter,
    read_header,
    recorded_base,
    restore_adapter,
    save_adapter,
    trainable_parameters,
)
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import joint_prediction, widen_unet
from skindualgen.model.registry import EARLIER_MICRO
from skindualgen.sample.pipeline import SkinDualGenPipeline

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def tensors(batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    latents, codes = torch.randn(2, batch, 4, 8, 8, generator=generator)
    return (
        latents,
        codes,
        torch.tensor([700, 3]),
        torch.tensor([0, 600]),
        torch.randn(batch, 77, 32, generator=generator),
    )


def state_hash(model: torch.nn.Module) -> list[int]:
    return [hash(value.numpy().tobytes()) for value in model.state_dict().values()]


def randomised(model: PeftModel) -> PeftModel:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("targets", sorted(LORA_TARGETS))
def test_every_trainable_tensor_learns(tiny_base: Path, targets: str) -> None:
    """At step 1 only what is not shut behind a zero layer moves (LoRA B, conv_out); from step 2 on, everything does."""
    base = load_base(tiny_base)
    torch.manual_seed(0)
    model = attach_adapter(widen_unet(base.unet), rank=2, alpha=2, targets=targets)
    named = trainable_parameters(model)
    optimizer = torch.optim.AdamW(named.values(), lr=1e-2)
    with_gradient: list[set[str]] = []
    for step in range(3):
        optimizer.zero_grad()
        image, mask = joint_prediction(model, *tensors())
        target = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(step))
        (torch.cat([image, mask], dim=1) - target).square().mean().backward()
        with_gradient.append({name for name, p in named.items() if p.grad is not None and p.grad.abs().max() > 0})
        optimizer.step()
    assert all("lora_A" not in name for name in with_gradient[0])
    assert any("lora_B" in name for name in with_gradient[0])
    assert with_gradient[2] == set(named)
    late = set(named) - with_gradient[1]
    assert all("class_embedding" in name for name in late), late


def test_targets_reach_the_layers_they_name(tiny_base: Path) -> None:
    """Guards against a pattern that matches nothing: each named kind of layer is in the model and gets LoRA."""
    unet = load_base(tiny_base).unet
    kinds = {
        "attention": ("to_q", "to_k", "to_v", "to_out.0"),
        "attention+ff": ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        "all": ("conv1", "conv2", "time_emb_proj", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    }
    seen: set[str] = set()
    for targets, expected in kinds.items():
        named = trainable_parameters(attach_adapter(widen_unet(unet), rank=2, alpha=2, targets=targets))
        layers = {name.split(".lora_")[0] for name in named if ".lora_" in name}
        assert seen < layers
        for kind in expected:
            assert any(layer.endswith(kind) for layer in layers), kind
        seen = layers
        new = {name.split(".")[2] for name in named if "modules_to_save" in name}
        assert new == {"conv_in", "conv_out", "class_embedding"}
        assert {name.split(".")[2] for name in named} >= new


def test_unknown_targets_are_refused(tiny_base: Path) -> None:
    with pytest.raises(InputError, match="attention or attention"):
        attach_adapter(widen_unet(load_base(tiny_base).unet), rank=2, alpha=2, targets="everything")


@pytest.mark.parametrize("alpha", [2, 7])
@torch.no_grad()
def test_saved_tensors_load_bit_for_bit_and_merge(tiny_base: Path, tmp_path: Path, alpha: int) -> None:
    """alpha != r guards against a scale that is lost on the way; each trained tensor is in the file."""
    base = load_base(tiny_base)
    model = randomised(attach_adapter(widen_unet(base.unet), rank=2, alpha=alpha)).eval()
    save_adapter(model, tmp_path, recipe={"alpha": alpha}, base=base)
    assert len(load_file(tmp_path / WEIGHTS_FILE)) == len(trainable_parameters(model))

    loaded = restore_adapter(base, tmp_path).eval()
    before, after = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert before.keys() == after.keys()
    used = [name for name in before if "original_module" not in name]  # the untrained twins of the new layers
    assert all(torch.equal(before[name], after[name]) for name in used)
    expected = joint_prediction(model, *tensors())
    for got, want in zip(joint_prediction(loaded, *tensors()), expected, strict=True):
        assert torch.equal(got, want)

    merged = load_adapter(base, tmp_path).eval()
    assert type(merged) is type(base.unet)
    plain = joint_prediction(widen_unet(base.unet).eval(), *tensors())
    for got, want, untrained in zip(joint_prediction(merged, *tensors()), expected, plain, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5)
        assert (got - untrained).abs().max() > 1e-2


def test_the_base_never_changes(tiny_base: Path, tmp_path: Path) -> None:
    base = load_base(tiny_base)
    before, files = state_hash(base.unet), base.sha256
    model = attach_adapter(widen_unet(base.unet), rank=2, alpha=2)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        sum(half.square().mean() for half in joint_prediction(model, *tensors())).backward()
        optimizer.step()
    assert all(torch.equal(frozen[name], p) for name, p in model.named_parameters() if name in frozen)
    load_adapter(base, save_adapter(model, tmp_path, recipe={}, base=base))
    assert state_hash(base.unet) == before
    assert load_base(tiny_base).sha256 == files


def test_the_header_says_what_it_is(tiny_base: Path, tmp_path: Path) -> None:
    base = load_base(tiny_base)
    model = attach_adapter(widen_unet(base.unet), rank=2, alpha=4)
    save_adapter(model, tmp_path, recipe={"steps": 7}, base=base)
    recorded = {"base_id": base.base_id, "base_revision": None, "base_sha256": base.sha256, "license": None}
    assert read_header(tmp_path) == recorded | {"recipe": {"steps": 7}}
    run = json.loads((tmp_path / RUN_FILE).read_text())
    assert run["weights_sha256"] == sha256_file(tmp_path / WEIGHTS_FILE)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 4, base.base_id)
    written = "".join((tmp_path / name).read_text() for name in (CONFIG_FILE, RUN_FILE))
    assert str(tiny_base.parent) not in written  # no path of this machine


def test_a_half_precision_file_is_half_as_large(tiny_base: Path, tmp_path: Path) -> None:
    base = load_base(tiny_base)
    model = randomised(attach_adapter(widen_unet(base.unet), rank=2, alpha=2))
    save_adapter(model, tmp_path, recipe={}, base=base, dtype=torch.float16)
    with safe_open(tmp_path / WEIGHTS_FILE, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    load_adapter(base, tmp_path)


def test_another_base_is_refused_by_name(tiny_adapter: Path, tiny_v_base: Path, tiny_base: Path) -> None:
    other = load_base(tiny_v_base)
    with pytest.raises(InputError) as caught:
        load_adapter(other, tiny_adapter)
    message = str(caught.value)
    own = load_base(tiny_base)
    assert own.sha256[:12] in message and other.sha256[:12] in message
    assert own.base_id in message and other.base_id in message
    with pytest.raises(InputError, match="an adapter of base"):  # its tensors would fit: only the hash tells
        restore_adapter(other, tiny_adapter)


def test_an_adapter_of_an_earlier_bundled_base_says_where_that_is(tiny_adapter: Path, tiny_base: Path, tmp_path: Path):
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapter, folder)
    header = read_header(folder) | {"base_id": "micro", "base_sha256": next(iter(EARLIER_MICRO))}
    save_file(load_file(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE, {"skindualgen": json.dumps(header)})
    with pytest.raises(InputError, match=r"version 0\.1\.0 of skindualgen bundles: .*bundled/micro with --base"):
        load_adapter(load_base(tiny_base), folder)


def test_another_base_can_be_allowed(
    tiny_adapter: Path, tiny_v_base: Path, tmp_path: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The tensors of both tiny bases fit; what was allowed is logged, and recorded where pictures get their origin."""
    other = load_base(tiny_v_base)
    load_adapter(other, tiny_adapter, allow_base_mismatch=True)
    assert f"base base (sha256 {load_base(tiny_base).sha256[:12]}) is used on base v_base" in caplog.text
    pipeline = SkinDualGenPipeline.from_adapter(tiny_adapter, tiny_v_base, allow_base_mismatch=True)
    provenance = pipeline.config.provenance
    assert provenance["base_sha256"] == other.sha256
    assert provenance["adapter_base_sha256"] == read_header(tiny_adapter)["base_sha256"] != other.sha256
    assert provenance["adapter_base"] == "base"
    own = SkinDualGenPipeline.from_adapter(tiny_adapter, allow_base_mismatch=True)
    assert not [name for name in own.config.provenance if name.startswith("adapter_base")]


@pytest.mark.parametrize("frozen", [False, True])
def test_an_adapter_that_kept_its_bases_filters_takes_those_of_a_newer_base(
    tiny_adapter: Path, tiny_base: Path, tmp_path: Path, frozen: bool
) -> None:
    """The mask's filters are the adapter's either way; the image's are the base's where training had frozen them."""
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapter, folder)
    header = read_header(folder)
    header["recipe"]["config"] = {"freeze_base_filters": frozen}
    state = load_file(folder / WEIGHTS_FILE)
    changed = {name: value + any(part in name for part in (".conv_in.", ".conv_out.")) for name, value in state.items()}
    save_file(changed, folder / WEIGHTS_FILE, {"skindualgen": json.dumps(header)})
    base = load_base(tiny_base)
    own, joint, image = base.unet, load_adapter(base, folder), 4
    kept = [
        torch.equal(joint.conv_in.weight[:, :image], own.conv_in.weight),
        torch.equal(joint.conv_in.bias, own.conv_in.bias),
        torch.equal(joint.conv_out.weight[:image], own.conv_out.weight),
        torch.equal(joint.conv_out.bias[:image], own.conv_out.bias),
    ]
    assert kept == [frozen] * 4
    as_stored = load_adapter(load_base(tiny_base), tiny_adapter)
    torch.testing.assert_close(joint.conv_in.weight[:, image:], as_stored.conv_in.weight[:, image:] + 1)
    torch.testing.assert_close(joint.conv_out.bias[image:], as_stored.conv_out.bias[image:] + 1)


def test_a_base_whose_layers_differ_is_refused_even_when_allowed(tiny_adapter: Path) -> None:
    with pytest.raises(InputError, match="tensors differ"):
        load_adapter(load_base("micro"), tiny_adapter, allow_base_mismatch=True)


def test_the_commit_of_the_base_is_recorded_and_named(tiny_base: Path, tmp_path: Path) -> None:
    base = replace(load_base(tiny_base), base_id="owner/tiny", revision="f" * 40, license="openrail++")
    save_adapter(attach_adapter(widen_unet(base.unet), rank=2, alpha=2), tmp_path, recipe={}, base=base)
    header = read_header(tmp_path)
    assert (header["base_revision"], header["license"]) == ("f" * 40, "openrail++")
    card = (tmp_path / "README.md").read_text()
    assert f"owner/tiny@{'f' * 40}" in card and "openrail++" in card
    with pytest.raises(
        InputError, match=f"an adapter of base owner/tiny@{'f' * 40}.*one of base owner/tiny@{'e' * 40}"
    ):
        load_adapter(replace(base, revision="e" * 40, sha256="0" * 64), tmp_path)


@pytest.mark.parametrize(
    ("typed", "base_id", "revision", "loaded"),
    [
        ("owner/tiny", "owner/tiny", "abc", "owner/tiny@abc"),  # the branch may have moved since
        ("owner/tiny@v1", "owner/tiny", "abc", "owner/tiny@v1"),
        ("sd2-base", "owner/mirror", "abc", "sd2-base"),  # another mirror may serve the same files
        ("/some/folder", "folder", None, "/some/folder"),
        ("models/sd2", "sd2", None, "models/sd2"),  # a folder that is not here: its name must not become a base's
        (None, "micro", None, "micro"),
    ],
)
def test_the_base_of_an_adapter_is_the_commit_it_was_trained_on(
    typed: str | None, base_id: str, revision: str | None, loaded: str
) -> None:
    header = {"base_id": base_id, "base_revision": revision, "recipe": {"base": typed} if typed else {}}
    assert recorded_base(header) == loaded


def test_headers_of_version_0_1_are_read() -> None:
    """They have neither revision nor licence."""
    header = read_header(adapter_folder("builtin"))
    for later in ("base_revision", "license"):
        del header[later]
    assert (recorded_base(header), base_place(header)) == ("micro", "micro")


def test_an_adapter_with_missing_or_misshapen_tensors_is_refused(
    tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    base = load_base(tiny_base)
    header = {"format": "pt", "skindualgen": json.dumps(read_header(tiny_adapter))}
    for change in ("missing", "shape"):
        folder = shutil.copytree(tiny_adapter, tmp_path / change)
        state = load_file(tiny_adapter / WEIGHTS_FILE)
        name = next(key for key in state if "lora_A" in key)
        if change == "missing":
            del state[name]
        else:
            state[name] = state[name][:1].clone()
        save_file(state, folder / WEIGHTS_FILE, metadata=header)
        with pytest.raises(InputError, match="lora_A"):
            load_adapter(base, folder)


def test_what_is_no_adapter_is_refused(tmp_path: Path, tiny_adapter: Path) -> None:
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        read_header(tmp_path)
    foreign = shutil.copytree(tiny_adapter, tmp_path / "foreign")
    save_file(load_file(tiny_adapter / WEIGHTS_FILE), foreign / WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(InputError, match="without a skindualgen header"):
        read_header(foreign)
    (foreign / WEIGHTS_FILE).write_bytes((tiny_adapter / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        read_header(foreign)


def test_the_card_names_base_and_data_and_forbids_medical_use(tiny_base: Path, tmp_path: Path) -> None:
    base = load_base(tiny_base)
    recipe = {"train_pairs": 12, "steps": 4, "size": 64, "train_manifest_sha256": "abc"}
    save_adapter(attach_adapter(widen_unet(base.unet), rank=2, alpha=2), tmp_path, recipe=recipe, base=base)
    card = (tmp_path / "README.md").read_text()
    assert base.sha256 in card and "12 pairs, manifest sha256 abc" in card and "4, 64 px" in card
    assert "not a medical device" in card
