"""Which precision trains fastest here: measured, not guessed from the device's name."""

from __future__ import annotations

from typing import Literal

import torch

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError
from skindualgen.doctor import available_devices, fastest_precision, measure_speeds

Precision = Literal["fp32", "bf16", "fp16"]
NAMES: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def measured_precision() -> Precision:
    """Return the precision whose matrix products and convolutions are the fastest on the first device."""
    return NAMES[fastest_precision(measure_speeds(available_devices()[0])).dtype]


def frozen_dtype(config: TrainConfig, trained_in: str, *, on_cpu: bool) -> torch.dtype:
    """Type of the base's weights, which are not trained, beside a training in the precision ``trained_in``.

    Raises:
        InputError: a half precision without the autocast that goes with it.
    """
    if config.base_dtype == "auto":
        return DTYPES["fp32" if on_cpu else trained_in]
    if config.base_dtype not in ("fp32", trained_in):
        raise InputError(
            f"base_dtype {config.base_dtype} with precision {trained_in}",
            "fp32, or the precision of the training",
            "set both alike",
        )
    return DTYPES[config.base_dtype]
