"""Train the micro base's autoencoder: fixed linear analysis, decoder by L1 and perceptual loss.

Only photographs of the part "train" are seen. Resumable: the same command goes on from the last checkpoint. With
--base, part of every batch is what a trained base makes for the captions of these photographs, as that is what the
decoder will have to decode; such pictures have no photograph to be compared with, and all of them together are
brought near to all photographs in ImageNet features (micro_moments.py). The fixed analysis stays, so the base needs
no training afterwards.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_data import MIN_ZOOM, ROOT, device_views, load_part, random_views
from micro_device import (
    Clock,
    add_device_options,
    add_time_options,
    autocast,
    on_gpu,
    out_of_memory,
    prepare_device,
    replace_folder,
    save_state,
)
from micro_latents import whole_views
from micro_looks import described_captions
from micro_made import generate
from micro_moments import MomentMatching
from micro_perceptual import ImageFeatures, perceptual_distance
from micro_samples import scores_of, to_pictures
from micro_spectrum import SpectrumMatching, grid_strength
from micro_winograd import use_winograd
from skindualgen.judges.features import ImageNetFeatures
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base

SIZE_PX = 128
LATENT_CHANNELS = 16
SCALE_EXPONENT = 0.25
DECODER_WIDTHS, DECODER_DEPTHS = (128, 96, 64, 16), (2, 2, 1, 1)
BATCH, GPU_BATCH = 16, 64
LEARNING_RATE = 1e-3
FURTHER_LEARNING_RATE = 3e-4
"""of a decoder that is trained on from --init"""
PERCEPTUAL_WEIGHT = 0.4
SPECTRUM_WEIGHT = 0.1
CYCLE_WEIGHT = 0.1
CYCLE_CHANNELS = 6
"""Distance between latents that the base made and the analysis of their picture, in the strongest channels: shapes and
colours stay, texture is free."""
MADE_SHARE = 0.625
"""of a batch: latents that the base has made, where there are any"""
WEIGHED_STEPS = range(40, 44)
"""in which the gradients of both kinds of loss are measured; they then weigh alike"""
LATENT_NOISE_MAX = 0.1
"""Generated latents are not perfect: half of them are decoded under noise up to this standard deviation."""
EMA_DECAY, MADE_EMA_DECAY = 0.998, 0.99
MEASURE_EVERY = 500


class Judge:
    """How near pictures are to val, [n, 3, h, w] in [-1, 1]."""

    def __init__(self, val: Tensor, device: str) -> None:
        self.val, self.features = val.to(device), ImageNetFeatures(device=device)
        self.real = self.features(to_pictures(val))

    @torch.no_grad()
    def __call__(self, autoencoder: PatchAutoencoder, made: Tensor | None = None) -> dict[str, float]:
        """Reconstructions of val: PSNR in dB, kernel distance, recall, coverage; the same of latents made for val."""
        again = torch.cat([autoencoder(part).sample for part in self.val.split(32)])
        error = (again.clamp(-1, 1) - self.val).square().mean((1, 2, 3))
        row = {"val_psnr_db": float((10 * torch.log10(4 / error)).mean()), **self.distances("val", again)}
        if made is not None:
            row |= self.distances("made", torch.cat([autoencoder.decode(z.float()).sample for z in made.split(32)]))
        return row

    def distances(self, of: str, pictures: Tensor) -> dict[str, float]:
        """`scores_of` pictures [m, 3, h, w] in [-1, 1] and their grid, named after what they are of."""
        scores = scores_of(self.real, self.features(to_pictures(pictures))) | {"grid": grid_strength(pictures)}
        return {f"{of}_{name}": value for name, value in scores.items()}


def deepened(autoencoder: PatchAutoencoder) -> PatchAutoencoder:
    """With the residual blocks of :data:`DECODER_DEPTHS`: new ones at the end change little at first."""
    deep = PatchAutoencoder.from_config({**autoencoder.config, "decoder_depths": DECODER_DEPTHS})
    deep.load_state_dict(autoencoder.state_dict(), strict=False)
    return deep


class DecoderTraining:
    """Everything that is trained or kept between calls.

    Args:
        autoencoder: whose decoder learns.
        device: cpu or cuda.
        photographs: whole views [n, 3, s, s] uint8 that pictures are to be like.
        made: whether some are decoded from latents that a base has made.
    """

    def __init__(self, autoencoder: PatchAutoencoder, device: str, photographs: Tensor, *, made: bool) -> None:
        self.device, self.step, self.ratios = device, 0, list[float]()
        self.features = ImageFeatures().to(device)
        self.moments = MomentMatching(photographs, device) if made else None
        self.spectrum = SpectrumMatching(photographs, device)
        self.autoencoder = autoencoder.to(device)
        if device == "cpu":
            use_winograd(autoencoder.decoder)
        self.ema = copy.deepcopy(autoencoder)
        self.parameters = list(autoencoder.decoder.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)

    @property
    def parts(self) -> dict:
        return {"model": self.autoencoder, "ema": self.ema, "opt": self.optimizer}

    def channels_last(self) -> None:
        """Lay out images as convolutions want them."""
        for module in (self.autoencoder, self.features, self.ema):
            module.to(memory_format=torch.channels_last)

    def learn(self, x: Tensor, made: Tensor | None, rate: float) -> dict[str, Tensor]:
        """One step of the decoder.

        Args:
            x: views [b, 3, s, s].
            made: latents [m, c, s/8, s/8] that a base has made; or None.
            rate: learning rate.

        Returns:
            The terms of the loss.
        """
        autoencoder, device, views = self.autoencoder, self.device, len(x)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            z = autoencoder.encode(x).latent_dist.mode()
            level = torch.rand(len(z), 1, 1, 1, device=device) * 2 * LATENT_NOISE_MAX - LATENT_NOISE_MAX
            z = z + torch.randn_like(z) * level.clamp(min=0)
            z = z if made is None else torch.cat([z, made])
        with autocast(device):
            residual = autoencoder.decoder(z)
        out = autoencoder.synthesis(z) + residual.float()
        with autocast(device):
            fake = self.features(out[:views])
            with torch.no_grad():
                real = self.features(x)
        terms = {"l1": (out[:views] - x).abs().mean(), "perceptual": perceptual_distance(fake, real).mean()}
        terms["spectrum"] = self.spectrum(out[:views], x)
        if made is not None and self.moments is not None:
            apart = autoencoder.analysis(out[views:]) - made
            terms["spectrum"] = terms["spectrum"] + self.spectrum(out[views:])
            terms["cycle"] = apart[:, :CYCLE_CHANNELS].abs().mean()
            terms["moments"] = self.moments(out[views:])
        loss = terms["l1"] + PERCEPTUAL_WEIGHT * terms["perceptual"] + SPECTRUM_WEIGHT * terms["spectrum"]
        if "moments" in terms:
            loss = self.joined(loss + CYCLE_WEIGHT * terms["cycle"], terms["moments"])
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(EMA_DECAY if made is None else MADE_EMA_DECAY, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.ema.decoder.parameters()), self.parameters, 1 - decay)
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}

    def joined(self, pairwise: Tensor, moments: Tensor) -> Tensor:
        """Both kinds of loss, at a weight by which their gradients were alike in :data:`WEIGHED_STEPS`."""
        if moments.requires_grad and len(self.ratios) < len(WEIGHED_STEPS) and self.step >= WEIGHED_STEPS[0]:
            norms = []
            for part in (pairwise, moments):
                gradients = torch.autograd.grad(part, self.parameters, retain_graph=True)
                norms.append(nn.utils.get_total_norm(gradients))
            self.ratios.append(float(norms[0] / norms[1]))
        if len(self.ratios) < len(WEIGHED_STEPS):
            return pairwise
        return pairwise + float(np.mean(self.ratios)) * moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and log")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished autoencoder")
    parser.add_argument("--minutes", type=float, default=30, help="training time of this call")
    parser.add_argument("--latent-channels", type=int, default=LATENT_CHANNELS)
    parser.add_argument("--batch", type=int, help=f"{BATCH} on a CPU, {GPU_BATCH} on a GPU if not given")
    parser.add_argument("--init", type=Path, help="autoencoder to start from where --work holds no checkpoint")
    parser.add_argument("--base", type=Path, help="base that makes part of every batch")
    parser.add_argument("--rate", type=float, help=f"{LEARNING_RATE:g}, and {FURTHER_LEARNING_RATE:g} with --init")
    parser.add_argument("--made", type=int, help="latents that it makes; one for each photograph if not given")
    parser.add_argument("--measure-every", type=int, default=MEASURE_EVERY, help="steps between measures on val")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    add_device_options(parser)
    add_time_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    gpu = on_gpu(device)
    batch = args.batch or (GPU_BATCH if gpu else BATCH)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    peak_rate = args.rate or (FURTHER_LEARNING_RATE if args.init else LEARNING_RATE)
    train, records = load_part(args.data, "train")
    val, val_records = load_part(args.data, "val")
    val_px = F.interpolate(val.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    judge = Judge(val_px, device)
    if args.init:
        autoencoder = deepened(PatchAutoencoder.from_pretrained(args.init, torch_dtype=torch.float32))
    else:
        autoencoder = PatchAutoencoder(
            latent_channels=args.latent_channels,
            decoder_widths=DECODER_WIDTHS,
            decoder_depths=DECODER_DEPTHS,
            scale_exponent=SCALE_EXPONENT,
        )
    checkpoint = args.work / "checkpoint.pt"
    generator = np.random.default_rng(0)
    training = DecoderTraining(autoencoder, device, whole_views(train), made=args.base is not None)
    ema = training.ema
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, item in training.parts.items():
            item.load_state_dict(state[name])
        training.step, training.ratios = state["step"], state["ratios"]
        if training.moments is not None:
            training.moments.first = state["first"]
        generator = np.random.default_rng(training.step)
    elif not args.init:
        autoencoder.fit_analysis(random_views(train, 2048, SIZE_PX, generator).to(device))
        ema.load_state_dict(autoencoder.state_dict())
        print("linear alone:", judge(ema), flush=True)
    training.channels_last()
    made = None
    if args.base:
        cache = args.work / "made.pt"
        if not cache.exists():
            words = {"tokenizer": load_base(args.base).tokenizer, "labelled": True}
            ids = described_captions(args.data, train, records, **words, split="train")
            ids = ids[torch.from_numpy(generator.permutation(len(ids))[: args.made])]
            val_ids = described_captions(args.data, val, val_records, **words, split="val")
            drawn = {"train": generate(args.base, device, ids, 1), "val": generate(args.base, device, val_ids, 0)}
            save_state(drawn, cache)
        made = {split: latents.to(device) for split, latents in torch.load(cache, weights_only=True).items()}
    if gpu:
        train = train.to(device)

    def draw() -> tuple[Tensor, Tensor | None]:
        """Views and made latents, as ``learn`` takes them."""
        views = batch if made is None else batch - int(MADE_SHARE * batch)
        if gpu:
            x = device_views(train, views, SIZE_PX, generator, (MIN_ZOOM, 1.0))
        else:
            x = random_views(train, views, SIZE_PX, generator)
        if made is None:
            return x, None
        chosen = torch.from_numpy(generator.integers(len(made["train"]), size=batch - views))
        return x, made["train"][chosen.to(device)].float()

    def save() -> None:
        parts = {name: item.state_dict() for name, item in training.parts.items()}
        first = [] if training.moments is None else training.moments.first
        save_state(parts | {"step": training.step, "ratios": training.ratios, "first": first}, checkpoint)
        new = args.out.with_name(args.out.name + ".new")
        copy.deepcopy(ema).to(memory_format=torch.contiguous_format).save_pretrained(new)
        replace_folder(new, args.out)

    clock = Clock(args.minutes, args.deadline)
    saved, logged, samples, summed = 0.0, 0.0, 0, 0
    first_step, sums = training.step, {}
    while (elapsed := clock.elapsed) < clock.seconds or training.step == first_step:
        rate = peak_rate * min(1, (training.step + 1) / 200)
        if args.final_decay:
            rate *= max(0.02, 1 - elapsed / clock.seconds)
        try:
            terms = training.learn(*draw(), rate)
        except Exception as error:
            if not out_of_memory(error) or batch <= BATCH:
                raise
            batch //= 2
            print(f"out of memory: batches of {batch} from now on", flush=True)
            training.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            continue
        samples, summed = samples + batch, summed + 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        if elapsed - logged > args.log_seconds if args.log_seconds else training.step % 100 == 0:
            logged = elapsed
            row = {"step": training.step, "per_second": samples / clock.elapsed}
            row |= {name: float(value) / summed for name, value in sums.items()}
            sums, summed = {}, 0
            if args.log_seconds:
                print(json.dumps(row), flush=True)
            if training.step % args.measure_every == 0:
                row |= judge(ema, made and made["val"])
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if elapsed - saved > args.checkpoint_seconds:
            saved = elapsed
            save()
    save()
    print("step", training.step, "validation", judge(ema, made and made["val"]))


if __name__ == "__main__":
    main()
