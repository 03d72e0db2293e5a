"""Image-mask pairs of dermoscopic photographs from a text prompt, in one diffusion pass.

>>> from skindualgen import SkinDualGenPipeline
>>> pipe = SkinDualGenPipeline.from_adapter("builtin")
>>> pair = pipe("a dermoscopic image of a melanoma", guidance_scale=2.0)
>>> pair.images[0].size == pair.masks[0].size
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skindualgen._version import __version__

if TYPE_CHECKING:
    from skindualgen.api import benchmark, check, evaluate, generate, plan, prepare, train
    from skindualgen.data.dataset import Dataset
    from skindualgen.planning.anchors import Anchoring
    from skindualgen.sample.pipeline import SkinDualGenPipeline

__all__ = [
    "Anchoring",
    "Dataset",
    "SkinDualGenPipeline",
    "__version__",
    "benchmark",
    "check",
    "evaluate",
    "generate",
    "plan",
    "prepare",
    "train",
]

_LAZY = {
    "Anchoring": "skindualgen.planning.anchors",
    "Dataset": "skindualgen.data.dataset",
    "SkinDualGenPipeline": "skindualgen.sample.pipeline",
    **dict.fromkeys(("benchmark", "check", "evaluate", "generate", "plan", "prepare", "train"), "skindualgen.api"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that ``import skindualgen`` and ``--help`` do not wait for torch."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
