"""Drawing on the page: the fields of sampling, the place where pairs appear, and the listener that fills it."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr

from skindualgen.studio import cards
from skindualgen.studio.commands import repeat_html
from skindualgen.studio.components import AT_ONCE, QUIET, html_block
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation import (
    BATCH_PAIRS,
    Generated,
    generate,
    remove_drawn,
    save_dataset,
    write_zip,
)
from skindualgen.studio.pieces import empty, progress
from skindualgen.studio.requests import MAX_GUIDANCE, SEED_LIMIT, GenerationRequest
from skindualgen.studio.state import Studio
from skindualgen.studio.watched import Step
from skindualgen.studio.workspace import NAME_LENGTH

STEPS, GUIDANCE = 20, 3.0
"""Shown until the model is loaded, which then says its own."""
DRAWING: dict[str, Any] = {**QUIET, "concurrency_id": "draw", "concurrency_limit": 8, "trigger_mode": "once"}
"""Of listeners that use the model, which serves them one by one; they say that they wait."""
IDLE_SECONDS = 6 * 3600
"""Unsaved pairs are removed after this time, or when the page is closed."""


@dataclass(frozen=True)
class Sampling:
    """How many, from which seed, by which model and how; and the buttons."""

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
        """Adapter, count, seed, steps, guidance."""
        return [self.adapter, self.count, self.seed, self.steps, self.guidance]


def build_sampling(studio: Studio, prefix: str, *, count: int, label: str) -> Sampling:
    """Lay out the fields.

    Args:
        studio: its limits and models.
        prefix: of the ``elem_id``s.
        count: shown at first.
        label: of what is counted.
    """
    number = gr.Slider(1, studio.limits.pairs, count, step=1, label=label, elem_id=f"{prefix}-count")
    with gr.Row(elem_classes="sdg-seed"):
        seed = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=SEED_LIMIT - 1, elem_id=f"{prefix}-seed", min_width=110
        )
        other = gr.Button("Another seed", elem_id=f"{prefix}-another-seed", size="md", min_width=110)
    other.click(lambda: secrets.randbelow(SEED_LIMIT), None, seed, **QUIET)
    with gr.Accordion("Model and sampling", open=False, elem_id=f"{prefix}-sampling"):
        adapter = adapter_field(studio, prefix)
        steps = gr.Slider(1, studio.limits.steps, STEPS, step=1, label="Steps", elem_id=f"{prefix}-steps")
        effect = "How closely the prompt is followed; 1 or less switches it off."
        guidance = gr.Slider(
            0, MAX_GUIDANCE, GUIDANCE, step=0.5, label="Guidance", elem_id=f"{prefix}-guidance", info=effect
        )
    with gr.Row(elem_classes="sdg-draw"):
        draw = gr.Button("Draw", variant="primary", size="lg", elem_id=f"{prefix}-draw", min_width=140)
        stop = gr.Button("Stop", variant="stop", size="lg", elem_id=f"{prefix}-stop", min_width=80)
    about = html_block(_about("Loading the model."), elem_id=f"{prefix}-model")
    return Sampling(number, seed, draw, stop, adapter, steps, guidance, about)


def adapter_field(studio: Studio, prefix: str) -> gr.Dropdown:
    """A choice of the models."""
    return gr.Dropdown(studio.model.names(), value=studio.model.first, label="Model", elem_id=f"{prefix}-adapter")


def fill_defaults(studio: Studio, sampling: Sampling) -> list[Any]:
    """Fill in the model's own defaults when the page is opened and when another model is chosen.

    Returns:
        Both events, for what follows them.
    """

    @as_sentence
    def fill(adapter: str) -> list[Any]:
        facts = studio.model.facts(adapter)
        text = f"{facts.name}: {facts.base}, {facts.native_px} px"
        if facts.coverage is not None:
            text += f", trained on {facts.coverage.photographs:,} photographs"
        return [gr.update(choices=studio.model.names()), facts.steps, facts.guidance, _about(text)]

    outputs = [sampling.adapter, sampling.steps, sampling.guidance, sampling.about]
    blocks = cast(gr.Blocks, gr.context.Context.root_block)  # None only outside a page
    return [
        blocks.load(fill, sampling.adapter, outputs, **QUIET),
        sampling.adapter.input(fill, sampling.adapter, outputs, trigger_mode="always_last", **QUIET),
    ]


def _about(text: str) -> str:
    return f'<p class="sdg-hint">{html.escape(text)}</p>'


@dataclass(frozen=True)
class Results:
    """The components of one place for pairs, named by ``elem_id``s that begin alike.

    Attributes:
        status: progress, then what was drawn.
        pairs: the gallery.
        generated: state: what is shown.
        after: what appears with the pairs: download, save.
        download: of all pairs as a zip.
        saved: what was saved into the workspace.
        same: how to do the same without the page.
        more: whether each pair offers "More like this", which triggers the gallery's ``click`` with ``index``.
    """

    status: gr.HTML
    pairs: gr.HTML
    generated: gr.State
    after: gr.Column
    download: gr.DownloadButton
    saved: gr.HTML
    same: gr.HTML
    more: bool

    @property
    def outputs(self) -> list[Any]:
        """What `connect_drawing` fills, in its order."""
        return [self.status, self.pairs, self.generated, self.after, self.download, self.saved, self.same]


MORE_SCRIPT = (
    "element.addEventListener('click', event => { const button = event.target.closest('[data-action=more]');"
    " if (button) trigger('click', {index: Number(button.dataset.index)}); });"
)


def build_results(studio: Studio, prefix: str, *, invitation: str, more: bool = False, views: bool = True) -> Results:
    """Lay out a place for pairs.

    Args:
        studio: whose workspace is saved into.
        prefix: of the ``elem_id``s.
        invitation: shown there before the first draw.
        more: see `Results`.
        views: put the switch of how pairs are shown next to it; it is one for the whole page.
    """
    with gr.Row(elem_classes="sdg-results-head"):
        status = html_block(elem_id=f"{prefix}-status", elem_classes="sdg-grow")
        if views:
            html_block(cards.VIEWS, elem_id=f"{prefix}-views")
    pairs = html_block(empty(invitation), elem_id=f"{prefix}-pairs", script=MORE_SCRIPT if more else None)
    generated = gr.State(time_to_live=IDLE_SECONDS, delete_callback=_forget)
    with gr.Column(visible=False, elem_id=f"{prefix}-after") as after, gr.Row(elem_classes="sdg-after"):
        download = gr.DownloadButton("Download all as zip", elem_id=f"{prefix}-download", size="md")
        name = gr.Textbox(
            label="Data set name",
            placeholder="melanoma-8",
            max_lines=1,
            elem_id=f"{prefix}-name",
            max_length=NAME_LENGTH,
        )
        save = gr.Button("Save as data set", elem_id=f"{prefix}-save", size="md")
    saved = html_block(elem_id=f"{prefix}-saved")
    same = html_block(elem_id=f"{prefix}-same")

    @as_sentence
    def save_pairs(shown: Generated | None, chosen: str) -> str:
        if shown is None:
            raise gr.Error("There are no pairs to save yet: draw some first.", title="")
        return progress(f"Saved as {save_dataset(shown.folder, studio.workspace, chosen.strip())}.")

    save.click(save_pairs, [generated, name], saved, **QUIET)
    return Results(status, pairs, generated, after, download, saved, same, more)


def connect_drawing(
    studio: Studio,
    sampling: Sampling,
    results: Results,
    inputs: Sequence[Any],
    make: Callable[..., GenerationRequest],
    *,
    start: Callable[..., Any] | None = None,
) -> None:
    """Let an event draw into a place: a click on the button "Draw", which "Stop" then stops, or another one.

    Args:
        studio: draws.
        sampling: whose fields count.
        results: where pairs appear.
        inputs: components of the place's own.
        make: values of ``inputs``, then ``count``, ``seed``, ``steps`` and ``guidance`` by name -> what to draw.
        start: the other event.
    """

    @as_sentence
    def draw(
        request: gr.Request,
        before: Generated | None,
        adapter: str,
        count: float,
        seed: float,
        steps: float,
        guidance: float,
        *values: Any,
    ) -> Iterator[list[Any]]:
        wanted = make(*values, count=count, seed=seed, steps=steps, guidance=guidance)
        _forget(before)
        yield from _draw_into(studio, adapter, str(request.session_hash), wanted, more=results.more)

    (start or sampling.draw.click)(draw, [results.generated, *sampling.inputs, *inputs], results.outputs, **DRAWING)
    if start is None:
        connect_stop(studio, sampling.stop, results)


def connect_stop(studio: Studio, button: gr.Button, results: Results) -> None:
    """Let a button stop what is being drawn for its visitor; it does not wait in the queue."""

    def stop(request: gr.Request) -> Any:
        return progress("Stopping.") if studio.model.stop(str(request.session_hash)) else gr.skip()

    button.click(stop, None, results.status, **AT_ONCE)


def _draw_into(
    studio: Studio, adapter: str, visitor: str, request: GenerationRequest, *, more: bool
) -> Iterator[list[Any]]:
    """Draw, and yield the values of `Results.outputs` as it goes."""
    keep, hidden = gr.skip(), gr.update(visible=False)
    yield [progress("Waiting for the model."), keep, None, hidden, None, "", ""]
    folder = studio.new_drawn_folder()
    generated: Generated | None = None
    for event in studio.model.draw(adapter, visitor, lambda pipeline: generate(pipeline, request, folder)):
        if isinstance(event, Step):
            pairs = [*event.finished, *event.previews]
            outlined = 2 * event.step >= event.steps
            live = cards.live(pairs, finished=len(event.finished), outlined=outlined)
            yield [_going(event, request.count), live if event.previews else keep, keep, keep, keep, keep, keep]
        else:
            generated = event.result
    if generated is None:
        remove_drawn(folder, request)
        stopped = empty("Stopped before a pair was finished.")
        yield [progress("Stopped."), stopped, None, hidden, None, "", ""]
        return
    archive = write_zip(folder, studio.new_download_folder() / "pairs.zip")
    gallery, after = cards.gallery(generated, more=more), gr.update(visible=True)
    same = repeat_html(studio.model, adapter, request)
    yield [progress(_done(generated)), gallery, generated, after, str(archive), "", same]


def _going(event: Step, count: int) -> str:
    finished, batch = len(event.finished), min(BATCH_PAIRS, count - len(event.finished))
    text = f"{finished} of {count} drawn, step {event.step} of {event.steps}." if count > batch else None
    share = (finished + batch * event.step / event.steps) / count
    return progress(text or f"Step {event.step} of {event.steps}.", round(100 * share), 100)


def _done(generated: Generated) -> str:
    count, asked, first = len(generated.records), generated.request.count, generated.records[0]
    number = "1 pair" if count == 1 else f"{count} pairs"
    rest = f", stopped before the other {asked - count}" if count < asked else ""
    return f"{number}, {first.num_inference_steps} steps, guidance {first.guidance_scale:g}{rest}."


def _forget(generated: Generated | None) -> None:
    if generated is not None:
        generated.remove()
