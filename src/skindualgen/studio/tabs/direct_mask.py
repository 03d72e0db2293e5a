"""Image to mask: the adapter proposes a photograph's mask, the visitor corrects and keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.images import SUFFIXES
from skindualgen.data.terms import DIAGNOSES
from skindualgen.studio import cards
from skindualgen.studio.blocks import html_block
from skindualgen.studio.collect import add_photograph
from skindualgen.studio.commands import command, command_html
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.painter import Value, build_painter, check_settled, edited, painted
from skindualgen.studio.proposing import proposals
from skindualgen.studio.results import DRAWING, IDLE_SECONDS, QUIET
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import checked_mask, read_photograph

PREFIX = "direct-mask"
ABOUT = (
    "Upload a dermoscopic photograph: the model proposes where the lesion is. Correct it with the brush, then keep it. "
    "What the model was not trained on, such as clinical photographs, it reads badly."
)
ENSEMBLE = 4
"""Draws that are averaged, as `skindualgen segment` does."""


@dataclass(frozen=True)
class Reading:
    """A photograph, the mask that the adapter reads from it, both of one size, and the mask that is kept."""

    photograph: Image.Image
    proposed: Image.Image
    adapter: str
    kept: Image.Image | None = None
    edited: bool = False


def build(studio: Studio) -> None:
    """Lay out the part."""
    reading = gr.State(time_to_live=IDLE_SECONDS)
    html_block(f'<p class="sdg-lead">{ABOUT}</p>')
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            photograph = gr.File(
                label="Photograph", file_types=list(SUFFIXES), type="filepath", height=130,
                elem_id=f"{PREFIX}-photograph",
            )  # fmt: skip
            adapter = gr.Dropdown(
                studio.model.names(), value=studio.model.first, label="Model", elem_id=f"{PREFIX}-adapter"
            )
            ensemble = gr.Slider(
                1, 8, ENSEMBLE, step=1, label="Draws that are averaged", elem_id=f"{PREFIX}-ensemble",
                info="Over flips of the photograph.",
            )  # fmt: skip
            read = gr.Button("Propose a mask", variant="primary", size="lg", elem_id=f"{PREFIX}-read")
            same = html_block(elem_id=f"{PREFIX}-same")
        with gr.Column(elem_classes="sdg-main"):
            status = html_block(cards.progress("No photograph yet."), elem_id=f"{PREFIX}-status")
            canvas = build_painter("Mask over the photograph", f"{PREFIX}-canvas")
            keep, kept, download, save_fields = _build_keeping()
    name, diagnosis, save, saved = save_fields

    inputs = [photograph, adapter, ensemble]
    outputs = [status, canvas, reading, same, kept]
    propose = _proposing(studio)
    photograph.upload(propose, inputs, outputs, **DRAWING)
    read.click(propose, inputs, outputs, **DRAWING)
    _connect_keeping(studio, (reading, canvas, status), (keep, kept, download), (name, diagnosis, save, saved))


def _build_keeping() -> tuple[Any, Any, Any, tuple[Any, ...]]:
    keep = gr.Button("Use this mask", elem_id=f"{PREFIX}-keep", size="lg")
    with gr.Column(visible=False, elem_id=f"{PREFIX}-kept", elem_classes="sdg-section") as kept:
        download = gr.DownloadButton("Download the mask", elem_id=f"{PREFIX}-download", size="md")
        with gr.Row(elem_classes="sdg-after"):
            name = gr.Textbox(
                label="Data set in the workspace", placeholder="my-photographs", max_lines=1, max_length=64,
                elem_id=f"{PREFIX}-name", info="New, or gathered here.",
            )  # fmt: skip
            diagnosis = gr.Dropdown(
                [("not known", ""), *DIAGNOSES[:-1]], value="", label="Diagnosis", elem_id=f"{PREFIX}-diagnosis",
                info="As established.",
            )  # fmt: skip
            save = gr.Button("Save photograph and mask", elem_id=f"{PREFIX}-save", size="md")
        saved = html_block(elem_id=f"{PREFIX}-saved")
    return keep, kept, download, (name, diagnosis, save, saved)


def _proposing(studio: Studio) -> Any:
    @as_sentence
    def propose(path: str | None, adapter: str, ensemble: float, request: gr.Request) -> Iterator[list[Any]]:
        if not path:
            raise InputError("no photograph", "one to read", "upload one first")
        picture = read_photograph(Path(path), studio.limits)
        segment = command(
            "segment", images="photographs", out="masks", adapter=studio.model.option(adapter),
            ensemble=round(ensemble),
        )  # fmt: skip
        hidden, shown = gr.update(visible=False), command_html(segment)
        for canvas, mask in proposals(studio, adapter, str(request.session_hash), picture, ensemble=round(ensemble)):
            reading = None if mask is None else Reading(picture, mask, adapter)
            yield [cards.progress(_told(canvas, mask)), canvas, reading, shown, hidden]

    return propose


def _told(canvas: Value, mask: Image.Image | None) -> str:
    if mask is None:
        return "Reading the photograph." if canvas["waiting"] else "The photograph was not read."
    if share := float((np.asarray(mask) > 127).mean()):
        return f"The model proposes a lesion of {100 * share:.0f} % of the picture. Correct it with the brush."
    return "The model finds no lesion in this photograph. Draw it with the brush."


def _connect_keeping(studio: Studio, source: Any, keeping: Any, saving: Any) -> None:
    (reading, canvas, status), (keep, kept, download), (name, diagnosis, save, saved) = source, keeping, saving

    @as_sentence
    def use(known: Reading | None, drawing: Value) -> list[Any]:
        check_settled(drawing)
        if known is None:
            raise InputError("no photograph", "one with a mask", "upload one first")
        mask, changed = final_mask(studio, known, drawing)
        folder = studio.new_download_folder()
        mask.save(folder / "mask.png")
        share = float((np.asarray(mask) > 127).mean())
        origin = "edited" if changed else "as proposed"
        told = f"Mask of {mask.width} × {mask.height} px, lesion {100 * share:.1f} %, {origin}."
        finished = Reading(known.photograph, known.proposed, known.adapter, mask, changed)
        return [finished, gr.update(visible=True), str(folder / "mask.png"), cards.progress(told), ""]

    @as_sentence
    def save_pair(known: Reading | None, chosen: str, term: str) -> str:
        if known is None or known.kept is None:
            raise InputError("no mask", "one that you decided on", "press 'Use this mask' first")
        dataset, record = add_photograph(
            studio.workspace, chosen.strip(), known.photograph, known.kept, diagnosis=term or None,
            edited=known.edited, made_with=dict(studio.model.facts(known.adapter).made_with),
        )  # fmt: skip
        return cards.progress(f"Saved as {record.isic_id} in {dataset}.")

    keep.click(use, [reading, canvas], [reading, kept, download, status, saved], **QUIET)
    save.click(save_pair, [reading, name, diagnosis], saved, **QUIET)


def final_mask(studio: Studio, reading: Reading, drawing: Value) -> tuple[Image.Image, bool]:
    """The mask at the photograph's size, and whether it was edited; unedited, it is the proposal to the pixel.

    Raises:
        InputError: a mask without a lesion, or of nothing else.
    """
    if not edited(drawing):
        return checked_mask(np.asarray(reading.proposed) > 127), False
    mask = painted(drawing, studio.limits).resize(reading.photograph.size, Image.Resampling.BILINEAR)
    return mask.point(lambda grey: 255 * (grey >= 128)), True
