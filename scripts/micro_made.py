"""Latents that a trained base makes, for the decoder to learn on: photographs' own denoised again, and new ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from micro_data import random_views
from micro_device import autocast, on_gpu
from micro_nets import SIZE_PX
from micro_samples import denoise
from skindualgen.losses import add_noise, velocity_to_epsilon, velocity_to_x0
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base

MADE = 2048
"""latents of either kind"""
AT_ONCE, GPU_AT_ONCE = 16, 256
REDRAWN_MIN_ZOOM = 0.85
REDRAWN_LEAST_T, REDRAWN_MOST_T, REDRAWN_STEPS = 20, 600, 4


@torch.no_grad()
def redraw(
    base: Path, autoencoder: PatchAutoencoder, images: Tensor, device: str, count: int = MADE
) -> tuple[Tensor, Tensor]:
    """Noise latents of random views up to a random level and let the base denoise them again (DDIM, no prompt).

    Returns:
        Views [n, 3, s, s] uint8 and their redrawn latents [n, c, s/8, s/8] in half precision.
    """
    model = load_base(base)
    text, alphas = model.embed([""]).to(device), model.scheduler.alphas_cumprod
    model.unet.to(device)
    generator, noise = np.random.default_rng(1), torch.Generator().manual_seed(1)
    batch = min(count, GPU_AT_ONCE if on_gpu(device) else AT_ONCE)
    views, latents = [], []
    for _ in range(count // batch):
        x = random_views(images, batch, SIZE_PX, generator, REDRAWN_MIN_ZOOM)
        z = autoencoder.encode(x.to(device)).latent_dist.mode().cpu()
        start = torch.randint(REDRAWN_LEAST_T, REDRAWN_MOST_T, (batch,), generator=noise)
        levels = [(start * (REDRAWN_STEPS - k)) // REDRAWN_STEPS for k in range(REDRAWN_STEPS + 1)]
        a = alphas[start].view(-1, 1, 1, 1)
        z = add_noise(z, torch.randn(z.shape, generator=noise), a)
        for here, there in pairwise(levels):
            a = alphas[here].view(-1, 1, 1, 1)
            with autocast(device):
                v = model.unet(z.to(device), here.to(device), text.expand(batch, -1, -1)).sample.float().cpu()
            b = torch.where(there > 0, alphas[there], 1.0).view(-1, 1, 1, 1)
            z = add_noise(velocity_to_x0(v, z, a), velocity_to_epsilon(v, z, a), b)
        views.append(((x + 1) * 127.5).round().to(torch.uint8))
        latents.append(z.half())
    return torch.cat(views), torch.cat(latents)


@torch.no_grad()
def generate(base: Path, device: str, count: int = MADE) -> Tensor:
    """Latents [n, c, s/8, s/8] in half precision that the base makes from noise (DPM-Solver++, no prompt)."""
    model = load_base(base)
    text, noise = model.embed([""]).to(device), torch.Generator().manual_seed(2)
    model.unet.to(device)
    batch = min(count, 2 * (GPU_AT_ONCE if on_gpu(device) else AT_ONCE))
    latents = []
    for _ in range(count // batch):
        z = torch.randn(batch, model.unet.config.in_channels, SIZE_PX // 8, SIZE_PX // 8, generator=noise)
        z = denoise(model.unet, model.scheduler.config, z.to(device), text.expand(len(z), -1, -1))
        latents.append(z.half().cpu())
    return torch.cat(latents)
