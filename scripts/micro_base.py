"""Train the micro base: a text-to-image latent diffusion model of stock classes, without any mask.

UNet2DConditionModel and CLIPTextModel learn together, from scratch, on captioned photographs of the split "train".
The result is a diffusers folder, the same kind of thing as Stable Diffusion 2.0. Resumable: the same command goes on.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from micro_data import load_images, random_views, split_ids
from skindualgen.contracts import PairRecord
from skindualgen.data.prompts import caption_corpus, prompt_for
from skindualgen.losses import snr_of, velocity_target, velocity_weight
from skindualgen.model.autoencoder import PatchAutoencoder

SIZE_PX = 128
BATCH = 32
LEARNING_RATE = 1e-3
WARMUP_STEPS = 300
EMA_DECAY = 0.999
CAPTION_DROPOUT = 0.12
VIEWS_PER_IMAGE = 16
MIN_ZOOM = 0.85
"""smallest side of a training crop: the model should draw whole photographs, not details"""
VOCABULARY = 1200
TEXT_WIDTH = 128
CHECKPOINT_SECONDS = 150
UNET_CONFIG = {
    "sample_size": SIZE_PX // 8,
    "block_out_channels": (96, 128, 160),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": (3, 4, 5),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 16,
    "use_linear_projection": True,
}


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with a vocabulary of dermoscopy captions; any other word is spelled in bytes."""
    tokenizer = CLIPTokenizer().train_new_from_iterator(caption_corpus(), vocab_size=VOCABULARY)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split()) for m in state["merges"]]
    return CLIPTokenizer(vocab=state["vocab"], merges=merges, model_max_length=77)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def load_records(data: Path, ids: list[str]) -> list[PairRecord]:
    """Metadata of the named pairs; only what prompts are made of."""
    with (data / "metadata.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    return [
        PairRecord(
            file_name=f"images/{i}.jpg",
            isic_id=i,
            diagnosis=rows[i]["diagnosis"] or None,
            benign_malignant=rows[i]["benign_malignant"] or None,
            age_approx=int(rows[i]["age"]) if rows[i]["age"] else None,
            sex=rows[i]["sex"] or None,
            anatom_site_general=rows[i]["site"] or None,
        )
        for i in ids
    ]


class MuonAdamW:
    """Muon for the hidden matrices and convolutions (as matrices [out, in * k * k]), AdamW for everything else.

    Updates are scaled to the size of AdamW's, so both share one learning rate. Source: Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; scaling of Liu et al. 2025, arXiv 2502.16982. Needs torch 2.9 or newer.
    """

    def __init__(self, models: nn.ModuleDict) -> None:
        apart = ("conv_in", "conv_out", "embedding")
        named = dict(models.named_parameters())
        hidden = [n for n, p in named.items() if p.ndim >= 2 and not any(word in n for word in apart)]
        self.source = [named[n] for n in hidden]
        self.matrices = [nn.Parameter(p.data.flatten(1)) for p in self.source]
        self.rest = [p for n, p in named.items() if n not in set(hidden)]
        self.muon = torch.optim.Muon(self.matrices, LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(self.rest, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    @property
    def param_groups(self) -> list[dict]:
        return self.muon.param_groups + self.adamw.param_groups

    def step(self) -> None:
        for matrix, source in zip(self.matrices, self.source, strict=True):
            matrix.grad = source.grad.flatten(1)
        self.muon.step()
        self.adamw.step()

    def zero_grad(self) -> None:
        for p in [*self.source, *self.matrices, *self.rest]:
            p.grad = None

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


@torch.no_grad()
def latent_views(autoencoder: PatchAutoencoder, images: Tensor, views: int, seed: int) -> Tensor:
    """Latents of random views, [views, n, c, h/8, w/8] in half precision."""
    generator, result = np.random.default_rng(seed), []
    for _ in range(views):
        order = torch.arange(len(images))
        x = torch.cat([random_views(images[i : i + 1], 1, SIZE_PX, generator, MIN_ZOOM) for i in order])
        result.append(autoencoder.encode(x).latent_dist.mode().half())
    return torch.stack(result)


def class_weights(records: list[PairRecord]) -> np.ndarray:
    """Sampling probability of each record: inverse square root of its class frequency."""
    names = [r.diagnosis for r in records]
    weights = np.array([names.count(n) ** -0.5 for n in names])
    return weights / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split-file", type=Path, default=Path("docs/results/micro_split.csv"))
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--init", type=Path, help="base folder to start from where --work holds no checkpoint")
    parser.add_argument("--final-decay", action="store_true", help="decay the learning rate to zero over this call")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(int(time.time()) if (args.work / "checkpoint.pt").exists() else 0)
    args.work.mkdir(parents=True, exist_ok=True)
    autoencoder = PatchAutoencoder.from_pretrained(args.autoencoder)
    records = load_records(args.data, split_ids(args.split_file, "train"))
    cache = args.work / "latents.pt"
    if not cache.exists():
        images = load_images(args.data, args.split_file, "train")
        torch.save(latent_views(autoencoder, images, VIEWS_PER_IMAGE, seed=0), cache)
    latents = torch.load(cache)
    val_records = load_records(args.data, split_ids(args.split_file, "val"))
    val_images = load_images(args.data, args.split_file, "val")
    val_latents = latent_views(autoencoder, val_images, 1, seed=1)[0].float()

    tokenizer = make_tokenizer()
    models = nn.ModuleDict(
        {
            "unet": UNet2DConditionModel(in_channels=latents.shape[2], out_channels=latents.shape[2], **UNET_CONFIG),
            "text_encoder": make_text_encoder(tokenizer),
        }
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
    snr = snr_of(scheduler.alphas_cumprod)
    if args.init:
        models["unet"].load_state_dict(UNet2DConditionModel.from_pretrained(args.init / "unet").state_dict())
        models["text_encoder"].load_state_dict(CLIPTextModel.from_pretrained(args.init / "text_encoder").state_dict())
    # 1.4 times faster on a CPU than fused attention, whose backward pass is slow there at 256 tokens.
    models["unet"].set_attn_processor(AttnProcessor())
    optimizer = MuonAdamW(models)
    ema, step, checkpoint = copy.deepcopy(models), 0, args.work / "checkpoint.pt"
    parts = {"models": models, "ema": ema, "optimizer": optimizer}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step = state["step"]
    rng = np.random.default_rng(step)
    probability = class_weights(records)
    alphas = scheduler.alphas_cumprod

    def loss_of(nets: nn.ModuleDict, x0: Tensor, captions: list[str], noise: Tensor, t: Tensor) -> Tensor:
        """Min-SNR weighted squared error per sample, [b]."""
        ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        a = alphas[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            text = nets["text_encoder"](ids).last_hidden_state
            prediction = nets["unet"](noisy, t, text).sample
        error = (prediction.float() - velocity_target(x0, noise, a)).square().mean(dim=(1, 2, 3))
        return velocity_weight(snr[t]) * error

    def save() -> None:
        state = {name: part.state_dict() for name, part in parts.items()} | {"step": step}
        torch.save(state, f"{checkpoint}.tmp")
        Path(f"{checkpoint}.tmp").replace(checkpoint)

    fixed = torch.Generator().manual_seed(7)
    val_noise = torch.randn(val_latents.shape, generator=fixed)
    val_t = torch.randint(0, 1000, (len(val_latents),), generator=fixed)
    start = saved = time.monotonic()
    first_step, window = step, []
    while (elapsed := time.monotonic() - start) < args.minutes * 60:
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS)
        if args.final_decay:
            rate *= max(0.02, 0.5 * (1 + math.cos(math.pi * elapsed / (args.minutes * 60))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = rng.choice(len(records), BATCH, p=probability)
        x0 = latents[torch.from_numpy(rng.integers(len(latents), size=BATCH)), torch.from_numpy(chosen)].float()
        captions = [
            "" if rng.random() < CAPTION_DROPOUT else prompt_for(records[i], seed=int(rng.integers(1 << 30)))
            for i in chosen
        ]
        loss = loss_of(models, x0, captions, torch.randn_like(x0), torch.randint(0, 1000, (BATCH,))).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(ema.parameters()), list(models.parameters()), 1 - decay)
        step += 1
        window.append(loss.item())
        if step % 100 == 0:
            row = {"step": step, "loss": float(np.mean(window)), "lr": rate}
            row["per_second"] = (step - first_step) * BATCH / (time.monotonic() - start)
            window = []
            if step % 500 == 0:
                with torch.no_grad():
                    captions = [prompt_for(r, seed=0) for r in val_records]
                    row["val_loss"] = loss_of(ema, val_latents, captions, val_noise, val_t).mean().item()
            with (args.work / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            save()
    save()
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=ema["text_encoder"],
        tokenizer=tokenizer,
        unet=ema["unet"],
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(args.out, safe_serialization=True)
    print("step", step, "saved", args.out)


if __name__ == "__main__":
    main()
