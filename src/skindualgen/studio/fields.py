"""Fields that all places for drawing have: how many, from which seed, by which model and how."""

from __future__ import annotations

import html
import secrets
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr

from skindualgen.studio.blocks import html_block
from skindualgen.studio.drawn import SEED_LIMIT
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation_requests import MAX_GUIDANCE
from skindualgen.studio.results import QUIET
from skindualgen.studio.state import Studio

STEPS, GUIDANCE = 20, 3.0
"""Shown until the model is loaded, which then says its own."""


@dataclass(frozen=True)
class Sampling:
    """How many, from which seed, by which model and how.

    Attributes:
        count, seed: of the draw.
        adapter, steps, guidance: of the model.
        about: a line on the model.
        draw, stop: the buttons.
    """

    count: gr.Slider
    seed: gr.Number
    draw: gr.Button
    stop: gr.Button
    adapter: gr.Dropdown
    steps: gr.Slider
    guidance: gr.Slider
    about: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """Count, seed, adapter, steps, guidance."""
        return [self.count, self.seed, self.adapter, self.steps, self.guidance]


def build_sampling(studio: Studio, prefix: str, *, count: int, label: str, action: str) -> Sampling:
    """Lay them out.

    Args:
        studio: its limits and models.
        prefix: of the ``elem_id``s.
        count: shown at first.
        label: of what is counted.
        action: of the button.
    """
    number = gr.Slider(1, studio.limits.pairs, count, step=1, label=label, elem_id=f"{prefix}-count")
    with gr.Row(elem_classes="sdg-seed"):
        seed = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=SEED_LIMIT - 1, elem_id=f"{prefix}-seed", min_width=110
        )
        other = gr.Button("Another seed", elem_id=f"{prefix}-another-seed", size="md", min_width=110)
    other.click(lambda: secrets.randbelow(SEED_LIMIT), None, seed, **QUIET)
    with gr.Accordion("Model and sampling", open=False, elem_id=f"{prefix}-sampling"):
        adapter = gr.Dropdown(
            studio.model.names(), value=studio.model.first, label="Model", elem_id=f"{prefix}-adapter"
        )
        steps = gr.Slider(1, studio.limits.steps, STEPS, step=1, label="Steps", elem_id=f"{prefix}-steps")
        guidance = gr.Slider(
            0, MAX_GUIDANCE, GUIDANCE, step=0.5, label="Guidance", elem_id=f"{prefix}-guidance",
            info="How closely the prompt is followed; 1 or less switches it off.",
        )  # fmt: skip
    with gr.Row(elem_classes="sdg-go"):
        draw = gr.Button(action, variant="primary", size="lg", elem_id=f"{prefix}-draw", min_width=140)
        stop = gr.Button("Stop", variant="stop", size="lg", elem_id=f"{prefix}-stop", min_width=80)
    about = html_block(about_html("Loading the model."), elem_id=f"{prefix}-model")
    return Sampling(number, seed, draw, stop, adapter, steps, guidance, about)


def fill_defaults(studio: Studio, sampling: Sampling) -> list[Any]:
    """Fill in the model's own defaults when the page is opened and when another model is chosen.

    Returns:
        Both events, for what follows them.
    """

    @as_sentence
    def fill(adapter: str) -> list[Any]:
        facts = studio.model.facts(adapter)
        told = f"{facts.name}: {facts.base}, {facts.native_px} px"
        if facts.seen is not None:
            told += f", trained on {facts.seen.photographs:,} photographs"
        return [gr.update(choices=studio.model.names()), facts.steps, facts.guidance, about_html(told)]

    outputs = [sampling.adapter, sampling.steps, sampling.guidance, sampling.about]
    blocks = cast(gr.Blocks, gr.context.Context.root_block)  # None only outside a page
    return [
        blocks.load(fill, sampling.adapter, outputs, **QUIET),
        sampling.adapter.input(fill, sampling.adapter, outputs, trigger_mode="always_last", **QUIET),
    ]


def about_html(text: str) -> str:
    """A quiet line on the model."""
    return f'<p class="sdg-hint">{html.escape(text)}</p>'
