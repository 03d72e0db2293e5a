"""The pipeline as sampler, and as something that each worker builds for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from skindualgen.contracts import InputError
from skindualgen.data.prompts import tokens_of
from skindualgen.files import sha256_file
from skindualgen.hardware import DTYPES
from skindualgen.model.bases import hide_loading_bars
from skindualgen.planning.anchors import Anchoring
from skindualgen.planning.requests import PairRequest
from skindualgen.production.best_of import BestOf, check_best_of
from skindualgen.production.chunk import Decode, Gate, Sampler
from skindualgen.sample.guidance import Guidance
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.reading import mask_predictor

Precision = Literal["fp32", "fp16", "bf16"]


class PipelineSampler:
    """Generates pairs with a pipeline, each from a generator of its own.

    Args:
        pipeline: text -> pair.
        steps: denoising steps.
        guidance: of the pairs.
        size: side in px, a multiple of 8; the model's own if not given.
    """

    def __init__(self, pipeline: SkinDualGenPipeline, *, steps: int, guidance: Guidance, size: int | None) -> None:
        self._pipeline, self._steps, self._guidance, self._size = pipeline, steps, guidance, size

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Generate the latents of the requests, in their order; what is returned decodes them."""
        return partial(self._pipeline.decode, *self._latents(requests))

    def _latents(self, requests: Sequence[PairRequest], **given: Any) -> tuple[Tensor, Tensor]:
        """Latents and codes of the requests, made from what is given besides their prompts."""
        guidance = self._guidance
        return self._pipeline(
            [request.prompt for request in requests],
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            num_inference_steps=self._steps,
            guidance_scale=guidance.scale,
            guidance_rescale=guidance.rescale,
            guidance_interval=guidance.interval,
            prompt_noise=guidance.prompt_noise,
            mask_guidance_scale=guidance.mask,
            height=self._size,
            width=self._size,
            output_type="latent",
            return_dict=False,
            **given,
        )


def token_counter(pipeline: SkinDualGenPipeline) -> Callable[[str], int]:
    """How many tokens the pipeline's text encoder would read of a prompt, start and end included."""
    return partial(tokens_of, pipeline.tokenizer)


@dataclass(frozen=True)
class PipelineFactory:
    """Builds sampler and gate, in whatever process they are to work.

    Args:
        adapter, base, allow_base_mismatch, guide: as ``SkinDualGenPipeline.from_adapter`` takes them.
        steps, guidance, guidance_rescale, guidance_interval, prompt_noise, mask_guidance: the pipeline's defaults if
            not given.
        size: side in px; the model's own if not given.
        gate: a calibrated gate, its file or folder.
        anchoring: how pairs are made from real ones, if they are.
        threads: of each process on the CPU.
        precision: of the model's weights and activations.
        best_of: candidates of a pair, of which a classifier chooses the one that shows the prompted diagnosis best; if
            not given, the adapter's default for pairs from text alone, else 1.
        best_of_threshold: probability of the diagnosis from which on no further candidate is drawn; if not given, the
            adapter's where ``best_of`` is the adapter's too, else 1: all are drawn.
        classifier: a classifier's file; the bundled one if not given.

    Raises:
        InputError: guidance or a choice where masks are read, or a choice of none.
    """

    adapter: str | Path = "builtin"
    base: str | Path | None = None
    allow_base_mismatch: bool = False
    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    gate: Path | None = None
    threads: int | None = None
    precision: Precision = "fp32"
    guidance_rescale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    prompt_noise: float | None = None
    mask_guidance: float | None = None
    guide: Path | None = None
    anchoring: Anchoring | None = None
    best_of: int | None = None
    classifier: Path | None = None
    best_of_threshold: float | None = None

    def __post_init__(self) -> None:
        check_best_of(self.best_of, self.classifier, self.best_of_threshold, reads=self.reads)
        if self.reads and any(each is not None for each in (*self._guidance, self.guide)):
            raise InputError(
                "guidance, prompt noise or a guide for photographs that are read",
                "none: a mask is read without a prompt",
                "leave them out",
            )

    @property
    def _guidance(self) -> tuple[Any, ...]:
        """As ``SkinDualGenPipeline.guidance`` takes them."""
        return self.guidance, self.guidance_rescale, self.guidance_interval, self.prompt_noise, self.mask_guidance

    @property
    def reads(self) -> bool:
        """Whether masks are read of real photographs."""
        return self.anchoring is not None and self.anchoring.way == "read"

    def __call__(self, worker: int = 0) -> tuple[Sampler, Gate | None]:
        """Sampler and gate of a worker; on a machine with several GPUs, workers take them in turn."""
        return self.parts(self.load().to(device_of(worker)))

    def load(self) -> SkinDualGenPipeline:
        """The pipeline in main memory, quiet."""
        hide_loading_bars()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        pipeline = SkinDualGenPipeline.from_adapter(
            self.adapter,
            self.base,
            dtype=DTYPES[self.precision],
            allow_base_mismatch=self.allow_base_mismatch,
            guide=self.guide,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def drawn_with(self, pipeline: SkinDualGenPipeline) -> tuple[int, Guidance]:
        """Steps and guidance, from the pipeline's defaults where they are not given; masks are read unguided."""
        if self.reads:
            return pipeline.steps(self.steps, reads_mask=True), Guidance()
        return pipeline.steps(self.steps), pipeline.guidance(*self._guidance)

    def candidates(self, pipeline: SkinDualGenPipeline) -> tuple[int, float]:
        """Candidates of each pair at most, and the probability from which on no further one is drawn."""
        if self.best_of is not None:
            return self.best_of, 1.0 if self.best_of_threshold is None else self.best_of_threshold
        if self.anchoring is not None:
            return 1, 1.0
        return pipeline.config.get("default_best_of", 1), pipeline.config.get("default_best_of_threshold", 1.0)

    @property
    def _classifier_file(self) -> Path:
        from skindualgen.judges.training import bundled_file

        return self.classifier or bundled_file("classifier")

    def classifier_sha256(self) -> str:
        """Hash of the file of the classifier that chooses among candidates; the network is not built for it.

        Raises:
            InputError: it cannot be read, or holds something else.
        """
        from skindualgen.judges.training import load_header

        load_header(self._classifier_file, "classifier")
        return sha256_file(self._classifier_file)

    def parts(self, pipeline: SkinDualGenPipeline) -> tuple[Sampler, Gate | None]:
        """Sampler and gate around a pipeline."""
        steps, guidance = self.drawn_with(pipeline)
        sampler: Sampler
        if self.anchoring is None:
            sampler = PipelineSampler(pipeline, steps=steps, guidance=guidance, size=self.size)
        else:
            from skindualgen.production.anchored import AnchoredSampler

            sampler = AnchoredSampler(pipeline, self.anchoring, steps=steps, guidance=guidance, size=self.size)
        candidates, threshold = self.candidates(pipeline)
        if candidates > 1:
            from skindualgen.judges.classifier import Classifier

            sampler = BestOf(sampler, Classifier(self._classifier_file), candidates, threshold)
        if self.gate is None:
            return sampler, None
        from skindualgen.gate.gate import load_gate

        adapter = (pipeline.config.provenance or {}).get("adapter_sha256")
        return sampler, load_gate(self.gate, mask_predictor(pipeline), adapter_sha256=adapter)


def device_of(worker: int) -> str:
    """Where a worker's model runs: the fastest kind of device that is there."""
    if torch.cuda.is_available():
        return f"cuda:{worker % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"
