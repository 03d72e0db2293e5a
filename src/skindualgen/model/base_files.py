"""Which files of a base are loaded. The same list decides what is downloaded, what must be there and what is hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from skindualgen.contracts import InputError

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""folders of a base, in the order of its hash"""
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
"""part -> stem of its weights, as diffusers and transformers name them"""
ENDINGS = (".safetensors", ".fp16.safetensors")
"""endings of weights in the order of preference; half precision only where a part has nothing else"""
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
"""suffixes of weights that can run code when they are loaded: never read"""
CONFIGS = {
    "unet": ("config.json",),
    "vae": ("config.json",),
    "text_encoder": ("config.json",),
    "tokenizer": (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    "scheduler": ("scheduler_config.json",),
}
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""A tokenizer needs one of these sets; without, transformers would build an empty vocabulary and not complain."""
REMEDY = "name a base (docs/bases.md) or give the path of a diffusers folder with safetensors"


def weights_file(part: str, names: Collection[str], where: str) -> str:
    """Choose the weights of ``part`` among ``names``, the POSIX paths of a base's files; plain before half precision.

    Args:
        part: a key of ``WEIGHTS``.
        names: what there is.
        where: what to call the base in an error.

    Raises:
        InputError: only pickles, only shards, or nothing.
    """
    if (
        f"{part}/{WEIGHTS[part]}.safetensors.index.json" in names
    ):  # diffusers would take the shards, even next to a whole
        raise InputError(
            f"{where} whose {part} is cut into shards",
            f"{part}/{WEIGHTS[part]}.safetensors in one file",
            "save it again with save_pretrained(..., max_shard_size='100GB')",
        )
    for ending in ENDINGS:
        if (name := f"{part}/{WEIGHTS[part]}{ending}") in names:
            return name
    there = [PurePosixPath(name) for name in names]
    pickles = sorted(path.name for path in there if path.parts[0] == part and path.suffix in PICKLES)
    raise InputError(
        f"{where} without safetensors for {part}" + (f", only pickles ({', '.join(pickles)})" if pickles else ""),
        f"{part}/{WEIGHTS[part]}.safetensors, as pickles can run code when they are loaded",
        REMEDY,
    )


def loaded_files(names: Collection[str], where: str) -> list[str]:
    """Choose what of a base is loaded among ``names``, the POSIX paths of its files: sorted within each part.

    Raises:
        InputError: a part, its configuration, its weights or its vocabulary is missing.
    """
    chosen: list[str] = []
    for part in PARTS:
        found = [f"{part}/{name}" for name in CONFIGS[part] if f"{part}/{name}" in names]
        if not found:
            raise InputError(f"{where} without {part}/{CONFIGS[part][0]}", f"the parts {', '.join(PARTS)}", REMEDY)
        if part in WEIGHTS:
            found.append(weights_file(part, names, where))
        if part == "tokenizer" and not any(
            all(f"{part}/{name}" in names for name in needed) for needed in VOCABULARIES
        ):
            raise InputError(f"{where} without a vocabulary", " or ".join(map(" + ".join, VOCABULARIES)), REMEDY)
        chosen += sorted(found)
    return chosen


def folder_files(folder: Path) -> list[str]:
    """POSIX paths of the files of a base's parts; a link counts only when what it points to is there."""
    return [f"{part}/{path.name}" for part in PARTS for path in (folder / part).glob("*") if path.is_file()]


def base_sha256(folder: Path) -> str:
    """One hash over names and bytes of every file that is loaded, whatever else lies next to them.

    Raises:
        InputError: a file that must be loaded is missing.
    """
    digest = hashlib.sha256()
    for name in loaded_files(folder_files(folder), f"base {folder}"):
        digest.update(f"{name}\0".encode())
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
