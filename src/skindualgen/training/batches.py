"""Batches of a run: each is a function of (run seed, step, part) alone, whoever fetches it, and how many share it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skindualgen.config import TrainConfig
from skindualgen.contracts import PairRecord
from skindualgen.training.cache import PairCache
from skindualgen.training.objective import Noise, draw_noise


@dataclass(frozen=True)
class Batch:
    """What one pass sees.

    Args:
        latents: [b, c, h/8, w/8] float32.
        codes: [b, m, h/8, w/8] float32.
        has_mask: [b] bool.
        text: [b, tokens, width] float32.
        noise: of both halves, with their timesteps.
        ids: of the pairs.
        prompts: of the pairs; empty where dropped.
    """

    latents: Tensor
    codes: Tensor
    has_mask: Tensor
    text: Tensor
    noise: Noise
    ids: list[str]
    prompts: list[str]

    def to(self, device: torch.device) -> Batch:
        """Move every tensor."""
        move = lambda t: t.to(device, non_blocking=True)  # noqa: E731
        tensors = {name: move(getattr(self, name)) for name in ("latents", "codes", "has_mask", "text")}
        return replace(self, noise=self.noise.map(move), **tensors)


def seed_of(*place: int) -> int:
    """A seed for the random numbers at one place of the run; 63 bits, no two places alike in practice."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:8], "little") >> 1


def draw_probabilities(records: Sequence[PairRecord], balance: float) -> Tensor:
    """Probability [n] of drawing each pair: its class's count to the power -``balance``, normalised.

    0 draws pairs equally often, 1 draws classes equally often; pairs without a diagnosis are a class.
    """
    counts = Counter(record.diagnosis for record in records)
    weights = torch.tensor([counts[record.diagnosis] ** -balance for record in records], dtype=torch.float64)
    return weights / weights.sum()


class Batches(Dataset[Batch]):
    """All batches of a run; number ``step * accumulation + part`` is what one process sees in that part of that step.

    The draw is made for all processes together and then cut, so that two processes with batches of b see exactly what
    one with a batch of 2b would.

    Args:
        cache: of the training pairs.
        config: of the run.
        timesteps: of the base's scheduler.
        process, processes: which share of each draw this is.
    """

    def __init__(self, cache: PairCache, config: TrainConfig, timesteps: int, process: int = 0, processes: int = 1):
        self.cache, self.config, self.timesteps = cache, config, timesteps
        self.process, self.processes = process, processes
        self.probabilities = draw_probabilities(cache.records, config.balance)

    def __len__(self) -> int:
        return self.config.max_train_steps * self.config.gradient_accumulation_steps

    def __getitem__(self, number: int) -> Batch:
        config = self.config
        step, part = divmod(number, config.gradient_accumulation_steps)
        generator = torch.Generator().manual_seed(seed_of(config.seed, step, part))
        together = config.train_batch_size * self.processes
        index = torch.multinomial(self.probabilities, together, replacement=True, generator=generator)
        view = torch.randint(self.cache.latents.shape[1], (together,), generator=generator)
        variant = torch.rand(together, generator=generator)
        kept = torch.rand(together, generator=generator) >= config.caption_dropout
        has_mask = self.cache.has_mask[index]
        shape = (together, *self.cache.latents.shape[2:])
        noise = draw_noise(shape, self.cache.codes.shape[2], has_mask, config.noise, self.timesteps, generator)
        mine = slice(self.process * config.train_batch_size, (self.process + 1) * config.train_batch_size)
        pairs, views = index[mine].tolist(), view[mine].tolist()
        rows = []
        for i, share, keep in zip(pairs, variant[mine].tolist(), kept[mine].tolist(), strict=True):
            places = self.cache.prompt_places[i]
            rows.append(places[int(share * len(places))] if keep else 0)
        return Batch(
            latents=_rows(self.cache.latents, zip(pairs, views, strict=True)),
            codes=_rows(self.cache.codes, zip(pairs, views, strict=True)),
            has_mask=has_mask[mine],
            text=_rows(self.cache.text, ((row,) for row in rows)),
            noise=noise.map(lambda t: t[mine]),
            ids=[self.cache.records[i].isic_id for i in pairs],
            prompts=[self.cache.prompts[row] for row in rows],
        )

    def loader(self, first_step: int) -> DataLoader[Batch]:
        """Batches in order from a step on, fetched ahead by ``workers`` processes."""
        first = first_step * self.config.gradient_accumulation_steps
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, len(self)),
            num_workers=self.config.dataloader_num_workers,
            pin_memory=torch.cuda.is_available(),
        )


def _rows(array: np.ndarray, places: object) -> Tensor:
    return torch.from_numpy(np.stack([array[place] for place in places])).float()  # type: ignore[attr-defined]
