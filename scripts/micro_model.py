"""The networks of the micro base and one step of their training: averages, export, and what an earlier base gives."""

from __future__ import annotations

import copy
import json
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from micro_device import Processes, autocast, on_gpu, replace_folder
from micro_nets import MuonAdamW, make_scheduler, make_text_encoder, make_tokenizer, make_unet
from micro_perceptual import PictureLoss
from micro_winograd import use_winograd
from skindualgen.losses import add_noise, velocity_target, velocity_to_x0
from skindualgen.model.autoencoder import PatchAutoencoder

EMA_WIDTHS = {"short": 16.97, "long": 6.94}
"""Exponents of power-function averages of relative width .05 and .10 (Karras et al. 2023, arXiv 2312.02696, section
3.1): the average forgets in proportion to the training's length, so a longer training needs no other setting."""
KEPT = "short"
"""which average is measured and exported; the other one is in the state file"""
LOWEST = "lowest"
"""a copy of that average when it had the lowest loss on val"""
STATE_FILE = "training.json"


def make_fast_on_cpu(unet: UNet2DConditionModel) -> None:
    """Each 1.4 times faster there: attention that is not fused, whose backward pass is slow, and tiles."""
    unet.set_attn_processor(AttnProcessor())
    use_winograd(unet)


def spread_timesteps(count: int, alphas: Tensor) -> Tensor:
    """Timesteps [count], one to each of as many equal intervals: less variance than independent draws.

    ``alphas`` [timesteps] are the schedule's, on the device that computes.
    """
    places = torch.rand(1, device=alphas.device) + torch.arange(count, device=alphas.device)
    return (places / count % 1 * len(alphas)).long()


class Base:
    """Everything that is trained or kept between calls; ``changes`` are of the UNet's configuration."""

    def __init__(self, latent_channels: int, device: str, processes: Processes, **changes: Any) -> None:
        self.processes = processes
        self.tokenizer, self.scheduler, self.device = make_tokenizer(), make_scheduler(), device
        self.models = nn.ModuleDict(
            {"unet": make_unet(latent_channels, **changes), "text_encoder": make_text_encoder(self.tokenizer)}
        ).to(device)
        self.models["unet"].to(memory_format=torch.channels_last)
        if device == "cpu":
            make_fast_on_cpu(self.models["unet"])
        self.averages = {name: copy.deepcopy(self.models).requires_grad_(False) for name in EMA_WIDTHS}
        self.optimizer = MuonAdamW(self.models)
        self.alphas = self.scheduler.alphas_cumprod.to(device)
        self.samples = 0
        """photographs trained on so far, by all calls"""
        self.pictures: PictureLoss | None = None
        """a second loss, of some of a batch"""
        self.distances: list[Tensor] = []
        """that loss, since the last note of it"""
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
        velocity = self.velocity(nets, add_noise(x0, noise, a), ids, t)
        return (velocity - velocity_target(x0, noise, a)).square().mean(dim=(1, 2, 3))

    def velocity(self, nets: nn.ModuleDict, noisy: Tensor, ids: Tensor, t: Tensor) -> Tensor:
        """Velocity that networks predict for noisy latents [b, c, h, w] at timesteps [b]."""
        with autocast(self.device) if on_gpu(self.device) else nullcontext():  # on a CPU float32's tiles are faster
            text = nets["text_encoder"](ids).last_hidden_state
            return nets["unet"](noisy, t, text).sample.float()

    def backward(self, x0: Tensor, ids: Tensor) -> Tensor:
        """Gradients of a batch at random levels of noise; returns the mean loss of the velocity."""
        x0 = x0.contiguous(memory_format=torch.channels_last)
        t, noise = spread_timesteps(len(x0), self.alphas), torch.randn_like(x0)
        a = self.alphas[t].view(-1, 1, 1, 1)
        noisy = add_noise(x0, noise, a)
        velocity = self.velocity(self.models, noisy, ids, t)
        loss = (velocity - velocity_target(x0, noise, a)).square().mean()
        total = loss
        if self.pictures is not None and len(few := self.pictures.chosen(t)):
            distance = self.pictures(velocity_to_x0(velocity[few], noisy[few], a[few]), x0[few])
            self.distances.append(distance.detach())
            total = loss + distance
        total.backward()
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
