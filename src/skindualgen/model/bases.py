"""Load a base: a text-to-image diffusion model of the Stable Diffusion 1 / 2 family, or the bundled micro one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.logging import disable_progress_bar
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar as disable_transformers_bar

from skindualgen.contracts import InputError
from skindualgen.files import BUNDLED
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.base_files import (
    PARTS,
    REMEDY,
    WEIGHTS,
    base_sha256,
    folder_files,
    loaded_files,
    weights_file,
)
from skindualgen.model.hub import fetch_snapshot
from skindualgen.model.registry import KNOWN_BASES, KnownBase, hub_candidates

logger = logging.getLogger(__name__)

MICRO_BASE = BUNDLED / "micro"
START_AND_END = 2
"""tokens that a tokenizer puts around each prompt"""
ZERO_TERMINAL_SNR: dict[str, Any] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""What a scheduler's configuration must say for the last timestep to hold no signal, and to be visited
(Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891)."""
AUTOENCODERS: dict[str, type[ModelMixin]] = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}


@dataclass
class Base:
    """The parts of a base, in evaluation mode and without gradients, and what identifies it."""

    unet: UNet2DConditionModel
    vae: ModelMixin
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: SchedulerMixin
    base_id: str
    """ "micro", a repository of the hub, or the name of a local folder"""
    sha256: str
    revision: str | None = None
    """commit of the hub's repository"""
    license: str | None = None
    """where it is known: of a base with a name, or as the hub's model card says"""

    @property
    def prediction_type(self) -> str:
        """What the base predicts: "epsilon" or "v_prediction"."""
        return self.scheduler.config.prediction_type

    @property
    def native_px(self) -> int:
        """Side of the pictures that the base was trained on."""
        return int(self.unet.config.sample_size) * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def place(self) -> str:
        """As ``load_base`` takes it: the id, and the commit where there is one."""
        return f"{self.base_id}@{self.revision}" if self.revision else self.base_id

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text encoder states [b, 77, width]; a longer prompt is cut, as CLIP cannot read on."""
        return embed_prompts(self.tokenizer, self.text_encoder, prompts)


@dataclass(frozen=True)
class _Source:
    """Where a base lies on this machine, and what is known of it before it is loaded."""

    folder: Path
    base_id: str
    revision: str | None = None
    license: str | None = None
    known: KnownBase | None = None


def hide_loading_bars() -> None:
    """Keep diffusers and transformers from showing bars of their own while they load, for the rest of the process."""
    disable_progress_bar()
    disable_transformers_bar()


def base_folder(base: str | Path) -> Path:
    """Resolve "micro" or the path of a local diffusers folder.

    Raises:
        InputError: no such folder, or one without ``unet/config.json``.
    """
    folder = MICRO_BASE if str(base) == "micro" else Path(base)
    if not (folder / "unet" / "config.json").is_file():
        raise InputError(
            f"base {str(base)!r} without {folder / 'unet' / 'config.json'}",
            f"{', '.join(KNOWN_BASES)}, owner/name@revision of the hub, or the path of a diffusers folder with "
            f"{', '.join(PARTS)}",
            REMEDY,
        )
    return folder


def load_base(base: str | Path = "micro", *, dtype: torch.dtype = torch.float32) -> Base:
    """Load all parts of a base, from a local folder or by way of the hub's cache; safetensors only.

    Args:
        base: a name out of ``KNOWN_BASES`` or ``owner/name`` of the Hugging Face hub, either with ``@revision`` if
            wanted, or the path of a diffusers folder. A folder of the name ``owner/name`` wins over the hub.
        dtype: of the loaded weights; the file's own type is converted.

    Raises:
        InputError: no such folder; no repository that can be had; a part that is missing, damaged or of another
            kind; or another model than the name says.
    """
    source = _find(base)
    loaded_files(folder_files(source.folder), f"base {source.folder}")
    try:
        parts = _load_parts(source, dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"base {source.folder} that cannot be loaded ({error})", "configs and safetensors", REMEDY
        ) from error
    if source.known:
        _check_is(parts, source.known)
    return parts


def _find(base: str | Path) -> _Source:
    if str(base) == "micro":
        known = KNOWN_BASES["micro"]
        return _Source(base_folder(base), known.name, license=known.license, known=known)
    named, candidates = hub_candidates(base) if isinstance(base, str) else (None, ())
    if not candidates or (named is None and Path(base).is_dir()):
        folder = base_folder(base)
        return _Source(folder, folder.name)
    try:
        snapshot = fetch_snapshot(candidates)
    except InputError as error:
        if named:
            raise
        raise InputError(f"{error.got}, nor a folder {base}", error.expected, error.remedy) from error
    license_name = named.license if named else snapshot.license
    return _Source(snapshot.folder, snapshot.repo, snapshot.revision, license_name, named)


def _load_parts(source: _Source, dtype: torch.dtype) -> Base:
    folder, names = source.folder, folder_files(source.folder)
    vae_class = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["_class_name"]
    if vae_class not in AUTOENCODERS:
        raise InputError(f"autoencoder class {vae_class}", " or ".join(AUTOENCODERS), "use another base")
    variants = {part: "fp16" if ".fp16." in weights_file(part, names, source.base_id) else None for part in WEIGHTS}
    if any(variants.values()) and dtype == torch.float32:
        logger.warning("%s has weights of half precision only; they are computed with in float32", source.base_id)
    options = {"torch_dtype": dtype, "use_safetensors": True}
    parts = Base(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", variant=variants["unet"], **options),
        vae=AUTOENCODERS[vae_class].from_pretrained(folder / "vae", variant=variants["vae"], **options),
        text_encoder=CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, use_safetensors=True, variant=variants["text_encoder"]
        ),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=DDIMScheduler.from_config(DDIMScheduler.load_config(folder / "scheduler")),
        base_id=source.base_id,
        sha256=base_sha256(folder),
        revision=source.revision,
        license=source.license,
    )
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.requires_grad_(False).eval()
    return parts


def _check_is(base: Base, known: KnownBase) -> None:
    """Refuse a repository that serves another model under the name: an adapter would be trained on the wrong target."""
    if (base.prediction_type, base.native_px) != (known.prediction_type, known.native_px):
        raise InputError(
            f"{base.place}: {base.prediction_type}, {base.native_px} px",
            f"{known.name}: {known.prediction_type}, {known.native_px} px",
            f"pin another revision ({known.name}@COMMIT), or take it for what it is with --base {base.place}",
        )


def zero_terminal_snr(scheduler: SchedulerMixin) -> SchedulerMixin:
    """Return the scheduler with betas rescaled to a signal-to-noise ratio of 0 at the last timestep.

    Raises:
        InputError: it predicts epsilon, which says nothing about the picture at that timestep.
    """
    if scheduler.config.prediction_type != "v_prediction":
        raise InputError(
            f"noise.rescale_betas_zero_snr with a base of prediction type {scheduler.config.prediction_type!r}",
            "a base that predicts velocity, as sd2 does: from pure noise, epsilon says nothing about the picture",
            "leave noise.rescale_betas_zero_snr out, or use such a base",
        )
    return type(scheduler).from_config(scheduler.config, **ZERO_TERMINAL_SNR)


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
