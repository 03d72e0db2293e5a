"""What gradio asks of this machine itself must not go to a proxy elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
