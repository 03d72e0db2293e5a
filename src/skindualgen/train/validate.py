"""Validation with the modules in memory: fixed pairs, fixed noise; per-term loss, image -> mask Dice, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import DDIMScheduler
from peft import PeftModel
from PIL import Image
from torch import Tensor

from skindualgen.codec import code_to_mask
from skindualgen.config import TrainConfig
from skindualgen.contracts import PairRecord
from skindualgen.model.bases import Base
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.sheet import pair_sheet
from skindualgen.train.latents import LatentCache, encode_pairs
from skindualgen.train.objective import draw_noise, joint_loss, read_mask

MAX_PAIRS = 64
"""validation pairs that the loss is measured on"""
GRID_PAIRS = 8
VALIDATION_SEED = 20_250_719


class Validator:
    """Measures a model on the same pairs with the same noise each time; without validation pairs it only draws."""

    def __init__(
        self,
        config: TrainConfig,
        base: Base,
        records: Sequence[PairRecord],
        size: int,
        report: Callable[[int, int], None],
    ) -> None:
        self.config, self.base, self.size = config, base, size
        self.prompts = ["a dermoscopic image of a nevus"] * GRID_PAIRS
        self.cache: LatentCache | None = None
        if records:
            step = max(1, len(records) // MAX_PAIRS)
            self.cache = encode_pairs(
                config.data, records[::step][:MAX_PAIRS], base, size=size, views=1, min_zoom=1.0,
                prompt_variants=1, seed=0, report=report,
            )  # fmt: skip
            self.prompts = [prompts[0] for prompts in self.cache.prompts[:GRID_PAIRS]]

    @torch.no_grad()
    def run(self, model: PeftModel, step: int) -> dict[str, float]:
        """Return ``val_loss``, ``val_<term>`` and ``val_dice_read`` and write ``samples/step-XXXXXXX.png``."""
        model.eval()
        row = {} if self.cache is None else self._measure(model, self.cache)
        self._draw(model).save(self._path(step))
        model.train()
        return row

    def _measure(self, model: PeftModel, cache: LatentCache) -> dict[str, float]:
        device = self.base.vae.device
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        alphas = self.base.scheduler.alphas_cumprod.to(device)
        latents, codes = cache.latents[:, 0].float().to(device), cache.codes[:, 0].float().to(device)
        has_mask = cache.has_mask.to(device)
        text = self.base.embed([prompts[0] for prompts in cache.prompts])
        noise = draw_noise(latents.cpu(), cache.has_mask, self.config.noise, len(alphas), generator)
        noise = type(noise)(*(t.to(device) for t in (noise.image, noise.mask, noise.t_image, noise.t_mask)))
        loss, terms = joint_loss(
            model, latents, codes, has_mask, text, noise,
            alphas_cumprod=alphas, prediction_type=self.base.prediction_type, settings=self.config.loss,
        )  # fmt: skip
        row = {"val_loss": loss.item()} | {f"val_{name}": value.item() for name, value in terms.items()}
        if bool(has_mask.any()):
            empty = self.base.embed([""]).expand(len(latents), -1, -1)
            read = (read_mask(model, latents, noise.mask, empty, alphas) > 0).float()
            row["val_dice_read"] = _mean_dice(read[has_mask], code_to_mask(codes)[has_mask])
        return row

    def _draw(self, model: PeftModel) -> Image.Image:
        """A grid of generated pairs: fixed prompts, fixed seeds, the modules in memory."""
        base, sampling = self.base, self.config.sampling
        pipeline = SkinDualGenPipeline(
            base.vae, base.text_encoder, base.tokenizer, model.get_base_model(),
            DDIMScheduler.from_config(base.scheduler.config), **sampling.model_dump(),
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        device = base.vae.device
        generators = [torch.Generator(device).manual_seed(index) for index in range(len(self.prompts))]
        images, masks = pipeline(
            self.prompts, generator=generators, height=self.size, width=self.size, return_dict=False
        )
        return pair_sheet(images, masks, columns=GRID_PAIRS)

    def _path(self, step: int) -> str:
        folder = self.config.out / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"step-{step:07d}.png")


def _mean_dice(read: Tensor, target: Tensor) -> float:
    overlap = (read * target).sum(dim=(1, 2, 3))
    total = (read + target).sum(dim=(1, 2, 3))
    return float((2 * overlap / total.clamp(min=1)).mean())
