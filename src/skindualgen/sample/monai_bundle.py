"""An adapter's direction photograph -> mask as a MONAI bundle: configurations, and base and adapter merged.

``models/`` holds a folder of diffusers in place of the one ``model.pt``, as the network is several parts.

Source: https://docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from skindualgen.files import atomic_write_json
from skindualgen.folders import new_folder
from skindualgen.model.adapter import CARD_FILE, adapter_folder
from skindualgen.model.export import Exported, public_header
from skindualgen.sample.merged import export_merged

MONAI_VERSION, IGNITE_VERSION = "1.4.0", "0.5.0"
"""The oldest that the bundle runs with."""
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
PICTURE = {"type": "image", "spatial_shape": ["*", "*"], "dtype": "float32", "is_patch_data": False}


def export_monai(
    adapter: str | Path,
    out: Path,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    allow_base_mismatch: bool = False,
) -> Exported:
    """Write a bundle that ``monai.bundle.run`` takes where this package is installed too.

    Args, raises: as `skindualgen.sample.merged.export_merged`.
    """
    header = public_header(adapter_folder(adapter))
    with new_folder(out) as folder:
        done = export_merged(
            adapter, folder / "models", base=base, dtype=dtype, allow_base_mismatch=allow_base_mismatch
        )
        (folder / "docs").mkdir()
        (folder / "models" / CARD_FILE).rename(folder / "docs" / CARD_FILE)
        (folder / "configs").mkdir()
        atomic_write_json(folder / "configs" / "metadata.json", _metadata(header))
        atomic_write_json(folder / "configs" / "inference.json", _inference())
    return Exported(f"models/{done.weights}", done.tensors, done.license)


def _metadata(header: dict[str, Any]) -> dict[str, Any]:
    colours = {"0": "red", "1": "green", "2": "blue"}
    image = {**PICTURE, "format": "RGB", "modality": "dermoscopy", "num_channels": 3, "value_range": [0, 1]}
    mask = {**PICTURE, "format": "segmentation", "num_channels": 1, "value_range": [0, 1]}
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from the adapter {header['adapter_sha256'][:12]}"},
        "monai_version": MONAI_VERSION,
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "skindualgen": version("skindualgen"),
            "pytorch-ignite": IGNITE_VERSION,
            "pillow": version("pillow"),
        },
        "supported_apps": {},
        "name": "SkinDualGen lesion segmentation",
        "task": "Segmentation of skin lesions in dermoscopic photographs",
        "description": "A text-to-image diffusion model with LoRA that reads the lesion mask of a photograph.",
        "authors": "see docs/README.md",
        "copyright": f"licence of the base: {header['license']}; see docs/README.md",
        "data_type": "RGB photographs",
        "image_classes": "dermoscopic photograph, values from 0 to 1",
        "pred_classes": "0 skin, 1 lesion",
        "intended_use": "Research. Not a medical device; not for diagnosis or for decisions about a person.",
        "network_data_format": {
            "inputs": {"image": {**image, "channel_def": colours}},
            "outputs": {"pred": {**mask, "channel_def": {"0": "lesion"}}},
        },
    }


def _inference() -> dict[str, Any]:
    """Transforms turn MONAI's order of axes, width first, into the network's and back."""
    turned = {"_target_": "Transposed", "indices": [0, 2, 1]}
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "endings": [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"],
        "datalist": "$sorted(p for p in glob.glob(@dataset_dir + '/*') if p.lower().endswith(tuple(@endings)))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "skindualgen.sample.mask_reader.MaskReader",
            "adapter": "$@bundle_root + '/models'",
            "num_inference_steps": None,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": "PILReader",
                    "converter": "$lambda image: image.convert('RGB')",
                },
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1},
                {**turned, "keys": "image"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {**turned, "keys": "pred"},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_ext": ".png",
                    "output_postfix": "mask",
                    "scale": 255,
                    "resample": False,
                    "separate_folder": False,
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }
