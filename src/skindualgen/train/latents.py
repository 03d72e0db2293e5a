"""Latents, mask codes and prompts of a training set, encoded once and held in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from skindualgen.codec import mask_to_code
from skindualgen.contracts import PairRecord
from skindualgen.data.pairs import draw_view, load_pair
from skindualgen.data.prompts import prompt_for
from skindualgen.model.bases import Base

ENCODE_BATCH = 16


@dataclass
class LatentCache:
    """Encoded pairs.

    Args:
        records: of n pairs.
        latents: [n, views, c, h/8, w/8] float16, scaled as the UNet wants them.
        codes: [n, views, 4, h/8, w/8] float16; zeros where there is no mask.
        has_mask: [n] bool.
        prompts: for each pair one or more.
    """

    records: list[PairRecord]
    latents: Tensor
    codes: Tensor
    has_mask: Tensor
    prompts: list[list[str]]

    def __len__(self) -> int:
        return len(self.records)


@torch.no_grad()
def encode_pairs(
    root: Path,
    records: Sequence[PairRecord],
    base: Base,
    *,
    size: int,
    views: int,
    min_zoom: float,
    prompt_variants: int,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> LatentCache:
    """Encode every pair in ``views`` augmentations; ``report`` is told how many pairs of how many are done."""
    latents, codes, has_mask = [], [], []
    for start in range(0, len(records), ENCODE_BATCH):
        part = list(enumerate(records))[start : start + ENCODE_BATCH]
        loaded = [
            load_pair(root, record, size, draw_view(index, view, seed=seed, min_zoom=min_zoom))
            for index, record in part
            for view in range(views)
        ]
        images = torch.stack([image for image, _ in loaded]).to(base.vae.device, base.vae.dtype)  # [n v, 3, h, w]
        encoded = base.vae.encode(images).latent_dist.mode() * base.vae.config.scaling_factor
        latents.append(encoded.half().cpu().unflatten(0, (len(part), views)))
        masks = [torch.zeros(1, size, size) if mask is None else mask for _, mask in loaded]
        encoded_masks = mask_to_code(torch.stack(masks)).unflatten(0, (len(part), views))
        known = torch.tensor([record.mask_file_name is not None for _, record in part])
        codes.append((encoded_masks * known[:, None, None, None, None]).half())
        has_mask.append(known)
        report(start + len(part), len(records))
    prompts = [_prompts(record, prompt_variants) for record in records]
    return LatentCache(list(records), torch.cat(latents), torch.cat(codes), torch.cat(has_mask), prompts)


def draw_probabilities(records: Sequence[PairRecord], balance: float) -> Tensor:
    """Probability [n] of drawing each pair: its class's count to the power -``balance``, normalised.

    0 draws pairs equally often, 1 draws classes equally often; pairs without a diagnosis are a class.
    """
    counts = Counter(record.diagnosis for record in records)
    weights = torch.tensor([counts[record.diagnosis] ** -balance for record in records], dtype=torch.float64)
    return weights / weights.sum()


def draw_batch(
    cache: LatentCache, probabilities: Tensor, batch_size: int, caption_dropout: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, list[str], list[str]]:
    """Draw pairs with replacement, an augmentation and a prompt for each.

    Returns:
        Latents [b, c, h/8, w/8] and codes [b, 4, h/8, w/8] in float32, has_mask [b], prompts and ids of the pairs.
    """
    index = torch.multinomial(probabilities, batch_size, replacement=True, generator=generator)
    view = torch.randint(cache.latents.shape[1], (batch_size,), generator=generator)
    variant = torch.rand(batch_size, generator=generator)
    kept = torch.rand(batch_size, generator=generator) >= caption_dropout
    prompts = []
    for i, share, keep in zip(index.tolist(), variant.tolist(), kept.tolist(), strict=True):
        prompts.append(cache.prompts[i][int(share * len(cache.prompts[i]))] if keep else "")
    ids = [cache.records[i].isic_id for i in index.tolist()]
    return cache.latents[index, view].float(), cache.codes[index, view].float(), cache.has_mask[index], prompts, ids


def _prompts(record: PairRecord, variants: int) -> list[str]:
    own = record.prompt or prompt_for(record)
    return [own, *(prompt_for(record, seed=seed) for seed in range(1, variants))]
