"""Augment pairs of a data set folder with torchvision, photograph and mask alike, and see that the masks still fit.

python examples/torchvision_loader.py data --out batch.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.utils import draw_segmentation_masks, make_grid, save_image

import skindualgen


class Augmented(Dataset[dict[str, Any]]):
    """The torch view of a data set folder, with a transform of torchvision's on image, mask and ignored pixels."""

    def __init__(self, pairs: Any, transform: v2.Transform) -> None:
        self.pairs, self.transform = pairs, transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.pairs[index]
        item["image"] = tv_tensors.Image(item["image"] / 2 + 0.5)  # [3, s, s] in [0, 1]
        for name in ("mask", "ignore"):
            item[name] = tv_tensors.Mask(item[name])  # geometry moves a mask by nearest neighbour, colour leaves it
        return self.transform(item)


def main() -> None:
    parser = argparse.ArgumentParser(description="Save a batch of augmented pairs with the outlines of their masks.")
    parser.add_argument("data", type=Path, help="data set folder")
    parser.add_argument("--size", type=int, default=128, help="side in px")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("batch.png"))
    options = parser.parse_args()

    pairs = skindualgen.Dataset.open(options.data, "train").with_masks().torch(options.size)
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomAffine(degrees=180, translate=(0.1, 0.1), scale=(0.8, 1.2)),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )
    torch.manual_seed(options.seed)
    loader = DataLoader(Augmented(pairs, transform), options.batch_size, shuffle=True, collate_fn=pairs.collate)
    batch = next(iter(loader))
    shown = [
        draw_segmentation_masks(image, mask[0] > 0, alpha=0.4, colors="yellow")
        for image, mask in zip(batch["image"], batch["mask"], strict=True)
    ]
    save_image(make_grid(shown, nrow=4), options.out)
    names = [pairs.diagnoses[label] if label >= 0 else "no diagnosis" for label in batch["label"]]
    print(f"{len(shown)} pairs in {options.out}: {', '.join(names)}")


if __name__ == "__main__":
    main()
