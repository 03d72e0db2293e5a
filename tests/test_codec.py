"""Masks survive the round trip through codes; distances are exact; what the codec promises of flips and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skindualgen.codec import (
    CODE_CHANNELS,
    CODE_MEAN,
    CODE_STD,
    DEFAULT_CODEC,
    AutoencoderCodec,
    SignedDistanceCodec,
    clean_mask,
    signed_distance_field,
)
from skindualgen.data.phantom import draw_phantom
from skindualgen.metrics.masks import dice, hd95

SIZE_PX = 128


def round_trip(masks: torch.Tensor) -> torch.Tensor:
    return (DEFAULT_CODEC.decode(DEFAULT_CODEC.encode(masks)) > 0).float()


def ellipse(size: int, centre: tuple[float, float], radii: tuple[float, float]) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    return inside.float()[None, None]


def test_distances_of_a_hand_drawn_mask() -> None:
    """Two lesion columns in 16 px: distances run to the line between columns, half a pixel from both centres."""
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 6:8] = 1
    distances_px = torch.tensor([-5.5, -4.5, -3.5, -2.5, -1.5, -0.5, 0.5, 0.5, -0.5, -1.5, -2.5, -3.5])
    expected = torch.tanh(distances_px / (16 / 16)).expand(16, -1)
    torch.testing.assert_close(signed_distance_field(mask)[0, 0, :, :12], expected)


def test_the_code_of_one_cell_by_hand() -> None:
    """8 x 8 px, left half lesion: 2 x 2 means of the field, in the order of pixel unshuffle."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    truncation_px = 8 / 16
    left = np.mean(np.tanh(np.array([3.5, 2.5, 1.5, 0.5]) / truncation_px))
    grid = np.array([left, -left, left, -left])  # upper left, upper right, lower left, lower right
    expected = (grid - CODE_MEAN) / CODE_STD
    np.testing.assert_allclose(DEFAULT_CODEC.encode(mask).flatten().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(("value", "field"), [(0.0, -1.0), (1.0, 1.0)])
def test_empty_and_full_masks(value: float, field: float) -> None:
    masks = torch.full((2, 1, 64, 64), value)
    assert (signed_distance_field(masks) == field).all()
    assert torch.equal(round_trip(masks), masks)
    assert torch.isfinite(DEFAULT_CODEC.encode(masks)).all()


def test_sizes_that_are_no_multiple_of_a_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        DEFAULT_CODEC.encode(torch.zeros(1, 1, 64, 60))


@settings(max_examples=40)
@given(
    st.tuples(st.floats(40, 88), st.floats(40, 88)),
    st.tuples(st.floats(12, 60), st.floats(12, 60)),
)
def test_any_ellipse_survives(centre: tuple[float, float], radii: tuple[float, float]) -> None:
    mask = ellipse(SIZE_PX, centre, radii)
    assert dice(round_trip(mask)[0, 0].numpy() > 0, mask[0, 0].numpy() > 0) >= 0.97


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([[-1], [-2], [-2, -1], []]), st.integers(1, 3))
def test_the_flipped_code_is_the_code_of_the_flipped_mask(seed: int, dims: list[int], classes: int) -> None:
    masks = (torch.rand(2, classes, 32, 48, generator=torch.Generator().manual_seed(seed)) > 0.7).float()
    flipped = masks.flip(dims) if dims else masks
    torch.testing.assert_close(
        DEFAULT_CODEC.flip(DEFAULT_CODEC.encode(masks), dims), DEFAULT_CODEC.encode(flipped), rtol=0, atol=1e-6
    )


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 3), st.sampled_from([(32, 64), (64, 32), (40, 40)]))
def test_codes_are_bounded_and_shaped(seed: int, classes: int, size: tuple[int, int]) -> None:
    masks = (torch.rand(2, classes, *size, generator=torch.Generator().manual_seed(seed)) > 0.5).float()
    codes = DEFAULT_CODEC.encode(masks)
    assert codes.shape == (2, classes * CODE_CHANNELS, size[0] // 8, size[1] // 8)
    assert codes.min() >= (-1 - CODE_MEAN) / CODE_STD - 1e-5
    assert codes.max() <= (1 - CODE_MEAN) / CODE_STD + 1e-5


def test_classes_do_not_touch_each_other() -> None:
    first, second = ellipse(64, (20, 20), (12, 8)), ellipse(64, (44, 40), (9, 14))
    both = torch.cat([first, second], dim=1)
    assert torch.equal(
        DEFAULT_CODEC.encode(both), torch.cat([DEFAULT_CODEC.encode(first), DEFAULT_CODEC.encode(second)], dim=1)
    )
    assert torch.equal(round_trip(both), torch.cat([round_trip(first), round_trip(second)], dim=1))


def test_decoding_is_differentiable() -> None:
    codes = DEFAULT_CODEC.encode(ellipse(64, (30, 34), (16, 11))).requires_grad_()
    DEFAULT_CODEC.decode(codes).square().mean().backward()
    assert codes.grad is not None
    assert (codes.grad != 0).all()


def test_half_precision_codes_decode_in_float32() -> None:
    mask = ellipse(SIZE_PX, (60, 70), (30, 40))
    field = DEFAULT_CODEC.decode(DEFAULT_CODEC.encode(mask).half())
    assert field.dtype == torch.float32
    assert dice(field[0, 0].numpy() > 0, round_trip(mask)[0, 0].numpy() > 0) > 0.999


def test_phantom_masks_survive() -> None:
    masks = np.stack([draw_phantom(seed, size=SIZE_PX).mask >= 128 for seed in range(24)])
    decoded = round_trip(torch.from_numpy(masks).float()[:, None])[:, 0].numpy() > 0
    scores = [dice(a, b) for a, b in zip(decoded, masks, strict=True)]
    assert np.mean(scores) >= 0.985


@pytest.mark.real_data
def test_real_masks_survive(real_data: Path) -> None:
    paths = sorted((real_data / "masks").glob("*.png"))[::13]
    masks = []
    for path in paths:
        with Image.open(path) as file:
            masks.append(np.asarray(file.resize((SIZE_PX, SIZE_PX), Image.Resampling.NEAREST)) >= 128)
    decoded = round_trip(torch.from_numpy(np.stack(masks)).float()[:, None])[:, 0].numpy() > 0
    scores = np.array([dice(a, b) for a, b in zip(decoded, masks, strict=True)])
    distances_px = [hd95(a, b) for a, b in zip(decoded, masks, strict=True)]
    assert len(scores) >= 100
    assert scores.mean() >= 0.99
    assert np.percentile(scores, 5) >= 0.975
    assert np.mean(distances_px) <= 1.5
    codes = DEFAULT_CODEC.encode(torch.from_numpy(np.stack(masks)).float()[:, None])
    assert abs(codes.mean()) < 0.15
    assert abs(codes.std() - 1) < 0.15


def test_the_autoencoder_codec_has_the_same_interface(tiny_base: Path) -> None:
    """Guards shapes for k classes, and that grey value 0 is the threshold: exact with an invertible autoencoder."""
    from skindualgen.model.autoencoder import PatchAutoencoder
    from skindualgen.model.bases import load_base

    masks = torch.cat([ellipse(64, (20, 20), (12, 8)), ellipse(64, (44, 40), (9, 14))], dim=1)
    stock = AutoencoderCodec(load_base(tiny_base).vae)
    assert stock.encode(masks).shape == (1, 2 * stock.channels, 8, 8)
    assert stock.decode(stock.encode(masks)).shape == masks.shape

    complete = PatchAutoencoder(latent_channels=192)
    pictures = torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    complete.fit_analysis(torch.cat([pictures, -pictures]))
    codec = AutoencoderCodec(complete.requires_grad_(False))
    torch.testing.assert_close(codec.decode(codec.encode(masks)), masks * 2 - 1, rtol=0, atol=1e-3)
    assert SignedDistanceCodec().encode(masks).shape == (1, 2 * SignedDistanceCodec().channels, 8, 8)


def test_clean_mask_keeps_the_largest_region_and_fills_it() -> None:
    mask = np.zeros((8, 8), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False  # a hole
    mask[6, 6] = True  # touches the region at a corner only
    mask[0, 7] = True
    expected = np.zeros((8, 8), bool)
    expected[1:6, 1:6] = True
    assert np.array_equal(clean_mask(mask), expected)
    assert np.array_equal(clean_mask(expected), expected)


def test_clean_mask_leaves_an_empty_mask_empty() -> None:
    assert not clean_mask(np.zeros((4, 4), np.uint8)).any()
    assert clean_mask(np.zeros((4, 4), np.uint8)).dtype == bool
