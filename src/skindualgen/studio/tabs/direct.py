"""Direct: the model's other directions, a part each."""

from __future__ import annotations

import gradio as gr

from skindualgen.studio.state import Studio
from skindualgen.studio.tabs import direct_edit, direct_image, direct_mask, direct_real


def build(studio: Studio) -> None:
    """Lay out the tab."""
    with gr.Tabs(elem_id="direct-parts", elem_classes="sdg-parts"):
        for title, part in (
            ("Mask to image", direct_image),
            ("Image to mask", direct_mask),
            ("Edit", direct_edit),
            ("Real pair", direct_real),
        ):
            name = title.lower().replace(" ", "-")
            with gr.Tab(title, elem_id=f"direct-part-{name}", id=name):
                part.build(studio)
