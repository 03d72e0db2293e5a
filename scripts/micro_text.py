"""Teach the text encoder of a base to read what photographs look like, before the UNet learns to draw it.

    python scripts/micro_text.py --init BASE --autoencoder FOLDER --work WORK --out NEW_BASE

The encoder, with the layer that carries its states to every block of the UNet, predicts the coarse latents of a view from
its caption, by least squares and through a linear map that is thrown away. Minutes: no UNet takes part. Within the
training of the base the same is learnt a hundred times more slowly (docs/lab-notebook.md, 2026-12-01).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_base import KEPT, Base
from micro_data import ROOT, load_masks, load_part
from micro_device import Processes
from micro_latents import Batches, cached_latents, view_appearances
from skindualgen.model.autoencoder import PatchAutoencoder

BATCH, RATE, WARMUP_STEPS, LOG_STEPS = 64, 2e-3, 50, 50
COARSE_CELLS = 4
"""a side; of the means of latents that are predicted"""
HELD_OUT = 10
"""every so manieth photograph is not trained on here and measured by"""


def coarse(latents: Tensor) -> Tensor:
    """Means over cells, [b, c * 4 * 4]."""
    return F.adaptive_avg_pool2d(latents, COARSE_CELLS).flatten(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True, help="base folder")
    parser.add_argument("--work", type=Path, required=True, help="of micro_base.py: latents and appearances")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder.from_pretrained(args.autoencoder, torch_dtype=torch.float32)
    images, records = load_part(args.data, "train")
    latents = cached_latents(autoencoder, images, args.work / "latents.pt")
    looks = view_appearances(images, load_masks(args.data, images, "train"), args.work / "appearances.json")
    base = Base(latents.shape[2], "cpu", Processes("cpu"))
    base.load(args.init)
    kept = torch.arange(len(records)) % HELD_OUT != 0

    def batches(chosen: Tensor) -> Batches:
        places = chosen.nonzero().flatten().tolist()
        some = [[view[place] for place in places] for view in looks]
        return Batches(
            latents[:, chosen],
            [records[place] for place in places],
            base.tokenizer,
            labelled=True,
            balance=0.0,
            device="cpu",
            appearances=some,
        )

    train, held_out = batches(kept), batches(~kept)
    encoder, pool = base.models["text_encoder"], base.models["unet"].add_embedding
    head = nn.Linear(pool.proj.out_features, latents.shape[2] * COARSE_CELLS**2)
    nets = nn.ModuleList([encoder, pool, head])
    optimizer = torch.optim.AdamW(nets.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP_STEPS) * max(0.02, 1 - step / args.steps)
    )

    def predicted(ids: Tensor) -> Tensor:
        return head(pool(encoder(ids[:, : int((ids != base.tokenizer.pad_token_id).sum(1).max()) + 8]).last_hidden_state))

    rng, start = np.random.default_rng(0), time.monotonic()
    x, ids = held_out.draw(np.random.default_rng(1), 512)
    for step in range(args.steps):
        drawn, said = train.draw(rng, BATCH)
        loss = (predicted(said) - coarse(drawn)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(nets.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % LOG_STEPS == 0:
            with torch.no_grad():
                error, target = (predicted(ids) - coarse(x)).square().mean(), coarse(x)
            explained = 1 - error / (target - target.mean(0)).square().mean()
            print(f"{step + 1} loss {loss:.4f} explained {explained:.3f} of unseen {time.monotonic() - start:.0f} s", flush=True)
    for average in base.averages.values():
        average.load_state_dict(base.models.state_dict())
    base.export(args.out, autoencoder, KEPT, {"stage": "labelled"})


if __name__ == "__main__":
    main()
