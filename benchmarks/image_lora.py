"""The baseline: LoRA on images alone, step by step as diffusers' own example does it.

Restated from huggingface/diffusers, examples/text_to_image/train_text_to_image_lora.py (Apache-2.0), with its defaults:
Gaussian LoRA of alpha = rank, AdamW, constant rate, plain MSE, no moving average. Photographs are decoded and captions
tokenised before the step, as that script does in workers of its data loader. One deviation: gradients are clipped as
documented; the script hands ``clip_grad_norm_`` a filter that the optimiser has used up.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from torch import Tensor

from skindualgen.model.adapter import LORA_TARGETS
from skindualgen.model.bases import Base

LEARNING_RATE = 1e-4
BETAS = (0.9, 0.999)
WEIGHT_DECAY = 1e-2
EPSILON = 1e-8
MAX_GRAD_NORM = 1.0


class ImageLora:
    """What the example trains, and one step of it.

    Args:
        unet: the base's, changed in place.
        base: whose autoencoder, text encoder and noise schedule are used.
        accelerator: shared by whatever is compared.
        rank: of LoRA.
        targets: a key of ``LORA_TARGETS``; "attention" is what the example adapts.
        gradient_checkpointing: compute blocks again in the backward pass.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        base: Base,
        accelerator: Accelerator,
        *,
        rank: int,
        targets: str = "attention",
        gradient_checkpointing: bool = False,
    ) -> None:
        self.accelerator = accelerator
        self.vae, self.text_encoder = base.vae.to(accelerator.device), base.text_encoder.to(accelerator.device)
        self.noise_scheduler = DDPMScheduler.from_config(base.scheduler.config)
        modules = [name.replace("\\", "") for name in LORA_TARGETS[targets]]
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=modules))
        self.parameters = [p for p in unet.parameters() if p.requires_grad]
        if gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        optimizer = torch.optim.AdamW(
            self.parameters, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, eps=EPSILON
        )
        schedule = get_scheduler("constant", optimizer)
        self.unet, self.optimizer, self.schedule = accelerator.prepare(unet, optimizer, schedule)
        self.unet.train()

    def step(self, pixels: Tensor, input_ids: Tensor) -> float:
        """One optimiser step on photographs [b, 3, h, w] in [-1, 1] and caption tokens [b, 77]; returns the loss."""
        latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor  # [b, 4, h/8, w/8]
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, self.noise_scheduler.config.num_train_timesteps, (len(latents),)).to(
            latents.device
        )
        noisy_latents = self.noise_scheduler.add_noise(latents, noise, timesteps)
        states = self.text_encoder(input_ids, return_dict=False)[0]  # [b, 77, width]
        target = noise
        if self.noise_scheduler.config.prediction_type == "v_prediction":
            target = self.noise_scheduler.get_velocity(latents, noise, timesteps)
        prediction = self.unet(noisy_latents, timesteps, states, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), target.float(), reduction="mean")
        value = self.accelerator.gather(loss.repeat(len(latents))).mean().item()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return value
