"""What benchmarks/generation.py measures, one function a measurement; each is run in a process of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar
from dual_stream import DualStream
from stopwatch import Stopwatch

from skindualgen.model.bases import Base, load_base
from skindualgen.model.joint_unet import widen_unet
from skindualgen.planning.requests import PairRequest, requests_from_prompts
from skindualgen.production.chunk import ChunkResult, ChunkSettings, Decode, FinishedPair, Sampler
from skindualgen.production.drawing import finalize
from skindualgen.production.journal import Journal
from skindualgen.production.pictures import PictureFolder
from skindualgen.production.run import InProcess, produce
from skindualgen.production.sampler import PipelineFactory
from skindualgen.production.source import RequestList
from skindualgen.sample.pipeline import SkinDualGenPipeline

PAIR, IMAGE, DUAL = "pair", "image only", "dual stream"
BARE, DECODED, PRODUCED = "bare loop", "loop with decoding", "production"
PROMPTS = ("a dermoscopic image of a melanoma", "a dermoscopic image of a nevus")
MEMORY_CALLS = 2
"""the second call finds whatever the first left in memory"""
Draw = Callable[[int], None]
"""draws one batch; the number chooses its seeds"""


@dataclass(frozen=True)
class Setup:
    """What is the same for all that is compared.

    Args:
        base: as ``load_base`` takes it.
        adapter: as ``from_adapter`` takes it; None widens the base without an adapter, which costs the same.
        size: side in px.
        steps: denoising steps.
        guidance: classifier-free guidance.
        batch: pairs, or photographs, in a call.
        repeats: timed rounds, after one to warm up.
        threads: of torch.
        seed: of everything random.
        gate: folder of a calibrated gate; None produces without one.
        batches: that one round of production draws.
        production_rounds: timed rounds of production.
    """

    base: str
    adapter: str | None
    size: int
    steps: int
    guidance: float
    batch: int
    repeats: int
    threads: int
    seed: int
    gate: str | None = None
    batches: int = 8
    production_rounds: int = 3

    def requests(self, count: int) -> list[PairRequest]:
        """What is drawn."""
        return requests_from_prompts([(prompt, {}) for prompt in PROMPTS], count, self.seed)


def scheduler_of(base: Base) -> DPMSolverMultistepScheduler:
    """The scheduler that ``from_adapter`` gives its pipeline."""
    return DPMSolverMultistepScheduler.from_config(
        base.scheduler.config, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )


def joint_pipeline(setup: Setup, base: Base | None = None) -> SkinDualGenPipeline:
    """Ours, quiet; around ``base``'s parts, widened, if there is no adapter."""
    if setup.adapter is not None:
        pipeline = SkinDualGenPipeline.from_adapter(setup.adapter, setup.base)
    else:
        base = base or load_base(setup.base)
        unet = widen_unet(base.unet, share=True).eval()
        pipeline = SkinDualGenPipeline(base.vae, base.text_encoder, base.tokenizer, unet, scheduler_of(base))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def image_pipeline(base: Base) -> StableDiffusionPipeline:
    """The stock one around ``base``'s parts, quiet."""
    pipeline = StableDiffusionPipeline(
        base.vae,
        base.text_encoder,
        base.tokenizer,
        base.unet,
        scheduler_of(base),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draws(setup: Setup, kinds: tuple[str, ...]) -> dict[str, Draw]:
    """The kinds of drawing to compare, by name; nothing is loaded that none of them needs."""
    torch.set_num_threads(setup.threads)
    disable_progress_bar()
    base = None if kinds == (PAIR,) else load_base(setup.base)
    made: dict[str, Draw] = {}
    if PAIR in kinds:
        ours = joint_pipeline(setup, base)
        made[PAIR] = lambda index: ours(
            _prompts(setup),
            generator=_generators(setup, index),
            num_inference_steps=setup.steps,
            guidance_scale=setup.guidance,
            height=setup.size,
            width=setup.size,
        )
    if base is not None and IMAGE in kinds:
        stock = image_pipeline(base)
        made[IMAGE] = lambda index: stock(
            _prompts(setup),
            generator=_generators(setup, index),
            num_inference_steps=setup.steps,
            guidance_scale=setup.guidance,
            height=setup.size,
            width=setup.size,
        )
    if base is not None and DUAL in kinds:
        dual = DualStream(base, base.unet, scheduler_of(base))
        made[DUAL] = lambda index: dual(
            _prompts(setup),
            generator=_generators(setup, index),
            steps=setup.steps,
            guidance=setup.guidance,
            size=setup.size,
        )
    return made


def time_draws(setup: Setup) -> dict[str, Any]:
    """Seconds of each kind, in turns, every other round backwards; the first round is not counted."""
    return {"seconds": _rounds(draws(setup, (PAIR, IMAGE, DUAL)), setup.repeats)}


def draw_alone(setup: Setup, kind: str) -> dict[str, Any]:
    """A few calls of one kind, for the memory that the process takes."""
    (draw,) = draws(setup, (kind,)).values()
    for index in range(MEMORY_CALLS):
        draw(index)
    return {}


def time_production(setup: Setup) -> dict[str, Any]:
    """Seconds of drawing latents alone, of drawing pictures, and of producing a folder, in the same batches.

    The batches are those that production drew, those in place of refused pairs included.
    """
    factory = _factory(setup)
    pipeline = factory.load()
    sampler, gate = factory.parts(pipeline)
    requests = setup.requests(setup.batch * setup.batches)
    settings = _settings(setup, pipeline)

    drawn = Recorder(sampler)

    def loop(output_type: str) -> None:
        for batch in drawn.batches:
            pipeline(
                [request.prompt for request in batch],
                generator=[torch.Generator().manual_seed(request.seed) for request in batch],
                num_inference_steps=setup.steps,
                guidance_scale=setup.guidance,
                height=setup.size,
                width=setup.size,
                output_type=output_type,
            )

    def produced(by: Sampler) -> int:
        with _folder() as out:
            return produce(RequestList(requests), out, InProcess(by, gate), settings, described={}).refused

    refused = produced(drawn)
    kinds: dict[str, Draw] = {
        BARE: lambda _: loop("latent"),
        DECODED: lambda _: loop("pil"),
        PRODUCED: lambda _: produced(sampler),
    }
    seconds = _rounds(kinds, setup.production_rounds, warm=True)
    return {"seconds": seconds, "pairs": len(requests), "refused": refused, "draws": sum(map(len, drawn.batches))}


class Recorder:
    """A sampler that notes the batches it is asked for."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.batches: list[Sequence[PairRequest]] = []

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """As the sampler's."""
        self.batches.append(requests)
        return self._sampler.sample(requests)


def profile(setup: Setup) -> dict[str, Any]:
    """Seconds of each part of a pair, one after the other, where production would overlap them; mean over the pairs."""
    factory = _factory(setup)
    torch.set_num_threads(setup.threads)
    pipeline = factory.load() if setup.adapter is not None else joint_pipeline(setup)
    sampler, gate = factory.parts(pipeline)
    settings = _settings(setup, pipeline)
    sampler.sample(setup.requests(setup.batch))()  # to warm up
    requests = setup.requests(setup.batch * setup.repeats)
    watch = Stopwatch()
    with _folder() as out, watch.around(pipeline):
        (out / "work").mkdir(parents=True)
        sink = PictureFolder(out, Journal(out / "work"), chunk_pairs=setup.batch)
        start = time.perf_counter()
        for index in range(setup.repeats):
            batch = requests[index * setup.batch : (index + 1) * setup.batch]
            images, masks = pictures = sampler.sample(batch)()
            with watch.part("gate, records, encoding: the rest"):
                settled = finalize(batch, lambda pictures=pictures: pictures, attempt=0, gate=None, settings=settings)
            pairs = [pair for pair in settled if isinstance(pair, FinishedPair)]
            if gate is not None:
                with watch.part("gate", whole=True):
                    gate.judge(images, masks, [pair.record for pair in pairs])
            with watch.part("writing: the rest"):
                sink.write(ChunkResult(index, pairs))
        total = time.perf_counter() - start
    count = len(requests)
    parts = {name: seconds / count for name, seconds in watch.seconds.items()}
    return {"total": total / count, "parts": parts, "pairs": count}


def _rounds(kinds: dict[str, Draw], repeats: int, *, warm: bool = False) -> dict[str, list[float]]:
    """Seconds of each kind, in turns, every other round backwards; if nothing is warm yet, after a round more."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for index in range(1 if warm else 0, repeats + 1):
        for name in list(kinds)[:: 1 if index % 2 == 0 else -1]:
            start = time.perf_counter()
            kinds[name](index)
            if index:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _factory(setup: Setup) -> PipelineFactory:
    return PipelineFactory(
        setup.adapter or "builtin",
        setup.base,
        steps=setup.steps,
        guidance=setup.guidance,
        size=setup.size,
        gate=None if setup.gate is None else Path(setup.gate),
        threads=setup.threads,
    )


def _settings(setup: Setup, pipeline: SkinDualGenPipeline) -> ChunkSettings:
    return ChunkSettings(setup.steps, setup.guidance, dict(pipeline.config.provenance or {}), setup.batch)


def _prompts(setup: Setup) -> list[str]:
    return [PROMPTS[index % len(PROMPTS)] for index in range(setup.batch)]


def _generators(setup: Setup, index: int) -> list[torch.Generator]:
    seeds = (setup.seed + 1000 * index + row for row in range(setup.batch))
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder to produce into, on the disk of temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="generation-"))
    try:
        yield folder / "out"
    finally:
        shutil.rmtree(folder)


TASKS: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "time": time_draws,
    "production": time_production,
    "profile": profile,
    **{kind: lambda setup, kind=kind: draw_alone(setup, kind) for kind in (PAIR, IMAGE, DUAL)},
}
