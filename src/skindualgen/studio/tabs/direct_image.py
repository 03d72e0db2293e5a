"""Mask to image: an outline, drawn or uploaded, is filled with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.data.images import SUFFIXES
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import python_call
from skindualgen.studio.drawn import Drawn, GenerationRequest, Given, draw_given, drawn_size
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.fields import build_sampling, fill_defaults
from skindualgen.studio.generation_requests import checked_request
from skindualgen.studio.painter import Value, blank, build_painter, painted
from skindualgen.studio.results import DRAWING, QUIET, build_results, draw_into, python_html, stop_button
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
            sampling = build_sampling(studio, PREFIX, count=4, label="Pictures", action="Draw")
        with gr.Column(elem_classes="sdg-main"):
            html_block(f'<p class="sdg-lead">{ABOUT}</p>')
            results = build_results(studio, PREFIX, invitation=INVITATION)

    @as_sentence
    def load(path: str) -> Value:
        return blank(read_mask(Path(path), studio.limits))

    @as_sentence
    def draw(
        drawing: Value, text: str, count: float, seed: float, adapter: str, steps: float, guidance: float,
        before: Drawn | None, request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        mask = painted(drawing, studio.limits)
        wanted = checked_request(studio.limits, text, count, seed, steps, guidance)
        given = Given(mask)
        yield from draw_into(
            studio, adapter, str(request.session_hash), before,
            lambda pipeline, folder: draw_given(pipeline, wanted, folder, given),
            count=wanted.count, same=lambda: python_html(mask_code(studio, adapter, wanted, given)),
        )  # fmt: skip

    fill_defaults(studio, sampling)
    stop_button(studio, sampling.stop, results.status)
    upload.upload(load, upload, canvas, **QUIET)
    sampling.draw.click(draw, [canvas, prompt, *sampling.inputs, results.drawn], results.outputs, **DRAWING)


def mask_code(studio: Studio, adapter: str, wanted: GenerationRequest, given: Given) -> str:
    """Python that fills a mask in the same way."""
    return python_call(
        wanted.prompts[0], {"mask_image": "Image.open('mask.png')"}, adapter=adapter, count=wanted.count,
        seed=wanted.seed,
        steps=wanted.steps, guidance=wanted.guidance, size=drawn_size(studio, adapter, given),
    )  # fmt: skip
