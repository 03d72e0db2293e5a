"""Teach the text encoder of a base to read what photographs look like, before the UNet learns to draw it.

The encoder, with the layer that carries its states to every block of the UNet, predicts the coarse latents of a view
from its caption, by least squares and through a linear map that is thrown away. Minutes: no UNet takes part. Within the
training of the base the same is learnt a hundred times more slowly (docs/lab-notebook.md, 2026-12-01).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_device import autocast
from micro_latents import Batches

BATCH, RATE, WARMUP_STEPS, LOG_STEPS = 64, 2e-3, 50, 250
COARSE_CELLS = 4
"""a side; of the means of latents that are predicted"""


def coarse(latents: Tensor) -> Tensor:
    """Means over cells, [b, c * 4 * 4]."""
    return F.adaptive_avg_pool2d(latents, COARSE_CELLS).flatten(1)


def learn_to_read(models: nn.ModuleDict, batches: Batches, steps: int, held_out: tuple[Tensor, Tensor]) -> None:
    """Train ``text_encoder``, and ``add_embedding`` of the UNet, in place; prints how it gets on.

    Args:
        models: of a base.
        batches: latents of views with captions that say what they look like.
        steps: of 64 views. A function of these and of the weights alone: processes that do the same get the same.
        held_out: latents [n, c, h, w] and token ids [n, 77].
    """
    encoder, pool = models["text_encoder"], models["unet"].add_embedding
    device = held_out[0].device
    torch.manual_seed(0)
    head = nn.Linear(pool.proj.out_features, held_out[0].shape[1] * COARSE_CELLS**2).to(device)
    parameters = [*encoder.parameters(), *pool.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.01)
    rng = np.random.default_rng(0)

    def predicted(ids: Tensor) -> Tensor:
        with autocast(device.type):
            states = encoder(ids).last_hidden_state
            return head(pool(states)).float()

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP_STEPS) * max(0.02, 1 - step / steps)
        latents, ids = batches.draw(rng, BATCH)
        loss = (predicted(ids) - coarse(latents)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % LOG_STEPS == 0 or step + 1 == steps:
            with torch.no_grad():
                target = coarse(held_out[0])
                error = (predicted(held_out[1]) - target).square().mean()
            explained = 1 - error / (target - target.mean(0)).square().mean()
            print(f"reading: {step + 1} steps, {explained:.3f} of the coarse latents of val explained", flush=True)
