"""The patch autoencoder: exact on what its components span, deterministic, loads as it was saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from skindualgen.model.autoencoder import PatchAutoencoder

SIZE_PX = 32


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(channels: int, images: Tensor) -> PatchAutoencoder:
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(
        latent_channels=channels, decoder_widths=(32, 16, 16, 16), decoder_depths=(1, 1, 1, 1)
    )
    autoencoder.fit_analysis(images)
    return autoencoder.eval()


def pictures_of_rank(rank: int, count: int = 64) -> Tensor:
    """Pictures whose patches are combinations of ``rank`` patterns around a grey of .1, symmetrically so."""
    patterns = torch.linalg.qr(noise(192, rank, seed=1))[0].T.reshape(rank, 3, 8, 8)
    scales = torch.linspace(2, 0.5, rank).view(1, -1, 1, 1)
    weights = noise(count, rank, SIZE_PX // 8, SIZE_PX // 8) * scales
    pictures = torch.nn.functional.conv_transpose2d(weights, patterns, stride=8)
    return torch.cat([pictures, -pictures]) + 0.1


@torch.no_grad()
def test_pictures_in_the_span_come_back_exactly() -> None:
    pictures = pictures_of_rank(6)
    autoencoder = fitted(6, pictures)
    torch.testing.assert_close(autoencoder(pictures).sample, pictures, rtol=0, atol=1e-4)


@torch.no_grad()
def test_latents_are_white_and_found_again() -> None:
    """Each of the span's latents has unit variance and no correlation, and decode is the inverse of encode."""
    pictures = pictures_of_rank(6)
    autoencoder = fitted(6, pictures)
    latents = autoencoder.encode(pictures).latent_dist.mode()
    flat = latents.movedim(1, 0).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cov(flat), torch.eye(6), rtol=0, atol=2e-3)
    z = noise(2, 6, 4, 4, seed=3)
    torch.testing.assert_close(
        autoencoder.encode(autoencoder.decode(z).sample).latent_dist.mode(), z, atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_a_scale_exponent_keeps_part_of_the_components_proportions() -> None:
    """Standard deviations are (eigenvalue / largest) ** exponent, and what the span holds still comes back exactly."""
    pictures = pictures_of_rank(6)
    deviations = {}
    for exponent in (0.25, 0.5):
        torch.manual_seed(0)
        autoencoder = PatchAutoencoder(
            latent_channels=6, decoder_widths=(16,) * 4, decoder_depths=(1, 1, 1, 0), scale_exponent=exponent
        )
        autoencoder.fit_analysis(pictures)
        torch.testing.assert_close(autoencoder(pictures).sample, pictures, rtol=0, atol=1e-4)
        deviations[exponent] = autoencoder.encode(pictures).latent_dist.mode().movedim(1, 0).flatten(1).std(1)
    patches = torch.nn.functional.unfold(pictures, 8, stride=8).transpose(1, 2).reshape(-1, 192).double()
    natural = torch.linalg.eigvalsh(torch.cov(patches.T)).flip(0)[:6].sqrt().float()
    torch.testing.assert_close(deviations[0.5], natural / natural[0], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(deviations[0.25], (natural / natural[0]).sqrt(), rtol=2e-3, atol=2e-3)


@torch.no_grad()
def test_an_untrained_decoder_is_the_linear_inverse() -> None:
    """Guards the claim "never worse than linear at the start": the learned residual begins at exactly zero."""
    autoencoder = fitted(4, pictures_of_rank(12))
    z = noise(2, 4, 4, 4)
    assert torch.equal(autoencoder.decode(z).sample, autoencoder.synthesis(z))


@torch.no_grad()
def test_the_linear_inverse_is_the_best_of_its_rank() -> None:
    """PCA's error is the variance left out: the eigenvalues beyond the kept ones, as the covariance gives them."""
    pictures = pictures_of_rank(12)
    autoencoder = fitted(4, pictures)
    error = (autoencoder(pictures).sample - pictures).square().mean()
    patches = torch.nn.functional.unfold(pictures, 8, stride=8).transpose(1, 2).reshape(-1, 192).double()
    left_out = torch.linalg.eigvalsh(torch.cov(patches.T))[:-4].sum() / 192
    assert error.item() == pytest.approx(left_out.item(), rel=1e-2)


@torch.no_grad()
def test_sample_and_mode_agree() -> None:
    posterior = fitted(4, pictures_of_rank(6)).encode(pictures_of_rank(6)[:2]).latent_dist
    difference = posterior.sample(torch.Generator().manual_seed(0)) - posterior.mode()
    assert 0 < difference.abs().max() < 5 * 3.1e-7 + 1e-6


@torch.no_grad()
def test_the_interface_is_that_of_the_stock_class() -> None:
    autoencoder = fitted(4, pictures_of_rank(6))
    stock = AutoencoderKL(
        block_out_channels=(16,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    ).eval()
    image = noise(2, 3, 48, 32)
    for model in (autoencoder, stock):
        assert len(model.config.block_out_channels) == 4
        assert isinstance(model.config.scaling_factor, float)
        posterior = model.encode(image).latent_dist
        assert torch.equal(model.encode(image, return_dict=False)[0].mode(), posterior.mode())
        z = posterior.mode()
        assert z.shape == (2, model.config.latent_channels, 6, 4)
        assert torch.equal(model.decode(z, return_dict=False)[0], model.decode(z).sample)
        assert torch.equal(model(image).sample, model.decode(z).sample)


@torch.no_grad()
def test_it_loads_as_it_was_saved(tmp_path: Path) -> None:
    autoencoder = fitted(6, pictures_of_rank(6))
    torch.nn.init.normal_(autoencoder.decoder.conv_out.weight)
    autoencoder.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "PatchAutoencoder"
    assert list(loaded.config.decoder_widths) == [32, 16, 16, 16] and loaded.config.latent_channels == 6
    picture = noise(1, 3, 32, 40)
    assert torch.equal(loaded(picture).sample, autoencoder(picture).sample)


def test_only_the_decoder_learns() -> None:
    autoencoder = fitted(4, pictures_of_rank(6))
    frozen = {name.split(".")[0] for name, p in autoencoder.named_parameters() if not p.requires_grad}
    assert frozen == {"analysis", "synthesis"}
    optimizer = torch.optim.Adam(p for p in autoencoder.parameters() if p.requires_grad)
    pictures = pictures_of_rank(12)[:4]
    losses = []
    for _ in range(5):
        loss = (autoencoder(pictures).sample - pictures).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in autoencoder.decoder.parameters())
