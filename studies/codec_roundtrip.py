"""Measure the mask codec on real masks: round trip at 128 and 256 px, and what ``clean_mask`` does to noisy codes.

python studies/codec_roundtrip.py --real ../shared/data/dermoscopy --out docs/results/codec.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from study_text import row

from skindualgen.codec import CODE_MEAN, CODE_STD, DEFAULT_CODEC, clean_mask
from skindualgen.files import atomic_write_text, sha256_bytes, versions
from skindualgen.metrics.masks import dice, hd95

SIZES_PX = (128, 256)
NOISE_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""standard deviation of the Gaussian noise on codes of unit variance"""
NOISE_SIZE_PX = 128
BATCH = 64
Masks = NDArray[np.bool_]


def read_masks(paths: Sequence[Path], size: int) -> Masks:
    """Masks [n, size, size], by nearest neighbour."""
    masks = []
    for path in paths:
        with Image.open(path) as file:
            masks.append(np.asarray(file.convert("L").resize((size, size), Image.Resampling.NEAREST)) >= 128)
    return np.stack(masks)


def round_trip(masks: Masks, noise: float = 0.0, seed: int = 0) -> tuple[Masks, torch.Tensor]:
    """Decoded masks [n, h, w] and the codes [n, 4, h/8, w/8] before ``noise`` was added to them."""
    generator = torch.Generator().manual_seed(seed)
    decoded, codes = [], []
    for start in range(0, len(masks), BATCH):
        code = DEFAULT_CODEC.encode(torch.from_numpy(masks[start : start + BATCH]).float()[:, None])
        codes.append(code)
        noisy = code + noise * torch.randn(code.shape, generator=generator)
        decoded.append(DEFAULT_CODEC.decode(noisy)[:, 0].numpy() > 0)
    return np.concatenate(decoded), torch.cat(codes)


def scores(decoded: Masks, masks: Masks) -> dict[str, float]:
    """Dice and 95 % Hausdorff distance (px), mean and the worst 5 %; masks decoded as empty count in Dice only."""
    dices = np.array([dice(a, b) for a, b in zip(decoded, masks, strict=True)])
    distances = np.array([hd95(a, b) for a, b in zip(decoded, masks, strict=True) if a.any() and b.any()])
    return {
        "dice": dices.mean(),
        "dice_p5": np.percentile(dices, 5),
        "dice_min": dices.min(),
        "hd95": distances.mean(),
        "hd95_p95": np.percentile(distances, 95),
    }


def cleaned(masks: Masks, clean: Callable[[Masks], Masks]) -> Masks:
    """``clean`` applied to each mask."""
    return np.stack([clean(mask) for mask in masks])


def measure(real: Path, every: int, seed: int) -> list[str]:
    """The tables as lines of Markdown."""
    paths = sorted((real / "masks").glob("*.png"))[::every]
    manifest = sha256_bytes("\n".join(path.name for path in paths).encode())[:12]
    lines = [f"{len(paths)} masks of ISIC 2017 (one in {every} by name; hash of the names {manifest}).", ""]
    lines += [
        "## Round trip",
        "",
        row(
            [
                "size px",
                "Dice mean",
                "Dice p5",
                "Dice min",
                "HD95 mean px",
                "HD95 p95 px",
                "code mean",
                "code std",
                "field mean",
                "field std",
            ]
        ),
        row(["---"] * 10),
    ]
    for size in SIZES_PX:
        masks = read_masks(paths, size)
        decoded, codes = round_trip(masks)
        s = scores(decoded, masks)
        grid = codes * CODE_STD + CODE_MEAN
        cells = [
            f"{s['dice']:.4f}",
            f"{s['dice_p5']:.4f}",
            f"{s['dice_min']:.4f}",
            f"{s['hd95']:.2f}",
            f"{s['hd95_p95']:.2f}",
            f"{codes.mean():+.3f}",
            f"{codes.std():.3f}",
            f"{grid.mean():+.3f}",
            f"{grid.std():.3f}",
        ]
        lines.append(row([size, *cells]))
    masks = read_masks(paths, NOISE_SIZE_PX)
    own = scores(cleaned(masks, clean_mask), masks)
    lines += [
        "",
        "## Clean-up",
        "",
        f"`clean_mask` (largest region, holes filled) on the masks themselves: Dice {own['dice']:.4f} mean, "
        f"{own['dice_min']:.4f} least. On codes with Gaussian noise, {NOISE_SIZE_PX} px:",
        "",
        row(["noise std", "Dice raw", "Dice cleaned", "p5 raw", "p5 cleaned", "HD95 raw px", "HD95 cleaned px"]),
        row(["---"] * 7),
    ]
    for noise in NOISE_LEVELS:
        decoded, _ = round_trip(masks, noise, seed)
        raw, clean = scores(decoded, masks), scores(cleaned(decoded, clean_mask), masks)
        cells = [
            f"{s[name]:.{digits}f}" for name, digits in (("dice", 4), ("dice_p5", 4), ("hd95", 2)) for s in (raw, clean)
        ]
        lines.append(row([noise, *cells]))
    return lines


def main() -> None:
    """Read the options, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True, help="folder with masks/*.png")
    parser.add_argument("--out", type=Path, default=Path("docs/results/codec.md"))
    parser.add_argument("--every", type=int, default=3, help="take every n-th mask")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options = parser.parse_args()
    used = ", ".join(
        f"{name} {version}" for name, version in versions().items() if name in {"torch", "numpy", "python"}
    )
    head = [
        "# The mask codec on real masks",
        "",
        f"`python studies/codec_roundtrip.py --real DIR --every {options.every} --seed {options.seed}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {used}.",
        "",
    ]
    atomic_write_text(options.out, "\n".join(head + measure(options.real, options.every, options.seed)) + "\n")


if __name__ == "__main__":
    main()
