"""Import gradio in half the time: without the stubs for editors that it writes beside its components."""

from __future__ import annotations

import inspect
from typing import Any

from skindualgen.studio.proxies import without_proxies


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
