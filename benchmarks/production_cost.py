"""What a million pairs would cost on a data centre's GPUs: on paper, from counted operations and assumptions.

    python benchmarks/production_cost.py [--pairs 1000000] [--size 512] [--steps 20]

Operations are counted by torch on the real architecture without weights. Everything that was not counted is an
assumption and is called that. Nothing of this was run on a GPU. Writes docs/results/production_cost.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from measured import table
from sd2_folder import SD2_BASE, TOKENS
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from skindualgen.files import atomic_write_text
from skindualgen.model.joint_unet import widen_unet

TERA = 1e12
HOUR_SECONDS = 3600
PIXELS_PER_LATENT = 8
VOCABULARY = 49_408
"""of CLIP; a look-up counts no operations"""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: class of it.
        peak_tflops: 16-bit matrix operations without sparsity, 1e12 a second. Source: NVIDIA's data sheets.
        price_low, price_high: US dollars an hour of one GPU; an assumption, between the cheapest and dear offers.
    """

    name: str
    peak_tflops: float
    price_low: float
    price_high: float


@dataclass(frozen=True)
class Assumptions:
    """What is assumed.

    Attributes:
        pairs: that are wanted.
        size: side in px.
        steps: denoising steps; with guidance, each is two passes.
        utilisation: shares of the peak that are reached, from poor to good.
        acceptance: share of the draws that a gate lets pass.
        overhead: of end-to-end production over drawing.
        pair_megabytes: of a photograph as PNG and its mask.
    """

    pairs: int = 1_000_000
    size: int = 512
    steps: int = 20
    utilisation: tuple[float, float] = (0.15, 0.40)
    acceptance: float = 0.8
    overhead: float = 1.15
    pair_megabytes: float = 0.45


@dataclass(frozen=True)
class Operations:
    """Floating point operations of one row: UNet pass, autoencoder decoding, text encoding."""

    unet: float
    decoder: float
    text: float

    def pair(self, steps: int) -> float:
        """Operations of a pair with guidance: two UNet passes a step, two texts, one decoding."""
        return 2 * steps * self.unet + 2 * self.text + self.decoder


@dataclass(frozen=True)
class Cost:
    """What an order takes on one kind of GPU; each as (with good, with poor utilisation)."""

    seconds_a_pair: tuple[float, float]
    gpu_hours: tuple[float, float]
    dollars: tuple[float, float]


GPUS = (Gpu("A100 (SXM, 80 GB)", 312, 1.0, 4.0), Gpu("H100 (SXM)", 989, 2.0, 7.0))


def count_operations(size: int) -> Operations:
    """Count the operations of Stable Diffusion 2.0's joint UNet, decoder and text encoder, without computing them.

    Args:
        size: side in px, a multiple of 8.
    """
    side = size // PIXELS_PER_LATENT
    text_config = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **SD2_BASE.text_encoder)
    with torch.device("meta"), torch.no_grad():
        unet = widen_unet(UNet2DConditionModel(**SD2_BASE.unet), share=True)
        vae, text = AutoencoderKL(**SD2_BASE.vae), CLIPTextModel(text_config)
        latents = torch.zeros(1, unet.config.in_channels, side, side)
        states = torch.zeros(1, TOKENS, SD2_BASE.unet["cross_attention_dim"])
        step, tokens = torch.zeros(1, dtype=torch.long), torch.zeros(1, TOKENS, dtype=torch.long)
        return Operations(
            unet=_counted(lambda: unet(latents, step, states, class_labels=step)),
            decoder=_counted(lambda: vae.decode(latents[:, : vae.config.latent_channels])),
            text=_counted(lambda: text(tokens)),
        )


def cost(work: Assumptions, gpu: Gpu, operations: Operations) -> Cost:
    """What an order takes: operations over those that a GPU reaches, times draws per accepted pair, times overhead."""
    of_pair = operations.pair(work.steps) / TERA
    poor, good = (of_pair / (gpu.peak_tflops * share) for share in work.utilisation)
    draws = work.pairs / work.acceptance * work.overhead
    hours = draws * good / HOUR_SECONDS, draws * poor / HOUR_SECONDS
    return Cost((good, poor), hours, (hours[0] * gpu.price_low, hours[1] * gpu.price_high))


def report(work: Assumptions, operations: Operations, gpus: Sequence[Gpu] = GPUS) -> list[str]:
    """The calculation as lines of Markdown."""
    poor, good = work.utilisation
    counted = [
        ["UNet pass, one row, with the mask's channels", f"{operations.unet / TERA:.3f}", f"{2 * work.steps}"],
        ["text encoder, one prompt", f"{operations.text / TERA:.3f}", "2"],
        ["autoencoder, decoding", f"{operations.decoder / TERA:.3f}", "1"],
        ["**a pair**", f"**{operations.pair(work.steps) / TERA:.1f}**", ""],
    ]
    rows = []
    for gpu in gpus:
        found = cost(work, gpu, operations)
        rows.append(
            [
                gpu.name,
                f"{gpu.peak_tflops:g}",
                _range(found.seconds_a_pair, 2),
                _range(found.gpu_hours, 0),
                f"{gpu.price_low:g} to {gpu.price_high:g}",
                _range(found.dollars, 0),
            ]
        )
    return [
        f"Operations of a pair at {work.size} px, {work.steps} steps with guidance, counted on the architecture of "
        "Stable Diffusion 2.0 (`torch.utils.flop_counter`; a multiplication and an addition are two):",
        "",
        *table(["part", "1e12 operations", "times"], counted),
        "",
        "Assumed:",
        "",
        f"* {poor:.0%} to {good:.0%} of the peak is reached with batches that fill the GPU. Measure your own on 100 "
        "pairs before you order;",
        "* weights are in 16 bits (`skindualgen generate --precision fp16`); float32, its default, "
        "takes several times as long;",
        f"* a gate lets {work.acceptance:.0%} of the draws pass;",
        f"* production takes {work.overhead:g} times the drawing (what benchmarks/generation.py aims at);",
        "* prices of a GPU for an hour lie in the range of the table, from spot to on-demand; they change monthly;",
        f"* a pair takes {work.pair_megabytes:g} MB, so {work.pairs:,} pairs take "
        f"{work.pairs * work.pair_megabytes / 1e6:.2f} TB. Storage and transfer are not in the price.",
        "",
        *table(
            ["GPU", "peak, 1e12 / s", "seconds a draw", f"GPU hours for {work.pairs:,} pairs", "USD an hour", "USD"],
            rows,
        ),
        "",
        "The first number of each range takes the good utilisation, and of money the low price as well; the second the "
        "poor one, and the high price. GPU hours do not depend on the number of GPUs: pairs are drawn independently.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, count, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=Assumptions.pairs)
    parser.add_argument("--size", type=int, default=Assumptions.size, help="side in px, a multiple of 8")
    parser.add_argument("--steps", type=int, default=Assumptions.steps)
    parser.add_argument("--out", type=Path, default=Path("docs/results/production_cost.md"))
    options = parser.parse_args(arguments)
    work = Assumptions(pairs=options.pairs, size=options.size, steps=options.steps)
    lines = [
        f"# Cost of {work.pairs:,} pairs, on paper",
        "",
        f"`python benchmarks/production_cost.py --pairs {work.pairs} --size {work.size} --steps {work.steps}` writes "
        "this page. Nothing of it was run on a GPU.",
        "",
        *report(work, count_operations(work.size)),
    ]
    atomic_write_text(options.out, "\n".join(lines) + "\n")


def _counted(run: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return float(counter.get_total_flops())


def _range(values: tuple[float, float], digits: int) -> str:
    return f"{values[0]:,.{digits}f} to {values[1]:,.{digits}f}"


if __name__ == "__main__":
    main()
