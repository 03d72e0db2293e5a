"""Generate a data set: what the command, the Python functions and the page all go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from skindualgen.contracts import CHOOSER_FIELD, InputError, PairRecord, Report
from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import sha256_file
from skindualgen.planning.plan import Plan
from skindualgen.planning.requests import PairRequest
from skindualgen.production.chunk import ID_PREFIX, ChunkSettings, Sampler, check_id_prefix
from skindualgen.production.finish import Outcome
from skindualgen.production.pictures import Finish
from skindualgen.production.run import Engine, InProcess, Layout, produce
from skindualgen.production.sampler import PipelineFactory, device_of, token_counter
from skindualgen.production.source import CompletedRequests, OpenSource, RequestList, RequestSource
from skindualgen.production.workers import WorkerProcesses
from skindualgen.sample.checks import check_size
from skindualgen.sample.pipeline import SkinDualGenPipeline

EngineName = Literal["process", "ray"]


@dataclass(frozen=True)
class GenerateOptions:
    """How pairs are generated and written; the requests say what they show.

    Args:
        factory: of the model and the gate, with the settings of sampling.
        batch_size: pairs generated together; results differ by at most one grey level between batch sizes.
        attempts: attempts for a pair at most, where a gate refuses.
        engine: "process": this one, or on this machine; "ray": actors of a cluster, or of a local Ray.
        workers: processes or actors.
        gpus: of each actor of Ray's; None: one if the cluster has any.
        layout: what is written where.
        keep_rejected: keep small pictures of refused pairs.
        sign: files of the certificate and of its key, to sign images.
        watermark: add the invisible watermark to images.
        license: SPDX id to be written into each record.
        id_prefix: what the pairs' ids begin with.
        complete_prompts: let prompts go on with words for looks, if the adapter was trained with such
            (`skindualgen.planning.looks`).
    """

    factory: PipelineFactory = field(default_factory=PipelineFactory)
    batch_size: int = 8
    attempts: int = 4
    engine: EngineName = "process"
    workers: int = 1
    gpus: float | None = None
    layout: Layout = field(default_factory=Layout)
    keep_rejected: bool = False
    sign: tuple[Path, Path] | None = None
    watermark: bool = False
    license: str | None = None
    id_prefix: str = ID_PREFIX
    complete_prompts: bool = True


def generate_dataset(
    options: GenerateOptions,
    open_source: OpenSource,
    out: Path,
    report: Report = lambda done, total: None,
    *,
    pipeline: SkinDualGenPipeline | None = None,
    sampler: Sampler | None = None,
    given: Mapping[str, Any] | None = None,
) -> Outcome:
    """Generate a data set folder: images, masks, ``metadata.jsonl``, ``dataset.json``, a contact sheet.

    What the adapter's folder records of its training items is copied there as well. See
    `skindualgen.production.run.produce` for what an interrupted run leaves, and how it goes on.

    Args:
        options: how.
        open_source: what.
        out: new folder, or one of an interrupted run of the same settings.
        report: progress.
        pipeline: one that is at hand, in place of the factory's; it works here, on the device where it is.
        sampler: makes pairs in the pipeline's place, from more than a prompt.
        given: what the sampler makes them from, as JSON takes it; recorded, and compared when a run goes on.

    Raises:
        InputError: anything that cannot be done, before anything is generated.
        ProductionStopped: SIGINT or SIGTERM.
    """
    factory = options.factory
    check_id_prefix(options.id_prefix)  # before the model is loaded
    if factory.size is not None:
        check_size(factory.size, factory.size)  # before the folder is claimed with it
    if factory.reads:
        _refuse_for_photographs(options)
    finish = _signature(options.sign)
    at_hand = pipeline is not None
    pipeline = pipeline or factory.load()
    source = open_source(token_counter(pipeline))
    if options.complete_prompts and sampler is None and (appearances := pipeline.config.get("appearances")):
        source = CompletedRequests(source, appearances)
    steps, guidance = factory.drawn_with(pipeline)
    candidates, threshold = (1, 1.0) if sampler is not None else factory.candidates(pipeline)
    choice: dict[str, float] = {"best_of": candidates} if candidates > 1 else {}
    if candidates > 1 and threshold < 1:
        choice["best_of_threshold"] = threshold
    chosen_by = {CHOOSER_FIELD: factory.classifier_sha256()} if candidates > 1 else {}
    settings = ChunkSettings(
        steps,
        guidance.scale,
        dict(pipeline.config.provenance or {}) | chosen_by,
        options.batch_size,
        options.attempts,
        options.keep_rejected,
        options.watermark,
        options.license,
        options.id_prefix,
        guidance.told | choice,
        {} if factory.anchoring is None else factory.anchoring.described,
    )
    extra_files = training_items_of(pipeline)
    device = pipeline.device.type if at_hand else device_of(0)
    described = _described(options, source, pipeline, device) | _schedule(factory, pipeline, steps) | dict(given or {})
    if sampler is not None:
        engine: Engine = InProcess(sampler)
    elif at_hand:
        engine = InProcess(*factory.parts(pipeline))
    else:
        engine = _engine(options, pipeline)
    del pipeline  # workers have models of their own
    return produce(
        source,
        out,
        engine,
        settings,
        described=described,
        layout=options.layout,
        extra_files=extra_files,
        finish=finish,
        report=report,
    )


def generate_pairs(
    pipeline: SkinDualGenPipeline,
    requests: Sequence[PairRequest],
    out: Path,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    batch_size: int = 8,
    size: int | None = None,
    report: Report = lambda done, total: None,
    **sampling: Any,
) -> list[PairRecord]:
    """Generate pairs with a pipeline that is at hand; see `generate_dataset`.

    Args:
        pipeline: text -> pair.
        requests: what to generate; their order is part of the settings.
        out: new folder, or one of an interrupted run of the same settings.
        num_inference_steps, guidance_scale: the pipeline's defaults if not given.
        batch_size: pairs generated together.
        size: side in px, a multiple of 8; the model's own if not given.
        report: progress.
        sampling: further fields of `PipelineFactory`: ``guidance_rescale``, ``guidance_interval``, ``prompt_noise``,
            ``mask_guidance``, ``best_of``, ``best_of_threshold``.

    Raises:
        InputError: ``out`` holds something else, a prompt is too long, or ``size`` is no multiple of 8.
    """
    factory = PipelineFactory(steps=num_inference_steps, guidance=guidance_scale, size=size, **sampling)
    options = GenerateOptions(factory, batch_size)
    generate_dataset(options, partial(RequestList, requests), out, report, pipeline=pipeline)
    return read_metadata(out)


def threads_that_matter(device: str) -> int | None:
    """Torch's threads where the model runs on the CPU: their number changes the last bits of what is generated."""
    return torch.get_num_threads() if device == "cpu" else None


def training_items_of(pipeline: SkinDualGenPipeline) -> dict[str, bytes]:
    """What the generator was trained on, if that is recorded, as a file that goes with all it generates.

    A benchmark refuses to test on these items.
    """
    source = pipeline.name_or_path  # None if it was put together by hand
    recorded = Path(source) / TRAINING_ITEMS_FILE if source is not None else None
    return {TRAINING_ITEMS_FILE: recorded.read_bytes()} if recorded and recorded.is_file() else {}


def _engine(options: GenerateOptions, pipeline: SkinDualGenPipeline) -> Engine:
    if options.engine == "ray":
        from skindualgen.production.cluster import RayActors

        return RayActors(options.factory, options.workers, gpus=options.gpus)
    if options.workers > 1:
        return WorkerProcesses(options.factory, options.workers)
    return InProcess(*options.factory.parts(pipeline.to(device_of(0))))


def _described(
    options: GenerateOptions, source: RequestSource, pipeline: SkinDualGenPipeline, device: str
) -> dict[str, Any]:
    """What decides the results apart from the settings of chunks.

    Raises:
        InputError: no gate is there, or one for larger pairs.
    """
    factory = options.factory
    described: dict[str, Any] = {
        "size": factory.size,
        "plan_sha256" if isinstance(source, Plan) else "requests_sha256": source.sha256,
        "threads": threads_that_matter(device),
    }
    if factory.gate is not None:
        described |= {"gate_sha256": _checked_gate(factory.gate, factory.size or pipeline.native_px)}
        described |= {"attempts": options.attempts}
    if factory.anchoring is not None:
        described |= factory.anchoring.described
    if len(pipeline.mask_classes) > 1:
        described["mask_classes"] = dict(pipeline.mask_classes)
    if factory.precision != "fp32":
        described["precision"] = factory.precision
    if options.sign is not None:
        described["certificate_sha256"] = sha256_file(options.sign[0])
    return described


def _schedule(factory: PipelineFactory, pipeline: SkinDualGenPipeline, steps: int) -> dict[str, Any]:
    """The timesteps that images are drawn in, where these were found for so many steps and are not the usual ones."""
    photograph = factory.anchoring is not None and factory.anchoring.way != "masks"
    found = None if factory.reads else pipeline.found_timesteps(steps, photograph=photograph)
    return {} if found is None else {"timesteps": found}


def _refuse_for_photographs(options: GenerateOptions) -> None:
    """Refuse what pairs with real photographs cannot have.

    Raises:
        InputError: marks of generated media, or shards without a place for ignored pixels.
    """
    if options.sign is not None or options.watermark:
        raise InputError(
            "a signature or a watermark for real photographs", "marks on generated images alone", "leave them out"
        )
    if options.layout.shards == "parquet":
        raise InputError(
            "Parquet shards for photographs that are read",
            "a format that holds ignored pixels",
            "use --shards webdataset, or export a folder: `skindualgen export-data --format parquet`",
        )


def _signature(sign: tuple[Path, Path] | None) -> Finish | None:
    if sign is None:
        return None
    from skindualgen.marks.c2pa import Signer

    return Signer(*sign).sign


def _checked_gate(path: Path, size: int) -> str:
    """Hash of a gate's file, in which the hashes of all its other files are."""
    from skindualgen.gate.gate import GATE_FILE, read_gate_file

    file, _ = read_gate_file(path)
    if size < file.size_px:
        raise InputError(
            f"pairs of {size} px with a gate for {file.size_px} px",
            "pairs at least as large",
            "calibrate a gate at this size, or generate larger pairs",
        )
    return sha256_file(path / GATE_FILE if path.is_dir() else path)
