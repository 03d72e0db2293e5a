"""Latents that a trained base makes, for the decoder to learn on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from micro_device import on_gpu
from micro_nets import SIZE_PX
from micro_samples import denoise
from skindualgen.model.bases import load_base

AT_ONCE, GPU_AT_ONCE = 32, 256
GUIDANCES = (1.0, 1.5, 2.0)
"""in turn, away from the empty prompt: the decoder is to fit whatever people choose"""


@torch.no_grad()
def generate(base: Path, device: str, ids: Tensor, seed: int) -> Tensor:
    """Latents [n, c, h/8, w/8] in half precision that the base makes for token ids [n, 77], by DPM-Solver++."""
    model, noise = load_base(base), torch.Generator().manual_seed(seed)
    model.unet.to(device)
    model.text_encoder.to(device)
    empty, latents = model.embed([""]).to(device), []
    for number, part in enumerate(ids.split(GPU_AT_ONCE if on_gpu(device) else AT_ONCE)):
        z = torch.randn(len(part), model.unet.config.in_channels, SIZE_PX // 8, SIZE_PX // 8, generator=noise)
        text = model.text_encoder(part.to(device)).last_hidden_state
        led = {"guidance": GUIDANCES[number % len(GUIDANCES)], "guide_text": empty.expand(len(part), -1, -1)}
        latents.append(denoise(model.unet, model.scheduler.config, z.to(device), text, **led).half().cpu())
    return torch.cat(latents)
