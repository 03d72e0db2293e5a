"""What is known of a base without loading it, from what is on this disk: the hub is not asked."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from skindualgen.data.prompts import clip_token_bound, tokens_of
from skindualgen.model.registry import hub_candidates

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def local_folder(base: str) -> Path | None:
    """Return the folder of a base; None if it is the hub's and not in its cache.

    Raises:
        InputError: no such base.
    """
    # These load torch and diffusers, and of a base with a name most of what is asked is in the registry.
    from skindualgen.model.bases import base_folder
    from skindualgen.model.hub import first_cached

    known, candidates = hub_candidates(base)
    if not candidates or (known is None and Path(base).is_dir()):
        return base_folder(base)
    snapshot = first_cached(candidates)
    return None if snapshot is None else snapshot.folder


def native_px(base: str) -> int | None:
    """Return the side of the pictures that a base was trained on; None if it is the hub's and nothing is known of it.

    Raises:
        InputError: no such base.
    """
    known, _ = hub_candidates(base)
    if known is not None:
        return known.native_px
    folder = local_folder(base)
    if folder is None:
        return None
    unet, vae = (json.loads((folder / part / "config.json").read_text(encoding="utf-8")) for part in ("unet", "vae"))
    return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)


def count_tokens(base: str, prompt: str) -> int:
    """Return the tokens of a prompt, start and end included; an upper estimate if the base is not on this disk.

    Raises:
        InputError: no such base.
    """
    tokenizer = _tokenizer(base)
    if tokenizer is None:
        return clip_token_bound(prompt)
    return tokens_of(tokenizer, prompt)


@cache
def _tokenizer(base: str) -> CLIPTokenizer | None:
    from transformers import CLIPTokenizer

    folder = local_folder(base)
    return None if folder is None else CLIPTokenizer.from_pretrained(folder / "tokenizer")
