"""A lesion segmenter: a U-Net of segmentation_models.pytorch on an ImageNet encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.judges.features import PACKAGED_ENCODERS, dihedral_views, load_imagenet_weights, to_network_input
from skindualgen.judges.training import (
    Augmentation,
    Budget,
    batches,
    fit,
    load_header,
    load_weights,
    make_header,
    save_model,
)

KIND = "segmenter"
DECODER_CHANNELS = (128, 64, 32, 16, 16)
"""Half of smp's default width: as good at 128 px, and the full-size levels are most of the cost on a CPU."""
IGNORED_VALUE = 255
"""What smp's Dice loss is given in place of an ignored pixel's mask."""


@dataclass(frozen=True)
class SegmenterConfig:
    """Architecture and recipe.

    Attributes:
        encoder: timm name; :data:`skindualgen.judges.features.PACKAGED_ENCODERS` have weights offline.
        pretrained: start from the packaged ImageNet weights.
        size_px: side of the square on which the network works.
    """

    encoder: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    size_px: int = 128
    budget: Budget = field(default_factory=Budget)
    augmentation: Augmentation = field(default_factory=Augmentation)


def build_segmenter(encoder: str, *, pretrained: bool, seed: int = 0) -> nn.Module:
    """Build the U-Net: [b, 3, s, s] in [-1, 1] -> lesion logits [b, 1, s, s]; s a multiple of 32.

    ``pretrained`` takes the packaged weights where there are any, else those that timm downloads (and raises what it
    raises).
    """
    packaged = encoder in PACKAGED_ENCODERS
    weights = True if pretrained and not packaged else None  # what smp wants of these encoders
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = smp.Unet(f"tu-{encoder}", encoder_weights=weights, decoder_channels=DECODER_CHANNELS, classes=1)
    if pretrained and packaged:
        load_imagenet_weights(network.encoder.model, encoder)
    return network


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return soft Dice loss plus cross-entropy of lesion logits and masks.

    Args:
        logits: of the lesion, [b, 1, s, s].
        target: masks in {0, 1} [b, 1, s, s]; with a second channel [b, 2, s, s] that is 1 at ignored pixels, the loss
            is that of the other pixels alone, and 0 without any.
    """
    if target.shape[1] == 1:
        dice: Tensor = smp.losses.DiceLoss(mode="binary", from_logits=True)(logits, target)
        return dice + F.binary_cross_entropy_with_logits(logits, target)
    mask, ignored = target[:, :1], target[:, 1:] > 0
    marked = mask.masked_fill(ignored, IGNORED_VALUE)
    dice = smp.losses.DiceLoss(mode="binary", from_logits=True, ignore_index=IGNORED_VALUE)(logits, marked)
    entropies = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").masked_fill(ignored, 0)
    return dice + entropies.sum() / (~ignored).sum().clamp(min=1)


def mask_targets(masks: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> Tensor:
    """Return masks [n, s, s] as `segmentation_loss` takes them: float [n, 1, s, s], with ignored pixels [n, 2, s, s].

    Args:
        masks: True is lesion.
        ignored: True where pixels are not to be learnt from; None: there are none.
    """
    channels = [masks] if ignored is None else [masks, ignored]
    return torch.from_numpy(np.stack(channels, axis=1)).float()


def train_segmenter(
    data: Dataset,
    out: Path,
    config: SegmenterConfig | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Train on pairs with Dice + cross-entropy, and write the model file ``out``.

    Pixels that a pair's record has as ignored are left out of the loss.

    Args:
        data: the pairs to train on; the caller keeps validation and test pairs out.
        out: a ``.safetensors`` file, written at the end.
        config: default :class:`SegmenterConfig`.
        progress: is given the steps done and the step's loss.

    Raises:
        InputError: no records, or one without a mask or not square.
    """
    config = config or SegmenterConfig()
    if not len(data):
        raise InputError("no pairs", "at least one image-mask pair to train on", "check the split")
    for record in data:
        if record.mask_file_name is None:
            raise InputError(f"{record.isic_id} without a mask", "a mask for each photograph", "leave this record out")
    images = torch.from_numpy(data.images(config.size_px))
    masks = data.masks(config.size_px)
    ignored = data.ignored(config.size_px) if data.has_ignored else None

    def draw(random: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(random.integers(len(images), size=config.budget.batch_size))
        images_01 = images[chosen].permute(0, 3, 1, 2).float() / 255  # [b, 3, s, s]
        of_chosen = mask_targets(masks[chosen], None if ignored is None else ignored[chosen])
        augmented, target = config.augmentation(images_01, of_chosen, random)
        if target is None:
            raise TypeError("masks went in and must come out")
        return augmented * 2 - 1, target

    network = build_segmenter(config.encoder, pretrained=config.pretrained, seed=config.budget.seed)
    run = fit(network, draw, segmentation_loss, config.budget, progress=progress)
    architecture = {"encoder": config.encoder, "size_px": config.size_px, "augmentation": asdict(config.augmentation)}
    header = make_header(KIND, config.budget, [record.isic_id for record in data], run, pretrained=config.pretrained)
    save_model(out, network, header | architecture)
    return out


class Segmenter:
    """A trained segmenter read from its file; ``header`` says how it was made."""

    def __init__(self, path: Path) -> None:
        self.header = load_header(path, KIND)
        self.network = build_segmenter(self.header["encoder"], pretrained=False)
        load_weights(path, self.network)

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.uint8], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Return the lesion probability of each pixel, averaged over the 8 flips and quarter turns.

        Args:
            images: RGB [n, s, s, 3] of any side s; the network sees them at its own size.

        Returns:
            [n, s, s] in [0, 1].
        """
        result = np.zeros(images.shape[:3], np.float32)
        for index, view in enumerate(dihedral_views(images)):
            parts = [self.upright_probabilities(view[part]) for part in batches(len(view), batch_size)]
            scores = np.concatenate(parts) if parts else np.zeros(view.shape[:3], np.float32)
            turned_back = np.rot90(scores[:, :, ::-1] if index % 2 else scores, -(index // 2), axes=(1, 2))
            result += turned_back / 8
        return result

    @torch.inference_mode()
    def upright_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the lesion probability of each pixel as :meth:`probabilities` does, in one view of the photographs.

        The mean over eight views takes eight times as long for half a point of Dice with experts (234 photographs).
        """
        inputs = to_network_input(images, self.header["size_px"]).contiguous(memory_format=torch.channels_last)
        logits = self.network(inputs)  # [b, 1, size, size]
        side = images.shape[1]
        if side != self.header["size_px"]:
            logits = F.interpolate(logits, (side, side), mode="bicubic", antialias=True)
        return torch.sigmoid(logits[:, 0]).numpy()

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the lesion masks [n, s, s] of photographs [n, s, s, 3]: probability above one half."""
        return self.probabilities(images) > 0.5
