"""A diagnosis classifier: an ImageNet EfficientNet-Lite, fine-tuned with class-balanced sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.terms import diagnosis_term
from skindualgen.files import sha256_file
from skindualgen.judges.features import PACKAGED_ENCODERS, dihedral_views, load_imagenet_weights, to_network_input
from skindualgen.judges.pictures import at_side
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

KIND = "classifier"


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture and recipe.

    Attributes:
        architecture: timm name; :data:`skindualgen.judges.features.PACKAGED_ENCODERS` have weights offline.
        pretrained: start from the packaged ImageNet weights.
        image_size_px: side to which every photograph is reduced first, so that real ones hold no more detail than
            generated ones.
        size_px: side of the square on which the network works.
        dropout: before the last layer; ``drop_path``: stochastic depth.
        label_smoothing: of the cross-entropy.
    """

    architecture: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    image_size_px: int = 128
    size_px: int = 160
    dropout: float = 0.3
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    budget: Budget = field(default_factory=lambda: Budget(learning_rate=3e-4))
    augmentation: Augmentation = field(default_factory=Augmentation)


def build_classifier(config: ClassifierConfig, classes: int) -> nn.Module:
    """Build the network: [b, 3, s, s] in [-1, 1] -> logits [b, classes].

    ``pretrained`` takes the packaged weights where there are any, else those that timm downloads (and raises what it
    raises).
    """
    packaged = config.architecture in PACKAGED_ENCODERS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.budget.seed)
        network: Any = timm.create_model(
            config.architecture,
            pretrained=config.pretrained and not packaged,
            num_classes=0,
            drop_rate=config.dropout,
            drop_path_rate=config.drop_path,
        )
        if config.pretrained and packaged:
            load_imagenet_weights(network, config.architecture)
        network.reset_classifier(classes)
    return cast(nn.Module, network)


def train_classifier(
    data: Dataset,
    out: Path,
    config: ClassifierConfig | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Train on labelled photographs, every class equally often; write ``out``.

    Args:
        data: the photographs to train on; the caller keeps those for validation and test out.
        out: a ``.safetensors`` file, written at the end.
        config: default :class:`ClassifierConfig`.
        progress: is given the steps done and the step's loss.

    Raises:
        InputError: a record without a diagnosis, or fewer than two diagnoses.
    """
    config = config or ClassifierConfig()
    diagnoses = [record.diagnosis for record in data]
    classes = sorted({diagnosis for diagnosis in diagnoses if diagnosis is not None})
    if None in diagnoses or len(classes) < 2:
        raise InputError(f"diagnoses {classes}", "two or more, one for each record", "leave unlabelled records out")
    images = torch.from_numpy(data.images(config.image_size_px))
    members = [np.flatnonzero(np.asarray(diagnoses) == name) for name in classes]

    def draw(random: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        labels = random.integers(len(classes), size=config.budget.batch_size)
        chosen = np.array([random.choice(members[label]) for label in labels])
        images_01 = images[torch.from_numpy(chosen)].permute(0, 3, 1, 2).float() / 255  # [b, 3, s, s]
        augmented, _ = config.augmentation(images_01, None, random)
        inputs = F.interpolate(augmented, (config.size_px, config.size_px), mode="bicubic", antialias=True)
        return inputs.clamp(0, 1) * 2 - 1, torch.from_numpy(labels)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)

    network = build_classifier(config, len(classes))
    run = fit(network, draw, loss, config.budget, progress=progress)
    recipe = asdict(config)
    recipe.pop("budget")
    header = make_header(KIND, config.budget, [record.isic_id for record in data], run, classes=classes)
    save_model(out, network, header | recipe)
    return out


class Classifier:
    """A trained classifier read from its file; ``header`` says how it was made, ``classes`` names the outputs."""

    def __init__(self, path: Path) -> None:
        self.header = load_header(path, KIND)
        self.sha256 = sha256_file(path)
        self.classes: list[str] = self.header["classes"]
        config = ClassifierConfig(architecture=self.header["architecture"], pretrained=False)
        self.network = build_classifier(config, len(self.classes))
        load_weights(path, self.network)

    @property
    def terms(self) -> list[str]:
        """The classes by the ISIC Archive's terms, as records of `skindualgen.judges.pictures.in_terms` have them."""
        return [diagnosis_term(name) or name for name in self.classes]

    def term_of(self, diagnosis: str | None) -> str | None:
        """The one of the terms that a diagnosis is; None where it is not known or the classifier has no such class."""
        term = diagnosis_term(diagnosis)
        return term if term in self.terms else None

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.uint8], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Return class probabilities [n, classes] of photographs [n, s, s, 3], averaged over 8 flips and quarter turns.

        Raises:
            InputError: the photographs are not of the side that the classifier was trained for.
        """
        side = self.header["image_size_px"]
        if images.shape[1:] != (side, side, 3):
            raise InputError(f"photographs of shape {images.shape[1:]}", f"{(side, side, 3)}", "load them at that size")
        result = np.zeros((len(images), len(self.classes)), np.float32)
        for view in dihedral_views(images):
            for part in batches(len(view), batch_size):
                inputs = to_network_input(view[part], self.header["size_px"])
                logits = self.network(inputs.contiguous(memory_format=torch.channels_last))  # [b, classes]
                result[part] += logits.softmax(1).numpy() / 8
        return result

    @torch.inference_mode()
    def probability(self, image: NDArray[np.uint8], diagnosis: str | None) -> float | None:
        """Return the probability of a diagnosis for a picture [s, s, 3] of any side, averaged over its quarter turns.

        None where the diagnosis is not known or the classifier has no such class.
        """
        term = self.term_of(diagnosis)
        if term is None:
            return None
        turns = np.concatenate(dihedral_views(at_side(image[None], self.header["image_size_px"]))[::2])
        inputs = to_network_input(turns, self.header["size_px"]).contiguous(memory_format=torch.channels_last)
        return float(self.network(inputs).softmax(1).mean(0)[self.terms.index(term)])

    def diagnoses(self, images: NDArray[np.uint8]) -> list[str]:
        """Return the most probable diagnosis of each photograph [n, s, s, 3]."""
        return [self.classes[index] for index in self.probabilities(images).argmax(1)]
