"""Train the micro base: a text-to-image latent diffusion model of stock classes, without any mask.

UNet2DConditionModel and CLIPTextModel learn together, from scratch, on captioned photographs of the part "train".
Stage "unlabelled": captions name site, age and sex at random, never a diagnosis (the study base). Stage "labelled" goes
on from --init with diagnoses in the captions (the bundled base). The result is a diffusers folder, the same kind of
thing as Stable Diffusion 2.0. Resumable: the same command goes on. On a machine without the state file, --init takes
the weights of --out of an earlier call; only the optimiser's momentum is then new.

Several processes train together under `torchrun --nproc-per-node 2`, each with --batch photographs a step: on a CPU,
one process a core is faster than threads.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from micro_data import ROOT, load_part
from micro_device import Processes, add_device_options, autocast, prepare_device, save_state
from micro_latents import Batches, cached_latents, whole_latents
from micro_nets import LEARNING_RATE, MuonAdamW, make_scheduler, make_text_encoder, make_tokenizer, make_unet
from micro_samples import Measure
from micro_winograd import use_winograd
from skindualgen.losses import add_noise, velocity_target
from skindualgen.model.autoencoder import PatchAutoencoder

BATCH = 32
WARMUP_STEPS = 100
EMA_WIDTHS = {"short": 16.97, "long": 6.94}
"""Exponents of power-function averages of relative width .05 and .10 (Karras et al. 2023, arXiv 2312.02696, section
3.1): the average forgets in proportion to the training's length, so a longer training needs no other setting."""
BALANCE = 0.5
"""of classes in the labelled stage: drawn with their frequency to the power 1 - BALANCE"""
KEPT = "short"
"""which average is measured and exported; the other one is in the state file"""
CHECKPOINT_SECONDS = 150
LOG_STEPS, VAL_STEPS = 25, 125
BANDS = ((0, 200), (200, 500), (500, 1000))
"""of timesteps, for the loss on val"""
STATE_FILE = "training.json"


class Base:
    """Everything that is trained or kept between calls."""

    def __init__(self, latent_channels: int, device: str, processes: Processes) -> None:
        self.processes = processes
        self.tokenizer, self.scheduler, self.device = make_tokenizer(), make_scheduler(), device
        self.models = nn.ModuleDict(
            {"unet": make_unet(latent_channels), "text_encoder": make_text_encoder(self.tokenizer)}
        ).to(device)
        self.models["unet"].to(memory_format=torch.channels_last)
        if device == "cpu":
            # Each 1.4 times faster on a CPU: attention that is not fused, whose backward pass is slow there, and tiles.
            self.models["unet"].set_attn_processor(AttnProcessor())
            use_winograd(self.models["unet"])
        self.averages = {name: copy.deepcopy(self.models).requires_grad_(False) for name in EMA_WIDTHS}
        self.optimizer = MuonAdamW(self.models)
        self.alphas = self.scheduler.alphas_cumprod.to(device)
        self.samples = 0
        """photographs trained on so far, by all calls"""

    @property
    def parts(self) -> dict:
        return {"models": self.models, "optimizer": self.optimizer, **self.averages}

    def load(self, folder: Path) -> None:
        """Take the weights of an exported base, for networks and averages alike."""
        exported = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        for nets in (self.models, *self.averages.values()):
            nets["unet"].load_state_dict(exported.unet.state_dict())
            nets["text_encoder"].load_state_dict(exported.text_encoder.state_dict())
        self.samples = json.loads((folder / STATE_FILE).read_text())["samples"]

    def export(self, folder: Path, autoencoder: PatchAutoencoder, average: str, about: dict) -> None:
        """Write one of the averages as a diffusers folder in half precision."""
        nets = copy.deepcopy(self.averages[average]).cpu().to(memory_format=torch.contiguous_format)
        pipeline = StableDiffusionPipeline(
            vae=copy.deepcopy(autoencoder).cpu(),
            text_encoder=nets["text_encoder"],
            tokenizer=self.tokenizer,
            unet=nets["unet"],
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
        (folder / STATE_FILE).write_text(json.dumps(about | {"samples": self.samples, "average": average}, indent=1))

    def loss(self, nets: nn.ModuleDict, x0: Tensor, ids: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Squared error of the velocity per sample, [b]; no weight, so that small channels count at low noise."""
        a = self.alphas[t].view(-1, 1, 1, 1)
        with autocast(self.device):
            text = nets["text_encoder"](ids).last_hidden_state
            prediction = nets["unet"](add_noise(x0, noise, a), t, text).sample
        return (prediction.float() - velocity_target(x0, noise, a)).square().mean(dim=(1, 2, 3))

    def step(self, x0: Tensor, ids: Tensor, rate: float) -> Tensor:
        """One step of the optimiser; returns the mean loss."""
        x0 = x0.contiguous(memory_format=torch.channels_last)
        # Timesteps one to each of b equal intervals: less variance than independent draws.
        t = (torch.rand(1, device=self.device) + torch.arange(len(x0), device=self.device)) / len(x0) % 1
        t = (t * len(self.alphas)).long()
        loss = self.loss(self.models, x0, ids, torch.randn_like(x0), t).mean()
        loss.backward()
        gradients = [p.grad for p in self.models.parameters()]
        self.processes.mean(gradients)
        nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        self.optimizer.set_rate(rate)
        self.optimizer.step()
        batch = len(x0) * self.processes.count
        self.samples += batch
        for name, exponent in EMA_WIDTHS.items():
            share = 1 - (1 - batch / self.samples) ** (exponent + 1) if self.samples > batch else 1.0
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averages[name].parameters()), list(self.models.parameters()), share)
        return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--autoencoder", type=Path, required=True, help="its analysis; its decoder for measures")
    parser.add_argument("--stage", choices=["unlabelled", "labelled"], default="unlabelled")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument(
        "--latents", type=Path, help="file of encoded views, shared by stages; WORK/latents.pt if not given"
    )
    parser.add_argument("--init", type=Path, help="base folder to start from where --work holds no state")
    parser.add_argument("--measure-every", type=int, default=100_000, help="samples between measures on val")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    add_device_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    args.work.mkdir(parents=True, exist_ok=True)
    autoencoder = PatchAutoencoder.from_pretrained(args.autoencoder, torch_dtype=torch.float32)
    images, records = load_part(args.data, "train")
    processes, cache = Processes(device), args.latents or args.work / "latents.pt"
    latents = processes.first_then_all(lambda: cached_latents(autoencoder, images, cache))
    val_images, val_records = load_part(args.data, "val")
    labelled = args.stage == "labelled"

    torch.manual_seed(0)
    base, checkpoint = Base(latents.shape[2], device, processes), args.work / "state.pt"
    batches = Batches(
        latents, records, base.tokenizer, labelled=labelled, balance=BALANCE if labelled else 0.0, device=device
    )
    measure = Measure(val_images, val_records, base.tokenizer, labelled=labelled)
    val_latents, val_ids = whole_latents(autoencoder, val_images).to(device), measure.ids.to(device)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, part in base.parts.items():
            part.load_state_dict(state[name])
        base.samples = state["samples"]
    elif args.init:
        base.load(args.init)
    torch.manual_seed(base.samples + processes.rank)
    rng = np.random.default_rng(base.samples + processes.rank)
    val_noise = torch.randn(val_latents.shape, generator=torch.Generator().manual_seed(7)).to(device)
    val_t = torch.linspace(0, 999, len(val_latents)).long()
    val_t = val_t[torch.randperm(len(val_t), generator=torch.Generator().manual_seed(8))].to(device)

    @torch.no_grad()
    def val_loss(nets: nn.ModuleDict) -> dict[str, float]:
        losses = base.loss(nets, val_latents, val_ids, val_noise, val_t)
        row = {"val_loss": losses.mean().item()}
        return row | {f"val_t{a}_{b}": losses[(val_t >= a) & (val_t < b)].mean().item() for a, b in BANDS}

    def save() -> None:
        save_state(
            {name: part.state_dict() for name, part in base.parts.items()} | {"samples": base.samples}, checkpoint
        )
        base.export(args.out, autoencoder, KEPT, {"stage": args.stage})

    start = saved = time.monotonic()
    first, window, steps = base.samples, [], 0
    while (elapsed := processes.same(time.monotonic() - start)) < args.minutes * 60:
        rate = args.rate * min(1, (steps + 1) / WARMUP_STEPS)
        if args.final_decay:
            rate *= max(0.02, 1 - elapsed / (args.minutes * 60))
        window.append(base.step(*batches.draw(rng, args.batch), rate))
        steps += 1
        if not processes.first:
            continue
        if steps % LOG_STEPS == 0:
            row = {"samples": base.samples, "loss": torch.stack(window).mean().item(), "lr": rate}
            row["per_second"] = (base.samples - first) / (time.monotonic() - start)
            window = []
            if steps % VAL_STEPS == 0:
                row |= val_loss(base.averages[KEPT])
            if base.samples % args.measure_every < LOG_STEPS * args.batch * processes.count:
                decoder = PatchAutoencoder.from_pretrained(args.autoencoder, torch_dtype=torch.float32)
                sheet = args.work / f"samples_{base.samples}.jpg"
                row |= measure(base, base.averages[KEPT], decoder.to(device), sheet)
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            save()
    if processes.first:
        save()
    print("samples", base.samples, "saved", args.out)


if __name__ == "__main__":
    main()
