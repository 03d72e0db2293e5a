"""Train the micro base: a text-to-image latent diffusion model of stock classes, without any mask.

UNet2DConditionModel and CLIPTextModel learn together, from scratch, on captioned photographs of the part "train".
Stage "unlabelled": captions name site, age and sex at random, never a diagnosis (the study base). Stage "labelled" goes
on from --init with diagnoses in the captions (the bundled base). The result is a diffusers folder, the same kind of
thing as Stable Diffusion 2.0. Resumable: the same command goes on. On a machine without the state file, --init takes
the weights of --out of an earlier call; only the optimiser's momentum is then new.

Several processes train together under `torchrun --nproc-per-node 2`, each with --batch photographs a step: on a CPU,
one process a core is faster than threads.

On a GPU everything that a step needs lies there, and the UNet is compiled. Minutes are enough there to learn the
photographs by heart, so the average that is exported is the one with the lowest loss on val (--keep lowest).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from micro_data import ROOT, load_masks, load_part
from micro_device import (
    Clock,
    Processes,
    add_device_options,
    add_time_options,
    autocast,
    on_gpu,
    out_of_memory,
    prepare_device,
    replace_folder,
    save_state,
)
from micro_latents import (
    Batches,
    appearances,
    cached_latents,
    caption,
    described,
    device_latents,
    token_ids,
    view_appearances,
    whole_latents,
    whole_views,
)
from micro_nets import (
    LEARNING_RATE,
    MuonAdamW,
    learning_rate,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
)
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
LOWEST = "lowest"
"""a copy of that average when it had the lowest loss on val"""
GIVE_UP_ABOVE = 1.03
"""times the lowest loss on val: a training that has overfitted so far by half of its time leaves the rest of it"""
LEAST_BATCH = 16
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
        self.lowest, self.lowest_loss = copy.deepcopy(self.averages[KEPT]), float("inf")

    @property
    def parts(self) -> dict:
        return {"models": self.models, "optimizer": self.optimizer, **self.averages}

    def load(self, folder: Path) -> None:
        """Take the weights of an exported base, for networks and averages alike."""
        exported = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        unet = self.models["unet"].state_dict() | exported.unet.state_dict()
        text_encoder = exported.text_encoder.state_dict()
        words, known = self.tokenizer.get_vocab(), exported.tokenizer.get_vocab()
        for name, rows in text_encoder.items():
            if name.endswith("token_embedding.weight"):  # words that are new to the base keep their first weights
                table = self.models["text_encoder"].state_dict()[name].clone()
                kept = [word for word in words if word in known]
                table[[words[word] for word in kept]] = rows[[known[word] for word in kept]]
                text_encoder[name] = table
        for nets in (self.models, self.lowest, *self.averages.values()):
            nets["unet"].load_state_dict(unet)
            nets["text_encoder"].load_state_dict(text_encoder)
        self.samples = json.loads((folder / STATE_FILE).read_text())["samples"]

    @torch.no_grad()
    def note(self, loss: float) -> None:
        """Copy the average that is kept if its loss on val is the lowest so far."""
        if loss < self.lowest_loss:
            self.lowest_loss = loss
            torch._foreach_copy_(list(self.lowest.parameters()), list(self.averages[KEPT].parameters()))

    @torch.no_grad()
    def go_back(self) -> None:
        """Begin again from the lowest loss on val, without momentum: after a loss that is not a number."""
        for nets in (self.models, *self.averages.values()):
            torch._foreach_copy_(list(nets.parameters()), list(self.lowest.parameters()))
        self.optimizer = MuonAdamW(self.models)

    def compile(self, batch: int, channels: int) -> None:
        """Compile the UNet for steps of this size, or print why it runs uncompiled."""
        side = self.models["unet"].config.sample_size
        x0 = torch.randn(batch, channels, side, side, device=self.device)
        ids = torch.zeros(batch, self.tokenizer.model_max_length, dtype=torch.long, device=self.device)
        start = time.monotonic()
        self.models["unet"].compile(dynamic=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.backward(x0, ids)
            print(f"compiled in {time.monotonic() - start:.0f} s", flush=True)
        except Exception as error:
            self.models["unet"]._compiled_call_impl = None
            print(f"not compiled: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)
        for parameter in self.models.parameters():
            parameter.grad = None

    def export(self, folder: Path, autoencoder: PatchAutoencoder, average: str, about: dict) -> None:
        """Write one of the averages as a diffusers folder in half precision."""
        target, folder = folder, folder.with_name(folder.name + ".new")
        kept = self.lowest if average == LOWEST else self.averages[average]
        nets = copy.deepcopy(kept).cpu().to(memory_format=torch.contiguous_format)
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
        replace_folder(folder, target)

    def loss(self, nets: nn.ModuleDict, x0: Tensor, ids: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Squared error of the velocity per sample, [b]; no weight, so that small channels count at low noise."""
        a = self.alphas[t].view(-1, 1, 1, 1)
        with autocast(self.device):
            text = nets["text_encoder"](ids).last_hidden_state
            prediction = nets["unet"](add_noise(x0, noise, a), t, text).sample
        return (prediction.float() - velocity_target(x0, noise, a)).square().mean(dim=(1, 2, 3))

    def backward(self, x0: Tensor, ids: Tensor) -> Tensor:
        """Gradients of a batch at random levels of noise; returns the mean loss."""
        x0 = x0.contiguous(memory_format=torch.channels_last)
        # Timesteps one to each of b equal intervals: less variance than independent draws.
        t = (torch.rand(1, device=self.device) + torch.arange(len(x0), device=self.device)) / len(x0) % 1
        t = (t * len(self.alphas)).long()
        loss = self.loss(self.models, x0, ids, torch.randn_like(x0), t).mean()
        loss.backward()
        return loss.detach()

    def step(self, x0: Tensor, ids: Tensor, rate: float) -> Tensor:
        """One step of the optimiser; returns the mean loss."""
        loss = self.backward(x0, ids)
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
        return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--autoencoder", type=Path, help="its analysis; its decoder for measures")
    parser.add_argument("--latent-channels", type=int, default=16, help="of --compile-only")
    parser.add_argument("--stage", choices=["unlabelled", "labelled"], default="unlabelled")
    parser.add_argument("--described", action="store_true", help="captions say what the photographs look like, too")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument(
        "--latents", type=Path, help="file of encoded views, shared by stages; WORK/latents.pt if not given"
    )
    parser.add_argument("--init", type=Path, help="base folder to start from where --work holds no state")
    parser.add_argument("--measure-every", type=int, default=100_000, help="samples between measures on val")
    parser.add_argument("--rate", type=float, help="peak learning rate; on a GPU by the size of a batch if not given")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    parser.add_argument("--keep", choices=[KEPT, LOWEST], default=KEPT, help="what is exported")
    parser.add_argument("--guide-at", type=float, help="share of this call after which OUT-guide is written")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="the UNet; on a GPU if not given")
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache for a later call")
    add_device_options(parser)
    add_time_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    gpu = on_gpu(device)
    if args.compile_only:
        Base(args.latent_channels, device, Processes(device)).compile(args.batch, args.latent_channels)
        return
    if args.autoencoder is None:
        parser.error("--autoencoder is needed")
    args.work.mkdir(parents=True, exist_ok=True)
    autoencoder = PatchAutoencoder.from_pretrained(args.autoencoder, torch_dtype=torch.float32)
    images, records = load_part(args.data, "train")
    processes, cache = Processes(device), args.latents or args.work / "latents.pt"
    if gpu:
        latents = device_latents(copy.deepcopy(autoencoder).to(device), images.to(device))
    else:
        latents = processes.first_then_all(lambda: cached_latents(autoencoder, images, cache))
    val_images, val_records = load_part(args.data, "val")
    labelled = args.stage == "labelled"

    torch.manual_seed(0)
    base, checkpoint = Base(latents.shape[2], device, processes), args.work / "state.pt"
    looks = by_diagnosis = None
    if args.described:
        looks = processes.first_then_all(
            lambda: view_appearances(images, load_masks(args.data, images, "train"), args.work / "appearances.json")
        )
        by_diagnosis = {r.diagnosis: [] for r in records}
        for record, look in zip(records, looks[0], strict=True):
            by_diagnosis[record.diagnosis].append(look)
    batches = Batches(
        latents,
        records,
        base.tokenizer,
        labelled=labelled,
        balance=BALANCE if labelled else 0.0,
        device=device,
        appearances=looks,
    )
    measure = Measure(val_images, val_records, base.tokenizer, labelled=labelled, device=device, looks=by_diagnosis)
    val_latents, val_ids = whole_latents(autoencoder, val_images).to(device), measure.ids.to(device)
    if args.described:  # Loss is that of true words, samples are those of drawn ones.
        val_masks = load_masks(args.data, val_images, "val")
        seen = appearances(whole_views(torch.cat([val_images, val_masks[..., None]], dim=-1)))
        said = np.random.default_rng(0)
        texts = [
            described(caption(r, said, labelled=labelled), a, said, full=True)
            for r, a in zip(val_records, seen, strict=True)
        ]
        val_ids = token_ids(base.tokenizer, texts).to(device)
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

    if gpu if args.compile is None else args.compile:
        base.compile(args.batch, latents.shape[2])

    @torch.no_grad()
    def val_loss(nets: nn.ModuleDict) -> dict[str, float]:
        losses = base.loss(nets, val_latents, val_ids, val_noise, val_t)
        row = {"val_loss": losses.mean().item()}
        return row | {f"val_t{a}_{b}": losses[(val_t >= a) & (val_t < b)].mean().item() for a, b in BANDS}

    def save() -> None:
        save_state(
            {name: part.state_dict() for name, part in base.parts.items()} | {"samples": base.samples}, checkpoint
        )
        base.export(args.out, autoencoder, args.keep, {"stage": args.stage})

    clock = Clock(args.minutes, args.deadline)
    saved = logged = 0.0
    first, window, steps, batch, guide_at = base.samples, [], 0, args.batch, args.guide_at
    peak = args.rate or (learning_rate(args.batch * processes.count) if gpu else LEARNING_RATE)
    measured, lowest = base.samples // args.measure_every, args.keep == LOWEST and processes.count == 1
    if lowest:
        base.note(val_loss(base.averages[KEPT])["val_loss"])
    while (elapsed := processes.same(clock.elapsed)) < clock.seconds or not steps:
        rate = peak * min(1, (steps + 1) / WARMUP_STEPS)
        if args.final_decay:
            rate *= max(0.02, 1 - elapsed / clock.seconds)
        try:
            drawn = batches.draw_on_device(batch) if gpu else batches.draw(rng, batch)
            window.append(base.step(*drawn, rate))
        except Exception as error:
            if not out_of_memory(error) or batch <= LEAST_BATCH or processes.count > 1:
                raise
            batch //= 2
            print(f"out of memory: batches of {batch} from now on", flush=True)
            base.optimizer.drop_gradients()
            torch.cuda.empty_cache()
            continue
        steps += 1
        if not processes.first:
            continue
        by_time = args.log_seconds is not None
        if elapsed - logged > args.log_seconds if by_time else steps % LOG_STEPS == 0:
            logged = elapsed
            row = {"samples": base.samples, "loss": torch.stack(window).mean().item(), "lr": rate}
            row["per_second"] = (base.samples - first) / clock.elapsed
            window = []
            if not np.isfinite(row["loss"]) and by_time:
                base.go_back()
                peak /= 2
                print(f"loss {row['loss']}: back to the lowest on val, at half of the rate", flush=True)
                continue
            if by_time or steps % VAL_STEPS == 0:
                row |= val_loss(base.averages[KEPT])
                base.note(row["val_loss"])
            if base.samples // args.measure_every > measured:
                measured = base.samples // args.measure_every
                decoder = PatchAutoencoder.from_pretrained(args.autoencoder, torch_dtype=torch.float32)
                sheet = args.work / f"samples_{base.samples}.jpg"
                row |= measure(base, base.averages[KEPT], decoder.to(device), sheet)
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            if by_time:
                print(json.dumps(row), flush=True)
            overfitted = row.get("val_loss", 0) > GIVE_UP_ABOVE * base.lowest_loss
            if lowest and overfitted and elapsed > clock.seconds / 2:
                print(f"loss on val {row['val_loss']:.4f} after {base.lowest_loss:.4f}: ended", flush=True)
                break
        if guide_at is not None and elapsed > guide_at * clock.seconds:
            guide_at = None
            base.export(args.out.with_name(args.out.name + "-guide"), autoencoder, KEPT, {"stage": args.stage})
        if elapsed - saved > args.checkpoint_seconds:
            saved = elapsed
            save()
    if processes.first:
        if lowest:
            base.note(val_loss(base.averages[KEPT])["val_loss"])
        save()
    print("samples", base.samples, "saved", args.out)


if __name__ == "__main__":
    main()
