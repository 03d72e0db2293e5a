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
from pathlib import Path

import numpy as np
import torch
from torch import nn

from micro_data import ROOT, load_part
from micro_device import (
    Clock,
    Processes,
    add_device_options,
    add_time_options,
    on_gpu,
    out_of_memory,
    prepare_device,
    save_state,
)
from micro_latents import Batches, cached_latents, device_latents, whole_latents
from micro_looks import described_captions, load_masks, looks_by_diagnosis, view_appearances
from micro_model import KEPT, LOWEST, STATE_FILE, Base
from micro_nets import LEARNING_RATE, learning_rate
from micro_perceptual import PictureLoss
from micro_samples import Measure
from micro_text import learn_to_read
from skindualgen.model.autoencoder import PatchAutoencoder

BATCH = 32
WARMUP_STEPS = 100
BALANCE = 0.8
"""of classes in the labelled stage, if not given"""
GIVE_UP_ABOVE = 1.03
"""times the lowest loss on val: a training that has overfitted so far by half of its time leaves the rest of it"""
LEAST_BATCH = 16
LOG_STEPS, VAL_STEPS = 25, 125
READ_STEPS = 1500
BANDS = ((0, 200), (200, 500), (500, 1000))
"""of timesteps, for the loss on val"""


def options() -> argparse.ArgumentParser:
    """Of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--autoencoder", type=Path, help="its analysis; its decoder for measures")
    parser.add_argument("--latent-channels", type=int, default=16, help="of --compile-only")
    parser.add_argument("--stage", choices=["unlabelled", "labelled"], default="unlabelled")
    parser.add_argument("--described", action="store_true", help="captions say what the photographs look like, too")
    parser.add_argument("--balance", type=float, default=BALANCE, help="of classes: drawn with frequency ** (1 - it)")
    parser.add_argument("--read-steps", type=int, default=READ_STEPS, help="of the text encoder alone, before the rest")
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
    parser.add_argument("--pictures", type=float, default=0.0, help="weight of how far predicted pictures are")
    parser.add_argument("--picture-count", type=int, default=8, help="latents of a batch that are decoded for it")
    parser.add_argument("--picture-latest", type=int, default=600, help="timestep above which none is")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    parser.add_argument("--keep", choices=[KEPT, LOWEST], default=KEPT, help="what is exported")
    parser.add_argument("--guide-at", type=float, help="share of this call after which OUT-guide is written")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="the UNet; on a GPU if not given")
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache for a later call")
    add_device_options(parser)
    add_time_options(parser)
    return parser


def main() -> None:
    parser = options()
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
    if gpu and not args.described:
        latents = device_latents(copy.deepcopy(autoencoder).to(device), images.to(device))
    else:
        latents = processes.first_then_all(lambda: cached_latents(autoencoder, images, cache))
    val_images, val_records = load_part(args.data, "val")
    labelled = args.stage == "labelled"

    torch.manual_seed(0)
    layers = json.loads((args.init / "unet" / "config.json").read_text())["layers_per_block"] if args.init else 1
    base = Base(latents.shape[2], device, processes, layers_per_block=layers)
    checkpoint = args.work / "state.pt"
    looks = None
    if args.described:
        looks = processes.first_then_all(
            lambda: view_appearances(images, load_masks(args.data, images, "train"), args.work / "appearances.json")
        )
    batches = Batches(
        latents,
        records,
        base.tokenizer,
        labelled=labelled,
        balance=args.balance if labelled else 0.0,
        device=device,
        appearances=looks,
    )
    drawn_from = None if looks is None else looks_by_diagnosis(records, looks[0])
    measure = Measure(val_images, val_records, base.tokenizer, labelled=labelled, device=device, looks=drawn_from)
    val_latents, val_ids = whole_latents(autoencoder, val_images).to(device), measure.ids.to(device)
    if looks is not None:  # the loss is that of true words, samples are of drawn ones
        words = {"labelled": labelled, "split": "val"}
        val_ids = described_captions(args.data, val_images, val_records, base.tokenizer, **words).to(device)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, part in base.parts.items():
            part.load_state_dict(state[name])
        base.samples = state["samples"]
    elif args.init:
        base.load(args.init)
        if args.described and not json.loads((args.init / STATE_FILE).read_text()).get("described"):
            learn_to_read(base.models, batches, args.read_steps, (val_latents, val_ids))
            for average in (*base.averages.values(), base.lowest):
                average.load_state_dict(base.models.state_dict())
    torch.manual_seed(base.samples + processes.rank)
    rng = np.random.default_rng(base.samples + processes.rank)
    val_noise = torch.randn(val_latents.shape, generator=torch.Generator().manual_seed(7)).to(device)
    val_t = torch.linspace(0, 999, len(val_latents)).long()
    val_t = val_t[torch.randperm(len(val_t), generator=torch.Generator().manual_seed(8))].to(device)

    if args.pictures:
        decoder = copy.deepcopy(autoencoder)
        base.pictures = PictureLoss(decoder, device, args.pictures, args.picture_count, args.picture_latest)
    if gpu if args.compile is None else args.compile:
        base.compile(args.batch, latents.shape[2])

    @torch.no_grad()
    def val_loss(nets: nn.ModuleDict) -> dict[str, float]:
        losses = base.loss(nets, val_latents, val_ids, val_noise, val_t)
        row = {"val_loss": losses.mean().item()}
        return row | {f"val_t{a}_{b}": losses[(val_t >= a) & (val_t < b)].mean().item() for a, b in BANDS}

    about = {"stage": args.stage, "described": args.described}

    def save() -> None:
        save_state(
            {name: part.state_dict() for name, part in base.parts.items()} | {"samples": base.samples}, checkpoint
        )
        base.export(args.out, autoencoder, args.keep, about)

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
            if base.distances:
                row["pictures"] = torch.stack(base.distances).mean().item()
            window, base.distances = [], []
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
            base.export(args.out.with_name(args.out.name + "-guide"), autoencoder, KEPT, about)
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
