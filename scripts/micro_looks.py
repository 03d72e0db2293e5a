"""What the views of photographs look like, in words, for the captions of the micro base."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu
from torch import Tensor
from transformers import CLIPTokenizer

from micro_data import PACK_PX, read_pack, read_split
from micro_latents import WHOLE_VIEWS, caption, described, token_ids, views_of, whole_views
from skindualgen.contracts import PairRecord
from skindualgen.data.appearance import Appearance, appearance_of, placed

WORTH_PROCESSES = 100
"""photographs"""


def load_masks(data: Path, images: Tensor, split: str) -> Tensor:
    """Masks [n, h, w] uint8, 0 or 255, of the photographs of :func:`load_part`; guessed where there is none."""
    if data.is_file():
        files = [
            item["mask_file"] and io.BytesIO(item["mask_file"]) for item in read_pack(data) if item["split"] == split
        ]
    else:
        rows = read_split(split)
        files = [row["mask"] == "1" and data / row["folder"] / "masks" / f"{row['isic_id']}.png" for row in rows]
    masks = [
        255 * (np.asarray(Image.open(file).convert("L")) > 127) if file else 255 * guessed_mask(image.numpy())
        for file, image in zip(files, images, strict=True)
    ]
    return torch.from_numpy(np.stack(masks).astype(np.uint8))


def guessed_mask(image: np.ndarray) -> np.ndarray:
    """The middle region of [h, w, 3] that differs from the colour at the frame (Otsu); mean Dice .77 with real masks.

    Good enough for words about a lesion, which are all that it is for.
    """
    small = np.asarray(Image.fromarray(image).resize((PACK_PX, PACK_PX), Image.Resampling.BOX))
    lab, band = rgb2lab(small), PACK_PX // 20
    frame = np.concatenate([part.reshape(-1, 3) for part in (lab[:band], lab[-band:], lab[:, :band], lab[:, -band:])])
    skin = np.median(frame[frame[:, 0] >= np.median(frame[:, 0])], axis=0)
    distance = ndimage.gaussian_filter(np.linalg.norm(lab - skin, axis=-1), 2)
    rows, columns = np.mgrid[:PACK_PX, :PACK_PX] / (PACK_PX / 2) - 1
    radius = np.hypot(rows, columns)
    mask = ndimage.binary_opening((distance > threshold_otsu(distance[radius < 1])) & (radius < 1), iterations=2)
    regions, count = ndimage.label(mask)
    if count:
        middle = ndimage.sum(np.exp(-((1.5 * radius) ** 2)), regions, range(1, count + 1))
        mask = ndimage.binary_fill_holes(regions == np.argmax(middle) + 1)
    return np.asarray(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))


def appearances(views: Tensor) -> list[Appearance]:
    """Of [n, 4, size, size]: a photograph and its mask (0 or 255)."""
    return [appearance_of(v[:3].permute(1, 2, 0).numpy(), v[3].numpy() > 127) for v in views]


def view_appearances(images: Tensor, masks: Tensor, cache: Path) -> list[list[Appearance]]:
    """What the views of :func:`latent_views` look like, [views][photographs], from a file if there is one.

    Args:
        images: [n, h, w, 3] uint8.
        masks: [n, h, w] uint8, 0 or 255.
    """
    if cache.exists():
        return [[Appearance(*words) for words in view] for view in json.loads(cache.read_text())]
    every = list(views_of(torch.cat([images, masks[..., None]], dim=-1)))
    different = [every[0], *every[WHOLE_VIEWS:]]
    if len(images) < WORTH_PROCESSES:
        found = list(map(appearances, different))
    else:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            found = list(pool.map(appearances, different))
    turned = [
        [a._replace(place=placed(v[3].numpy() > 127)) for a, v in zip(found[0], vs, strict=True)]
        for vs in every[1:WHOLE_VIEWS]
    ]
    result = [found[0], *turned, *found[1:]]
    cache.write_text(json.dumps(result))
    return result


def looks_by_diagnosis(
    records: Sequence[PairRecord], looks: Sequence[Appearance]
) -> dict[str | None, list[Appearance]]:
    """Appearances of photographs by their diagnosis."""
    found: dict[str | None, list[Appearance]] = defaultdict(list)
    for record, look in zip(records, looks, strict=True):
        found[record.diagnosis].append(look)
    return dict(found)


def described_captions(
    data: Path, images: Tensor, records: Sequence[PairRecord], tokenizer: CLIPTokenizer, *, labelled: bool, split: str
) -> Tensor:
    """Token ids [n, 77] of captions that say all of what the photographs of a part look like."""
    masks, rng = load_masks(data, images, split), np.random.default_rng(0)
    seen = appearances(whole_views(torch.cat([images, masks[..., None]], dim=-1)))
    texts = [
        described(caption(record, rng, labelled=labelled), look, rng, full=True)
        for record, look in zip(records, seen, strict=True)
    ]
    return token_ids(tokenizer, texts)
