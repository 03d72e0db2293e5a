"""Augmentation beyond the usual: the choices of the arm "augment-tuned", and MixUp and CutMix; all of torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from skindualgen.benchmarking.arms import Mix, Task
from skindualgen.judges.training import Augmentation

ELASTIC_SIGMA = 1 / 16
"""Smoothness of elastic deformations, as a share of the side."""
RANDAUGMENT_OPERATIONS = 2
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""Of the beta distributions; sources: Zhang et al., ICLR 2018 (for ImageNet); Yun et al., ICCV 2019."""


@dataclass(frozen=True)
class FurtherAugmentation(Augmentation):
    """The usual augmentation, and after it elastic deformation and RandAugment.

    Attributes:
        elastic: standard deviation of the displacements, as a share of the side.
        randaugment: magnitude of 0 to 30; 0 leaves it out. It shears and shifts photographs without their masks, so it
            is for diagnoses alone.
    """

    elastic: float = 0.0
    randaugment: int = 0

    def __call__(
        self, images_01: Tensor, masks_01: Tensor | None, random: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Augment photographs [b, 3, s, s] in [0, 1] and, the same way, their masks [b, k, s, s] in {0, 1}."""
        images_01, masks_01 = super().__call__(images_01, masks_01, random)
        with drawing_from(random):
            if self.elastic:
                images_01, masks_01 = _deformed(images_01, masks_01, self.elastic)
            if self.randaugment:
                change = v2.RandAugment(RANDAUGMENT_OPERATIONS, self.randaugment)
                levels = (images_01 * 255).round().to(torch.uint8)
                images_01 = torch.stack([change(image) for image in levels]).float() / 255
        return images_01, masks_01


def candidates(task: Task) -> dict[str, Augmentation | None]:
    """Return name -> augmentation, of which the arm "augment-tuned" takes the best on the validation part."""
    found: dict[str, Augmentation | None] = {
        "none": None,
        "weaker": Augmentation(zoom=0.1, shift=0.04, light=0.1, contrast=0.1, saturation=0.1, cast=0.03, blur=0.1),
        "usual": Augmentation(),
        "stronger colour": Augmentation(light=0.4, contrast=0.5, saturation=0.5, cast=0.12),
        "elastic": FurtherAugmentation(elastic=0.02),
    }
    if task == "classify":
        found |= {f"RandAugment {level}": FurtherAugmentation(randaugment=level) for level in (5, 9)}
    return found


def mixed(mix: Mix, inputs: Tensor, labels: Tensor, classes: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix the photographs [b, 3, s, s] of a batch, and their classes [b] into shares of classes [b, classes]."""
    change = (
        v2.MixUp(alpha=MIXUP_ALPHA, num_classes=classes)
        if mix == "mixup"
        else v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=classes)
    )
    with drawing_from(random):
        images, shares = change(inputs, labels)
    return images, shares


@contextmanager
def drawing_from(random: np.random.Generator) -> Iterator[None]:
    """Seed torch's global generator, which torchvision uses, by a draw of ``random``; it is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(2**63)))
        yield


def _deformed(images_01: Tensor, masks_01: Tensor | None, elastic: float) -> tuple[Tensor, Tensor | None]:
    side = images_01.shape[-1]
    sigma = side * ELASTIC_SIGMA
    # Uniform noise in [-1, 1], blurred by sigma, has a standard deviation of 1 / sqrt(3) / (2 sqrt(pi) sigma), and
    # torchvision moves a pixel by alpha / 2 of it.
    alpha = 2 * elastic * side * np.sqrt(3) * 2 * np.sqrt(np.pi) * sigma
    margin = side // 4  # what moves in from outside is mirrored, not black
    change = v2.Compose(
        [
            v2.Pad(margin, padding_mode="reflect"),
            v2.ElasticTransform(alpha=float(alpha), sigma=sigma),
            v2.CenterCrop(side),
        ]
    )
    if masks_01 is None:
        return torch.stack([change(image) for image in images_01]), None
    pairs = [
        change(tv_tensors.Image(image), tv_tensors.Mask(mask)) for image, mask in zip(images_01, masks_01, strict=True)
    ]
    images, masks = (torch.stack([part.as_subclass(Tensor) for part in parts]) for parts in zip(*pairs, strict=True))
    return images, masks
