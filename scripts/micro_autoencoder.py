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
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_critic import FeatureCritic, ImageFeatures, perceptual_distance
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
from micro_made import MADE, generate, redraw
from micro_samples import to_pictures
from micro_winograd import use_winograd
from skindualgen.judges.features import ImageNetFeatures
from skindualgen.metrics.fidelity import kernel_distance, manifold_scores
from skindualgen.model.autoencoder import PatchAutoencoder

SIZE_PX = 128
LATENT_CHANNELS = 16
SCALE_EXPONENT = 0.25
DECODER_WIDTHS, DECODER_DEPTHS = (128, 96, 64, 16), (2, 2, 1, 0)
BATCH, GPU_BATCH = 16, 64
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
EMA_DECAY = 0.998
MEASURE_EVERY = 500


@torch.no_grad()
def measure(autoencoder: PatchAutoencoder, val: Tensor, judge: ImageNetFeatures, real: np.ndarray) -> dict[str, float]:
    """Reconstructions of val [n, 3, h, w] in [-1, 1] against val itself: PSNR in dB, kernel distance, recall."""
    pictures = to_pictures(torch.cat([autoencoder(batch).sample for batch in val.split(32)]))
    features = judge(pictures)
    scores = manifold_scores(real=real, generated=features)
    error = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1 - val.cpu()).square().mean((1, 2, 3))
    return {
        "val_psnr_db": float((10 * torch.log10(4 / error)).mean()),
        "val_kid": float(kernel_distance(real=real, generated=features)),
        "val_recall": float(scores.recall),
        "val_coverage": float(scores.coverage),
    }


class DecoderTraining:
    """Everything that is trained or kept between calls.

    Args:
        autoencoder: whose decoder learns.
        real: views [n, 3, s, s] that set the scale of the critic's inputs.
        device: cpu or cuda.
        adversarial_from: step from which the critic counts.
    """

    def __init__(self, autoencoder: PatchAutoencoder, real: Tensor, device: str, adversarial_from: int) -> None:
        self.device, self.adversarial_from, self.step = device, adversarial_from, 0
        self.features = ImageFeatures().to(device)
        self.autoencoder = autoencoder.to(device)
        self.critic = FeatureCritic(self.features(real.to(device))).to(device)
        if device == "cpu":
            use_winograd(autoencoder.decoder)
        self.ema = copy.deepcopy(autoencoder)
        parameters = autoencoder.decoder.parameters()
        self.optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
        self.optimizer_d = torch.optim.AdamW(self.critic.parameters(), CRITIC_LEARNING_RATE, betas=(0.5, 0.99))

    @property
    def parts(self) -> dict:
        return {
            "model": self.autoencoder,
            "ema": self.ema,
            "critic": self.critic,
            "opt": self.optimizer,
            "opt_d": self.optimizer_d,
        }

    def channels_last(self) -> None:
        """Lay out images as convolutions want them."""
        for module in (self.autoencoder, self.critic, self.features, self.ema):
            module.to(memory_format=torch.channels_last)

    def learn(self, x: Tensor, made: Tensor | None, weight: Tensor, rate: float) -> dict[str, Tensor]:
        """One step of the decoder, and of the critic where it takes part already.

        Args:
            x: views [b, 3, s, s].
            made: latents that a base has made, in place of the last views' own; or None.
            weight: of each view in the terms that compare with it [b].
            rate: learning rate of the decoder.

        Returns:
            The terms of the losses.
        """
        autoencoder, critic, device = self.autoencoder, self.critic, self.device
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        made_from = len(x) - (0 if made is None else len(made))
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            z = autoencoder.encode(x).latent_dist.mode()
            level = torch.rand(len(z), 1, 1, 1, device=device) * 2 * LATENT_NOISE_MAX - LATENT_NOISE_MAX
            z = z + torch.randn_like(z) * level.clamp(min=0)
            if made is not None:
                z[made_from:] = made
        with autocast(device):
            residual = autoencoder.decoder(z)
        out = autoencoder.synthesis(z) + residual.float()
        with autocast(device):
            fake = self.features(out)
            with torch.no_grad():
                real_features = self.features(x)
        terms = {
            "l1": ((out - x).abs().mean((1, 2, 3)) * weight).mean(),
            "perceptual": (perceptual_distance(fake, real_features) * weight).mean(),
        }
        loss = terms["l1"] + PERCEPTUAL_WEIGHT * terms["perceptual"]
        if made is not None:
            apart = autoencoder.analysis(out[made_from:]) - z[made_from:]
            terms["cycle"] = apart[:, :CYCLE_CHANNELS].abs().mean()
            loss = loss + CYCLE_WEIGHT * terms["cycle"]
        # The critic in float32: under autocast its spectral norm would multiply vectors of two precisions.
        if self.step >= self.adversarial_from:
            terms["adversarial"] = critic.reject(fake)
            loss = loss + ADVERSARIAL_WEIGHT * terms["adversarial"]
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.step >= self.adversarial_from - CRITIC_LEAD_STEPS:
            terms["critic"] = critic.judge(real_features, [hidden.detach() for hidden in fake])
            critic.zero_grad(set_to_none=True)
            terms["critic"].backward()
            self.optimizer_d.step()
        with torch.no_grad():
            decay = min(EMA_DECAY, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.ema.decoder.parameters()), list(autoencoder.decoder.parameters()), 1 - decay)
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints and log")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished autoencoder")
    parser.add_argument("--minutes", type=float, default=30, help="training time of this call")
    parser.add_argument("--latent-channels", type=int, default=LATENT_CHANNELS)
    parser.add_argument("--batch", type=int, help=f"{BATCH} on a CPU, {GPU_BATCH} on a GPU if not given")
    parser.add_argument("--init", type=Path, help="autoencoder to start from where --work holds no checkpoint")
    parser.add_argument("--base", type=Path, help="base that makes half of every batch")
    parser.add_argument("--rate", type=float, help=f"{LEARNING_RATE:g}, and {FURTHER_LEARNING_RATE:g} with --init")
    parser.add_argument("--no-critic", action="store_true", help="L1 and perceptual loss alone")
    parser.add_argument("--made", type=int, default=MADE, help="latents of either kind that it makes")
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
    train, _ = load_part(args.data, "train")
    val, _ = load_part(args.data, "val")
    val_px = F.interpolate(val.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    judge = ImageNetFeatures(device=device)
    real = judge(to_pictures(val_px))
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
    generator = np.random.default_rng(0)
    training = DecoderTraining(
        autoencoder,
        random_views(train, 256, SIZE_PX, np.random.default_rng(2)),
        device,
        sys.maxsize if args.no_critic else CRITIC_LEAD_STEPS if args.init else ADVERSARIAL_FROM_STEP,
    )
    ema = training.ema
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for name, item in training.parts.items():
            item.load_state_dict(state[name])
        training.step = state["step"]
        generator = np.random.default_rng(training.step)
    elif not args.init:
        autoencoder.fit_analysis(random_views(train, 2048, SIZE_PX, generator).to(device))
        ema.load_state_dict(autoencoder.state_dict())
        print("linear alone:", measure(ema, val_px, judge, real), flush=True)
    training.channels_last()
    redrawn_views = redrawn = generated = None
    if args.base:
        cache = args.work / "made.pt"
        if not cache.exists():
            redone = redraw(args.base, autoencoder, train, device, args.made)
            save_state({"redrawn": redone, "z": generate(args.base, device, args.made)}, cache)
        made = torch.load(cache)
        (redrawn_views, redrawn), generated = made["redrawn"], made["z"]
        if gpu:
            redrawn_views, redrawn, generated = (each.to(device) for each in (redrawn_views, redrawn, generated))
    if gpu:
        train = train.to(device)

    def draw() -> tuple[Tensor, Tensor | None, Tensor]:
        """Views, made latents and weights, as ``learn`` takes them."""
        if gpu:
            x = device_views(train, batch, SIZE_PX, generator, (MIN_ZOOM, 1.0))
        else:
            x = random_views(train, batch, SIZE_PX, generator)
        weight = torch.ones(batch, device=device)
        if redrawn is None:
            return x, None, weight
        made_from, generated_from = batch // 2, batch // 2 + batch // 4
        one, other = (
            torch.from_numpy(generator.integers(len(each), size=count)).to(each.device, non_blocking=True)
            for each, count in ((redrawn, generated_from - made_from), (generated, batch - generated_from))
        )
        x[made_from:generated_from] = redrawn_views[one].float() / 127.5 - 1
        weight[made_from:generated_from], weight[generated_from:] = REDRAWN_SHARE, 0.0
        return x, torch.cat([redrawn[one], generated[other]]).float().to(device), weight

    def save() -> None:
        parts = {name: item.state_dict() for name, item in training.parts.items()}
        save_state(parts | {"step": training.step}, checkpoint)
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
                row |= measure(ema, val_px, judge, real)
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if elapsed - saved > args.checkpoint_seconds:
            saved = elapsed
            save()
    save()
    print("step", training.step, "validation", measure(ema, val_px, judge, real))


if __name__ == "__main__":
    main()
