"""Mask to image: an outline, drawn or uploaded, is filled with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.data.images import SUFFIXES
from skindualgen.studio.components import QUIET, html_block
from skindualgen.studio.drawing import build_results, build_sampling, connect_drawing, fill_defaults
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.painter import Value, blank, build_painter, painted
from skindualgen.studio.requests import GenerationRequest, Given, checked_request
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import read_mask

PREFIX = "direct-image"
INVITATION = "Draw an outline, say what it is, and draw pictures of it."
ABOUT = (
    "The outline stays as it is drawn, to about a pixel of the model's own size; skin and lesion follow the prompt. "
    "An outline unlike those of training is filled less well."
)


def build(studio: Studio) -> None:
    """Lay out the part."""
    with gr.Row(elem_classes="sdg-split sdg-wide-side"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            canvas = build_painter("Mask of the lesion", f"{PREFIX}-canvas")
            upload = gr.UploadButton(
                "Upload a mask", file_types=list(SUFFIXES), elem_id=f"{PREFIX}-upload", size="md", type="filepath"
            )
            prompt = gr.Textbox(
                "a dermoscopic image of a nevus", label="Prompt", lines=2, max_lines=6, elem_id=f"{PREFIX}-prompt"
            )
            sampling = build_sampling(studio, PREFIX, count=4, label="Pictures")
        with gr.Column(elem_classes="sdg-main"):
            html_block(f'<p class="sdg-lead">{ABOUT}</p>')
            results = build_results(studio, PREFIX, invitation=INVITATION)

    @as_sentence
    def load(path: str) -> Value:
        return blank(read_mask(Path(path), studio.limits))

    def request(drawing: Value, text: str, **numbers: Any) -> GenerationRequest:
        return checked_request(studio.limits, text, given=Given(painted(drawing, studio.limits)), **numbers)

    fill_defaults(studio, sampling)
    upload.upload(load, upload, canvas, **QUIET)
    connect_drawing(studio, sampling, results, [canvas, prompt], request)
