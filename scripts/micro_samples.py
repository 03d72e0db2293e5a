"""How near the samples of a base in training are to the val photographs: distances, recall, coverage, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer

from micro_device import autocast
from micro_latents import caption, described, token_ids, whole_views
from micro_nets import SIZE_PX
from skindualgen.contracts import PairRecord
from skindualgen.data.appearance import Appearance
from skindualgen.judges.features import ImageNetFeatures
from skindualgen.metrics.fidelity import frechet_distance, kernel_distance, manifold_scores
from skindualgen.model.autoencoder import PatchAutoencoder

if TYPE_CHECKING:
    from micro_model import Base

STEPS = 20
BATCH = 39
SHEET_COLUMNS, SHEET_ROWS = 10, 6


def denoise(
    unet: nn.Module,
    config: Mapping[str, Any],
    z: Tensor,
    text: Tensor,
    *,
    guidance: float = 1.0,
    guide: nn.Module | None = None,
    guide_text: Tensor | None = None,
    steps: int = STEPS,
) -> Tensor:
    """Latents that a UNet makes from noise by DPM-Solver++.

    Args:
        unet: predicts velocity.
        config: of its scheduler.
        z: noise [b, c, h, w], on the device that computes.
        text: states of the prompts [b, 77, width].
        guidance: w in weak + w (strong - weak); 1 is without.
        guide: weaker UNet; this one if not given.
        guide_text: states that the weak prediction is made from.
        steps: of the schedule.
    """
    scheduler = DPMSolverMultistepScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        at = t.expand(len(z)).to(z.device)
        with autocast(z.device.type):
            v = unet(z, at, text).sample.float()
            if guidance != 1:
                weak = (guide or unet)(z, at, guide_text).sample.float()
                v = weak + guidance * (v - weak)
        z = scheduler.step(v, t, z).prev_sample
    return z


def to_pictures(made: Tensor) -> np.ndarray:
    """[n, 3, s, s] in [-1, 1] as [n, s, s, 3] uint8."""
    return ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def save_sheet(pictures: np.ndarray, file: Path, columns: int = SHEET_COLUMNS) -> None:
    """Write pictures [n, s, s, 3] uint8 as one, in full rows."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures) - columns + 1, columns)] or [pictures]
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(file, quality=90)


class Measure:
    """Draws one picture for the caption of each val photograph, without guidance, and compares them.

    Args:
        looks: appearances of train photographs by diagnosis; each caption goes on with one of its diagnosis.
    """

    def __init__(
        self,
        images: Tensor,
        records: list[PairRecord],
        tokenizer: CLIPTokenizer,
        *,
        labelled: bool,
        device: str = "cpu",
        looks: Mapping[str | None, list[Appearance]] | None = None,
    ) -> None:
        self.device = device
        self.pictures = whole_views(images).permute(0, 2, 3, 1).cpu().numpy()
        rng = np.random.default_rng(0)
        captions = [caption(r, rng, labelled=labelled) for r in records]
        if looks:
            every = [look for some in looks.values() for look in some]
            drawn = [(some := looks.get(r.diagnosis, every))[rng.integers(len(some))] for r in records]
            captions = [described(text, look, rng, full=True) for text, look in zip(captions, drawn, strict=True)]
        self.ids = token_ids(tokenizer, captions)

    @cached_property
    def judge(self) -> ImageNetFeatures:
        """What pictures are compared by; made when it is first asked for."""
        return ImageNetFeatures(device=self.device)

    @cached_property
    def real(self) -> np.ndarray:
        """Features of the val photographs."""
        return self.judge(self.pictures)

    @torch.no_grad()
    def draw(self, base: Base, nets: nn.ModuleDict, decoder: PatchAutoencoder) -> np.ndarray:
        """Pictures [n, s, s, 3] uint8 for the captions, seed 0."""
        noise = torch.Generator().manual_seed(0)
        pictures = []
        for ids in self.ids.split(BATCH):
            shape = (len(ids), nets["unet"].config.in_channels, SIZE_PX // 8, SIZE_PX // 8)
            z = torch.randn(shape, generator=noise).to(base.device)
            text = nets["text_encoder"](ids.to(base.device)).last_hidden_state
            pictures.append(to_pictures(decoder.decode(denoise(nets["unet"], base.scheduler.config, z, text)).sample))
        return np.concatenate(pictures)

    def __call__(self, base: Base, nets: nn.ModuleDict, decoder: PatchAutoencoder, sheet: Path) -> dict[str, float]:
        """Kernel and Frechet distance, precision, recall and coverage; writes a contact sheet."""
        pictures = self.draw(base, nets, decoder)
        save_sheet(pictures[: SHEET_COLUMNS * SHEET_ROWS], sheet)
        return self.scores(pictures)

    def scores(self, pictures: np.ndarray) -> dict[str, float]:
        """Of pictures [n, s, s, 3] uint8, one for each caption, against the val photographs."""
        return scores_of(self.real, self.judge(pictures))


def scores_of(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Kernel and Frechet distance, precision, recall and coverage of features [m, d] against [n, d]."""
    scores = manifold_scores(real=real, generated=made)
    return {
        "kid": float(kernel_distance(real=real, generated=made)),
        "frechet": float(frechet_distance(real=real, generated=made)),
        "precision": float(scores.precision),
        "recall": float(scores.recall),
        "coverage": float(scores.coverage),
    }
