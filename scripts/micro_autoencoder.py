"""Train the micro base's autoencoder: fixed linear analysis, decoder by L1 + perceptual + adversarial loss.

Only photographs of the part "train" are seen. Resumable: the same command goes on from the last checkpoint. With
--base, half of every batch is what a trained base makes, as that is what the decoder will have to decode: photographs'
latents noised a little and denoised again, and latents made from noise alone. The fixed analysis stays, so the base
needs no training afterwards.
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
from micro_data import ROOT, load_part, random_views
from micro_device import add_device_options, autocast, prepare_device, save_state
from micro_samples import denoise
from micro_winograd import use_winograd
from skindualgen.judges.features import ImageNetFeatures
from skindualgen.losses import add_noise, velocity_to_epsilon, velocity_to_x0
from skindualgen.metrics.fidelity import kernel_distance, manifold_scores
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base

SIZE_PX = 128
LATENT_CHANNELS = 16
SCALE_EXPONENT = 0.25
DECODER_WIDTHS, DECODER_DEPTHS = (128, 96, 64, 16), (2, 2, 1, 0)
BATCH = 16
LEARNING_RATE = 1e-3
FURTHER_LEARNING_RATE = 3e-4
"""of a decoder that is trained on from --init"""
CRITIC_LEARNING_RATE = 4e-4
PERCEPTUAL_WEIGHT = 0.4
ADVERSARIAL_WEIGHT = 0.08
"""fixed: a weight measured from gradients grows without end once the critic is fooled"""
CYCLE_WEIGHT = 0.1
CYCLE_CHANNELS = 6
"""Distance between latents that the base made and the analysis of their picture, in the strongest channels: shapes and
colours stay, texture is the critic's. Beside it, redrawn latents have REDRAWN_SHARE of the usual terms, as what their
photograph looked like in detail is not known any more, and generated ones, which have no photograph, nothing."""
REDRAWN_SHARE = 0.25
ADVERSARIAL_FROM_STEP = 1000
CRITIC_LEAD_STEPS = 100
LATENT_NOISE_MAX = 0.1
"""Generated latents are not perfect: half of them are decoded under noise up to this standard deviation."""
REDRAWN = 2048
REDRAWN_MIN_ZOOM = 0.85
REDRAWN_LEAST_T, REDRAWN_MOST_T, REDRAWN_STEPS = 20, 600, 4
GENERATED = 2048
EMA_DECAY = 0.998
CHECKPOINT_SECONDS = 150
MEASURE_EVERY = 500


@torch.no_grad()
def redraw(base: Path, autoencoder: PatchAutoencoder, images: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Noise latents of random views up to a random level and let the base denoise them again (DDIM, no prompt).

    Returns:
        Views [n, 3, s, s] uint8 and their redrawn latents [n, c, s/8, s/8] in half precision.
    """
    model = load_base(base)
    text, alphas = model.embed([""]).to(device), model.scheduler.alphas_cumprod
    model.unet.to(device)
    generator, noise = np.random.default_rng(1), torch.Generator().manual_seed(1)
    views, latents = [], []
    for _ in range(REDRAWN // BATCH):
        x = random_views(images, BATCH, SIZE_PX, generator, REDRAWN_MIN_ZOOM)
        z = autoencoder.encode(x.to(device)).latent_dist.mode().cpu()
        start = torch.randint(REDRAWN_LEAST_T, REDRAWN_MOST_T, (BATCH,), generator=noise)
        levels = [(start * (REDRAWN_STEPS - k)) // REDRAWN_STEPS for k in range(REDRAWN_STEPS + 1)]
        a = alphas[start].view(-1, 1, 1, 1)
        z = add_noise(z, torch.randn(z.shape, generator=noise), a)
        for here, there in pairwise(levels):
            a = alphas[here].view(-1, 1, 1, 1)
            with autocast(device):
                v = model.unet(z.to(device), here, text.expand(BATCH, -1, -1)).sample.float().cpu()
            b = torch.where(there > 0, alphas[there], 1.0).view(-1, 1, 1, 1)
            z = add_noise(velocity_to_x0(v, z, a), velocity_to_epsilon(v, z, a), b)
        views.append(((x + 1) * 127.5).round().to(torch.uint8))
        latents.append(z.half())
    return torch.cat(views), torch.cat(latents)


@torch.no_grad()
def generate(base: Path, device: str) -> Tensor:
    """Latents [n, c, s/8, s/8] in half precision that the base makes from noise (DPM-Solver++, no prompt)."""
    model = load_base(base)
    text, noise = model.embed([""]).to(device), torch.Generator().manual_seed(2)
    model.unet.to(device)
    latents = []
    for _ in range(GENERATED // (2 * BATCH)):
        z = torch.randn(2 * BATCH, model.unet.config.in_channels, SIZE_PX // 8, SIZE_PX // 8, generator=noise)
        z = denoise(model.unet, model.scheduler.config, z.to(device), text.expand(len(z), -1, -1))
        latents.append(z.half().cpu())
    return torch.cat(latents)


@torch.no_grad()
def measure(autoencoder: PatchAutoencoder, val: Tensor, judge: ImageNetFeatures, real: np.ndarray) -> dict[str, float]:
    """Reconstructions of val [n, 3, h, w] in [-1, 1] against val itself: PSNR in dB, kernel distance, recall."""
    made = torch.cat([autoencoder(batch).sample.clamp(-1, 1) for batch in val.split(32)])
    pictures = ((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    features = judge(pictures)
    scores = manifold_scores(real=real, generated=features)
    error = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1 - val.cpu()).square().mean((1, 2, 3))
    return {
        "val_psnr_db": float((10 * torch.log10(4 / error)).mean()),
        "val_kid": float(kernel_distance(real=real, generated=features)),
        "val_recall": float(scores.recall),
        "val_coverage": float(scores.coverage),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and log")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished autoencoder")
    parser.add_argument("--minutes", type=float, default=30, help="training time of this call")
    parser.add_argument("--latent-channels", type=int, default=LATENT_CHANNELS)
    parser.add_argument("--init", type=Path, help="autoencoder to start from where --work holds no checkpoint")
    parser.add_argument("--base", type=Path, help="base that makes half of every batch")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    add_device_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    peak_rate = FURTHER_LEARNING_RATE if args.init else LEARNING_RATE
    adversarial_from = CRITIC_LEAD_STEPS if args.init else ADVERSARIAL_FROM_STEP
    train, _ = load_part(args.data, "train")
    val, _ = load_part(args.data, "val")
    val_px = F.interpolate(val.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    judge = ImageNetFeatures()
    real = judge(((val_px + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    val_px = val_px.to(device)
    if args.init:
        autoencoder = PatchAutoencoder.from_pretrained(args.init, torch_dtype=torch.float32)
    else:
        autoencoder = PatchAutoencoder(
            latent_channels=args.latent_channels,
            decoder_widths=DECODER_WIDTHS,
            decoder_depths=DECODER_DEPTHS,
            scale_exponent=SCALE_EXPONENT,
        )
    checkpoint = args.work / "checkpoint.pt"
    step, generator = 0, np.random.default_rng(0)
    features = ImageFeatures()
    critic = FeatureCritic(features(random_views(train, 256, SIZE_PX, np.random.default_rng(2))))
    for module in (autoencoder, critic, features):
        module.to(device)
    if device == "cpu":
        use_winograd(autoencoder.decoder)
    ema = copy.deepcopy(autoencoder)
    optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    optimizer_d = torch.optim.AdamW(critic.parameters(), CRITIC_LEARNING_RATE, betas=(0.5, 0.99))
    state_of = {"model": autoencoder, "ema": ema, "critic": critic, "opt": optimizer, "opt_d": optimizer_d}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, item in state_of.items():
            item.load_state_dict(state[name])
        step = state["step"]
        generator = np.random.default_rng(step)
    elif not args.init:
        autoencoder.fit_analysis(random_views(train, 2048, SIZE_PX, generator).to(device))
        ema.load_state_dict(autoencoder.state_dict())
        print("linear alone:", measure(ema, val_px, judge, real), flush=True)
    for module in (autoencoder, critic, features, ema):
        module.to(memory_format=torch.channels_last)
    redrawn_views = redrawn = generated = None
    if args.base:
        cache = args.work / "made.pt"
        if not cache.exists():
            save_state(
                {"redrawn": redraw(args.base, autoencoder, train, device), "z": generate(args.base, device)}, cache
            )
        made = torch.load(cache)
        (redrawn_views, redrawn), generated = made["redrawn"], made["z"]

    def save() -> None:
        save_state({name: item.state_dict() for name, item in state_of.items()} | {"step": step}, checkpoint)
        copy.deepcopy(ema).to(memory_format=torch.contiguous_format).save_pretrained(args.out)

    start = saved = time.monotonic()
    first_step, sums = step, {}
    while (elapsed := time.monotonic() - start) < args.minutes * 60:
        rate = peak_rate * min(1, (step + 1) / 200)
        if args.final_decay:
            rate *= max(0.02, 1 - elapsed / (args.minutes * 60))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = random_views(train, BATCH, SIZE_PX, generator)
        weight, made_from, z_made = torch.ones(BATCH, device=device), BATCH, None
        if redrawn is not None:
            made_from, generated_from = BATCH // 2, 3 * BATCH // 4
            one, other = (
                torch.from_numpy(generator.integers(len(each), size=BATCH // 4)) for each in (redrawn, generated)
            )
            x[made_from:generated_from] = redrawn_views[one].float() / 127.5 - 1
            z_made = torch.cat([redrawn[one], generated[other]]).float().to(device)
            weight[made_from:generated_from], weight[generated_from:] = REDRAWN_SHARE, 0.0
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            z = autoencoder.encode(x).latent_dist.mode()
            level = torch.rand(len(z), 1, 1, 1, device=device) * 2 * LATENT_NOISE_MAX - LATENT_NOISE_MAX
            z = z + torch.randn_like(z) * level.clamp(min=0)
            if z_made is not None:
                z[made_from:] = z_made
        with autocast(device):
            residual = autoencoder.decoder(z)
        out = autoencoder.synthesis(z) + residual.float()
        with autocast(device):
            fake = features(out)
            with torch.no_grad():
                real_features = features(x)
        terms = {
            "l1": ((out - x).abs().mean((1, 2, 3)) * weight).mean(),
            "perceptual": (perceptual_distance(fake, real_features) * weight).mean(),
        }
        loss = terms["l1"] + PERCEPTUAL_WEIGHT * terms["perceptual"]
        if made_from < BATCH:
            apart = autoencoder.analysis(out[made_from:]) - z[made_from:]
            terms["cycle"] = apart[:, :CYCLE_CHANNELS].abs().mean()
            loss = loss + CYCLE_WEIGHT * terms["cycle"]
        if step >= adversarial_from:
            with autocast(device):
                terms["adversarial"] = critic.reject(fake)
            loss = loss + ADVERSARIAL_WEIGHT * terms["adversarial"]
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= adversarial_from - CRITIC_LEAD_STEPS:
            with autocast(device):
                terms["critic"] = critic.judge(real_features, [hidden.detach() for hidden in fake])
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
            if step % MEASURE_EVERY == 0:
                row |= measure(ema, val_px, judge, real)
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            save()
    save()
    print("step", step, "validation", measure(ema, val_px, judge, real))


if __name__ == "__main__":
    main()
