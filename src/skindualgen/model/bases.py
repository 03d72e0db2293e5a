"""Load a base: a text-to-image diffusion model of the Stable Diffusion 1 / 2 family, or the bundled micro one."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from skindualgen.contracts import InputError
from skindualgen.model.autoencoder import PatchAutoencoder

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
MICRO_BASE = BUNDLED / "micro"
BUILTIN_ADAPTER = BUNDLED / "adapter"
START_AND_END = 2
"""tokens that a tokenizer puts around each prompt"""
AUTOENCODERS: dict[str, type[ModelMixin]] = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
REMEDY = "download a Stable Diffusion 2.0 folder (README: Stable Diffusion 2.0) and give its path"
HASHED_FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass
class Base:
    """The parts of a base, in evaluation mode and without gradients, and what identifies it."""

    unet: UNet2DConditionModel
    vae: ModelMixin
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: SchedulerMixin
    base_id: str
    sha256: str

    @property
    def prediction_type(self) -> str:
        """ "epsilon" or "v_prediction"."""
        return self.scheduler.config.prediction_type

    @property
    def native_px(self) -> int:
        """Side of the pictures that the base was trained on."""
        return int(self.unet.config.sample_size) * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text encoder states [b, 77, width]; a longer prompt is cut, as CLIP cannot read on."""
        return embed_prompts(self.tokenizer, self.text_encoder, prompts)


def base_folder(base: str | Path) -> Path:
    """Resolve "micro" or the path of a local diffusers folder.

    Raises:
        InputError: no such folder, or one without ``unet/config.json``.
    """
    folder = MICRO_BASE if str(base) == "micro" else Path(base)
    if not (folder / "unet" / "config.json").is_file():
        raise InputError(
            f"base {str(base)!r} without {folder / 'unet' / 'config.json'}",
            "'micro', or the path of a diffusers folder with unet, vae, text_encoder, tokenizer and scheduler",
            REMEDY,
        )
    return folder


def base_sha256(folder: Path) -> str:
    """One hash over names and bytes of every component file that is loaded."""
    digest = hashlib.sha256()
    for name in HASHED_FOLDERS:
        for path in sorted((folder / name).glob("*")):
            if path.suffix in {".safetensors", ".json", ".txt"}:
                digest.update(f"{name}/{path.name}\0".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_base(base: str | Path = "micro", *, dtype: torch.dtype = torch.float32) -> Base:
    """Load all parts of a base from a local diffusers folder; safetensors only.

    Args:
        base: "micro" or a path.
        dtype: of the loaded weights; the file's own type is converted.

    Raises:
        InputError: no such folder, or a part of it is missing, damaged or of another kind.
    """
    folder = base_folder(base)
    for name in HASHED_FOLDERS:
        if not (folder / name).is_dir():  # else the libraries would take the path for an id and ask a server
            raise InputError(f"base {folder} without {name}", f"a folder with {', '.join(HASHED_FOLDERS)}", REMEDY)
    try:
        return _load_parts(folder, "micro" if str(base) == "micro" else folder.name, dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"base {folder} that cannot be loaded ({error})", "configs and safetensors", REMEDY) from error


def _load_parts(folder: Path, base_id: str, dtype: torch.dtype) -> Base:
    vae_class = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
    if vae_class not in AUTOENCODERS:
        raise InputError(f"autoencoder class {vae_class}", " or ".join(AUTOENCODERS), "use another base")
    options = {"torch_dtype": dtype, "use_safetensors": True}
    scheduler_config = DDIMScheduler.load_config(folder / "scheduler")
    parts = Base(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", **options),
        vae=AUTOENCODERS[vae_class].from_pretrained(folder / "vae", **options),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, use_safetensors=True),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=DDIMScheduler.from_config(scheduler_config),
        base_id=base_id,
        sha256=base_sha256(folder),
    )
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.requires_grad_(False).eval()
    return parts


def embed_prompts(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]) -> Tensor:
    """Text encoder states [b, tokens, width] of b prompts, padded or cut to the tokenizer's length; a cut is logged."""
    read = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    for prompt, full in zip(prompts, read.attention_mask.all(dim=1).tolist(), strict=True):
        if full:
            tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
            _warn_of_cut(prompt, len(tokens), tokenizer.model_max_length - START_AND_END)
    return text_encoder(read.input_ids.to(text_encoder.device)).last_hidden_state


@lru_cache(maxsize=1024)  # once for each prompt, not once a batch
def _warn_of_cut(prompt: str, tokens: int, limit: int) -> None:
    if tokens > limit:
        logger.warning("The text encoder reads only %d of %d tokens of the prompt '%.40s ...'", limit, tokens, prompt)
