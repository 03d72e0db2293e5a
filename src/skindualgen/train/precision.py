"""Which precision trains fastest here: measured, not guessed from the device's name."""

from __future__ import annotations

from typing import Literal

from skindualgen.doctor import available_devices, fastest_precision, measure_speeds

Precision = Literal["fp32", "bf16", "fp16"]
NAMES: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def measured_precision() -> Precision:
    """Return the precision whose matrix products and convolutions are the fastest on the first device."""
    return NAMES[fastest_precision(measure_speeds(available_devices()[0])).dtype]
