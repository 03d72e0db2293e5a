"""HTML on the page as this package styles it, without Gradio's rules for prose."""

from __future__ import annotations

from typing import Any

import gradio as gr


def html_block(value: str = "", *, elem_id: str | None = None, script: str | None = None, **options: Any) -> gr.HTML:
    """An HTML component; ``script`` is run once, with ``element`` and ``trigger`` as Gradio passes them."""
    return gr.HTML(value, elem_id=elem_id, js_on_load=script, apply_default_css=False, **options)
