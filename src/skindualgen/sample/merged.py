"""An adapter merged into its base: one diffusers folder that ``SkinDualGenPipeline.from_pretrained`` loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from skindualgen.files import atomic_write_json
from skindualgen.folders import new_folder
from skindualgen.model.adapter import adapter_folder
from skindualgen.model.card import CardText
from skindualgen.model.export import Exported, public_header, write_papers
from skindualgen.sample.pipeline import SkinDualGenPipeline

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
PATH_FIELDS = ("_name_or_path", "name_or_path")
"""fields in which the libraries record where a part was loaded from, which is a path of this machine"""
TEXT = CardText(
    title="SkinDualGen, merged",
    what="A text-to-image model that draws, fills and reads dermoscopic image-mask pairs: base and adapter in one.",
    load="""\
```python
from skindualgen import SkinDualGenPipeline

pipe = SkinDualGenPipeline.from_pretrained("FOLDER")
```

`dtype=` loads in half precision. The UNet has input and output channels for the mask that the base has not, so a
plain `StableDiffusionPipeline` cannot use it.""",
    changes="low-rank updates, trained on image-mask pairs, are merged into the UNet; its first and last layer are\n"
    "  widened for the mask, and it has a new timestep embedding; the other parts are those of the base",
    is_adapter=False,
)


def export_merged(
    adapter: str | Path,
    out: Path,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    allow_base_mismatch: bool = False,
) -> Exported:
    """Write base and adapter as one folder that needs neither of them, nor an adapter step.

    Args:
        adapter: "builtin", a run folder, or an adapter folder.
        out: new folder.
        base: the base's path; as recorded in the adapter if not given.
        dtype: of the files. It is merged in float32.
        allow_base_mismatch: merge into another base than the adapter's own, with a warning.

    Raises:
        InputError: no adapter, another base, or ``out`` holds something.
    """
    folder = adapter_folder(adapter)
    header = public_header(folder) | {"format": "merged"}
    with new_folder(out) as temporary:
        pipeline = SkinDualGenPipeline.from_adapter(adapter, base, allow_base_mismatch=allow_base_mismatch)
        pipeline.to(dtype=dtype).save_pretrained(temporary)
        for path in sorted(temporary.rglob("*.json")):
            _drop_paths(path)
        write_papers(temporary, folder, header, TEXT)
        with safe_open(temporary / UNET_FILE, framework="pt") as file:
            tensors = len(file.keys())
    return Exported(UNET_FILE, tensors, header["license"])


def _drop_paths(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if any(name in config for name in PATH_FIELDS):
        atomic_write_json(path, {name: value for name, value in config.items() if name not in PATH_FIELDS})
