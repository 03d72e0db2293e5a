"""LoRA on the joint UNet: attach, save, load. One folder is one adapter, new layers included."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from skindualgen.codec import MaskCodec, make_codec
from skindualgen.contracts import InputError
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, checked_classes
from skindualgen.files import BUNDLED_ADAPTERS, atomic_path, atomic_write_json, atomic_write_text, sha256_file
from skindualgen.model.bases import Base
from skindualgen.model.card import adapter_card, base_place
from skindualgen.model.hub import fetch_adapter
from skindualgen.model.joint_unet import MASK_HEAD, NEW_MODULES, restore_base_filters, widen_unet
from skindualgen.model.registry import hub_candidates, where_to_find
from skindualgen.model.tensor_file import read_header_of, save_tensors

logger = logging.getLogger(__name__)

ADAPTER_DIR = "adapter"
"""where a run folder holds its adapter"""
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
RUN_FILE = "run.json"
CARD_FILE = "README.md"
ATTENTION = ("to_q", "to_k", "to_v", r"to_out\.0")
FEED_FORWARD = (r"ff\.net\.0\.proj", r"ff\.net\.2", "proj_in", "proj_out")
CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", r"(?:down|up)samplers\.0\.conv")
LORA_TARGETS = {
    "attention": ATTENTION,
    "attention+ff": ATTENTION + FEED_FORWARD,
    "all": ATTENTION + FEED_FORWARD + CONVOLUTION,
}
"""which layers of the UNet get low-rank updates; "all" adds the convolutions of the residual blocks"""


def adapter_folder(adapter: str | Path) -> Path:
    """Resolve a bundled adapter's name, a run folder of ``skindualgen train``, or an adapter folder, there or not.

    ``owner/name@revision`` that is no path here is fetched from the hub; without ``@revision`` it is a path.

    Raises:
        InputError: the hub does not have it.
    """
    _, candidates = hub_candidates(str(adapter))
    if candidates and candidates[0].revision and not Path(adapter).exists():
        return fetch_adapter(candidates[0])
    folder = BUNDLED_ADAPTERS.get(str(adapter)) or Path(adapter)
    return folder / ADAPTER_DIR if (folder / ADAPTER_DIR).is_dir() else folder


def attach_adapter(
    joint: UNet2DConditionModel,
    *,
    rank: int,
    alpha: int,
    targets: str = "attention+ff",
    dropout: float = 0.0,
    rslora: bool = False,
    dora: bool = False,
) -> PeftModel:
    """Put LoRA on ``joint`` and make exactly LoRA and the new layers trainable, in float32.

    Args:
        joint: as returned by ``widen_unet``; changed in place by peft.
        rank, alpha: LoRA's r and alpha; updates are scaled by alpha / r.
        targets: a key of ``LORA_TARGETS``.
        dropout: probability of dropping LoRA's input, in [0, 1).
        rslora: scale by alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732).
        dora: train the magnitude of every weight's columns too (Liu et al. 2024, arXiv 2402.09353).
    """
    if targets not in LORA_TARGETS:
        raise InputError(f"LoRA targets {targets!r}", " or ".join(LORA_TARGETS), "choose one of them")
    joint.requires_grad_(False)
    headed = hasattr(joint, MASK_HEAD)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=_target_pattern(targets),
        exclude_modules=rf".*{MASK_HEAD}\..*" if headed else None,
        modules_to_save=[*NEW_MODULES, *([MASK_HEAD] if headed else [])],
        use_rslora=rslora,
        use_dora=dora,
    )
    model = get_peft_model(joint, config)
    for parameter in trainable_parameters(model).values():
        parameter.data = parameter.data.float()
    return model


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of everything that is trained."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """Every tensor of an adapter by its name in the file, gathered where it is sharded: all processes call it then."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}


def save_adapter(
    model: PeftModel,
    folder: Path,
    *,
    recipe: Mapping[str, Any],
    base: Base,
    dtype: torch.dtype | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write ``adapter_model.safetensors``, ``adapter_config.json``, ``run.json`` and a card.

    Args:
        model: with the weights to save in place.
        folder: made if missing.
        recipe: training settings, into ``run.json`` and the weights' header.
        base: what the adapter belongs to; its id, revision, hash and licence are recorded.
        dtype: of the file; the weights' own if not given.
        state: what ``adapter_state`` returned, where that was to be called by more processes than this.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = adapter_state(model) if state is None else state
    state = {k: (v.to(dtype) if dtype else v).detach().contiguous().clone() for k, v in state.items()}
    header = {
        "base_id": base.base_id,
        "base_revision": base.revision,
        "base_sha256": base.sha256,
        "license": base.license,
        "recipe": dict(recipe),
    }
    model.peft_config["default"].save_pretrained(str(folder))
    _drop_machine_path(folder / CONFIG_FILE, base.base_id)
    write_weights(folder, state, header)
    return folder


def write_weights(folder: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the weights with their header, and what repeats the header: ``run.json`` and the card."""
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_tensors(temporary, state, header)
    atomic_write_json(folder / RUN_FILE, {**header, "weights_sha256": sha256_file(folder / WEIGHTS_FILE)})
    atomic_write_text(folder / CARD_FILE, adapter_card(header))


def read_header(folder: Path) -> dict[str, Any]:
    """Recipe and base of an adapter folder, from the weights' header.

    Raises:
        InputError: no adapter there, or one that another program wrote.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file() or not (folder / CONFIG_FILE).is_file():
        raise InputError(
            f"adapter {str(folder)!r} without {WEIGHTS_FILE} and {CONFIG_FILE}",
            "'builtin', 'builtin-fast', a run folder of 'skindualgen train', or its adapter folder",
            "check the path, or train one with 'skindualgen train'",
        )
    try:
        header = read_header_of(path)
    except SafetensorError as error:
        raise InputError(f"{path}, which is damaged ({error})", "an intact file", "copy or train it again") from error
    if header is None:
        raise InputError(f"{path} without a skindualgen header", "an adapter of 'skindualgen train'", "train one")
    return header


def recorded_base(header: Mapping[str, Any]) -> str:
    """The base to load for an adapter when none is given: as it was typed for training.

    A repository of the hub that was typed without a revision is taken at the commit that was trained on, as its
    branch may have moved since. A name keeps its choice of mirrors; the hash tells whether the files are the same.
    """
    typed = str(header["recipe"].get("base", header["base_id"]))
    known, candidates = hub_candidates(typed)
    if header.get("base_revision") and known is None and candidates and candidates[0].revision is None:
        return base_place(header)
    return typed


def recorded_codec(header: Mapping[str, Any], base: Base) -> tuple[MaskCodec, MaskClasses]:
    """The codec and the classes of an adapter's masks; adapters of version 0.1 record neither, and had one of each.

    Raises:
        InputError: a codec that this version does not know.
    """
    recipe = header["recipe"]
    classes = recipe.get("mask_classes")
    named = LESION_ONLY if classes is None else checked_classes(classes, "the adapter's header")
    return make_codec(recipe.get("mask_codec"), base.vae), named


def load_adapter(
    base: Base, folder: Path, *, allow_base_mismatch: bool = False, share: bool = False
) -> UNet2DConditionModel:
    """Widen the base's UNet, apply the adapter and merge it: a stock UNet that denoises pairs.

    Args:
        base: the adapter's own.
        folder: of the adapter.
        allow_base_mismatch: take another base that its tensors fit, with a warning.
        share: merge into the base's own weights, which saves a second set of them; the base is not to be used then.

    Raises:
        InputError: the adapter was trained on another base, or its tensors do not fit.
    """
    model = restore_adapter(base, folder, allow_base_mismatch=allow_base_mismatch, share=share)
    return model.merge_and_unload().requires_grad_(False)


def restore_adapter(base: Base, folder: Path, *, allow_base_mismatch: bool = False, share: bool = False) -> PeftModel:
    """Widen the base's UNet, attach LoRA as configured in ``folder`` and load every tensor exactly, to train on.

    Args:
        base: the adapter's own.
        folder: of the adapter.
        allow_base_mismatch: take another base that its tensors fit, with a warning.
        share: hold the base's weights once, in both (``widen_unet``).

    Raises:
        InputError: the adapter was trained on another base, or a tensor is missing, left over or of another shape.
    """
    header = read_header(folder)
    if header["base_sha256"] != base.sha256:
        theirs = f"base {base_place(header)} (sha256 {header['base_sha256'][:12]})"
        ours = f"base {base.place} (sha256 {base.sha256[:12]})"
        if not allow_base_mismatch:
            raise InputError(
                f"an adapter of {theirs}",
                f"one of {ours}",
                f"{where_to_find(header['base_sha256'])}; if you know that both are alike, --allow-base-mismatch",
            )
        logger.warning("An adapter of %s is used on %s, as was allowed", theirs, ours)
    config = LoraConfig.from_pretrained(str(folder))
    config.base_model_name_or_path = None  # peft compares it with a name that a UNet in memory does not have, and warns
    config.inference_mode = False  # peft's files say True, which would freeze what is to be trained further
    codec, classes = recorded_codec(header, base)
    joint = widen_unet(base.unet, codec.channels * len(classes), share=share, head=header["recipe"].get("mask_head"))
    model = get_peft_model(joint.requires_grad_(False), config)
    state = load_file(folder / WEIGHTS_FILE)
    expected = adapter_state(model)
    wrong = sorted(set(state) ^ set(expected)) or sorted(k for k in state if state[k].shape != expected[k].shape)
    if wrong:
        raise InputError(
            f"an adapter whose tensors differ from the base's layers ({wrong[0]} and {len(wrong) - 1} more)",
            "an adapter trained on this base",
            "give the adapter's own base with --base",
        )
    set_peft_model_state_dict(model, state)
    if header["recipe"].get("config", {}).get("freeze_base_filters"):
        restore_base_filters(model.get_base_model(), base.unet)
    return model


def lora_settings(model: PeftModel) -> dict[str, Any]:
    """How an adapter's LoRA is configured, named as in ``config.LoraSettings``."""
    config: Any = model.peft_config["default"]
    targets = {_target_pattern(name): name for name in LORA_TARGETS}[config.target_modules]
    settings = {"rank": config.r, "alpha": config.lora_alpha, "targets": targets, "dropout": config.lora_dropout}
    return settings | {"rslora": config.use_rslora, "dora": config.use_dora}


def mask_head_of(model: PeftModel) -> dict[str, int] | None:
    """An adapter's mask head, named as in ``config.MaskHeadSettings``; None without one."""
    head = model.get_base_model().config.get("head")
    return None if head is None else {name: value for name, value in head.items() if name != "channels"}


def _target_pattern(targets: str) -> str:
    return rf".*(?<![a-z])({'|'.join(LORA_TARGETS[targets])})$"


def _drop_machine_path(path: Path, base_id: str) -> None:
    """peft records where the base was loaded from; the base's id says that without a path of this machine."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_id
    if isinstance(config.get("target_modules"), str):
        re.compile(config["target_modules"])
    atomic_write_json(path, config)
