"""The parts of a pipeline: a base with an adapter merged into its UNet, a scheduler, and the adapter's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler

from skindualgen.model.adapter import WEIGHTS_FILE, base_place, load_adapter, read_header, recorded_base
from skindualgen.model.bases import load_base
from skindualgen.model.schedule import zero_terminal_snr
from skindualgen.provenance import sha256_file


def pipeline_parts(
    folder: Path, base: str | Path | None, dtype: torch.dtype, *, allow_base_mismatch: bool = False
) -> dict[str, Any]:
    """Load what ``SkinDualGenPipeline`` is made of, as its arguments.

    Args:
        folder: of the adapter.
        base, dtype, allow_base_mismatch: as ``SkinDualGenPipeline.from_adapter`` takes them.
    """
    header = read_header(folder)
    parts = load_base(base or recorded_base(header), dtype=dtype)
    unet = load_adapter(parts, folder, allow_base_mismatch=allow_base_mismatch, share=True).eval()
    if dtype != torch.float32:
        unet = unet.to(dtype)
    config = header["recipe"].get("config", {})
    if config.get("noise", {}).get("zero_terminal_snr"):
        parts.scheduler = zero_terminal_snr(parts.scheduler)
    scheduler = DPMSolverMultistepScheduler.from_config(
        parts.scheduler.config, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    made_of = {"base_id": parts.base_id, "base_sha256": parts.sha256}
    made_of["adapter_sha256"] = sha256_file(folder / WEIGHTS_FILE)
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
        "provenance": made_of,
        **header["recipe"].get("sampling", {}),
    }
