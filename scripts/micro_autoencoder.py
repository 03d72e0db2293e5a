"""Train the micro base's autoencoder: fixed linear analysis, decoder by L1 + perceptual + adversarial loss.

Only pairs of the split "train" are seen. Resumable: the same command goes on from the last checkpoint. With --base,
half of every batch are latents that a trained base has noised a little and denoised again, as those are what it will
have to decode; the fixed analysis stays, so the base needs no training afterwards.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_critic import FeatureCritic, ImageFeatures, perceptual_distance
from micro_data import load_images, random_views
from skindualgen.losses import add_noise, velocity_to_epsilon, velocity_to_x0
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base

SIZE_PX = 128
BATCH = 16
LEARNING_RATE = 1e-3
FURTHER_LEARNING_RATE = 3e-4
"""of a decoder that is trained on from --init"""
CRITIC_LEARNING_RATE = 4e-4
PERCEPTUAL_WEIGHT = 0.4
ADVERSARIAL_WEIGHT = 0.03
"""fixed: a weight measured from gradients grows without end once the critic is fooled"""
CYCLE_WEIGHT = 0.1
"""of the distance between redrawn latents and the analysis of their picture, beside REDRAWN_SHARE of the usual terms:
what a redrawn latent's photograph looked like in detail is not known any more"""
REDRAWN_SHARE = 0.25
ADVERSARIAL_FROM_STEP = 1500
CRITIC_LEAD_STEPS = 100
LATENT_NOISE_MAX = 0.3
"""Generated latents are not perfect: the decoder learns to forgive noise up to this standard deviation."""
REDRAWN = 2048
REDRAWN_MIN_ZOOM = 0.85
REDRAWN_LEAST_T, REDRAWN_MOST_T, REDRAWN_STEPS = 20, 350, 4
EMA_DECAY = 0.998
CHECKPOINT_SECONDS = 150


@torch.no_grad()
def redraw(base: Path, autoencoder: PatchAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Noise latents of random views up to a random level and let the base denoise them again (DDIM, no prompt).

    Returns:
        Views [n, 3, s, s] uint8 and their redrawn latents [n, c, s/8, s/8] in half precision.
    """
    model = load_base(base)
    text, alphas = model.embed([""]), model.scheduler.alphas_cumprod
    generator, noise = np.random.default_rng(1), torch.Generator().manual_seed(1)
    views, latents = [], []
    for _ in range(REDRAWN // BATCH):
        x = random_views(images, BATCH, SIZE_PX, generator, REDRAWN_MIN_ZOOM)
        z = autoencoder.encode(x).latent_dist.mode()
        start = torch.randint(REDRAWN_LEAST_T, REDRAWN_MOST_T, (BATCH,), generator=noise)
        levels = [(start * (REDRAWN_STEPS - k)) // REDRAWN_STEPS for k in range(REDRAWN_STEPS + 1)]
        a = alphas[start].view(-1, 1, 1, 1)
        z = add_noise(z, torch.randn(z.shape, generator=noise), a)
        for here, there in pairwise(levels):
            a = alphas[here].view(-1, 1, 1, 1)
            with torch.autocast("cpu", torch.bfloat16):
                v = model.unet(z, here, text.expand(BATCH, -1, -1)).sample.float()
            b = torch.where(there > 0, alphas[there], 1.0).view(-1, 1, 1, 1)
            z = add_noise(velocity_to_x0(v, z, a), velocity_to_epsilon(v, z, a), b)
        views.append(((x + 1) * 127.5).round().to(torch.uint8))
        latents.append(z.half())
    return torch.cat(views), torch.cat(latents)


@torch.no_grad()
def psnr(autoencoder: PatchAutoencoder, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB over [n, 3, h, w] in [-1, 1], clipped and rounded as a PNG would be."""
    values = []
    for batch in images.split(32):
        out = ((autoencoder(batch).sample.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        values += (10 * torch.log10(4 / (out - batch).square().mean(dim=(1, 2, 3)))).tolist()
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--split-file", type=Path, default=Path("docs/results/micro_split.csv"))
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and log")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished autoencoder")
    parser.add_argument("--minutes", type=float, default=30, help="training time of this call")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latent-channels", type=int, default=8)
    parser.add_argument("--init", type=Path, help="autoencoder to start from where --work holds no checkpoint")
    parser.add_argument("--base", type=Path, help="base whose redrawn latents half of every batch is decoded from")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    peak_rate = FURTHER_LEARNING_RATE if args.init else LEARNING_RATE
    adversarial_from = CRITIC_LEAD_STEPS if args.init else ADVERSARIAL_FROM_STEP
    train = load_images(args.data, args.split_file, "train")
    val = load_images(args.data, args.split_file, "val")
    val_px = F.interpolate(val.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    if args.init:
        autoencoder = PatchAutoencoder.from_pretrained(args.init, torch_dtype=torch.float32)
    else:
        autoencoder = PatchAutoencoder(latent_channels=args.latent_channels)
    checkpoint = args.work / "checkpoint.pt"
    step, generator = 0, np.random.default_rng(0)
    features = ImageFeatures()
    critic = FeatureCritic(features(random_views(train, 256, SIZE_PX, np.random.default_rng(2))))
    ema = copy.deepcopy(autoencoder)
    optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    optimizer_d = torch.optim.AdamW(critic.parameters(), CRITIC_LEARNING_RATE, betas=(0.5, 0.99))
    state_of = {"model": autoencoder, "ema": ema, "critic": critic, "opt": optimizer, "opt_d": optimizer_d}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, item in state_of.items():
            item.load_state_dict(state[name])
        step = state["step"]
        generator = np.random.default_rng(step)
    elif not args.init:
        autoencoder.fit_analysis(random_views(train, 2048, SIZE_PX, generator))
        ema.load_state_dict(autoencoder.state_dict())
        print("linear alone:", psnr(ema, val_px), "dB", flush=True)
    for module in (autoencoder, critic, features, ema):
        module.to(memory_format=torch.channels_last)
    redrawn_views = redrawn = None
    if args.base:
        cache = args.work / "redrawn.pt"
        if not cache.exists():
            torch.save(redraw(args.base, autoencoder, train), cache)
        redrawn_views, redrawn = torch.load(cache)
    start = saved = time.monotonic()
    first_step, sums = step, {}
    while (elapsed := time.monotonic() - start) < args.minutes * 60:
        rate = peak_rate * min(1, (step + 1) / 200)
        if args.final_decay:
            rate *= max(0.02, 1 - elapsed / (args.minutes * 60))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = random_views(train, BATCH, SIZE_PX, generator).contiguous(memory_format=torch.channels_last)
        weight, redrawn_from = torch.ones(BATCH), BATCH
        with torch.no_grad():
            z = autoencoder.encode(x).latent_dist.mode()
            z = z + torch.randn_like(z) * torch.rand(len(z), 1, 1, 1) * LATENT_NOISE_MAX
            if redrawn is not None:
                redrawn_from = BATCH // 2
                chosen = torch.from_numpy(generator.integers(len(redrawn), size=BATCH - redrawn_from))
                x[redrawn_from:], z[redrawn_from:] = redrawn_views[chosen].float() / 127.5 - 1, redrawn[chosen].float()
                weight[redrawn_from:] = REDRAWN_SHARE
        with torch.autocast("cpu", torch.bfloat16):
            residual = autoencoder.decoder(z)
        out = autoencoder.synthesis(z) + residual.float()
        with torch.autocast("cpu", torch.bfloat16):
            fake = features(out)
            with torch.no_grad():
                real = features(x)
        terms = {
            "l1": ((out - x).abs().mean((1, 2, 3)) * weight).mean(),
            "perceptual": (perceptual_distance(fake, real) * weight).mean(),
        }
        loss = terms["l1"] + PERCEPTUAL_WEIGHT * terms["perceptual"]
        if redrawn_from < BATCH:
            terms["cycle"] = (autoencoder.analysis(out[redrawn_from:]) - z[redrawn_from:]).abs().mean()
            loss = loss + CYCLE_WEIGHT * terms["cycle"]
        if step >= adversarial_from:
            with torch.autocast("cpu", torch.bfloat16):
                terms["adversarial"] = critic.reject(fake)
            loss = loss + ADVERSARIAL_WEIGHT * terms["adversarial"]
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= adversarial_from - CRITIC_LEAD_STEPS:
            with torch.autocast("cpu", torch.bfloat16):
                terms["critic"] = critic.judge(real, [hidden.detach() for hidden in fake])
            critic.zero_grad(set_to_none=True)
            terms["critic"].backward()
            optimizer_d.step()
        with torch.no_grad():
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(ema.decoder.parameters()), list(autoencoder.decoder.parameters()), 1 - decay)
        step += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if step % 100 == 0:
            row = {"step": step, "per_second": (step - first_step) * BATCH / (time.monotonic() - start)}
            row |= {name: value / 100 for name, value in sums.items()}
            sums = {}
            if step % 500 == 0:
                row["val_psnr_db"] = psnr(ema, val_px)
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            torch.save(
                {name: item.state_dict() for name, item in state_of.items()} | {"step": step}, f"{checkpoint}.tmp"
            )
            Path(f"{checkpoint}.tmp").replace(checkpoint)
    torch.save({name: item.state_dict() for name, item in state_of.items()} | {"step": step}, f"{checkpoint}.tmp")
    Path(f"{checkpoint}.tmp").replace(checkpoint)
    print("step", step, "validation", psnr(ema, val_px), "dB")
    ema.to(memory_format=torch.contiguous_format).save_pretrained(args.out)


if __name__ == "__main__":
    main()
