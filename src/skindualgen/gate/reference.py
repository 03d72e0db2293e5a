"""What the gate keeps of the training pairs: where their masks' shapes lie, and their photographs, small."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_bytes
from skindualgen.gate.scores import MaskShapes, fit_shapes
from skindualgen.judges.alignment import BLOCK, DETAIL_PX, nearest_aligned, resized, thumbnails
from skindualgen.judges.features import dihedral_views

CANDIDATES = 20
"""Training photographs, likeliest by thumbnail over the 8 flips and turns, over which a picture is laid."""

LEAST_PAIRS = 20
"""Training pairs below which neither shapes nor neighbours mean anything."""


@dataclass(frozen=True)
class Reference:
    """The training pairs, as far as single pairs are compared with them.

    Attributes:
        shapes: of their masks.
        photographs: RGB uint8 [n, 64, 64, 3], n of 2 or more: the detail at which copies are searched.
    """

    shapes: MaskShapes
    photographs: NDArray[np.uint8]

    @cached_property
    def _thumbnails(self) -> NDArray[np.float32]:
        return thumbnails(self.photographs)

    def novelty(self, image: NDArray[np.uint8]) -> float:
        """Return the misfit ratio of a picture [s, s, 3] with the training photograph that fits it best.

        See :func:`skindualgen.judges.alignment.nearest_aligned`: 0 for a copy, also a flipped, turned, compressed,
        recoloured or slightly cropped one; towards 1 where several training photographs fit alike.
        """
        views = np.concatenate(dihedral_views(image[None]))  # [8, s, s, 3]
        likeness = (thumbnails(views) @ self._thumbnails.T).max(0)  # [n]
        likeliest = np.sort(np.argsort(-likeness, kind="stable")[:CANDIDATES])
        return float(nearest_aligned(image[None], self.photographs[likeliest]).distance[0])

    def save(self, path: Path) -> None:
        """Write a ``.safetensors`` file, entirely or not at all."""
        tensors: dict[str, NDArray[Any]] = {
            "shape_mean": self.shapes.mean,
            "shape_precision": np.ascontiguousarray(self.shapes.precision),
            "photographs": self.photographs,
        }
        atomic_write_bytes(path, save(tensors))

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read the file of :meth:`save`.

        Raises:
            InputError: it cannot be read.
        """
        try:
            tensors = load_file(path)
            return cls(MaskShapes(tensors["shape_mean"], tensors["shape_precision"]), tensors["photographs"])
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{path} ({error})", "the reference of a gate", "copy the gate's folder again") from error


def build_reference(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> Reference:
    """Describe the training pairs.

    Args:
        images: all training photographs [n, s, s, 3], as copies of any of them are to be found.
        masks: [m, s, s], of those that have one; empty ones are passed over.

    Raises:
        InputError: fewer than :data:`LEAST_PAIRS` of either.
    """
    lesions = masks[masks.any((1, 2))]
    if min(len(images), len(lesions)) < LEAST_PAIRS:
        got = f"{len(images)} training photographs and {len(lesions)} masks"
        raise InputError(got, f"{LEAST_PAIRS} or more of each", "add training pairs")
    small = [resized(images[start : start + BLOCK], DETAIL_PX) for start in range(0, len(images), BLOCK)]
    photographs = torch.cat(small).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return Reference(fit_shapes(lesions), photographs.contiguous().numpy())
