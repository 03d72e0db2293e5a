"""The parts of a pipeline: a base with an adapter merged into its UNet, a scheduler, and the adapter's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler

from skindualgen.codec import codec_record
from skindualgen.config import with_current_names
from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.model.adapter import (
    WEIGHTS_FILE,
    adapter_folder,
    base_place,
    load_adapter,
    read_header,
    recorded_base,
    recorded_codec,
)
from skindualgen.model.bases import load_base, zero_terminal_snr


def refuse_with_merged(folder: Path, **given: str | Path | None) -> None:
    """Refuse a base or a guide with a folder that holds an adapter merged into its base.

    Raises:
        InputError: which.
    """
    expected = {"base": "no base, as it holds one", "guide": "an adapter on its base"}
    for name, place in given.items():
        if place is not None:
            got = f"{'the guide' if name == 'guide' else name} {place} with the merged folder {folder}"
            raise InputError(got, expected[name], f"leave {'it' if name == 'base' else 'the guide'} out")


def pipeline_parts(
    folder: Path,
    base: str | Path | None,
    dtype: torch.dtype,
    *,
    allow_base_mismatch: bool = False,
    guide: str | Path | None = None,
) -> dict[str, Any]:
    """Load what ``SkinDualGenPipeline`` is made of, as its arguments.

    Args:
        folder: of the adapter.
        base, dtype, allow_base_mismatch, guide: as ``SkinDualGenPipeline.from_adapter`` takes them.
    """
    header = read_header(folder)
    parts = load_base(base or recorded_base(header), dtype=dtype)
    weaker = None if guide is None else adapter_folder(guide)
    mismatch = {"allow_base_mismatch": allow_base_mismatch}
    # The guide first, in weights of its own: the adapter is then merged into the base's.
    guide_unet = None if weaker is None else load_adapter(parts, weaker, **mismatch).eval()
    unet = load_adapter(parts, folder, **mismatch, share=True).eval()
    if dtype != torch.float32:
        unet, guide_unet = unet.to(dtype), None if guide_unet is None else guide_unet.to(dtype)
    config = with_current_names(header["recipe"].get("config", {}), warn=False)
    if config.get("noise", {}).get("rescale_betas_zero_snr"):
        parts.scheduler = zero_terminal_snr(parts.scheduler)
    distilled = header["recipe"].get("distilled")
    scheduler = DPMSolverMultistepScheduler.from_config(
        parts.scheduler.config,
        algorithm_type="dpmsolver++",
        solver_order=2 if distilled is None else 1,
        final_sigmas_type="zero",
    )
    codec, classes = recorded_codec(header, parts)
    made_of = {"base_id": parts.base_id, "base_sha256": parts.sha256}
    made_of["adapter_sha256"] = sha256_file(folder / WEIGHTS_FILE)
    if weaker is not None:
        made_of["guide_sha256"] = sha256_file(weaker / WEIGHTS_FILE)
    if parts.revision:
        made_of["base_revision"] = parts.revision
    if header["base_sha256"] != parts.sha256:
        made_of |= {"adapter_base": base_place(header), "adapter_base_sha256": header["base_sha256"]}
    return {
        "vae": parts.vae,
        "text_encoder": parts.text_encoder,
        "tokenizer": parts.tokenizer,
        "unet": unet,
        "scheduler": scheduler,
        "guide": guide_unet,
        "mask_codec": codec_record(codec),
        "mask_classes": dict(classes),
        "provenance": made_of,
        "appearances": header["recipe"].get("appearances"),
        "schedules": header["recipe"].get("schedules"),
        "distilled": distilled,
        **header["recipe"].get("sampling", {}),
    }
