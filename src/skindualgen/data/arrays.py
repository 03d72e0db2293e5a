"""Arrays and tensors of pictures: taken apart into single pictures, or refused where their meaning is open.

Arrays have their channels last, as Pillow and NumPy have them, and tensors first, as PyTorch has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.data.decoding import ItemError

CHANNELS = (1, 3, 4)
"""Numbers of channels that a picture has: grey, RGB, RGB with alpha."""
COLOURS = (3, 4)

Values = NDArray[Any]
"""One picture's numbers: [h, w], [h, w, 3] or [h, w, 4], of any type of whole or decimal numbers, or bool."""


def is_tensor(source: object) -> bool:
    """Whether it is a tensor of PyTorch's, which this room does not import."""
    return type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach")


def photograph_items(source: Any) -> list[Image.Image | Values]:
    """Take apart what may be one photograph or several: PIL image, array, tensor or a list of these.

    Arrays are [h, w], [h, w, c] or [b, h, w, c], tensors [h, w], [c, h, w] or [b, c, h, w]; c is 1, 3 or 4.

    Raises:
        ItemError: of another type or shape, or one that can be read in two ways.
    """
    return _items(source, masks=False)


def mask_items(source: Any) -> list[Image.Image | Values]:
    """Take apart what may be one mask or several: PIL image, array, tensor or a list of these.

    Arrays are [h, w], [b, h, w], [h, w, 1], [h, w, 3], [h, w, 4] or [b, h, w, c]; tensors [h, w], [1, h, w], [b, h, w]
    or [b, 1, h, w].

    Raises:
        ItemError: of another type or shape, or one that can be read in two ways.
    """
    return _items(source, masks=True)


def _items(source: Any, *, masks: bool) -> list[Image.Image | Values]:
    if isinstance(source, (list, tuple)):
        return [item for each in source for item in _items(each, masks=masks)]
    if isinstance(source, Image.Image):
        return [source]
    if not isinstance(source, np.ndarray) and not is_tensor(source):
        raise ItemError("array_type", f"the type {type(source).__name__}")
    values = _numbers(source)
    if values.size == 0:
        raise _shape(source)
    tensor = is_tensor(source)
    split = (_masks_of_tensor if tensor else _masks_of_array) if masks else _photographs
    pictures = split(np.moveaxis(values, -3, -1) if tensor and not masks and values.ndim > 2 else values)
    if pictures is None:
        raise _shape(source)
    return [picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture for picture in pictures]


def _numbers(source: Any) -> Values:
    if is_tensor(source):
        if "strided" not in str(source.layout) or source.is_meta or source.is_quantized:
            raise ItemError("array_type", f"a tensor of layout {source.layout}, {source.dtype} on {source.device}")
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    if source.dtype.kind not in "biuf":
        raise ItemError("array_type", f"an array of {source.dtype}")
    return np.asarray(source)


def _photographs(values: Values) -> Sequence[Values] | None:
    """Photographs with their channels last; None where the shape is none, or says two things."""
    if values.ndim == 2:
        return [values]
    if values.ndim not in (3, 4) or values.shape[-1] not in CHANNELS:
        return None
    if values.ndim == 3:
        return None if values.shape[0] in CHANNELS else [values]
    return list(values)


def _masks_of_array(values: Values) -> Sequence[Values] | None:
    if values.ndim == 2:
        return [values]
    if values.ndim == 3 and values.shape[-1] in CHANNELS:
        return [values]
    if values.ndim == 3:  # three or four masks, or the channels of one
        return None if values.shape[0] in COLOURS else list(values)
    return list(values) if values.ndim == 4 and values.shape[-1] in CHANNELS else None


def _masks_of_tensor(values: Values) -> Sequence[Values] | None:
    if values.ndim == 2:
        return [values]
    if values.ndim == 3:  # three or four masks, or the channels of one, first or last
        return None if values.shape[0] in COLOURS or values.shape[-1] in CHANNELS else list(values)
    return list(values[:, 0]) if values.ndim == 4 and values.shape[1] == 1 else None


def _shape(source: Any) -> ItemError:
    kind = "a tensor" if is_tensor(source) else "an array"
    return ItemError("array_shape", f"{kind} of shape {tuple(source.shape)}, which is none, or can be read in two ways")


def opaque_alpha(values: Values) -> float:
    """The alpha of a pixel that nothing shines through, in pictures of the type of ``values``."""
    if values.dtype.kind in "fb":
        return 1.0
    return float(np.iinfo(values.dtype).max) if values.dtype in (np.uint8, np.uint16) else 255.0


def check_finite(values: Values) -> tuple[float, float]:
    """Return the smallest and the largest value.

    Raises:
        ItemError: NaN or infinity among them.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ItemError("not_finite", f"values from {low:g} to {high:g}")
    return low, high
