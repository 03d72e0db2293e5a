"""Names and scales of LoRA tensors in the formats of other programs. Pure functions of state dicts.

kohya's names are "lora_unet_" and the diffusers name of the layer with "." written "_" (kohya-ss/sd-scripts,
networks/lora.py). ComfyUI builds the same names from its table of diffusers layers (comfy/lora.py,
model_lora_keys_unet; comfy/utils.py, unet_to_diffusers). AUTOMATIC1111's web UI parses them
(extensions-builtin/Lora/networks.py, convert_diffusers_name_to_compvis). All three know attention, feed-forward,
projections, the convolutions and time projections of the residual blocks and those between resolutions, and scale an
update by alpha / rank.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from skindualgen.model.adapter import ATTENTION, CONVOLUTION, FEED_FORWARD

PEFT_PREFIX = "base_model.model."
KINDS = {
    "attention LoRA": ATTENTION,
    "feed-forward and projection LoRA": FEED_FORWARD,
    "convolution LoRA": CONVOLUTION,
}
"""what a LoRA layer can be -> patterns of the ends of its name"""
NEW_LAYERS = "new layers for the mask"

Layers = dict[str, tuple[Tensor, Tensor]]
"""layer of the UNet -> down [r, in, ...] and up [out, r, ...]"""


def lora_layers(state: Mapping[str, Tensor]) -> Layers:
    """The LoRA pairs of an adapter's state dict; what is no LoRA (the new layers) is left out."""
    down, up = ".lora_A.weight", ".lora_B.weight"
    names = [key.removesuffix(down).removeprefix(PEFT_PREFIX) for key in state if key.endswith(down)]
    return {name: (state[f"{PEFT_PREFIX}{name}{down}"], state[f"{PEFT_PREFIX}{name}{up}"]) for name in sorted(names)}


def kind_of(name: str) -> str:
    """Which of ``KINDS`` a LoRA layer is, or ``NEW_LAYERS``."""
    for kind, patterns in KINDS.items():
        if re.search(rf"(^|\.)({'|'.join(patterns)})$", name):
            return kind
    return NEW_LAYERS


def attention_only(layers: Layers) -> Layers:
    """Those layers that every reader of diffusers' LoRA files takes for granted."""
    return {name: pair for name, pair in layers.items() if kind_of(name) == "attention LoRA"}


def left_out(state: Mapping[str, Tensor], kept: Layers) -> dict[str, int]:
    """Kind -> number of tensors of an adapter's state dict that are not in ``kept``."""
    names = (key.removeprefix(PEFT_PREFIX).partition(".lora_")[0] for key in state)
    return dict(Counter(kind_of(name) for name in names if name not in kept))


def to_diffusers(layers: Layers, scale: float, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """State dict for ``StableDiffusionPipeline.load_lora_weights``.

    ``scale`` is multiplied into the up matrices: a reader takes a file without alpha for one whose alpha equals its
    rank, and readers that miss the alpha in a header are silent about it. A power of two is exact in every precision.
    """
    state: dict[str, Tensor] = {}
    for name, (down, up) in layers.items():
        state[f"unet.{name}.lora_A.weight"] = _cast(down, dtype or down.dtype)
        state[f"unet.{name}.lora_B.weight"] = _cast(up.float() * scale, dtype or up.dtype)
    return state


def to_kohya(layers: Layers, scale: float, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """State dict in kohya's names; every layer carries the alpha that makes alpha / rank equal ``scale``."""
    state: dict[str, Tensor] = {}
    for name, (down, up) in layers.items():
        key = f"lora_unet_{name.replace('.', '_')}"
        state[f"{key}.lora_down.weight"] = _cast(down, dtype or down.dtype)
        state[f"{key}.lora_up.weight"] = _cast(up, dtype or up.dtype)
        state[f"{key}.alpha"] = torch.tensor(scale * len(down))  # float32: half precision would round alpha
    return state


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous().clone()
