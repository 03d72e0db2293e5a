"""Names of precisions, and the type of the frozen weights that goes with each."""

from __future__ import annotations

import torch

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
