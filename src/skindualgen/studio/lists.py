"""Lists to choose from that are read anew when they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr


def relisted(present: Sequence[str], current: str | None, otherwise: str | None = None) -> Any:
    """The update of a list to what is present now.

    A choice that is still there is left alone, not written again: the visitor may have made another one meanwhile.

    Args:
        present: what can be chosen.
        current: what was chosen when the list was opened.
        otherwise: chosen instead where that is gone.
    """
    return gr.update(choices=present) if current in present else gr.update(choices=present, value=otherwise)
