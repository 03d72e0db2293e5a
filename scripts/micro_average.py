"""Average the weights of bases that went on from one state: nearer to photographs than either of them.

    python scripts/micro_average.py --bases BASE BASE ... --out BASE

UNet and text encoder are averaged with equal weights, all else is the first base's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from skindualgen.files import atomic_write_json
from skindualgen.folders import new_folder
from skindualgen.model.base_files import base_sha256


def average(bases: list[Path], out: Path) -> None:
    """Write the mean of bases of equal architecture as ``out``, in the first one's precision."""
    with new_folder(out) as temporary:
        for path in sorted(bases[0].rglob("*")):
            target = temporary / path.relative_to(bases[0])
            if path.is_dir():
                target.mkdir()
            elif path.suffix != ".safetensors" or path.parent.name not in ("unet", "text_encoder"):
                target.write_bytes(path.read_bytes())
            else:
                states = [load_file(base / path.relative_to(bases[0])) for base in bases]
                mean = {
                    name: torch.stack([state[name].float() for state in states]).mean(0).to(value.dtype)
                    for name, value in states[0].items()
                }
                save_file(mean, target, metadata={"format": "pt"})
        record = training_of(bases[0])
        record["mean_of"] = [{"sha256": base_sha256(base), "samples": training_of(base)["samples"]} for base in bases]
        atomic_write_json(temporary / "training.json", record)


def training_of(base: Path) -> dict[str, Any]:
    """What a base says of its training."""
    record: dict[str, Any] = json.loads((base / "training.json").read_text())
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    average(args.bases, args.out)
