"""One model, three directions: text -> pair, photograph -> mask, mask -> photograph. Needs no data: it uses a phantom.

python examples/three_ways.py --out three_ways.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from skindualgen import SkinDualGenPipeline
from skindualgen.data.phantom import draw_phantom
from skindualgen.metrics.masks import dice


def main() -> None:
    parser = argparse.ArgumentParser(description="Show the three directions in one picture of two rows.")
    parser.add_argument("--adapter", default="builtin", help="'builtin', or a run folder of `skindualgen train`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("three_ways.png"))
    options = parser.parse_args()

    pipe = SkinDualGenPipeline.from_adapter(options.adapter)
    phantom = draw_phantom(options.seed, diagnosis="nevus")
    photograph, exact_mask = Image.fromarray(phantom.image), Image.fromarray(phantom.mask)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(options.seed)

    from_text = pipe("a dermoscopic image of a melanoma", generator=generator())
    from_photograph = pipe(image=photograph, generator=generator())
    from_mask = pipe("a dermoscopic image of a seborrheic keratosis", mask_image=exact_mask, generator=generator())

    width, height = from_text.images[0].size
    small_mask = exact_mask.resize((width, height), Image.Resampling.NEAREST)
    print(f"photograph -> mask: Dice {dice(from_photograph.masks[0], small_mask):.3f} with the phantom's exact mask")

    columns = [(from_text.images[0], from_text.masks[0]), (photograph, from_photograph.masks[0])]
    columns.append((from_mask.images[0], small_mask))
    sheet = Image.new("RGB", (width * len(columns), height * 2))
    for column, pair in enumerate(columns):
        for row, picture in enumerate(pair):
            sheet.paste(picture.convert("RGB").resize((width, height)), (column * width, row * height))
    sheet.save(options.out)
    print(f"columns: text -> pair, photograph -> mask, mask -> photograph; saved as {options.out}")


if __name__ == "__main__":
    main()
