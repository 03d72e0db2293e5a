"""Validation with the modules in memory: fixed pairs, fixed noise; per-term loss, image -> mask Dice, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from peft import PeftModel
from PIL import Image
from torch import Tensor

from skindualgen.codec import codec_record
from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.pairs import read_pairs
from skindualgen.files import atomic_write_bytes, png_bytes, png_info
from skindualgen.model.bases import Base
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.sheet import pair_sheet
from skindualgen.training.cache import EncodeOptions, PairCache, open_cache
from skindualgen.training.objective import draw_noise, joint_loss, read_mask, term_means
from skindualgen.training.progress import SAMPLES_DIR

MAX_PAIRS = 64
"""validation pairs that the loss is measured on"""
GRID_PAIRS = 8
VALIDATION_SEED = 20_250_719


class Validator:
    """Measures a model on the same pairs with the same noise each time; without validation pairs it only draws.

    Args:
        config: of the run.
        base: whose autoencoder and text encoder are used.
        records: pairs to measure on.
        options: of encoding the training pairs: size, codec and classes are the same here.
        cache_root: where encoded pairs are kept.
        autocast: context that the model runs in.
        report: called with how many pairs of how many are encoded.
    """

    def __init__(
        self,
        config: TrainConfig,
        base: Base,
        records: Sequence[PairRecord],
        options: EncodeOptions,
        cache_root: Path,
        autocast: Callable[[], AbstractContextManager[Any]],
        report: Callable[[int, int], None],
    ) -> None:
        self.config, self.base, self.autocast = config, base, autocast
        self.options = EncodeOptions(
            options.size,
            appearance_prompts=options.appearance_prompts,
            codec=options.codec,
            classes=options.classes,
        )
        self.prompts = ["a dermoscopic image of a nevus"] * GRID_PAIRS
        self.cache: PairCache | None = None
        if records:
            step = max(1, len(records) // MAX_PAIRS)
            chosen = records[::step][:MAX_PAIRS]
            self.cache = open_cache(cache_root, config.data, chosen, base, self.options, report=report)
            self.prompts = [self.cache.prompts[places[0]] for places in self.cache.prompt_places[:GRID_PAIRS]]

    @torch.no_grad()
    def run(self, model: PeftModel, step: int, *, write: bool = True) -> dict[str, float]:
        """Return ``val_loss``, ``val_<term>`` and ``val_dice_read``, and draw ``samples/step-XXXXXXX.png``.

        Args:
            model: with the weights to measure in place.
            step: that the picture is named by.
            write: the picture; not where this process only lends its shards to the one that does.
        """
        model.eval()
        # A compiled UNet would be captured anew for each of the shapes here, which takes longer than it saves.
        with self.autocast(), torch.compiler.set_stance("force_eager"):
            row = {} if self.cache is None else self._measure(model, self.cache)
            drawn = self._draw(model)
        if write:
            # the record is what a page takes the pairs apart by
            record = {"size": self.options.size, "prompts": self.prompts}
            self.path(step).parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(self.path(step), png_bytes(drawn, png_info(record)))
        model.train()
        return row

    def _measure(self, model: PeftModel, cache: PairCache) -> dict[str, float]:
        device, codec = self.base.vae.device, self.options.codec
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        alphas = self.base.scheduler.alphas_cumprod.to(device)
        latents, codes = (torch.from_numpy(array[:, 0].copy()).float() for array in (cache.latents, cache.codes))
        text = torch.from_numpy(cache.text[[places[0] for places in cache.prompt_places]]).float()
        noise = draw_noise(latents.shape, codes.shape[1], cache.has_mask, self.config.noise, len(alphas), generator)
        empty = torch.from_numpy(cache.text[:1].copy()).float().to(device)
        total, sums, dice = 0.0, dict[str, Tensor](), list[Tensor]()
        for part in torch.arange(len(cache)).split(self.config.train_batch_size):
            image, code, has_mask, states = (t[part].to(device) for t in (latents, codes, cache.has_mask, text))
            some = noise.map(itemgetter(part)).map(lambda t: t.to(device))
            loss, terms = joint_loss(
                model,
                image,
                code,
                has_mask,
                states,
                some,
                alphas_cumprod=alphas,
                prediction_type=self.base.prediction_type,
                settings=self.config.loss,
                codec=codec,
            )
            total += loss.item() * len(part) / len(cache)
            sums = {name: sums.get(name, 0) + value for name, value in terms.items()}
            if bool(has_mask.any()):
                read = read_mask(model, image, some.mask, empty.expand(len(part), -1, -1), alphas, codec)
                dice.append(_dice((read > 0).float(), (codec.decode(code) > 0).float())[has_mask])
        row = {"val_loss": total} | {f"val_{name}": value for name, value in term_means(sums).items()}
        return row | ({"val_dice_read": torch.cat(dice).mean().item()} if dice else {})

    def _draw(self, model: PeftModel) -> Image.Image:
        """A grid of generated pairs: fixed prompts, fixed seeds, the modules in memory."""
        base, sampling = self.base, self.config.sampling
        pipeline = SkinDualGenPipeline(
            base.vae,
            base.text_encoder,
            base.tokenizer,
            model.get_base_model(),
            DDIMScheduler.from_config(base.scheduler.config),
            **sampling.model_dump(),
            mask_codec=codec_record(self.options.codec),
            mask_classes=dict(self.options.classes),
        )
        pipeline.set_progress_bar_config(disable=True)
        device = base.vae.device
        generators = [torch.Generator(device).manual_seed(index) for index in range(len(self.prompts))]
        images, masks = pipeline(
            self.prompts, generator=generators, height=self.options.size, width=self.options.size, return_dict=False
        )
        return pair_sheet(images, masks, columns=GRID_PAIRS, show_masks=True)

    def path(self, step: int) -> Path:
        """Where the picture of a step is."""
        return self.config.out / SAMPLES_DIR / f"step-{step:07d}.png"


def _dice(read: Tensor, target: Tensor) -> Tensor:
    """Dice of each pair [b] of [b, k, h, w], over all classes; 1 where both are empty."""
    overlap = (read * target).sum(dim=(1, 2, 3))
    total = (read + target).sum(dim=(1, 2, 3))
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0)


def validation_records(config: TrainConfig) -> list[PairRecord]:
    """Records of the split "val", which may have none unless a choice hangs on it.

    Raises:
        InputError: the best validation is asked for, and there is nothing that ``best_by`` can be measured on.
    """
    try:
        records = read_pairs(config.data, "val")
    except InputError:
        records = []
    measurable = [record for record in records if config.best_by == "val_loss" or record.mask_file_name]
    if not measurable and (config.result == "best" or config.patience):
        raise InputError(
            f"result = {config.result!r}, patience = {config.patience} by {config.best_by} without validation pairs",
            "pairs (with masks, for val_dice_read) in the split 'val'",
            "prepare the data with --split, or leave result and patience out",
        )
    return records
