"""Draw image-mask pairs from a prompt and save them.

python examples/pairs_from_text.py --out pairs --count 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from skindualgen import SkinDualGenPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw image-mask pairs from a prompt.")
    parser.add_argument("--prompt", default="a dermoscopic image of a melanoma")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapter", default="builtin", help="'builtin', or a run folder of `skindualgen train`")
    parser.add_argument("--out", type=Path, default=Path("pairs"))
    options = parser.parse_args()

    pipe = SkinDualGenPipeline.from_adapter(options.adapter)
    # One generator for each pair: a pair depends on its own seed only, not on the batch it is drawn in.
    seeds = range(options.seed, options.seed + options.count)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = pipe([options.prompt] * options.count, generator=generators)

    options.out.mkdir(parents=True, exist_ok=True)
    for seed, image, mask in zip(seeds, drawn.images, drawn.masks, strict=True):
        image.save(options.out / f"{seed}_image.png")
        mask.save(options.out / f"{seed}_mask.png")
    print(f"{options.count} pairs in {options.out}")


if __name__ == "__main__":
    main()
