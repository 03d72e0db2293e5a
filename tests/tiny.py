"""The real classes at a size a test can afford: a base of the Stable Diffusion 2 family, 32 px, random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from skindualgen.data.prompts import caption_corpus
from skindualgen.model.adapter import attach_adapter, save_adapter
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import widen_unet

SIZE_PX = 32
TEXT_WIDTH = 16


def write_tiny_base(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write a diffusers folder with unet, vae, text_encoder, tokenizer and scheduler, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(folder / "tokenizer")
        _text_encoder(tokenizer).save_pretrained(folder / "text_encoder")
        _autoencoder().save_pretrained(folder / "vae")
        _unet().save_pretrained(folder / "unet")
        _scheduler(prediction_type).save_pretrained(folder / "scheduler")
    return folder


def write_tiny_adapter(folder: Path, base_folder: Path, *, seed: int = 1) -> Path:
    """Write an adapter of the tiny base, every tensor random so that each matters, and return its folder."""
    base = load_base(base_folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = attach_adapter(widen_unet(base.unet), rank=2, alpha=2)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn_like(parameter)
        sampling = {"default_steps": 3, "default_guidance": 2.0, "default_segment_steps": 2}
        recipe = {"base": str(base_folder), "sampling": sampling}
        return save_adapter(model, folder, recipe=recipe, base=base)


def _tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE over the words of our own prompts."""
    trained = CLIPTokenizer().train_new_from_iterator(caption_corpus(), vocab_size=600, show_progress=False)
    state = json.loads(trained.backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split()) for merge in state["merges"]]
    return CLIPTokenizer(vocab=state["vocab"], merges=merges, model_max_length=77)


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIZE_PX,
        scaling_factor=0.18215,
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE_PX // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_head_dim=(1, 2),
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
    )


def _scheduler(prediction_type: str) -> DDIMScheduler:
    """As in Stable Diffusion 2.0."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
