"""The parts of the micro base: stock classes of diffusers and transformers, and the optimiser that trains them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from caption_corpus import caption_corpus

SIZE_PX = 128
LEARNING_RATE, RATE_BATCH, MOST_RATE = 1e-3, 32, 2e-3
"""of a batch of 32, with the root of the batch for larger ones; at most, where an update is 2 % of a weight"""
VOCABULARY = 1200
VOCABULARY_FILE = Path(__file__).with_name("micro_vocabulary.json")
"""made anew by ``python scripts/micro_nets.py``, for a base that begins anew"""
TEXT_WIDTH = 128
CROPPED = "cropped, "
"""Begins the caption of every view that is less than the whole photograph, so that prompts without it draw whole ones
(augmentation labels: Karras et al. 2022, arXiv 2206.00364, appendix F.2, here as words)."""
UNET_CONFIG: dict[str, Any] = {
    "sample_size": SIZE_PX // 8,
    "block_out_channels": (96, 128, 160),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": (3, 4, 5),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 16,
    "use_linear_projection": True,
    # Text reaches every block through the time embedding as well: attention alone had hardly learnt to read after
    # 240,000 samples (docs/lab-notebook.md, 2026-12-01).
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with the vocabulary of dermoscopy captions; any other word is spelled in bytes."""
    kept = json.loads(VOCABULARY_FILE.read_text(encoding="utf-8"))
    merges = [tuple(merge.split()) for merge in kept["merges"]]
    return CLIPTokenizer(vocab=kept["vocab"], merges=merges, model_max_length=77)


def train_vocabulary() -> dict[str, Any]:
    """A vocabulary of :func:`caption_corpus`, as :data:`VOCABULARY_FILE` holds it.

    The library counts ties and single letters in another order in each process: a base that goes on must have the
    very file that it began with, or the rows of its embedding stand for other words.
    """
    corpus = [*caption_corpus(), *(CROPPED + caption for caption in caption_corpus())]
    tokenizer = CLIPTokenizer().train_new_from_iterator(corpus, vocab_size=VOCABULARY)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["merges"]]
    return {"vocab": state["vocab"], "merges": merges}


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width :data:`TEXT_WIDTH`."""
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


def make_unet(latent_channels: int, **changes: Any) -> UNet2DConditionModel:
    """The UNet of :data:`UNET_CONFIG`."""
    unet = UNet2DConditionModel(in_channels=latent_channels, out_channels=latent_channels, **(UNET_CONFIG | changes))
    if unet.config.addition_embed_type is not None:  # small beside the time embedding at first
        nn.init.constant_(unet.add_embedding.norm2.weight, 0.5)
    return unet


NOISE_MIDDLE, NOISE_STRETCH = 0.8, 1.3
"""Noise over signal half way through the schedule, and how much wider than the cosine's its range is. The fine channels
of the latents have a standard deviation of .15 to .3, and the mean colour of a picture shows under noise of 20 already:
Stable Diffusion's schedule hardly visits the first (.23 at the last of twenty steps), a shifted cosine the second."""


LEAST_BETA = 2e-7
"""with less the first level is no noise at all in single precision, whose logarithm schedulers take"""


def make_scheduler() -> DDIMScheduler:
    """Noise over signal NOISE_MIDDLE tan(pi t / 2) ** NOISE_STRETCH, no signal at all at the end; velocity prediction.

    1 and 1 would be the cosine schedule; shifted ones: Hoogeboom et al. 2023, arXiv 2301.11093, section 3.1.
    """
    u = torch.arange(1, 1001, dtype=torch.float64) / 1000
    signal = 1 / (1 + (NOISE_MIDDLE * torch.tan(torch.pi * u / 2) ** NOISE_STRETCH) ** 2)  # alphas_cumprod
    signal[-1] = 0
    betas = 1 - signal / torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
    betas = betas.clamp(min=LEAST_BETA)
    return DDIMScheduler(
        trained_betas=betas.tolist(),
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


MUON_MOMENTUM = 0.95
MUON_STEPS = 5
MUON_A, MUON_B, MUON_C = 3.4445, -4.775, 2.0315
"""of the quintic Newton-Schulz iteration (Jordan et al. 2024)"""
ADAMW_RMS = 0.2
"""root mean square of AdamW's updates, to which Muon's are scaled (Liu et al. 2025, arXiv 2502.16982)"""


def learning_rate(batch: int) -> float:
    """Peak rate for a batch: Adam's noise falls with its root (Malladi et al. 2022, arXiv 2205.10287)."""
    return min(MOST_RATE, LEARNING_RATE * max(1.0, (batch / RATE_BATCH) ** 0.5))


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly, of [out, in], in the matrix's own precision.

    torch.optim.Muon does this in bfloat16, which is 30 times slower on a CPU that has to emulate it. The polynomials of
    the iteration are gathered in the small square matrix x x^T and meet x once, at the end: same result, half the cost.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    gram, product = x @ x.T, None
    for _ in range(MUON_STEPS):
        factor = torch.addmm(gram, gram, gram, beta=MUON_B, alpha=MUON_C)
        factor.diagonal().add_(MUON_A)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


def orthogonalised_stack(matrices: Tensor) -> Tensor:
    """The same for [n, out, in] on a GPU, in bfloat16 and by the iteration as published.

    The short cut of :func:`orthogonalised` is not for it: rounding makes small eigenvalues of the square matrix
    negative, which the polynomial then drives to minus infinity, in bfloat16 and in TF32 alike.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).float()
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).bfloat16()
    for _ in range(MUON_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=MUON_B, alpha=MUON_C), x, beta=MUON_A)
    x = x.to(matrices.dtype)
    return x.mT if tall else x


class MuonAdamW:
    """Muon for the hidden matrices and convolutions (as matrices [out, in * k * k]), AdamW for everything else.

    Updates are scaled to the size of AdamW's, so both share one learning rate. Source: Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon.
    """

    def __init__(self, models: nn.ModuleDict, weight_decay: float = 0.01) -> None:
        apart = ("conv_in", "conv_out", "embedding")
        named = dict(models.named_parameters())
        self.hidden = [p for n, p in named.items() if p.ndim >= 2 and not any(word in n for word in apart)]
        chosen = {id(p) for p in self.hidden}
        self.rest = [p for p in named.values() if id(p) not in chosen]
        self.momentum = [torch.zeros_like(p) for p in self.hidden]
        self.alike: dict[torch.Size, list[int]] = {}
        """places of the hidden matrices of one shape, which a GPU treats at once"""
        for place, parameter in enumerate(self.hidden):
            self.alike.setdefault(parameter.flatten(1).shape, []).append(place)
        self.weight_decay, self.rate = weight_decay, LEARNING_RATE
        self.adamw = torch.optim.AdamW(
            self.rest, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        self.rate = rate
        for group in self.adamw.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient, then drop the gradients."""
        gradients = [p.grad for p in self.hidden]
        torch._foreach_lerp_(self.momentum, gradients, 1 - MUON_MOMENTUM)
        torch._foreach_lerp_(gradients, self.momentum, MUON_MOMENTUM)  # Nesterov
        torch._foreach_mul_(self.hidden, 1 - self.rate * self.weight_decay)
        for shape, places in self.alike.items():
            flat = [gradients[place].flatten(1) for place in places]
            together = gradients[0].device.type != "cpu"
            updates = orthogonalised_stack(torch.stack(flat)) if together else [orthogonalised(each) for each in flat]
            scale = ADAMW_RMS * max(shape) ** 0.5
            for place, update in zip(places, updates, strict=True):
                self.hidden[place].add_(update.reshape(self.hidden[place].shape), alpha=-self.rate * scale)
        self.adamw.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in [*self.hidden, *self.rest]:
            parameter.grad = None

    def state_dict(self) -> dict:
        """What a resumed training needs."""
        return {"momentum": self.momentum, "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from :meth:`state_dict`."""
        for mine, saved in zip(self.momentum, state["momentum"], strict=True):
            mine.copy_(saved)
        self.adamw.load_state_dict(state["adamw"])


if __name__ == "__main__":
    VOCABULARY_FILE.write_text(json.dumps(train_vocabulary(), indent=0, ensure_ascii=False), encoding="utf-8")
