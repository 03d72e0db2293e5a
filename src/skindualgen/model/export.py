"""Adapters for other programs and for the hub. Every export is a new folder: weights, card, licence, training ids."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor

from skindualgen.contracts import InputError
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import atomic_write_json, atomic_write_text, sha256_file
from skindualgen.folders import new_folder
from skindualgen.model.adapter import CARD_FILE, CONFIG_FILE, RUN_FILE, WEIGHTS_FILE, read_header, write_weights
from skindualgen.model.card import LICENCE_FILE, LICENCES, CardText, license_of, model_card
from skindualgen.model.export_keys import Layers, attention_only, left_out, lora_layers, to_diffusers, to_kohya
from skindualgen.model.registry import hub_candidates
from skindualgen.model.tensor_file import save_tensors

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
"""the name that ``load_lora_weights(FOLDER)`` looks for"""
TEXT_WIDTHS = {1024: "sd_v2", 768: "sd_v1"}
"""width of the text states -> kohya's name of the family (sd-scripts, get_model_version_str_for_sd1_sd2)"""
IMAGE_ONLY = (
    "It draws images only. The mask half is lost: the new layers (conv_in, conv_out, the mask's timestep embedding)\n"
    "are not in it, so there are no masks, no mask -> image and no image -> mask, and its images differ from those of\n"
    "the whole adapter."
)
CHANGES = "low-rank updates of the base's denoiser, trained on image-mask pairs; no file of the base is in this folder"
LOAD_DIFFUSERS = """\
```python
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("BASE")
pipe.load_lora_weights("FOLDER")
```

alpha / rank is multiplied into the tensors; `scale` 1 is as trained."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what could not be."""

    weights: str
    """main file, relative to the folder"""
    tensors: int
    license: str
    left_out: dict[str, int] = field(default_factory=dict)
    """kind -> number of tensors"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Lora:
    """What is read of an adapter for a LoRA file."""

    state: dict[str, Tensor]
    header: dict[str, Any]
    scale: float
    """of its updates"""


def export_diffusers_lora(folder: Path, out: Path, *, dtype: torch.dtype | None = None) -> Exported:
    """Write the attention LoRA for plain ``StableDiffusionPipeline.load_lora_weights(OUT)``: images, no masks.

    Args:
        folder: adapter folder.
        out: new folder.
        dtype: of the tensors; the adapter's own if not given.

    Raises:
        InputError: no adapter, one with DoRA, or ``out`` holds something.
    """
    lora = _read_lora(folder, "diffusers-lora")
    layers = attention_only(lora_layers(lora.state))
    text = CardText(
        title="SkinDualGen LoRA for diffusers",
        what=f"The attention updates of a SkinDualGen adapter. {IMAGE_ONLY}",
        load=LOAD_DIFFUSERS,
        changes=CHANGES,
    )
    exported = to_diffusers(layers, lora.scale, dtype)
    with new_folder(out) as temporary:
        save_tensors(temporary / DIFFUSERS_FILE, exported, lora.header)
        write_papers(temporary, folder, lora.header, text)
    return Exported(DIFFUSERS_FILE, len(exported), lora.header["license"], left_out(lora.state, layers), (IMAGE_ONLY,))


def export_kohya(folder: Path, out: Path, *, dtype: torch.dtype | None = None) -> Exported:
    """Write all LoRA under kohya's names, ``OUT/<name of OUT>.safetensors``, for ComfyUI and A1111: images, no masks.

    Args, raises: as ``export_diffusers_lora``.
    """
    lora, name = _read_lora(folder, "kohya"), f"{out.resolve().name}.safetensors"
    layers = lora_layers(lora.state)
    version = _kohya_version(layers)
    text = CardText(
        title="SkinDualGen LoRA in kohya's format",
        what=f"The LoRA of a SkinDualGen adapter. {IMAGE_ONLY}",
        load=f"Put `{name}` into `models/loras` (ComfyUI) or `models/Lora` (A1111), next to a checkpoint of the base.\n"
        f'diffusers reads it with `pipe.load_lora_weights("FOLDER", weight_name="{name}")`. Strength 1 is as trained.',
        changes=CHANGES,
    )
    notes = [IMAGE_ONLY]
    if version is None:
        notes.append(
            f"Its base, {lora.header['base_id']}, is not of the Stable Diffusion 1 or 2 family: ComfyUI and A1111 "
            "cannot load that base, so they cannot use this file."
        )
    exported = to_kohya(layers, lora.scale, dtype)
    with new_folder(out) as temporary:
        save_tensors(temporary / name, exported, lora.header, _kohya_metadata(layers, lora, version, name))
        write_papers(temporary, folder, lora.header, text)
    return Exported(name, len(exported), lora.header["license"], left_out(lora.state, layers), tuple(notes))


def export_hub(folder: Path, out: Path) -> Exported:
    """Write the adapter as a folder to upload: the same tensors, a header without paths, card, licence, ids.

    Args, raises: as ``export_diffusers_lora``; nothing is left out, and DoRA is fine.
    """
    with new_folder(out) as temporary:
        return put_adapter(temporary, folder)


def put_adapter(out: Path, folder: Path) -> Exported:
    """As ``export_hub``, into a folder that is there."""
    header, state = public_header(folder), load_file(folder / WEIGHTS_FILE)
    shutil.copyfile(folder / CONFIG_FILE, out / CONFIG_FILE)
    write_weights(out, state, header)
    copy_papers(out, folder, header)
    return Exported(WEIGHTS_FILE, len(state), header["license"])


def public_header(folder: Path) -> dict[str, Any]:
    """An adapter's header fit to publish: no path of this machine, with licence and the adapter's own hash."""
    header = read_header(folder)
    recipe = _without_paths(header["recipe"])
    for settings in (recipe, recipe.get("config", {})):
        if "base" in settings and hub_candidates(str(settings["base"])) == (None, ()):  # a path
            settings["base"] = header["base_id"]
    weights = {"license": license_of(header), "adapter_sha256": sha256_file(folder / WEIGHTS_FILE)}
    return {**header, **weights, "recipe": recipe}


def write_papers(out: Path, folder: Path, header: Mapping[str, Any], text: CardText) -> None:
    """Write what goes with exported weights: card, ``run.json``, training items if recorded, licence if carried."""
    atomic_write_json(out / RUN_FILE, header)
    atomic_write_text(out / CARD_FILE, model_card(header, text))
    copy_papers(out, folder, header)


def copy_papers(out: Path, folder: Path, header: Mapping[str, Any]) -> None:
    """Copy what is recorded of the training pairs, and the licence, if this package carries its text."""
    if (folder / TRAINING_ITEMS_FILE).is_file():
        shutil.copyfile(folder / TRAINING_ITEMS_FILE, out / TRAINING_ITEMS_FILE)
    licence = LICENCES.get(header["license"])
    if licence is not None and licence.file is not None:
        shutil.copyfile(licence.file, out / LICENCE_FILE)


def _read_lora(folder: Path, name: str) -> _Lora:
    header = public_header(folder)
    config = LoraConfig.from_pretrained(str(folder))
    if config.use_dora:
        raise InputError(
            f"{folder}, an adapter with DoRA",
            "one whose updates are low-rank, as plain LoRA files hold nothing else",
            "export it with --format merged or hub",
        )
    # rsLoRA divides by the root of the rank (Kalajdzievski 2023, arXiv 2312.03732).
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    header |= {"format": name, "rank": config.r, "alpha": config.lora_alpha, "scale": scale}
    return _Lora(load_file(folder / WEIGHTS_FILE), header, scale)


def _kohya_version(layers: Layers) -> str | None:
    widths = {down.shape[1] for name, (down, _) in layers.items() if name.endswith("attn2.to_k")}
    return TEXT_WIDTHS.get(next(iter(widths), 0))


def _kohya_metadata(layers: Layers, lora: _Lora, version: str | None, name: str) -> dict[str, str]:
    """What sd-scripts writes into a header, and A1111 reads from it; all values are text."""
    header, rank = lora.header, lora.header["rank"]
    alpha = str(lora.scale * rank)
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": alpha,
        "ss_output_name": name.removesuffix(".safetensors"),
        "ss_sd_model_name": header["base_id"],
    }
    if any(down.ndim == 4 and down.shape[-1] > 1 for down, _ in layers.values()):
        metadata["ss_network_args"] = json.dumps({"conv_dim": str(rank), "conv_alpha": alpha})
    if version is not None:
        metadata |= {"ss_base_model_version": version, "ss_v2": str(version == "sd_v2")}
    if "train_pairs" in header["recipe"]:
        metadata["ss_num_train_images"] = str(header["recipe"]["train_pairs"])
    return metadata


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
