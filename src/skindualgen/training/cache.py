"""Latents, mask codes and text states of a training set: encoded once, kept on disk, read through memory maps.

A cache folder is named after a hash of everything that changes its content. So a stale one is never read, and several
runs share one. It is written under a temporary name and renamed when whole; every file's hash is checked on opening.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skindualgen.codec import CELL_PX, DEFAULT_CODEC, MaskCodec
from skindualgen.contracts import InputError, PairRecord, Report
from skindualgen.data.appearance import some_words, with_appearance
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses
from skindualgen.data.pairs import draw_view, load_views
from skindualgen.data.prompts import prompt_for
from skindualgen.data.reading import check_files
from skindualgen.files import atomic_write_json, found_no_room, sha256_file
from skindualgen.model.bases import Base

logger = logging.getLogger(__name__)

ENCODE_PX = 2**20
"""pixels that go through the autoencoder at once: four pictures of 512 px"""
TEXT_BATCH = 32
INDEX_FILE = "cache.json"
"""the last file to be written; names the others with their hashes"""
ARRAYS = ("latents", "codes", "text")
FORMAT = 2
"""of what is encoded; a cache of another format is made anew"""


def silent(done: int, total: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class EncodeOptions:
    """How pairs are encoded.

    Args:
        size: side in px.
        views: augmentations per pair; the first is the plain picture.
        min_zoom: smallest crop of an augmentation, as a share of the side.
        colour: strength of the colour augmentation, 0 to 1.
        prompt_variants: prompts per pair; the first is the pair's own.
        seed: of the augmentations.
        appearance_prompts: share of prompts that go on with words for what the pair looks like.
        codec: of the masks.
        classes: of the masks.
    """

    size: int
    views: int = 1
    min_zoom: float = 1.0
    colour: float = 0.0
    prompt_variants: int = 1
    seed: int = 0
    appearance_prompts: float = 0.0
    codec: MaskCodec = DEFAULT_CODEC
    classes: MaskClasses = field(default_factory=lambda: LESION_ONLY)

    def described(self) -> dict[str, Any]:
        """What of the options is part of a cache's key, as caches of version 0.1 have it for masks of one class."""
        names = ("size", "views", "min_zoom", "colour", "prompt_variants", "seed")
        described: dict[str, Any] = {"options": {name: getattr(self, name) for name in names}}
        described["codec"] = repr(self.codec)
        if self.appearance_prompts:
            described["options"]["appearance_prompts"] = self.appearance_prompts
        return described if len(self.classes) == 1 else described | {"classes": dict(self.classes)}


@dataclass
class PairCache:
    """Encoded pairs; arrays are memory maps, opened when first read in a process.

    Args:
        records: of n pairs.
        folder: of the arrays.
        prompt_places: for each pair the rows of ``text`` that hold its prompts; row 0 is the empty prompt.
        prompts: of the rows of ``text``.
    """

    records: list[PairRecord]
    folder: Path
    prompt_places: list[list[int]]
    prompts: list[str]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def latents(self) -> np.ndarray:
        """[n, views, c, h/8, w/8] float16, scaled as the UNet wants them."""
        return np.load(self.folder / "latents.npy", mmap_mode="r")

    @cached_property
    def codes(self) -> np.ndarray:
        """[n, views, m, h/8, w/8] float16; zeros where there is no mask."""
        return np.load(self.folder / "codes.npy", mmap_mode="r")

    @cached_property
    def text(self) -> np.ndarray:
        """[prompts, tokens, width] float16 text encoder states."""
        return np.load(self.folder / "text.npy", mmap_mode="r")

    @cached_property
    def has_mask(self) -> Tensor:
        """[n] bool."""
        return torch.tensor([record.mask_file_name is not None for record in self.records])

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process gets: it opens the arrays itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ARRAYS}


def open_cache(
    cache_root: Path,
    root: Path,
    records: Sequence[PairRecord],
    base: Base,
    options: EncodeOptions,
    *,
    report: Report = silent,
    workers: int = 0,
) -> PairCache:
    """Open the cache of these pairs, and encode them first where there is none, or a damaged one.

    Args:
        cache_root: folder of all caches.
        root: data set folder of the records.
        report: told how many pairs of how many are encoded.
        workers: processes that load pictures and encode masks; 0 does so in this one.

    Raises:
        InputError: a file of a pair is missing or cannot be used, or the disk is full.
    """
    check_files(root, records)
    key = cache_key(root, records, base, options)
    prompts, places = _prompt_table(records, options)
    folder = cache_root / key[:20]
    if folder.is_dir() and not _intact(folder, key):
        logger.warning("The cache %s is damaged and is made anew.", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        try:
            _write(folder, key, root, records, base, options, prompts, report, workers)
        except OSError as error:
            if not found_no_room(error):
                raise
            needed = _size_bytes(records, base, options, prompts) / 1e9
            raise InputError(
                f"a full disk at {cache_root}",
                f"{needed:.1f} GB for the encoded pairs",
                "free some, give --cache a folder on another disk, or lower views",
            ) from error
    return PairCache(list(records), folder, places, prompts)


def cache_key(root: Path, records: Sequence[PairRecord], base: Base, options: EncodeOptions) -> str:
    """SHA-256 over everything that changes what is encoded: base, options, codec, and each pair's files and prompts."""
    digest = hashlib.sha256()
    content = {"format": FORMAT, "base": base.sha256, **options.described()}
    digest.update(json.dumps(content, sort_keys=True).encode())
    for record in records:
        files = [record.file_name, *([record.mask_file_name] if record.mask_file_name else [])]
        hashes = [sha256_file(root / name) for name in files]
        digest.update(json.dumps([hashes, _prompts(record, options)]).encode())
    return digest.hexdigest()


def _intact(folder: Path, key: str) -> bool:
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        return index["key"] == key and all(
            sha256_file(folder / f"{name}.npy") == index["sha256"][name] for name in ARRAYS
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(
    folder: Path,
    key: str,
    root: Path,
    records: Sequence[PairRecord],
    base: Base,
    options: EncodeOptions,
    prompts: Sequence[str],
    report: Report,
    workers: int,
) -> None:
    temporary = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        shapes = _shapes(records, base, options, prompts)
        arrays = {name: _reserve(temporary / f"{name}.npy", shape) for name, shape in shapes.items()}
        _fill_text(arrays["text"], base, prompts)
        _fill_pairs(arrays["latents"], arrays["codes"], root, records, base, options, report, workers)
        for array in arrays.values():
            array.flush()
        hashes = {name: sha256_file(temporary / f"{name}.npy") for name in ARRAYS}
        atomic_write_json(temporary / INDEX_FILE, {"key": key, "sha256": hashes})
        if not folder.is_dir():  # another run may have been faster
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.float16]]:
    """A new array on disk that has its room: a memory map that meets a full disk later kills the process (SIGBUS)."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    return array


def _shapes(
    records: Sequence[PairRecord], base: Base, options: EncodeOptions, prompts: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    side = options.size // 2 ** (len(base.vae.config.block_out_channels) - 1)
    width = int(base.text_encoder.config.hidden_size)
    return {
        "latents": (len(records), options.views, int(base.vae.config.latent_channels), side, side),
        "codes": (len(records), options.views, options.codec.channels * len(options.classes), side, side),
        "text": (len(prompts), int(base.tokenizer.model_max_length), width),
    }


def _size_bytes(records: Sequence[PairRecord], base: Base, options: EncodeOptions, prompts: Sequence[str]) -> int:
    shapes = _shapes(records, base, options, prompts).values()
    return sum(int(np.prod(shape)) * np.dtype(np.float16).itemsize for shape in shapes)


def _fill_text(array: np.ndarray, base: Base, prompts: Sequence[str]) -> None:
    for start in range(0, len(prompts), TEXT_BATCH):
        part = prompts[start : start + TEXT_BATCH]
        array[start : start + len(part)] = base.embed(part).half().cpu().numpy()


class _Views(Dataset[tuple[list[tuple[int, int]], Tensor, Tensor]]):
    """Views of all pairs, ``at_once`` an item: (pair, view) of each, images [b, 3, h, w], codes [b, m, h/8, w/8]."""

    def __init__(self, root: Path, records: Sequence[PairRecord], options: EncodeOptions, at_once: int) -> None:
        self.root, self.records, self.options, self.at_once = root, records, options, at_once

    def __len__(self) -> int:
        return math.ceil(len(self.records) * self.options.views / self.at_once)

    def __getitem__(self, number: int) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
        o, last = self.options, len(self.records) * self.options.views
        first = number * self.at_once
        places = [divmod(place, o.views) for place in range(first, min(first + self.at_once, last))]
        loaded: list[tuple[Tensor, Tensor | None]] = []
        for i, of_pair in groupby(places, key=itemgetter(0)):  # a pair's files are read once for its views
            views = [draw_view(i, v, seed=o.seed, min_zoom=o.min_zoom, colour=o.colour) for _, v in of_pair]
            loaded += load_views(self.root, self.records[i], o.size, views, o.classes)
        nothing = torch.zeros(o.codec.channels * len(o.classes), o.size // CELL_PX, o.size // CELL_PX)
        codes = [nothing if mask is None else o.codec.encode(mask[None])[0] for _, mask in loaded]
        return places, torch.stack([image for image, _ in loaded]), torch.stack(codes).half()


@torch.no_grad()
def _fill_pairs(
    latents: np.ndarray,
    codes: np.ndarray,
    root: Path,
    records: Sequence[PairRecord],
    base: Base,
    options: EncodeOptions,
    report: Report,
    workers: int,
) -> None:
    views = _Views(root, records, options, max(1, ENCODE_PX // options.size**2))
    if options.codec.name != DEFAULT_CODEC.name:
        workers = 0  # a codec with a network stays in this process
    # A generator of its own: a loader draws from the global one, which other numbers hang on.
    loader = DataLoader(views, batch_size=None, num_workers=workers, generator=torch.Generator())
    for places, images, masks in loader:
        posterior = base.vae.encode(images.to(base.vae.device, base.vae.dtype)).latent_dist
        encoded = (posterior.mode() * base.vae.config.scaling_factor).half().cpu().numpy()
        for (i, v), latent, code in zip(places, encoded, masks.numpy(), strict=True):
            latents[i, v], codes[i, v] = latent, code
        report(places[-1][0] + (places[-1][1] == options.views - 1), len(records))


def _prompts(record: PairRecord, options: EncodeOptions) -> list[str]:
    own = record.prompt or prompt_for(record)
    prompts = [own, *(prompt_for(record, seed=seed) for seed in range(1, options.prompt_variants))]
    if not options.appearance_prompts or record.appearance is None:
        return prompts
    rng = np.random.default_rng(list(f"{options.seed}:{record.isic_id}".encode()))
    return [
        with_appearance(text, some_words(record.appearance, rng)) if rng.random() < options.appearance_prompts else text
        for text in prompts
    ]


def _prompt_table(records: Sequence[PairRecord], options: EncodeOptions) -> tuple[list[str], list[list[int]]]:
    """Every prompt once, the empty one first, and for each pair the places of its prompts."""
    places: dict[str, int] = {"": 0}
    of_pairs = [[places.setdefault(text, len(places)) for text in _prompts(record, options)] for record in records]
    return list(places), of_pairs
