"""The grid of a decoder of patches is seen and lowered, though it has another sign in each picture."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from micro_spectrum import SpectrumMatching, grid_strength


def pictures(count: int, seed: int) -> torch.Tensor:
    """Texture without a grid, [n, 3, 64, 64] in [-1, 1]."""
    noise = torch.randn(count, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 0.2
    return noise.expand(-1, 3, -1, -1).clamp(-1, 1)


def with_grid(images: torch.Tensor) -> torch.Tensor:
    """The same under a pattern of 8 px, turned from picture to picture so that their mean has none."""
    tile = torch.randn(8, 8, generator=torch.Generator().manual_seed(9)) * 0.1
    signs = torch.tensor([1.0, -1.0]).repeat(len(images) // 2)[:, None, None, None]
    return images + signs * tile.repeat(8, 8)


def test_a_grid_is_seen_though_no_mean_shows_it() -> None:
    clean = pictures(64, 0)
    assert abs(grid_strength(clean)) < 0.15
    assert grid_strength(with_grid(clean)) > 1


def test_the_distance_of_photographs_is_chance_and_a_grid_or_blur_raise_it() -> None:
    matching = SpectrumMatching(((pictures(256, 1) + 1) * 127.5).round().to(torch.uint8))
    clean = pictures(64, 2)
    assert 0.5 * 1.6 / 64 < float(matching(clean)) < 2 * 1.6 / 64
    assert matching(with_grid(clean)) > 4 * matching(clean)
    assert matching(torch.nn.functional.avg_pool2d(clean, 3, 1, 1)) > 4 * matching(clean)
    assert matching(clean, clean) == 0


def test_its_gradient_takes_a_grid_away() -> None:
    clean = pictures(16, 3)
    matching = SpectrumMatching(((pictures(256, 1) + 1) * 127.5).round().to(torch.uint8))
    tile = torch.zeros(8, 8, requires_grad=True)
    with torch.no_grad():
        tile += torch.randn(8, 8, generator=torch.Generator().manual_seed(9)) * 0.1
    optimizer = torch.optim.Adam([tile], 0.01)
    first = tile.detach().var()
    for _ in range(40):
        optimizer.zero_grad()
        matching(clean + tile.repeat(8, 8)).backward()
        optimizer.step()
    assert tile.detach().var() < 0.1 * first
