"""Networks by name for the two tasks of the benchmark, and how their input is normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import timm
import torch
from timm.models import is_model
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.judges.classifier import ClassifierConfig, build_classifier
from skindualgen.judges.features import IMAGENET_MEAN_01, IMAGENET_STD_01, PACKAGED_ENCODERS
from skindualgen.judges.segmenter import build_segmenter
from skindualgen.judges.training import Budget

SEGMENTER_STRIDE_PX = 32
"""The U-Net halves the picture five times."""


@dataclass(frozen=True)
class Network:
    """A backbone of timm: alone as classifier, or as the encoder of a U-Net of segmentation_models.pytorch.

    Attributes:
        name: timm's name; :data:`skindualgen.judges.features.PACKAGED_ENCODERS` have ImageNet weights offline.
        weights: what training starts from.
    """

    name: str = "tf_efficientnet_lite0"
    weights: Literal["imagenet", "random"] = "imagenet"

    def __post_init__(self) -> None:
        if not is_model(self.name):
            raise InputError(f"network {self.name!r}", "a name of timm.list_models()", "for example resnet18")

    def build_segmenter(self, seed: int) -> nn.Module:
        """Return the U-Net: [b, 3, s, s] -> lesion logits [b, 1, s, s]; s a multiple of 32.

        Raises:
            InputError: the weights cannot be had, or the network gives no maps at five scales.
        """
        try:
            return build_segmenter(self.name, pretrained=self.weights == "imagenet", seed=seed)
        except (OSError, RuntimeError) as error:
            raise self._no_weights(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            got = f"{self.name} as the encoder of a U-Net: {error}"
            raise InputError(got, "a network with maps at five scales", "for example resnet18") from error

    def build_classifier(self, classes: int, seed: int) -> nn.Module:
        """Return the classifier: [b, 3, s, s] -> logits [b, classes].

        Raises:
            InputError: the weights cannot be had.
        """
        config = ClassifierConfig(self.name, pretrained=self.weights == "imagenet", budget=Budget(seed=seed))
        try:
            return build_classifier(config, classes)
        except (OSError, RuntimeError) as error:
            raise self._no_weights(error) from error

    def normalise(self, images_01: Tensor) -> Tensor:
        """Shift and scale photographs [b, 3, s, s] in [0, 1] to what the weights were trained on."""
        if self.weights == "random" or self.name in PACKAGED_ENCODERS:
            return (images_01 - IMAGENET_MEAN_01) / IMAGENET_STD_01
        pretrained = timm.get_pretrained_cfg(self.name)
        if pretrained is None:
            raise InputError(f"{self.name} with ImageNet weights", "a network that timm has weights of", "use random")
        mean, std = (torch.tensor(values)[:, None, None] for values in (pretrained.mean, pretrained.std))
        return (images_01 - mean) / std

    def _no_weights(self, error: Exception) -> InputError:
        return InputError(
            f"no ImageNet weights of {self.name} ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
            "weights on disk or a hub that answers",
            f"use one of {', '.join(sorted(PACKAGED_ENCODERS))}, whose weights are installed, or --weights random",
        )
