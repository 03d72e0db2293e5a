"""From a real pair: it is redrawn, or lesion or skin of it are drawn anew, as `skindualgen generate` does."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.terms import DIAGNOSES
from skindualgen.planning.anchors import DEFAULT_STRENGTH
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.studio.components import QUIET, choice, html_block, photograph_field
from skindualgen.studio.drawing import (
    DRAWING,
    IDLE_SECONDS,
    build_results,
    build_sampling,
    connect_drawing,
    fill_defaults,
)
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.painter import Value, build_painter, edited, painted, read_masks
from skindualgen.studio.real_pairs import STARTS, anchoring_of, own_pair, real_pairs
from skindualgen.studio.requests import GenerationRequest, checked_numbers
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import read_photograph

PREFIX = "direct-real"
SOURCES = ("A pair of a data set", "My photograph")
FIRST = next(iter(STARTS))
ABOUT = (
    "Pairs that are near a real one. What is known of it states the prompt and the labels; each new pair names it, and "
    "splits and benchmarks keep them together. Pairs of val and test are never started from."
)
INVITATION = "Choose a real pair; what is drawn of it appears beside it."


def build(studio: Studio) -> None:
    """Lay out the part."""
    uploaded = gr.State(time_to_live=IDLE_SECONDS)
    terms: list[str | tuple[str, str]] = list(DIAGNOSES[:-1])
    with gr.Row(elem_classes="sdg-split sdg-wide-side"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            source = gr.Radio(list(SOURCES), value=SOURCES[0], label="Start from", elem_id=f"{PREFIX}-source")
            with gr.Column() as of_data:
                dataset = choice("Data set", f"{PREFIX}-dataset", studio.workspace.datasets)
                pair = gr.Dropdown([], label="Training pair", elem_id=f"{PREFIX}-pair", interactive=True)
            with gr.Column(visible=False) as own:
                photograph = photograph_field(f"{PREFIX}-photograph", height=110)
                canvas = build_painter("Mask over the photograph", f"{PREFIX}-canvas")
                diagnosis = gr.Dropdown(
                    [("not known", ""), *terms], value="", label="Its diagnosis", elem_id=f"{PREFIX}-diagnosis"
                )
            how = gr.Radio(list(STARTS), value=FIRST, label="What is made of it", elem_id=f"{PREFIX}-how")
            about = html_block(_hint(FIRST), elem_id=f"{PREFIX}-about")
            with gr.Column() as of_redrawing:
                strength = gr.Slider(
                    0.05, 1, DEFAULT_STRENGTH, step=0.05, label="Strength", elem_id=f"{PREFIX}-strength"
                )
                keep_mask = gr.Checkbox(False, label="The mask stays as it is", elem_id=f"{PREFIX}-keep")
                relabel = gr.Dropdown(
                    [("as it is", ""), *terms], value="", label="Towards the diagnosis", elem_id=f"{PREFIX}-relabel"
                )
            sampling = build_sampling(studio, PREFIX, count=4, label="Pairs")
        with gr.Column(elem_classes="sdg-main"):
            html_block(f'<p class="sdg-lead">{ABOUT}</p>')
            results = build_results(studio, PREFIX, invitation=INVITATION)

    @as_sentence
    def list_pairs(name: str | None) -> Any:
        records = real_pairs(studio.workspace.path(name)) if name else []
        shown = [(f"{record.isic_id}, {record.diagnosis or 'not known'}", record.isic_id) for record in records]
        return gr.update(choices=shown, value=shown[0][1] if shown else None)

    @as_sentence
    def read(path: str, adapter: str, request: gr.Request) -> Iterator[list[Any]]:
        shown = read_photograph(Path(path), studio.limits)
        for value, _ in read_masks(studio, adapter, str(request.session_hash), shown, ensemble=ENSEMBLE_SIZE):
            yield [value, (shown, adapter)]

    def start(
        start_from: str,
        name: str | None,
        isic_id: str | None,
        shown: tuple[Image.Image, str] | None,
        drawing: Value,
        known: str,
        chosen: str,
        far: float,
        keep: bool,
        towards: str,
        **numbers: Any,
    ) -> GenerationRequest:
        asked = checked_numbers(studio.limits, **numbers)
        real = "photographs"
        if start_from == SOURCES[1]:
            if shown is None:
                raise InputError("no photograph", "one to start from", "upload one first")
            mask = painted(drawing, studio.limits).resize(shown[0].size, Image.Resampling.NEAREST)
            told: dict[str, Any] = {"diagnosis": known or None, "edited": edited(drawing), "adapter": shown[1]}
            root, isic_id = own_pair(studio, shown[0], mask, **told)
        elif name and isic_id:
            root, real = studio.workspace.path(name), name
        else:
            raise InputError("no real pair", "one to start from", "choose a data set and a pair of it")
        anchoring = anchoring_of(root, str(isic_id), chosen, strength=far, keep_mask=keep, relabel=towards or None)
        return GenerationRequest((), *asked, anchoring=anchoring, real=real)

    fill_defaults(studio, sampling)
    gr.on([dataset.change], list_pairs, dataset, pair, trigger_mode="always_last", queue=False, **QUIET)
    source.input(
        lambda chosen: [gr.update(visible=chosen == each) for each in SOURCES],
        source,
        [of_data, own],
        queue=False,
        **QUIET,
    )
    how.input(
        lambda chosen: [_hint(chosen), gr.update(visible=STARTS[chosen].region is None)],
        how,
        [about, of_redrawing],
        queue=False,
        **QUIET,
    )
    photograph.upload(read, [photograph, sampling.adapter], [canvas, uploaded], **DRAWING)
    inputs = [source, dataset, pair, uploaded, canvas, diagnosis, how, strength, keep_mask, relabel]
    connect_drawing(studio, sampling, results, inputs, start)


def _hint(how: str) -> str:
    return f'<p class="sdg-hint">{html.escape(STARTS[how].about)}</p>'
