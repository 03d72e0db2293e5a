"""The micro base's autoencoder: fixed linear patch analysis, learned synthesis, ``AutoencoderKL``'s interface."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

LOGVAR_DETERMINISTIC = -30.0
"""log variance of the posterior: the analysis is a function, so ``sample()`` and ``mode()`` agree to 3e-7."""
GROUP_SIZE = 16
"""channels per normalisation group in the decoder"""


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, around a skip; the second convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // GROUP_SIZE, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(channels // GROUP_SIZE, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Keep the shape, [b, channels, h, w]."""
        residual = self.conv1(F.silu(self.norm1(hidden)))
        return hidden + self.conv2(F.silu(self.norm2(residual)))


class PatchDecoder(nn.Module):
    """Latents [b, c, h, w] to the residual image [b, 3, 8h, 8w] that the linear synthesis leaves out."""

    def __init__(self, latent_channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        stages: list[nn.Module] = []
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if level:
                stages += [nn.Conv2d(widths[level - 1], width * 4, 1), nn.PixelShuffle(2)]
            stages += [ResidualBlock(width) for _ in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(widths[-1] // GROUP_SIZE, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> Tensor:
        """See the class."""
        hidden = self.stages(self.conv_in(latents))  # [b, widths[-1], 8h, 8w]
        return self.conv_out(F.silu(self.norm_out(hidden)))


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Image <-> latents at 1/8 size: principal components of 8 x 8 patches in, a learned deblocking decoder out.

    The analysis is one stride-8 convolution whose filters are the leading principal components of real patches, each
    scaled to a standard deviation of (eigenvalue / largest eigenvalue) ** ``scale_exponent``: 0 whitens, .5 keeps the
    components' natural proportions; between them fine texture is small next to brightness. It costs nothing and never
    drifts, so the decoder can be trained further while a model of the latents stays as it is. The decoder adds a
    learned residual to the transposed convolution that inverts the analysis in the least-squares sense, so
    reconstruction is never worse than linear at the start of training.

    Has the interface of diffusers' ``AutoencoderKL``: ``encode(x).latent_dist``, ``decode(z).sample``, ``config``.

    Args:
        in_channels: 3.
        latent_channels: number of principal components kept per patch.
        patch_size: 8; the down-scaling factor.
        decoder_widths: channels at 1/8, 1/4, 1/2 and full size; multiples of 16.
        decoder_depths: residual blocks at these sizes.
        scaling_factor: 1, as the largest channel has unit variance already.
        scale_exponent: of the eigenvalues, in [0, .5]; read by ``fit_analysis`` only.
        block_out_channels: one entry per size, as pipelines read the down-scaling factor from its length.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 8,
        patch_size: int = 8,
        decoder_widths: tuple[int, ...] = (128, 96, 64, 32),
        decoder_depths: tuple[int, ...] = (2, 2, 1, 1),
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (128, 96, 64, 32),
        sample_size: int = 128,
        scale_exponent: float = 0.0,
    ) -> None:
        super().__init__()
        self.analysis = nn.Conv2d(in_channels, latent_channels, patch_size, stride=patch_size)
        self.synthesis = nn.ConvTranspose2d(latent_channels, in_channels, patch_size, stride=patch_size)
        self.analysis.requires_grad_(False)
        self.synthesis.requires_grad_(False)
        self.decoder = PatchDecoder(latent_channels, tuple(decoder_widths), tuple(decoder_depths))

    @torch.no_grad()
    def fit_analysis(self, images: Tensor) -> None:
        """Set analysis and synthesis from real images [n, 3, h, w] in [-1, 1] by principal component analysis."""
        size, keep = self.config.patch_size, self.config.latent_channels
        patches = F.unfold(images, size, stride=size).transpose(1, 2).reshape(-1, 3 * size * size)  # [n, 192]
        mean = patches.double().mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches.double() - mean).T))
        values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
        vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)
        filters = vectors.T.reshape(keep, 3, size, size)
        kept_deviation = (values / values[0]) ** self.config.scale_exponent
        deviation = (values.sqrt() / kept_deviation)[:, None, None, None]  # natural unit per unit of the latent
        self.analysis.weight.copy_(filters / deviation)
        self.analysis.bias.copy_(-(self.analysis.weight.double().flatten(1) @ mean))  # type: ignore[union-attr]
        self.synthesis.weight.copy_(filters * deviation)
        self.synthesis.bias.zero_()  # type: ignore[union-attr]
        # A transposed convolution has one bias per colour; the mean patch is constant up to noise, so colour means do.
        self.synthesis.bias.copy_(mean.reshape(3, -1).mean(1))  # type: ignore[union-attr]

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Images [b, 3, h, w] in [-1, 1], h and w multiples of 8, to a posterior over latents [b, c, h/8, w/8]."""
        mean = self.analysis(x)
        moments = torch.cat([mean, torch.full_like(mean, LOGVAR_DETERMINISTIC)], dim=1)
        posterior = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True, generator: object = None) -> DecoderOutput | tuple[Tensor]:
        """Latents [b, c, h, w] to images [b, 3, 8h, 8w], nominally in [-1, 1]; ``generator`` is accepted and unused."""
        sample = self.synthesis(z) + self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Encode and decode [b, 3, h, w]."""
        return self.decode(self.encode(sample).latent_dist.mode(), return_dict=return_dict)  # type: ignore[union-attr]
