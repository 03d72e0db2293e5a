"""An adapter as a model package of medigan: what its executor imports and calls, and the metadata that it reads.

Source: https://medigan.readthedocs.io/en/latest/adding_models.html; medigan 1.0, ``ModelExecutor``, ``ConfigManager``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skindualgen._version import __version__
from skindualgen.contracts import InputError
from skindualgen.files import atomic_path, atomic_write_json, atomic_write_text, sha256_bytes
from skindualgen.folders import new_folder
from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.model.export import Exported, put_adapter
from skindualgen.sample.pipeline import SkinDualGenPipeline

MODEL_ID = "00000_DIFFUSION_DERM"
"""Until medigan gives it a number."""
PROMPT = "a dermoscopic image of a melanoma"
BATCH_SIZE = 8
BATCH_PREFIX = "batch_"
"""Of the folders for which medigan calls `generate` in turn, with the same arguments."""
INIT = '''"""A SkinDualGen adapter as a model of medigan."""

from skindualgen.sample.medigan import generate

__all__ = ["generate"]
'''


def export_medigan(folder: Path, out: Path) -> Exported:
    """Write an adapter as the package that medigan imports: ``__init__.py``, ``metadata.json``, weights, card, ids.

    Args:
        folder: adapter folder.
        out: new folder; its name is the package's.

    Raises:
        InputError: no adapter, ``out`` holds something, or its name is no name of a Python package.
    """
    name = out.resolve().name
    if not name.isidentifier():
        raise InputError(f"the folder {name!r}", "a name that Python can import", "use letters, digits and _")
    with new_folder(out) as temporary:
        done = put_adapter(temporary, folder)
        atomic_write_text(temporary / "__init__.py", INIT)
        atomic_write_json(temporary / "metadata.json", {MODEL_ID: _metadata(name, done.license)})
    return done


def generate(
    model_file: str,
    num_samples: int,
    output_path: str,
    save_images: bool = True,
    *,
    prompt: str = PROMPT,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    base: str | None = None,
    device: str = "cpu",
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] | None:
    """Draw pairs, as medigan's ``ModelExecutor.generate`` calls it.

    Args:
        model_file: the weights inside the package.
        num_samples: how many pairs; may be 0.
        output_path: folder, which must exist, for ``<number>_image.png`` and ``<number>_mask.png``.
        save_images: write files, or return arrays.
        prompt, num_inference_steps, guidance_scale: see `SkinDualGenPipeline`.
        seed: of the run. Each pair's own comes from it, its number, and medigan's batch.
        base: name or path of the base; as recorded in the adapter if not given.
        device: where to compute.

    Returns:
        Pairs of image [h, w, 3] and mask [h, w] of 0 and 255, both uint8; None where files were written.
    """
    pipeline = _pipeline(Path(model_file).parent, base).to(device)
    folder = Path(output_path)
    batch = folder.name if folder.name.startswith(BATCH_PREFIX) else ""
    pairs = []
    for start in range(0, num_samples, BATCH_SIZE):
        numbers = range(start, min(start + BATCH_SIZE, num_samples))
        seeds = [int(sha256_bytes(f"{seed} {batch} {number}".encode())[:15], 16) for number in numbers]
        drawn = pipeline(
            [prompt] * len(numbers),
            generator=[torch.Generator().manual_seed(own) for own in seeds],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
        for number, *pair in zip(numbers, drawn.images, drawn.masks, strict=True):
            if not save_images:
                image, mask = map(np.asarray, pair)
                pairs.append((image, mask))
                continue
            for kind, picture in zip(("image", "mask"), pair, strict=True):
                with atomic_path(folder / f"{number}_{kind}.png", durable=False) as temporary:
                    picture.save(temporary, format="PNG")
    return None if save_images else pairs


@lru_cache(maxsize=1)
def _pipeline(adapter: Path, base: str | None) -> SkinDualGenPipeline:
    pipeline = SkinDualGenPipeline.from_adapter(adapter, base)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _metadata(name: str, licence: str) -> dict[str, Any]:
    custom = {"prompt": PROMPT, "seed": 0, "num_inference_steps": None, "guidance_scale": None}
    weights = Path(WEIGHTS_FILE)
    return {
        "execution": {
            "package_name": name,
            "package_link": name,  # medigan fills in the place; a release gives the address of the zipped package
            "model_name": weights.stem,
            "extension": weights.suffix,
            "image_size": [],
            "dependencies": [f"skindualgen>={__version__}"],
            "generate_method": {
                "name": "generate",
                "args": {
                    "base": ["model_file", "num_samples", "output_path", "save_images"],
                    "custom": {**custom, "base": None, "device": "cpu"},
                },
            },
        },
        "selection": {
            "performance": {},
            "tags": ["dermoscopy", "skin lesion", "melanoma", "diffusion", "mask", "segmentation", "LoRA"],
        },
        "description": {
            "title": "SkinDualGen: dermoscopic photographs and lesion masks from text",
            "license": licence,
            "modality": ["dermoscopy"],
            "generates": ["images", "masks"],
            "comment": "Research, not a medical device. README.md in the package is the model card.",
        },
    }
