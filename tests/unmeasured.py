"""Calls into large libraries that measure no coverage.

Up to Python 3.11, coverage.py follows every instruction of a thread, so what a library does in Python takes half as
long again. None of the calls here comes back into the package, or it is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

PACKAGE = "skindualgen"


def unmeasured(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, during which nothing is measured; the package's own classes are measured as ever."""

    @wraps(call)
    def without(owner: Any, /, *arguments: Any, **keywords: Any) -> Any:
        tracer = sys.gettrace()
        kind = owner if isinstance(owner, type) else type(owner)
        if type(tracer).__name__ != "CTracer" or kind.__module__.startswith(PACKAGE):
            return call(owner, *arguments, **keywords)
        tracer.stop()  # type: ignore[union-attr]
        try:
            return call(owner, *arguments, **keywords)
        finally:
            tracer.start()  # type: ignore[union-attr]

    return without


def _places() -> list[tuple[type, str]]:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    return [
        (torch.nn.Module, "__call__"),
        (torch.Tensor, "backward"),
        *((kind, name) for kind in (ModelMixin, PreTrainedModel) for name in ("from_pretrained", "save_pretrained")),
        (PreTrainedTokenizerBase, "__call__"),
        (PreTrainedTokenizerBase, "from_pretrained"),
    ]


@contextmanager
def libraries_unmeasured() -> Iterator[None]:
    """Have these calls unmeasured meanwhile; a compiler, which looks at them, must run outside."""
    before = [(kind, name, kind.__dict__[name]) for kind, name in _places()]
    try:
        for kind, name, call in before:
            bound = isinstance(call, classmethod)
            replaced = unmeasured(call.__func__ if bound else call)
            setattr(kind, name, classmethod(replaced) if bound else replaced)
        yield
    finally:
        for kind, name, call in before:
            setattr(kind, name, call)
