"""Folders of generated pairs, drawn by a pipeline that is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.planning.requests import PairRequest
from skindualgen.production.chunk import ChunkSettings
from skindualgen.production.run import InProcess, Report, produce
from skindualgen.production.sampler import PipelineSampler, token_counter
from skindualgen.production.source import RequestList
from skindualgen.sample.inputs import check_size
from skindualgen.sample.pipeline import SkinDualGenPipeline


def generate_pairs(
    pipeline: SkinDualGenPipeline,
    requests: Sequence[PairRequest],
    out: Path,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_rescale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    prompt_noise: float | None = None,
    batch_size: int = 8,
    size: int | None = None,
    report: Report = lambda done, total: None,
) -> list[PairRecord]:
    """Generate pairs into a data set folder: images, masks, ``metadata.jsonl``, ``dataset.json``, a contact sheet.

    What the adapter's folder records of its training items is copied there as well. See
    `skindualgen.production.run.produce` for what an interrupted run leaves, and how it goes on.

    Args:
        pipeline: text -> pair.
        requests: what to draw; their order is part of the settings.
        out: new folder, or one of an interrupted run of the same settings.
        num_inference_steps: the pipeline's default if not given.
        guidance_scale, guidance_rescale, guidance_interval, prompt_noise: likewise; see
            `skindualgen.sample.guidance.Guidance`.
        batch_size: pairs drawn together; results differ by at most one grey level between batch sizes.
        size: side in px, a multiple of 8; the model's own if not given.
        report: progress.

    Raises:
        InputError: ``out`` holds something else, a prompt is too long, or ``size`` is no multiple of 8.
    """
    if size is not None:
        check_size(size, size)  # before the folder is claimed with it
    steps = num_inference_steps or pipeline.config.default_steps
    guidance = pipeline.guidance(guidance_scale, guidance_rescale, guidance_interval, prompt_noise)
    source = RequestList(requests, token_counter(pipeline))
    settings = ChunkSettings(
        steps, guidance.scale, dict(pipeline.config.provenance or {}), batch_size, further_guidance=guidance.told
    )
    sampler = PipelineSampler(pipeline, steps=steps, guidance=guidance, size=size)
    described = {"size": size, "requests_sha256": source.sha256, "threads": threads_that_matter(pipeline)}
    produce(
        source, out, InProcess(sampler), settings,
        described=described, beside=training_items_of(pipeline), report=report,
    )  # fmt: skip
    return read_metadata(out)


def threads_that_matter(pipeline: SkinDualGenPipeline) -> int | None:
    """Torch's threads where the model runs on the CPU: their number changes the last bits of what is drawn."""
    return torch.get_num_threads() if pipeline.device.type == "cpu" else None


def training_items_of(pipeline: SkinDualGenPipeline) -> dict[str, bytes]:
    """What the generator was trained on, if that is recorded, as a file that goes with all it draws.

    A benchmark refuses to test on these items.
    """
    source = pipeline.name_or_path  # None if it was put together by hand
    recorded = Path(source) / TRAINING_ITEMS_FILE if source is not None else None
    return {TRAINING_ITEMS_FILE: recorded.read_bytes()} if recorded and recorded.is_file() else {}
