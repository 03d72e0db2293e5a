"""Stable Diffusion 2.0-base at full size with random weights, as a diffusers folder: all that its cost depends on.

    python benchmarks/sd2_folder.py FOLDER [--seed 0]

5.2 GB in float32. A folder that is there is left as it is. The tokenizer is the real one: open_clip_torch carries
CLIP's byte pairs. The weights are those that the classes start with, so the pictures are noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from skindualgen.contracts import InputError
from skindualgen.folders import new_folder
from skindualgen.model.base_files import WEIGHTS

TOKENS = 77


@dataclass(frozen=True)
class Architecture:
    """What the classes of a base are made with; the text encoder's vocabulary comes from the tokenizer."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]


SD2_BASE = Architecture(
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    vae={
        "sample_size": 768,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "scaling_factor": 0.18215,
    },
    text_encoder={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 512,
    },
)
"""configurations of stable-diffusion-2-base; whatever is not named is the classes' default"""
TINY = Architecture(
    unet={
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 4),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 16,
        "use_linear_projection": True,
    },
    vae={
        "block_out_channels": (16,) * 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "scaling_factor": 0.18215,
    },
    text_encoder={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    },
)
"""of the same block types, at a size that any machine runs at once"""
SD2_PARAMETERS = {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
SD2_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def write_base(folder: Path, architecture: Architecture = SD2_BASE, *, seed: int = 0) -> dict[str, int]:
    """Write a base with random weights, entirely or not at all; return the parameters of each part.

    Args:
        folder: left as it is where it holds a base.
        architecture: whose sizes to take.
        seed: of the weights.

    Raises:
        InputError: ``folder`` holds something else, or there is no open_clip_torch.
    """
    if not (folder / "model_index.json").is_file():
        tokenizer = clip_tokenizer()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            pipeline = StableDiffusionPipeline(
                vae=AutoencoderKL(**architecture.vae),
                text_encoder=CLIPTextModel(_text_config(tokenizer, architecture)),
                tokenizer=tokenizer,
                unet=UNet2DConditionModel(**architecture.unet),
                scheduler=PNDMScheduler(**SD2_SCHEDULER),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        with new_folder(folder) as temporary:
            pipeline.save_pretrained(temporary, safe_serialization=True, max_shard_size="100GB")
    return count_parameters(folder)


def write_sd2(folder: Path, *, seed: int = 0) -> dict[str, int]:
    """Write Stable Diffusion 2.0-base and see that its parts have the numbers of parameters that the real ones have.

    Raises:
        InputError: as ``write_base``; or other numbers, as of a folder of another architecture.
    """
    counts = write_base(folder, seed=seed)
    if counts != SD2_PARAMETERS:
        raise InputError(f"{folder} with parameters {counts}", str(SD2_PARAMETERS), "remove it, or give another folder")
    return counts


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with its 49,408 tokens, padding with "!" as Stable Diffusion 2.0 does.

    Raises:
        InputError: no open_clip_torch.
    """
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise InputError("no open_clip_torch", "it, for CLIP's vocabulary", "pip install open_clip_torch") from error
    source = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): index for token, index in source.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(source.bpe_ranks), pad_token="!", model_max_length=TOKENS)


def count_parameters(folder: Path) -> dict[str, int]:
    """Parameters of each part of a base, from the headers of its files."""
    counts = {}
    for part, stem in WEIGHTS.items():
        with safe_open(folder / part / f"{stem}.safetensors", framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        counts[part] = sum(torch.Size(shape).numel() for shape in shapes)
    return counts


def _text_config(tokenizer: CLIPTokenizer, architecture: Architecture) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **architecture.text_encoder,
    )


def main() -> None:
    """Write the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    options = parser.parse_args()
    write_sd2(options.folder, seed=options.seed)


if __name__ == "__main__":
    main()
