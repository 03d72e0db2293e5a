"""Bring what a trained micro base draws near to photographs of the same diagnosis, by gradients through its sampling.

The loss of a base is that of single steps; what twenty of them make of noise is not in it. Here batches are drawn as
people draw them, decoded, and compared with all photographs of the diagnosis that was asked for (micro_moments.py),
and the UNet follows the gradient of that through every step (DRaFT, Clark et al. 2023, arXiv 2309.17400, method only),
beside the loss of the base itself. A few dozen steps are enough, and more at a constant rate swing past the goal.
Only photographs of the part "train" are seen. A call does all of it; nothing is resumed.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from micro_data import ROOT, load_part
from micro_device import add_device_options, on_gpu, prepare_device, replace_folder
from micro_latents import Batches, cached_latents, whole_latents, whole_views
from micro_looks import described_captions
from micro_model import STATE_FILE, make_fast_on_cpu, spread_timesteps, velocity_error
from micro_moments import MomentMatching
from micro_samples import denoise
from micro_winograd import use_winograd
from skindualgen.contracts import PairRecord
from skindualgen.model.bases import Base, load_base

KINDS = ("nevus", "melanoma", "seborrheic_keratosis")
BATCH = (6, 5, 5)
"""pictures of each kind in a step"""
STEPS, WARMUP_STEPS, DECAY_SHARE = 45, 10, 0.6
"""of the training, of its rising rate, and the share of it in which the rate falls to zero"""
LEARNING_RATE = 8e-6
SAMPLING_STEPS = 10
"""of DPM-Solver++: half of what pictures are drawn in, at half of the cost"""
KEPT = 48
"""generated pictures of a kind to compare with: with 128 of them, of 25 steps, the training swung"""
WEIGHTS = (0.3, 0.3, 0.3, 1.0, 2.0)
"""of the groups of features, early ones first: the decoder has seen to texture"""
EMA_DECAY = 0.9
BASE_BATCH, BASE_DESCRIBED, BALANCE = 12, 4, 0.5
"""photographs in a step for the base's own loss, and further ones with all that is seen in their captions"""
WINDOW = 30
"""steps whose median gradient a larger one is cut to"""


class Matching:
    """The UNet in training, its average, and both losses.

    Args:
        base: whose UNet is trained, with the decoder that its pictures are drawn with.
        photographs: [n, h, w, 3] uint8.
        records: of them.
        ids: token ids [n, 77] of captions that say all of what each looks like.
        batches: of latents and captions, for the base's own loss.
        device: cpu or cuda.
    """

    def __init__(
        self, base: Base, photographs: Tensor, records: Sequence[PairRecord], ids: Tensor, batches: Batches, device: str
    ) -> None:
        self.base, self.ids, self.batches, self.device = base, ids, batches, device
        self.kinds = np.array([KINDS.index(r.diagnosis) if r.diagnosis in KINDS else -1 for r in records])
        self.whole = whole_latents(base.vae, photographs)
        self.unet: UNet2DConditionModel = base.unet.to(device).train().requires_grad_(True)
        self.unet.to(memory_format=torch.channels_last)
        for part in (base.text_encoder, base.vae):
            part.to(device).requires_grad_(False)
        if not on_gpu(device):
            make_fast_on_cpu(self.unet)
            use_winograd(base.vae.decoder)
        self.average = copy.deepcopy(self.unet).requires_grad_(False).eval()
        self.alphas = base.scheduler.alphas_cumprod.to(device)
        self.moments = MomentMatching(
            whole_views(photographs), device, kinds=torch.from_numpy(self.kinds), kept=KEPT, weights=WEIGHTS
        )
        self.parameters = list(self.unet.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self.norms: list[float] = []

    def text(self, ids: Tensor) -> Tensor:
        """States [b, 77, width] of token ids [b, 77]."""
        with torch.no_grad():
            return self.base.text_encoder(ids.to(self.device)).last_hidden_state

    def drawn(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures [b, 3, s, s] of each kind in turn, with a way back to the UNet, and their kinds [b]."""
        places = [rng.choice(np.where(self.kinds == kind)[0], count) for kind, count in enumerate(BATCH)]
        text = self.text(self.ids[np.concatenate(places)])
        side = self.unet.config.sample_size
        z = torch.randn(len(text), self.unet.config.in_channels, side, side).to(self.device)
        z = denoise(self.unet, self.base.scheduler.config, z, text, steps=SAMPLING_STEPS)
        return self.base.vae.decode(z).sample, torch.arange(len(KINDS)).repeat_interleave(torch.tensor(BATCH))

    @torch.no_grad()
    def fill(self, rng: np.random.Generator) -> None:
        """Draw until there is something to compare with."""
        while len(self.moments.get_buffer(f"made0_{len(KINDS) - 1}")) < KEPT:
            self.moments(*self.drawn(rng))

    def own_loss(self, rng: np.random.Generator) -> Tensor:
        """Squared error of the velocity on photographs, which keeps the UNet a model of single steps."""
        x0, ids = self.batches.draw(rng, BASE_BATCH)
        places = rng.integers(len(self.whole), size=BASE_DESCRIBED)
        x0, ids = torch.cat([x0, self.whole[places].to(x0)]), torch.cat([ids, self.ids[places].to(ids)])
        t, noise = spread_timesteps(len(x0), self.alphas), torch.randn_like(x0)
        return velocity_error(self.unet, self.alphas, x0, self.text(ids), noise, t).mean()

    def learn(self, rng: np.random.Generator, rate: float) -> dict[str, float]:
        """One step; returns both losses."""
        own = self.own_loss(rng)
        kept = torch.autograd.grad(own, self.parameters)
        apart = self.moments(*self.drawn(rng))
        towards = torch.autograd.grad(apart, self.parameters)
        keeping, moving = (float(nn.utils.get_total_norm(part)) for part in (kept, towards))
        self.norms = [*self.norms, moving][-WINDOW:]
        weight = keeping / max(moving, float(np.median(self.norms)))
        for parameter, one, other in zip(self.parameters, kept, towards, strict=True):
            parameter.grad = one + weight * other
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return {"own": float(own.detach()), "moments": float(apart.detach())}

    def train(self, steps: int, rng: np.random.Generator) -> Iterator[dict[str, float]]:
        """Yield the losses of each step."""
        for step in range(steps):
            falling = (steps - step) / (steps * DECAY_SHARE)
            row = self.learn(rng, LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS, falling))
            decay = min(EMA_DECAY, (step + 1) / (step + 6))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1 - decay)
            yield {"step": step + 1, **row}

    def export(self, source: Path, target: Path, steps: int) -> None:
        """Write the base with the average in half precision."""
        new = target.with_name(target.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(source, new)
        unet = copy.deepcopy(self.average).cpu().to(torch.float16, memory_format=torch.contiguous_format)
        unet.save_pretrained(new / "unet", safe_serialization=True)
        about = json.loads((source / STATE_FILE).read_text())
        (new / STATE_FILE).write_text(json.dumps(about | {"matched_steps": steps}, indent=1))
        replace_folder(new, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--base", type=Path, required=True, help="trained base, with the decoder of its pictures")
    parser.add_argument("--work", type=Path, required=True, help="log, and encoded views")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    add_device_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    photographs, records = load_part(args.data, "train")
    base = load_base(args.base)
    latents = cached_latents(base.vae, photographs, args.work / "latents.pt")
    batches = Batches(latents, records, base.tokenizer, labelled=True, balance=BALANCE, device=device)
    ids = described_captions(args.data, photographs, records, base.tokenizer, labelled=True, split="train")
    matching, rng = Matching(base, photographs, records, ids, batches, device), np.random.default_rng(1)
    matching.fill(rng)
    print("distances", matching.moments.distances(), flush=True)
    for row in matching.train(args.steps, rng):
        with (args.work / "metrics.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
    print("distances", matching.moments.distances(), flush=True)
    matching.export(args.base, args.out, args.steps)


if __name__ == "__main__":
    main()
