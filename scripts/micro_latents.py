"""Views of the photographs as latents, the captions that go with them, and batches of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer

from micro_data import device_views, random_view
from micro_device import save_state
from micro_nets import CROPPED, SIZE_PX
from skindualgen.contracts import PairRecord
from skindualgen.data.appearance import KEPT_SHARE, WHOLE_SHARE, Appearance
from skindualgen.data.prompts import MAX_CLIP_TOKENS, prompt_for
from skindualgen.model.autoencoder import PatchAutoencoder

WHOLE_VIEWS = 8
"""the whole photograph, in all flips and quarter turns"""
CROPPED_VIEWS, DEVICE_CROPPED_VIEWS = 8, 64
"""of a photograph; a GPU makes and holds many more, and is through with few of them within minutes"""
CROPPED_SHARE = 0.4
CROPPED_LEAST, CROPPED_MOST = 0.7, 0.95
"""side of a crop, as a share of the photograph's"""
ATTRIBUTE_SHARE = 0.5
"""chance of each attribute to be named, so that captions are not unique to a photograph"""
CAPTION_VARIANTS, DESCRIBED_VARIANTS = 24, 6
"""captions of a photograph; of a view of it, where they say what it looks like"""
CAPTION_DROPOUT = 0.12
RARE = 50
"""photographs of a diagnosis; one with fewer is not drawn more often for its own sake, or it would be memorised"""


def views_of(images: Tensor, seed: int = 0) -> Iterator[Tensor]:
    """:data:`WHOLE_VIEWS`, then :data:`CROPPED_VIEWS` views of [n, h, w, c] uint8, each [n, c, size, size] uint8."""
    generator = np.random.default_rng(seed)
    for index in range(WHOLE_VIEWS + CROPPED_VIEWS):
        views = []
        for image in images:
            if index < WHOLE_VIEWS:
                view = random_view(image, SIZE_PX, generator, 1.0, turn=index)
            else:
                side = int(generator.uniform(CROPPED_LEAST, CROPPED_MOST) * image.shape[0])
                top, left = generator.integers(image.shape[0] - side + 1, size=2)
                view = random_view(image[top : top + side, left : left + side], SIZE_PX, generator, 1.0)
            views.append(view)
        yield torch.stack(views)


@torch.no_grad()
def latent_views(autoencoder: PatchAutoencoder, images: Tensor, seed: int = 0) -> Tensor:
    """Latents of the views of :func:`views_of`, [views, n, c, h/8, w/8] in half precision."""
    result = []
    for views in views_of(images, seed):
        batches = (part.float() / 127.5 - 1 for part in views.split(256))
        result.append(torch.cat([autoencoder.encode(x).latent_dist.mode().half() for x in batches]))
    return torch.stack(result)


@torch.no_grad()
def device_latents(autoencoder: PatchAutoencoder, images: Tensor, cropped_views: int = DEVICE_CROPPED_VIEWS) -> Tensor:
    """What :func:`latent_views` gives, with more cropped views, in large operations on the device of both arguments."""

    def encode(views: Tensor) -> Tensor:
        return autoencoder.encode(views).latent_dist.mode().half()

    wholes = [
        F.interpolate(part.permute(0, 3, 1, 2).float(), SIZE_PX, mode="bilinear", antialias=True, align_corners=False)
        for part in images.split(512)
    ]
    whole = torch.cat(wholes) / 127.5 - 1
    sides = [(whole.flip(-1) if turn >= 4 else whole).rot90(turn % 4, (2, 3)) for turn in range(WHOLE_VIEWS)]
    generator, every = np.random.default_rng(0), torch.arange(len(images), device=images.device)
    result = [encode(view) for view in sides]
    for _ in range(cropped_views):
        order = every[torch.randperm(len(every), device=images.device)]
        views = device_views(images, len(every), SIZE_PX, generator, (CROPPED_LEAST, CROPPED_MOST), order)
        result.append(encode(views)[order.argsort()])
    return torch.stack(result)


def cached_latents(autoencoder: PatchAutoencoder, images: Tensor, cache: Path) -> Tensor:
    """What :func:`latent_views` gives, from a file if it holds the views by the same analysis."""
    analysis = autoencoder.analysis.weight.detach()
    if cache.exists():
        kept = torch.load(cache, weights_only=True)
        if kept["analysis"].shape == analysis.shape and torch.equal(kept["analysis"], analysis):
            return kept["latents"]
    latents = latent_views(autoencoder, images)
    save_state({"latents": latents, "analysis": analysis}, cache)
    return latents


@torch.no_grad()
def whole_latents(autoencoder: PatchAutoencoder, images: Tensor) -> Tensor:
    """Latents of whole photographs, upright, [n, c, h/8, w/8]."""
    pictures = F.interpolate(images.permute(0, 3, 1, 2).float() / 127.5 - 1, SIZE_PX, mode="area")
    return autoencoder.encode(pictures).latent_dist.mode()


def whole_views(images: Tensor) -> Tensor:
    """Whole photographs, upright: [n, h, w, c] uint8 -> [n, c, size, size] uint8."""
    return F.interpolate(images.permute(0, 3, 1, 2).float(), SIZE_PX, mode="area").round().to(torch.uint8)


def caption(record: PairRecord, rng: np.random.Generator, *, labelled: bool) -> str:
    """Some of what is known in words; without ``labelled`` never the diagnosis or whether it is malignant."""
    hidden = [name for name in ("age_approx", "sex", "anatom_site_general") if rng.random() >= ATTRIBUTE_SHARE]
    if not labelled:
        hidden += ["diagnosis", "benign_malignant"]
    return prompt_for(record.model_copy(update=dict.fromkeys(hidden)), seed=int(rng.integers(1 << 30)))


def described(text: str, appearance: Appearance, rng: np.random.Generator, *, full: bool = False) -> str:
    """A caption that says what the picture looks like as well: all of it, some, or (of one in eight) nothing."""
    kind = 1.0 if full else rng.random()
    if kind < 0.125:
        return text
    if kind < 1 - WHOLE_SHARE:
        hidden = [name for name in Appearance._fields if rng.random() >= KEPT_SHARE]
        appearance = appearance._replace(**dict.fromkeys(hidden, ""))
    return ", ".join(part for part in (text, appearance.phrase()) if part)


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [b, 77]."""
    return tokenizer(
        captions, padding="max_length", max_length=MAX_CLIP_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


class Batches:
    """Random batches of latents and token ids, on the device that trains.

    Args:
        latents: of :func:`latent_views`.
        records: of the photographs, in the order of ``latents``.
        labelled: whether captions name the diagnosis.
        balance: a class is drawn with its frequency to the power ``1 - balance``; all rare ones count as one class.
        appearances: of the views, [views][photographs]; captions then say them too.
    """

    def __init__(
        self,
        latents: Tensor,
        records: list[PairRecord],
        tokenizer: CLIPTokenizer,
        *,
        labelled: bool,
        balance: float,
        device: str,
        appearances: list[list[Appearance]] | None = None,
    ) -> None:
        rng = np.random.default_rng(0)
        self.variants = DESCRIBED_VARIANTS if appearances else CAPTION_VARIANTS
        texts = []
        for index in range(len(latents) if appearances else 2):
            said = CROPPED if index >= (WHOLE_VIEWS if appearances else 1) else ""
            for place, record in enumerate(records):
                for _ in range(self.variants):
                    text = said + caption(record, rng, labelled=labelled)
                    texts.append(described(text, appearances[index][place], rng) if appearances else text)
                texts.append(said)
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        ids = token_ids(tokenizer, list(places)).short()[torch.tensor([places[text] for text in texts])]
        self.ids = ids.view(-1, len(records), self.variants + 1, ids.shape[-1]).to(device)  # last variant: dropped
        self.by_view = appearances is not None
        self.latents = latents.to(device)
        names = [r.diagnosis for r in records]
        counts = {name: names.count(name) for name in names}
        rare = sum(count for count in counts.values() if count < RARE)
        weights = np.array([(rare if counts[name] < RARE else counts[name]) ** -balance for name in names])
        self.probability = weights / weights.sum()
        self.cumulative = torch.from_numpy(self.probability.cumsum()).to(device)

    def draw_on_device(self, count: int) -> tuple[Tensor, Tensor]:
        """The same as :meth:`draw`, by torch's generator of the device, which nobody has to wait for."""
        device = self.latents.device

        def below(limit: int) -> Tensor:
            return torch.randint(limit, (count,), device=device)

        def share(value: float) -> Tensor:
            return torch.rand(count, device=device) < value

        place = torch.rand(count, device=device, dtype=torch.float64)
        chosen = torch.searchsorted(self.cumulative, place).clamp(max=len(self.cumulative) - 1)
        cropped = share(CROPPED_SHARE)
        view = torch.where(cropped, WHOLE_VIEWS + below(len(self.latents) - WHOLE_VIEWS), below(WHOLE_VIEWS))
        variant = torch.where(share(CAPTION_DROPOUT), self.variants, below(self.variants))
        kind = view if self.by_view else cropped.long()
        return self.latents[view, chosen].float(), self.ids[kind, chosen, variant].long()

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Latents [b, c, h, w] float32 and token ids [b, 77]."""
        device = self.latents.device
        chosen = torch.from_numpy(rng.choice(len(self.probability), count, p=self.probability)).to(device)
        cropped = rng.random(count) < CROPPED_SHARE
        view = np.where(
            cropped, WHOLE_VIEWS + rng.integers(CROPPED_VIEWS, size=count), rng.integers(WHOLE_VIEWS, size=count)
        )
        variant = np.where(rng.random(count) < CAPTION_DROPOUT, self.variants, rng.integers(self.variants, size=count))
        kind, view_index, variant_index = (
            torch.from_numpy(part).to(device)
            for part in (view if self.by_view else cropped.astype(np.int64), view, variant)
        )
        return self.latents[view_index, chosen].float(), self.ids[kind, chosen, variant_index].long()
