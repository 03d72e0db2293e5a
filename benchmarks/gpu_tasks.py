"""What benchmarks/gpu.py measures: each section yields rows, the most telling first, and may be ended after any."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from generation_tasks import PROMPTS, image_pipeline, scheduler_of
from image_lora import ImageLora
from sd2_folder import SD2_BASE, SD2_SCHEDULER, TINY, TOKENS
from training_tasks import Setup as TrainingSetup
from training_tasks import write_data
from transformers import CLIPTextConfig, CLIPTextModel

from skindualgen.config import TrainConfig
from skindualgen.files import sha256_file
from skindualgen.hardware import DTYPES
from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.model.bases import Base, load_base
from skindualgen.model.joint_unet import widen_unet
from skindualgen.planning.requests import requests_from_prompts
from skindualgen.production.generate import GenerateOptions, generate_dataset
from skindualgen.production.sampler import PipelineFactory
from skindualgen.production.source import RequestList
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.batches import Batch
from skindualgen.training.loop import train
from skindualgen.training.objective import draw_noise
from skindualgen.training.trainer import Trainer

Row = dict[str, Any]
CLIP_WORDS = 49_408


@dataclass(frozen=True)
class Setup:
    """What is the same for all sections.

    Args:
        device: cuda or cpu.
        tiny: small models and few repeats, to see that everything runs.
        work: folder for what is written on the way.
        pairs: that the bundled model generates end to end.
        seed: of everything random.
    """

    device: str
    tiny: bool
    work: str
    pairs: int
    seed: int = 0

    @property
    def size(self) -> int:
        """Side in px of the large model's pictures."""
        return 64 if self.tiny else 512

    @property
    def batches(self) -> tuple[int, ...]:
        """Batches of a training step."""
        return (1, 2) if self.tiny else (1, 4, 16)

    @property
    def repeats(self) -> int:
        """Timed calls of each kind, after one to warm up."""
        return 1 if self.tiny else 5

    @property
    def precision(self) -> str:
        """Of the large model: as on GPUs of today; float32 on a CPU."""
        return "fp32" if self.device == "cpu" else "bf16"


def random_base(setup: Setup) -> Base:
    """A base of random weights, made on the device itself: Stable Diffusion 2.0's architecture, or a tiny one."""
    architecture = TINY if setup.tiny else SD2_BASE
    tokenizer = load_base("micro").tokenizer
    text = CLIPTextConfig(vocab_size=CLIP_WORDS, max_position_embeddings=TOKENS, **architecture.text_encoder)
    torch.manual_seed(setup.seed)
    with torch.device(setup.device):
        parts = (UNet2DConditionModel(**architecture.unet), AutoencoderKL(**architecture.vae), CLIPTextModel(text))
    unet, vae, text_encoder = (part.to(DTYPES[setup.precision]).eval().requires_grad_(False) for part in parts)
    scheduler = DDIMScheduler(**{k: v for k, v in SD2_SCHEDULER.items() if k != "skip_prk_steps"}, clip_sample=False)
    return Base(unet, vae, text_encoder, tokenizer, scheduler, "random weights", "")


def measured(setup: Setup, call: Callable[[], object], items: int) -> Row:
    """Seconds and items a second of a call, the first one not counted, and the device memory that it takes in GiB."""
    cuda = setup.device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        call()
        _wait(setup)
        start = time.perf_counter()
        for _ in range(setup.repeats):
            call()
        _wait(setup)
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    seconds = (time.perf_counter() - start) / setup.repeats
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return {"seconds": seconds, "per_second": items / seconds, "peak_gib": peak}


def generation(setup: Setup) -> Iterator[Row]:
    """A pair beside a plain image of the same UNet: 20 guided steps (40 passes) and 4 without guidance."""
    base = random_base(setup)
    unet = widen_unet(base.unet, share=True).eval()
    pair = SkinDualGenPipeline(base.vae, base.text_encoder, base.tokenizer, unet, scheduler_of(base))
    pair.set_progress_bar_config(disable=True)
    kinds = {"pair": pair.to(setup.device), "image only": image_pipeline(base).to(setup.device)}
    for batch in setup.batches[:: len(setup.batches) - 1]:
        for steps, guidance in ((20, 3.0), (4, 1.0)):
            for name, pipeline in kinds.items():
                draw = partial(
                    pipeline,
                    [PROMPTS[0]] * batch,
                    num_inference_steps=2 if setup.tiny else steps,
                    guidance_scale=guidance,
                    height=setup.size,
                    width=setup.size,
                )
                passes = steps * (2 if guidance > 1 else 1)
                yield {"kind": name, "passes": passes, "batch": batch} | measured(setup, draw, batch)


def training(setup: Setup) -> Iterator[Row]:
    """A joint LoRA step beside an image-only one by diffusers' recipe; then with checkpointing, then compiled."""
    base = random_base(setup)
    precision = "no" if setup.precision == "fp32" else setup.precision
    config = TrainConfig(
        data=Path(setup.work), out=Path(setup.work) / "none", resolution=setup.size, mixed_precision=setup.precision
    )
    for name, change in (("joint", {}), ("joint, checkpointing", {"gradient_checkpointing": True})):
        trainer = Trainer(config.model_copy(update=change), base, Accelerator(mixed_precision=precision))
        for batch in setup.batches:
            source = repeat(synthetic_batch(trainer, batch, setup))
            yield _step_row(setup, name, batch, lambda t=trainer, s=source: t.train_step(s))
        del trainer
    baseline = random_base(setup)
    lora = config.lora
    image = ImageLora(
        baseline.unet,
        baseline,
        Accelerator(mixed_precision=precision),
        rank=lora.rank,
        targets=lora.targets,
    )
    for batch in setup.batches:
        pixels = (
            torch.rand(batch, 3, setup.size, setup.size, device=setup.device, dtype=DTYPES[setup.precision]) * 2 - 1
        )
        tokens = torch.ones(batch, TOKENS, dtype=torch.long, device=setup.device)
        yield _step_row(setup, "image only", batch, lambda p=pixels, i=tokens: _autocast_step(image, p, i))
    if not setup.tiny:  # a compiler works for minutes on a CPU
        trainer = Trainer(config.model_copy(update={"compile": True}), base, Accelerator(mixed_precision=precision))
        source = repeat(synthetic_batch(trainer, setup.batches[1], setup))
        yield _step_row(setup, "joint, compiled", setup.batches[1], lambda: trainer.train_step(source))


def synthetic_batch(trainer: Trainer, batch: int, setup: Setup) -> Batch:
    """What a step reads from the cache, of random numbers: a step costs the same."""
    generator = torch.Generator().manual_seed(setup.seed)
    side, channels = setup.size // 8, trainer.base.vae.config.latent_channels
    has_mask = torch.ones(batch, dtype=torch.bool)
    noise = draw_noise(
        (batch, channels, side, side), trainer.codec.channels, has_mask, trainer.config.noise, 1000, generator
    )
    width = trainer.base.unet.config.cross_attention_dim
    return Batch(
        latents=torch.randn(batch, channels, side, side, generator=generator),
        codes=torch.randn(batch, trainer.codec.channels, side, side, generator=generator),
        has_mask=has_mask,
        text=torch.randn(batch, TOKENS, width, generator=generator),
        noise=noise,
        ids=[""] * batch,
        prompts=[""] * batch,
    )


def resuming(setup: Setup) -> Iterator[Row]:
    """Whether a run that was stopped and went on ends in the very file of one that was not."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    work = Path(setup.work)
    phantoms = TrainingSetup("micro", setup.work, 128, 4, 2, "attention", 4, 1, False, 1, setup.seed)
    write_data(phantoms)
    torch.use_deterministic_algorithms(True)
    hashes = []
    try:
        for name, stop in (("whole", None), ("stopped", 1 if setup.tiny else 10)):
            shutil.rmtree(work / name, ignore_errors=True)
            config = TrainConfig(
                data=phantoms.data,
                cache=work / "cache",
                out=work / name,
                base="micro",
                max_train_steps=2 if setup.tiny else 20,
                train_batch_size=2,
                validation_steps=100,
                views=1,
                dataloader_num_workers=0,
                seed=setup.seed,
            )
            if stop is not None:
                train(config, stop_after=stop)
            hashes.append(sha256_file(train(config) / "adapter" / WEIGHTS_FILE))
    finally:
        torch.use_deterministic_algorithms(False)
    yield {"kind": "resumed run's adapter, bit for bit that of a whole run", "equal": hashes[0] == hashes[1]}


def bundled(setup: Setup) -> Iterator[Row]:
    """The bundled model: an adapter's step on its base, and pairs from prompts to files; the last row counts."""
    base, batch = load_base("micro"), 2 if setup.tiny else 256
    config = TrainConfig(data=Path(setup.work), out=Path(setup.work) / "none", base="micro", mixed_precision="fp32")
    trainer = Trainer(config, base, Accelerator(mixed_precision="no"))
    source = repeat(synthetic_batch(trainer, batch, Setup(setup.device, True, setup.work, 0)))
    yield _step_row(setup, "bundled base, joint", batch, lambda: trainer.train_step(source))
    out = Path(setup.work) / "pairs"
    shutil.rmtree(out, ignore_errors=True)
    requests = requests_from_prompts([(prompt, {}) for prompt in PROMPTS], setup.pairs, setup.seed)
    options = GenerateOptions(PipelineFactory(steps=2 if setup.tiny else None), batch)
    start, seen = time.perf_counter(), [0]
    generate_dataset(options, lambda count: RequestList(requests, count), out, lambda done, total: seen.append(done))
    seconds = time.perf_counter() - start
    row = {"kind": "pairs end to end, start-up included", "pairs": max(seen), "seconds": seconds}
    yield row | {"per_second": max(seen) / seconds}


SECTIONS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "generation": generation,
    "training": training,
    "bundled": bundled,
    "resuming": resuming,
}


def _step_row(setup: Setup, name: str, batch: int, step: Callable[[], object]) -> Row:
    return {"kind": name, "batch": batch} | measured(setup, step, batch)


def _autocast_step(image: ImageLora, pixels: torch.Tensor, tokens: torch.Tensor) -> float:
    with image.accelerator.autocast():
        return image.step(pixels, tokens)


def _wait(setup: Setup) -> None:
    if setup.device == "cuda":
        torch.cuda.synchronize()
