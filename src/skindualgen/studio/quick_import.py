"""Import gradio in half the time, without the stubs that it writes for editors; keep its requests off proxies."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_proxies() -> Iterator[None]:
    """Hide the environment's proxies (``http_proxy``, ``ALL_PROXY``, ...), in either case of letters.

    Gradio looks whether its server has started by an HTTP request to it, and httpx hands that to the proxy, which may
    be gone and never leads back here. ``no_proxy`` would not do: httpx sets up all proxies before it asks which names
    go past them, and refuses a SOCKS one without a package of its own.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith("_proxy")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def import_gradio() -> None:
    """Import gradio.

    At every import, gradio parses the source of each of its components and writes ``.pyi`` files into its own folder,
    which takes as long as all the rest. Where the source of a class cannot be found, it goes on without; so for its own
    classes, and while it is imported, none is found.
    """
    find_file = inspect.getfile

    def none_of_gradios(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("left out")
        return find_file(thing)

    inspect.getfile = none_of_gradios  # type: ignore[assignment, unused-ignore]
    try:
        with without_proxies():  # clients are made while it is imported
            import gradio  # noqa: F401
    finally:
        inspect.getfile = find_file
