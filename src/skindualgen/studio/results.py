"""Where drawn pairs appear: progress, pictures, download and save, and the command that draws the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.studio import cards
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import command_html
from skindualgen.studio.drawn import BATCH_PAIRS, Drawn, save_dataset, write_zip
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.state import Studio
from skindualgen.studio.watched import Step, WatchedPipeline

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of listeners of the page: not part of the HTTP API, and without Gradio's own veil while they run."""
DRAWING: dict[str, Any] = {**QUIET, "concurrency_id": "draw", "concurrency_limit": 8, "trigger_mode": "once"}
"""Of listeners that draw; the model serves them one by one, and they say that they wait."""
IDLE_SECONDS = 6 * 3600
"""Unsaved pairs are removed after this time, or when the page is closed."""


@dataclass(frozen=True)
class Results:
    """The components of one place for pairs, named by ``elem_id``s that begin alike.

    Attributes:
        status: progress, then what was drawn.
        pairs: the gallery.
        drawn: state: the `Drawn` that is shown.
        after: what appears with the pairs: download, save.
        download: of all pairs as a zip.
        name, save, saved: into the workspace.
        same: how to do the same without the page.
    """

    status: gr.HTML
    pairs: gr.HTML
    drawn: gr.State
    after: gr.Column
    download: gr.DownloadButton
    name: gr.Textbox
    save: gr.Button
    saved: gr.HTML
    same: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `draw_into` fills, in its order."""
        return [self.status, self.pairs, self.drawn, self.after, self.download, self.saved, self.same]


def build_results(studio: Studio, prefix: str, *, invitation: str, more: bool = False, views: bool = True) -> Results:
    """Lay out a place for pairs.

    Args:
        studio: whose workspace is saved into.
        prefix: of the ``elem_id``s.
        invitation: what stands there before the first draw.
        views: put the switch of how pairs are shown beside it; it is one for the whole page.
        more: each pair offers "More like this", which triggers the gallery's ``click`` with ``index``.
    """
    with gr.Row(elem_classes="sdg-results-head"):
        status = html_block(elem_id=f"{prefix}-status", elem_classes="sdg-grow")
        if views:
            html_block(cards.VIEWS, elem_id=f"{prefix}-views")
    script = (
        "element.addEventListener('click', event => { const button = event.target.closest('[data-action=more]');"
        " if (button) trigger('click', {index: Number(button.dataset.index)}); });"
    )
    pairs = html_block(cards.empty(invitation), elem_id=f"{prefix}-pairs", script=script if more else None)
    drawn = gr.State(time_to_live=IDLE_SECONDS, delete_callback=_forget)
    with gr.Column(visible=False, elem_id=f"{prefix}-after") as after, gr.Row(elem_classes="sdg-after"):
        download = gr.DownloadButton("Download all as zip", elem_id=f"{prefix}-download", size="md")
        name = gr.Textbox(
            label="Data set name", placeholder="melanoma-8", max_lines=1, elem_id=f"{prefix}-name",
            max_length=64,
        )  # fmt: skip
        save = gr.Button("Save as data set", elem_id=f"{prefix}-save", size="md")
    saved = html_block(elem_id=f"{prefix}-saved")
    same = html_block(elem_id=f"{prefix}-same")

    @as_sentence
    def save_pairs(shown: Drawn | None, chosen: str) -> str:
        if shown is None:
            raise gr.Error("There are no pairs to save yet: draw some first.", title="")
        return cards.progress(f"Saved as {save_dataset(shown.folder, studio.workspace, chosen.strip())}.")

    save.click(save_pairs, [drawn, name], saved, **QUIET)
    return Results(status, pairs, drawn, after, download, name, save, saved, same)


def draw_into(
    studio: Studio,
    adapter: str,
    visitor: str,
    before: Drawn | None,
    work: Callable[[WatchedPipeline, Path], Drawn | None],
    *,
    count: int,
    same: Callable[[], str],
    more: bool = False,
) -> Iterator[list[Any]]:
    """Draw, and yield the values of `Results.outputs` as it goes.

    Args:
        studio: draws.
        adapter: name of the model.
        visitor: by whom it can be stopped.
        before: what is shown now; its files are removed.
        work: draws into the folder that it is given.
        count: pairs that are asked for.
        same: HTML of how to do the same elsewhere; asked for when the model is loaded.
        more: as `build_results` has it.
    """
    _forget(before)
    keep, hidden = gr.skip(), gr.update(visible=False)
    yield [cards.progress("Waiting for the model."), keep, None, hidden, None, "", ""]
    folder = studio.new_drawn_folder()
    drawn: Drawn | None = None
    for event in studio.model.draw(adapter, visitor, lambda pipeline: work(pipeline, folder)):
        if isinstance(event, Step):
            pairs = [*event.finished, *event.previews]
            outlined = 2 * event.step >= event.steps
            live = cards.live(pairs, finished=len(event.finished), outlined=outlined)
            shown = live if event.previews else keep
            yield [_going(event, count), shown, keep, keep, keep, keep, keep]
        else:
            drawn = event.result
    if drawn is None:
        shutil.rmtree(folder, ignore_errors=True)
        stopped = cards.empty("Stopped before a pair was finished.")
        yield [cards.progress("Stopped."), stopped, None, hidden, None, "", ""]
        return
    archive = write_zip(folder, studio.new_download_folder() / "pairs.zip")
    gallery, after = cards.gallery(drawn, more=more), gr.update(visible=True)
    yield [cards.progress(_told(drawn)), gallery, drawn, after, str(archive), "", same()]


def stop_button(studio: Studio, button: gr.Button, status: gr.HTML) -> None:
    """Let a button stop what is being drawn for its visitor; it does not wait in the queue."""

    def stop(request: gr.Request) -> Any:
        going = studio.model.stop(str(request.session_hash))
        return cards.progress("Stopping.") if going else gr.skip()

    button.click(stop, None, status, queue=False, **QUIET)


def python_html(text: str) -> str:
    """Lines of Python that do the same, for what no command does."""
    return command_html(text, label="The same in Python")


def _going(event: Step, count: int) -> str:
    finished, batch = len(event.finished), min(BATCH_PAIRS, count - len(event.finished))
    text = f"{finished} of {count} drawn, step {event.step} of {event.steps}." if count > batch else None
    share = (finished + batch * event.step / event.steps) / count
    return cards.progress(text or f"Step {event.step} of {event.steps}.", round(100 * share), 100)


def _told(drawn: Drawn) -> str:
    count, first = len(drawn.records), drawn.records[0]
    number = "1 pair" if count == 1 else f"{count} pairs"
    rest = f", stopped before the other {drawn.asked - count}" if count < drawn.asked else ""
    return f"{number}, {first.num_inference_steps} steps, guidance {first.guidance_scale:g}{rest}."


def _forget(drawn: Drawn | None) -> None:
    if drawn is not None:
        shutil.rmtree(drawn.folder, ignore_errors=True)
